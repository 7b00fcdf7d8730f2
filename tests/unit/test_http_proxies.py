"""Which header fields tell of a proxy."""

from __future__ import annotations

from mailbatch.interfaces.http.proxies import through_proxy

OF_PROXIES = """
    Via Forwarded X-Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Port X-Forwarded-Server
    X-Forwarded-Ssl X-Forwarded-Prefix X-Forwarded-User X-Forwarded-Client-Cert X-Original-Forwarded-For Forwarded-For
    X-Real-IP X-Real-Host X-Client-IP Client-IP True-Client-IP X-Cluster-Client-IP Fastly-Client-IP Fly-Client-IP
    CF-Connecting-IP CF-Connecting-IPv6 CF-Ray CF-IPCountry CF-Visitor Cf-Access-Jwt-Assertion CDN-Loop
    DO-Connecting-IP X-Azure-ClientIP X-Azure-FDID X-FD-HealthProbe X-ARR-LOG-ID X-ProxyUser-IP X-Nginx-Proxy
    WL-Proxy-Client-IP Proxy-Connection X-Original-Host X-Original-URL X-Original-URI X-Rewrite-URL X-Host X-Scheme
    X-Envoy-External-Address X-Envoy-Peer-Metadata X-Amzn-Trace-Id X-Amz-Cf-Id CloudFront-Viewer-Address
    X-Cloud-Trace-Context X-Appengine-User-IP X-Goog-IAP-JWT-Assertion Akamai-Origin-Hop X-Akamai-Edgescape
    X-Vercel-Forwarded-For X-NF-Client-Connection-IP X-Remote-Addr X-Remote-IP Remote-User X-Varnish
    Surrogate-Capability Early-Data Client-Cert X-SSL-Client-Cert X-Auth-Request-User X-Authentik-Username
    Tailscale-User-Login X-Request-Start X-Bluecoat-Via Front-End-Https Max-Forwards X_Forwarded_For
    X-Real-Port X-Originating-IP Ssl-Client-Verify X-MS-Client-Principal X-Kong-Request-Id X-Consumer-ID
    OIDC_CLAIM_email X-Pomerium-Claim-Email
"""
OF_CLIENTS = """
    Host User-Agent Accept Accept-Encoding Accept-Language Connection Content-Length Content-Type Transfer-Encoding
    Authorization Cookie Origin Referer Cache-Control Pragma Priority DNT Sec-GPC Upgrade-Insecure-Requests
    Sec-Fetch-Site Sec-Fetch-Mode Sec-CH-UA Sec-CH-UA-Platform If-None-Match If-Modified-Since Range TE Expect Date
    HX-Request HX-Target HX-Current-URL HX-Trigger X-CSRF-Token X-Requested-With X-Request-ID Idempotency-Key
    Traceparent Tracestate Baggage X-B3-TraceId Purpose Sec-Purpose Save-Data Keep-Alive From
"""


def test_what_only_proxies_say_is_recognised_and_what_clients_say_is_not():
    assert [name for name in OF_PROXIES.split() if not through_proxy([name.lower()])] == []
    assert [name for name in OF_CLIENTS.split() if through_proxy([name.lower()])] == []
