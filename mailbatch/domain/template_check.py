"""What a check of the templates found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTemplate:
    """A template, its languages, and what is wrong with it.

    ``findings``: pairs of a language and a line. ``rendered``: it has a ``sample.json``, so it was rendered as well.
    """

    name: str
    locales: tuple[str, ...]
    rendered: bool
    findings: tuple[tuple[str, str], ...]


def missing_image(images: Mapping[str, str], attachments: object) -> str | None:
    """Return a line about the first of ``images``, which a template lacks, that the mail does not attach either.

    ``images``: what the HTML names, with a line for each. ``attachments``: the column of the mail.
    """
    entries = attachments if isinstance(attachments, Iterable) and not isinstance(attachments, str) else ()
    attached = {f"cid:{entry.get('content_id')}" for entry in entries if isinstance(entry, Mapping)}
    return next((line for image, line in images.items() if image not in attached), None)
