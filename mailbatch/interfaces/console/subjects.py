"""The rendered subjects of a list, as far as rendering is quick."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from mailbatch.domain.errors import Busy, CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.domain.rows import ReservationContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any
    from uuid import UUID

    from mailbatch.application.looking.preview import Preview
    from mailbatch.domain.rows import ReservationSummary

SECONDS = 1.0
"""Seconds for rendering the subjects of a page at most: a page must not wait for a slow template."""
_AT_ONCE = 10
"""Contexts that are read together at most; each may be a megabyte."""
_NO_BODY = " "


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject in a list. ``rendered`` is false if it is a source, or the name of a template."""

    text: str
    rendered: bool


def subjects_of(preview: Preview, rows: Sequence[ReservationSummary]) -> Mapping[UUID, Subject]:
    """Return the subject of each row. ``preview`` takes at most ``SECONDS`` for one."""
    found = {row.id: Subject(row.shown_subject, rendered=not _is_source(row)) for row in rows}
    sources = iter([row for row in rows if _is_source(row)])
    until = time.monotonic() + SECONDS
    while (some := list(islice(sources, _AT_ONCE))) and time.monotonic() < until:
        contexts = preview.reservations.some([row.id for row in some], ReservationContext)
        for row, subject in _rendered(preview, some, contexts, until):
            found[row.id] = Subject(subject, rendered=True)
    return found


def _rendered(
    preview: Preview, rows: Sequence[ReservationSummary], contexts: Mapping[UUID, ReservationContext], until: float
) -> Iterator[tuple[ReservationSummary, str]]:
    for row in rows:
        if row.id not in contexts or time.monotonic() > until:
            return
        try:
            yield row, preview(_mail(row, contexts[row.id].context)).subject
        except CannotCompose:
            continue
        except Busy:
            return


def _mail(row: ReservationSummary, context: Any) -> Mail:
    """Return the mail with empty bodies, so that only its subject is rendered."""
    return Mail(
        recipients="",
        subject=row.subject,
        template=row.template,
        context=context,
        locale=row.locale,
        body_text=_NO_BODY,
        body_html=_NO_BODY,
    )


def _is_source(row: ReservationSummary) -> bool:
    return "{" in row.subject if row.subject else bool(row.template)
