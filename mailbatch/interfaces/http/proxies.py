"""The header fields by which a proxy shows itself. No browser and no program sends them itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# They describe the client in front of the proxy: X-Forwarded-For, True-Client-IP, CF-Connecting-IP, X-Real-IP.
_ANYWHERE = (
    "forward",
    "proxy",
    "client-?ip",
    "client-?cert",
    "connecting-?ip",
    "real-?(?:ip|host|port)",
    "originating-?ip",
    "ssl-client",
    "client-principal",
    "remote-?(?:addr|ip|host|port|user)",
    "original-?(?:host|ur[il]|proto|scheme)",
)
# Via (RFC 9110 §7.6.3), Early-Data (RFC 8470 §5.1), and others.
_WHOLE = (
    *("(?:.*-)?via", "early-data", "front-end-https", "surrogate-capability", "x-(?:url-)?scheme", "x-host"),
    *("x-request-start", "x-rewrite-url", "x-varnish", "x-cloud-trace-context"),
)
# The names of companies that run proxies. CDN-Loop: RFC 8586.
_FAMILIES = (
    *("akamai", "appengine", "arr", "auth-request", "authentik", "azure", "cdn", "cf", "cloudfront", "edge", "envoy"),
    *("fastly", "fd", "fly", "goog", "heroku", "incap", "ngrok", "nf", "sucuri", "tailscale", "traefik", "vercel"),
    *("amzn", "amz-cf", "kong", "consumer", "oidc", "pomerium"),
)
_OF_A_PROXY = re.compile(
    rf".*(?:{'|'.join(_ANYWHERE)}).*|(?:{'|'.join(_WHOLE)})|(?:x-)?(?:{'|'.join(_FAMILIES)})-.*", re.ASCII
)


def through_proxy(names: Iterable[str]) -> bool:
    """Return whether one of the header fields ``names``, in lower case, shows that the request came through a proxy.

    A proxy that adds no field (an SSH tunnel, HAProxy by default) is not detected.
    """
    return any(_OF_A_PROXY.fullmatch(name.replace("_", "-")) for name in names)
