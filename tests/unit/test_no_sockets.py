"""The guard of this ring: a unit test that opens a socket fails."""

from __future__ import annotations

import asyncio
import socket

import pytest


def test_connecting_and_listening_are_refused_here(tmp_path):
    for family, address in ((socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_UNIX, str(tmp_path / "socket"))):
        with socket.socket(family) as opened:
            for method in (opened.connect, opened.connect_ex, opened.bind):
                with pytest.raises(BaseException, match="a unit test reaches for"):
                    method(address)


def test_an_event_loop_still_works():
    async def answer() -> int:
        return 42

    assert asyncio.run(answer()) == 42
