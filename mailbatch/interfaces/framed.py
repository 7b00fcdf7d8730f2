"""Makes the HTML of a mail safe for a frame: no script runs, and no other server learns that the mail was opened."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailbatch.domain.seen_message import Image

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
"""The Content-Security-Policy of the frame: it fetches nothing. A policy does not stop preconnects."""
MAIL_POLICY = f"sandbox; {POLICY}; frame-ancestors 'self'"
"""For the HTML of a mail on a page: no script, no form, nothing fetched."""
NO_LOOKUPS = {"X-DNS-Prefetch-Control": "off"}
"""Headers of the frame: otherwise browsers look up the hosts of links in advance."""

_CID = re.compile(r"""(?<=["'(])cid:([^"'()\s<>]{1,200})(?=["')])""", re.IGNORECASE)
_PREFERS = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(light|dark)\s*\)", re.IGNORECASE)
_EITHER = re.compile(
    r"""((?<![\w-])color-scheme\s*:\s*|name=["']?color-scheme["']?\s+content=["']\s*)(?:light\s+dark|dark\s+light)""",
    re.IGNORECASE,
)
_ALWAYS, _NEVER = "(min-width:0)", "(max-width:0)"
_MOST_IMAGES = 16 * 2**20
"""Characters of all images in a page: one image may be shown many times."""
# Found in comments and texts too, so that no parser of HTML sees an element that this expression misses.
_OPENING = re.compile(r"<(link|meta|iframe)(?=[\t\n\f\r />]|\Z)", re.IGNORECASE | re.ASCII)
# If an attribute is given twice, the first counts (HTML, 13.2.5.33).
_INSTEAD = {
    "link": '<meta http-equiv="" name="" content=""',
    "meta": '<meta http-equiv=""',
    "iframe": '<iframe srcdoc=""',
}


def without_hints(html: str) -> str:
    """Return ``html`` without elements that let a browser connect to other servers although it may fetch nothing.

    These are ``<link rel=preconnect>`` and similar links, ``<meta http-equiv>``, and documents inside the document.
    Empty elements replace them, so that the mail looks the same.
    """
    return _OPENING.sub(lambda found: _INSTEAD[found[1].lower()], html)


def with_images(html: str, images: Mapping[str, Image]) -> str:
    """Return ``html`` with the contents of ``images``, by content id, in place of their ``cid:`` URLs (RFC 2397)."""
    urls = {
        content_id: f"data:{image.content_type};base64,{base64.b64encode(image.content).decode()}"
        for content_id, image in images.items()
    }
    left = _MOST_IMAGES

    def link(found: re.Match[str]) -> str:
        nonlocal left
        url = urls.get(found[1], found[0])
        left -= len(url)
        return url if left > 0 else found[0]

    return _CID.sub(link, html) if urls else html


def in_scheme(html: str, scheme: Literal["light", "dark"]) -> str:
    """Return ``html`` as a reader sees it whose device is light or dark, whatever the browser prefers.

    A frame has no setting for this: ``prefers-color-scheme`` follows the browser, so the conditions are decided here.
    """
    html = _PREFERS.sub(lambda found: _ALWAYS if found[1].lower() == scheme else _NEVER, html)
    return _EITHER.sub(rf"\g<1>{scheme}", html)
