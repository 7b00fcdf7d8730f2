"""A receiver of webhooks."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/services/T0-secret-path"


class Receiver:
    """An HTTP server that keeps its requests and sends the responses that a test sets."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.holding = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if answer == "hang":
                    receiver.holding.wait(30)
                    self.send_response(204)
                    self.end_headers()
                elif answer == "drop":
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif answer == "elsewhere":
                    self.send_response(307)
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                    self.end_headers()
                else:
                    self.send_response(int(answer))
                    self.end_headers()

            def log_message(self, *_args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.holding.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.seen]
