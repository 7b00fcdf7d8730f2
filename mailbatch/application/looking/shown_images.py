"""Read the images of templates that a rendered mail shows, for people who look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.attachment_list import InTemplates
from mailbatch.domain.content_types import UNKNOWN, content_type_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.seen_message import Image

if TYPE_CHECKING:
    from mailbatch.application.ports.sending import Folder
    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.letter import Rendered

MOST = 4 * 2**20
"""Bytes of all images of a mail."""


@dataclass(frozen=True, slots=True)
class ShownImages:
    """Reads images below ``templates``, the folder of templates."""

    templates: Folder

    def __call__(self, rendered: Rendered) -> dict[str, Image]:
        """Return the images by content id. Leaves out those that cannot be read, and what is too much for a page."""
        found, left = dict[str, Image](), MOST
        for one in rendered.images:
            image = self._image(one, left)
            if image is not None and one.content_id is not None:
                found[one.content_id] = image
                left -= len(image.content)
        return found

    def _image(self, one: Reference, most: int) -> Image | None:
        if not isinstance(one.source, InTemplates):
            return None
        try:
            with self.templates.open(one.source.path) as file:
                content = b"".join(file.pieces()) if file.size <= most else None
        except CannotCompose:
            return None
        return None if content is None else Image(content_type_of(one.name or "") or UNKNOWN, content)
