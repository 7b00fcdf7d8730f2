"""Which header fields tell that a request came through a proxy. None of them is a browser's, or a program's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Said of the client before it, in whatever words: X-Forwarded-For, True-Client-IP, CF-Connecting-IP, X-Real-IP.
_ANYWHERE = (
    "forward",
    "proxy",
    "client-?ip",
    "client-?cert",
    "connecting-?ip",
    "real-?(?:ip|host)",
    "remote-?(?:addr|ip|host|port|user)",
    "original-?(?:host|ur[il]|proto|scheme)",
)
# Via (RFC 9110 §7.6.3), Early-Data (RFC 8470 §5.1), and what has no family.
_WHOLE = (
    *("(?:.*-)?via", "early-data", "front-end-https", "surrogate-capability", "x-(?:url-)?scheme", "x-host"),
    *("x-request-start", "x-rewrite-url", "x-varnish", "x-cloud-trace-context"),
)
# The names of those who run proxies. CDN-Loop: RFC 8586.
_FAMILIES = (
    *("akamai", "appengine", "arr", "auth-request", "authentik", "azure", "cdn", "cf", "cloudfront", "edge", "envoy"),
    *("fastly", "fd", "fly", "goog", "heroku", "incap", "ngrok", "nf", "sucuri", "tailscale", "traefik", "vercel"),
    *("amzn", "amz-cf"),
)
_OF_A_PROXY = re.compile(
    rf".*(?:{'|'.join(_ANYWHERE)}).*|(?:{'|'.join(_WHOLE)})|(?:x-)?(?:{'|'.join(_FAMILIES)})-.*", re.ASCII
)


def through_proxy(names: Iterable[str]) -> bool:
    """Whether one of the header fields ``names``, in lower case, says that a proxy is in between.

    A proxy that adds no field at all (an SSH tunnel, HAProxy by default) is not seen.
    """
    return any(_OF_A_PROXY.fullmatch(name.replace("_", "-")) for name in names)
