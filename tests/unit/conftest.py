"""Unit tests reach nothing outside: any socket that they open to somewhere is a fault."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest


class SocketOpened(BaseException):
    """Raised in the test that opened a socket; no ``except Exception`` in the code under test can hide it."""


def _refuse(_self: socket.socket, address: object, *_rest: object) -> NoReturn:
    raise SocketOpened(f"a unit test reaches for {address!r}; give it a fake, or move it to another ring")


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, _refuse)
