"""A finished message as a mail client shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Image:
    """An image that HTML shows, and its content type."""

    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePart:
    """A part of a message that is no multipart. ``size``: of its content in bytes; None for a message inside it."""

    filename: str
    content_type: str
    content_id: str | None
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMessage:
    """What a reader sees.

    ``fields``: its Subject, From, To, Cc, Reply-To and Date, as far as it has them. ``parts``: all of them in order.
    ``images``: what the HTML shows as ``cid:``, by content id. ``is_whole``: False if only its beginning was read.
    """

    fields: Mapping[str, str]
    text: str | None
    html: str | None
    parts: tuple[MessagePart, ...]
    images: Mapping[str, Image] = field(default_factory=dict)
    is_whole: bool = True
