"""Finds the images beside a template's HTML that it shows, and makes ``cid:`` URLs (RFC 2392) of their names."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from mailbatch.domain.attachment_list import InTemplates, Reference
from mailbatch.domain.redaction.lines import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_IMAGE = r"[A-Za-z0-9._/-]+\.(?:png|jpe?g|gif|webp|avif|svg|bmp)"
_IMAGE_NAMES = "a name has letters, digits, ., _ and -, and ends with .png, .jpg, .gif, .webp, .avif, .svg or .bmp"
_SHOWN = re.compile(rf"""(\bsrc\s*=\s*["']|["'(](?=cid:))(?:cid:)?({_IMAGE})(?=["')])""", re.IGNORECASE)
_ANY = re.compile(r"<img\b[^>]*?\ssrc\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_OUR_ID = re.compile(r"cid:([A-Za-z0-9._-]+@mailbatch)")
_LONGEST_NAME = 100


def not_embedded(html: str, embedded: Iterable[Reference], folder: str) -> dict[str, str]:
    """Return each image of ``html`` that its reader will not see, with the reason: what follows "shows the image".

    ``html`` may be a source: an image whose name is made by the template is left out. ``folder`` is the template's.
    """
    there = {f"cid:{one.content_id}" for one in embedded}
    images = dict.fromkeys(one for found in _ANY.findall(html) for one in found if one)
    return {
        image: f"{shown(image, _LONGEST_NAME)}, which is {_why(file, folder)}"
        for image in images
        if image not in there and (file := _file_of(image))
    }


def _file_of(image: str) -> str | None:
    """Return the file that ``src`` names in the template's folder; None for an image elsewhere."""
    if "{{" in image or "{%" in image:
        return None
    if image.lower().startswith("cid:"):
        return image[4:]
    return None if _ELSEWHERE.match(image) else image


def _why(file: str, folder: str) -> str:
    fits = re.fullmatch(_IMAGE, file, re.IGNORECASE) is not None
    return f"not in {folder}/" if fits else f"not embedded: {_IMAGE_NAMES}"


class TemplateImages:
    """The images of all templates that were loaded, by content id."""

    def __init__(self) -> None:
        self._found: dict[str, Reference] = {}

    def linked(self, source: str, locate: Callable[[str], str | None]) -> str:
        """Return ``source`` with a ``cid:`` URL for each image that it shows and ``locate`` finds.

        ``locate`` returns the path below the templates' folder; None: the name is left as it is.
        """

        def link(found: re.Match[str]) -> str:
            path = locate(found[2])
            return found[0] if path is None else f"{found[1]}cid:{self._add(path)}"

        return _SHOWN.sub(link, source)

    def _add(self, path: str) -> str:
        name = path.rpartition("/")[2][-_LONGEST_NAME:]
        content_id = f"{sha256(path.encode()).hexdigest()[:16]}.{name}@mailbatch"
        self._found[content_id] = Reference(source=InTemplates(path), content_id=content_id)
        return content_id

    def shown_in(self, html: str | None) -> tuple[Reference, ...]:
        """Return the images that ``html``, which a template made, shows."""
        if not html or not self._found:
            return ()
        ids = dict.fromkeys(_OUR_ID.findall(html))
        return tuple(self._found[one] for one in ids if one in self._found)


def as_pairs(images: Iterable[Reference]) -> list[tuple[str, str | None]]:
    """Return ``images`` as values of JSON, for another process: path and content id."""
    return [(one.source.path, one.content_id) for one in images if isinstance(one.source, InTemplates)]


def of_pairs(pairs: Iterable[tuple[str, str | None]]) -> tuple[Reference, ...]:
    """Return the images that ``as_pairs`` has written."""
    return tuple(Reference(source=InTemplates(path), content_id=content_id) for path, content_id in pairs)
