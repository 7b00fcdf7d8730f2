"""Makes the HTML of a mail safe for a frame: no script runs, and no other server learns that the mail was opened."""

from __future__ import annotations

import re

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
"""The Content-Security-Policy of the frame: it fetches nothing. A policy does not stop preconnects."""
NO_LOOKUPS = {"X-DNS-Prefetch-Control": "off"}
"""Headers of the frame: otherwise browsers look up the hosts of links in advance."""

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
