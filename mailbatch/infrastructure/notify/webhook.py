"""Posts the report of a run or of an incident to a webhook: Slack reads its ``text``. Signed as Standard Webhooks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import NotDelivered
from mailbatch.domain.redaction.urls import HIDDEN, origin
from mailbatch.domain.run_notification import is_incident, told

if TYPE_CHECKING:
    from collections.abc import Mapping

_GONE = 410
RUN, INCIDENT = "run.finished", "incident.began"


@dataclass(frozen=True, slots=True)
class Webhook:
    """The port ``Channel``: posts to ``url``; ``timeout``, in seconds, covers the whole post. It follows no redirects.

    ``secret``: ``whsec_`` and base64, as in Standard Webhooks; or any other text, whose bytes are the key.
    """

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)
    timeout: float = 10.0

    def __call__(self, report_id: str, report: Mapping[str, Any]) -> None:
        """Post ``report`` once. Raises ``NotDelivered``, with scheme and host but never the path of the URL."""
        body, headers = self.request(report_id, report, datetime.now(UTC))
        try:
            # A server may drip byte by byte: of all time limits only one around the whole post stops that.
            status = asyncio.run(asyncio.wait_for(self._post(body, headers), self.timeout))
        except TimeoutError:
            raise NotDelivered(f"{self.place} did not answer within {self.timeout:g} s") from None
        if not 200 <= status < 300:  # noqa: PLR2004 - the class of success
            raise NotDelivered(f"{self.place} answered {status}", final=status == _GONE)

    @property
    def place(self) -> str:
        """Scheme and host, for logs: the path of such a URL is often the secret."""
        return origin(self.url) or HIDDEN

    def request(self, report_id: str, report: Mapping[str, Any], now: datetime) -> tuple[str, dict[str, str]]:
        """Return the body and the headers of a post at ``now``."""
        # When it happened, the same at each repetition. The time of this post is in a header.
        happened = report.get("finished_at") or report.get("since") or now.isoformat()
        kind, name = (INCIDENT, "incident") if is_incident(report) else (RUN, "report")
        message = {"type": kind, "timestamp": happened, "text": _escaped(told(report)), name: dict(report)}
        body = json.dumps(message, ensure_ascii=False)
        headers = {
            "content-type": "application/json",
            "user-agent": "mailbatch",
            "webhook-id": report_id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self.secret:
            from standardwebhooks import Webhook as Signer

            key = self.secret if self.secret.startswith("whsec_") else self.secret.encode()
            headers["webhook-signature"] = Signer(key).sign(report_id, now, body)
        return body, headers

    async def _post(self, body: str, headers: Mapping[str, str]) -> int:
        import httpx2

        try:
            async with (
                httpx2.AsyncClient(timeout=self.timeout) as client,
                client.stream("POST", self.url, content=body.encode(), headers=dict(headers)) as response,
            ):
                return response.status_code
        except httpx2.HTTPError as error:
            raise NotDelivered(f"{self.place}: {_reason(error)}") from None
        except (httpx2.InvalidURL, UnicodeError):  # whose texts quote the secret
            raise NotDelivered(f"{self.place}: the URL cannot be read; look at MAILBATCH_WEBHOOK_URL") from None


def _escaped(text: str) -> str:
    """Return ``text`` escaped as Slack asks for: a relay's text must not notify a whole channel (``<!channel>``)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
