"""A mail's HTML for a frame in which nothing runs and by which no stranger learns that it was looked at."""

from __future__ import annotations

import re

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
"""The Content-Security-Policy of the frame: it fetches nothing. Policies do not know of connections made in advance."""
NO_LOOKUPS = {"X-DNS-Prefetch-Control": "off"}
"""Headers of the frame: browsers look up the hosts of links in advance otherwise."""

# Found wherever it stands, in comments and texts too: no reader of HTML can then see an element that this one misses.
_OPENING = re.compile(r"<(link|meta|iframe)(?=[\t\n\f\r />]|\Z)", re.IGNORECASE | re.ASCII)
# Of two attributes with one name the first counts (HTML, 13.2.5.33).
_INSTEAD = {
    "link": '<meta http-equiv="" name="" content=""',
    "meta": '<meta http-equiv=""',
    "iframe": '<iframe srcdoc=""',
}


def without_hints(html: str) -> str:
    """Return ``html`` without elements that have a browser connect to strangers although it may fetch nothing.

    These are ``<link rel=preconnect>`` and its like, ``<meta http-equiv>``, and documents inside the document. What
    stands in their places is as empty and as invisible, so that the mail looks the same.
    """
    return _OPENING.sub(lambda found: _INSTEAD[found[1].lower()], html)
