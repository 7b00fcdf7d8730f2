"""The HTTP API as its users meet it: uvicorn on a real port, in a thread of the tests' process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx2
import uvicorn
from support.waiting import wait_until

from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.interfaces.http.app import create_app
from mailbatch.interfaces.http.serving import config_of

if TYPE_CHECKING:
    from types import TracebackType

OPERATE, READ = "operate-token-canary", "read-token-canary"


@dataclass
class Api:
    """A server over ``settings``; ``client`` sends requests to it, with ``token`` if there is one."""

    settings: dict[str, Any]
    token: str | None = None
    _clients: list[httpx2.Client] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.parts = Parts(Settings(**{"sender": "shop@example.com", **self.settings}))
        self.app = create_app(self.parts)
        self._server = uvicorn.Server(config_of(self.app, port=0, lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), 10, "uvicorn to start")
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = self.asking(self.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self._server.should_exit = True
        self._thread.join(20)
        self.parts.close()

    def asking(self, token: str | None = None, **headers: str) -> httpx2.Client:
        """Return another client, with another token."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        client = httpx2.Client(base_url=f"http://localhost:{self.port}", headers=headers, timeout=30)
        self._clients.append(client)
        return client

    def get(self, path: str, expected: int = 200, /, **params: Any) -> Any:
        """Return the JSON of a GET response."""
        return self._asked("GET", path, expected, params=params)

    def post(self, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """Return the JSON of a POST response."""
        return self._asked("POST", path, status, json=body, headers=headers)

    def reserve(self, n: int = 1, **fields: Any) -> list[str]:
        """Reserve ``n`` mails and return their ids."""
        mails = [{**MAIL, **fields} for _ in range(n)]
        return [result["id"] for result in self.post("/api/reservations", mails)["results"]]

    def _asked(self, method: str, path: str, status: int, **how: Any) -> Any:
        answer = self.client.request(method, path, **how)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()


MAIL = {"recipients": "ann@example.com", "subject": "Your order", "body_text": "It is on its way."}
