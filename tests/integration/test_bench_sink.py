"""The bench measures against this sink: it must count right, answer in order and delay without holding up."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))
from bench.sinks import BDAT, OwnSink

RTT = 0.1


@pytest.fixture
def sink():
    with OwnSink() as sink:
        yield sink


def dialogue(sink: OwnSink) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", sink.port), timeout=10)
    assert sock.recv(1000).startswith(b"220 ")
    sock.sendall(b"EHLO client\r\n")
    assert b"250 SMTPUTF8" in sock.recv(1000)
    return sock


def replies(sock: socket.socket, count: int) -> list[bytes]:
    got = b""
    while got.count(b"\n") < count:
        got += sock.recv(65536)
    return [line[:3] for line in got.splitlines()]


def chunked(body: bytes) -> bytes:
    return b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT %d LAST\r\n" % len(body) + body


def test_mails_in_flight_share_one_round_trip(sink):
    sink.set(RTT, BDAT)
    with dialogue(sink) as sock:
        began = time.monotonic()
        for _ in range(50):
            sock.sendall(chunked(b"x" * 3000))
        assert replies(sock, 150) == [b"250"] * 150
        took = time.monotonic() - began
    # One after the other would take a round trip for each mail at least.
    assert RTT <= took < 50 * RTT
    seen = sink.seen()
    assert (seen.mails, seen.mail_bytes, seen.connections, seen.protocol) == (50, 3000, 1, "BDAT")


def test_each_reply_waits_a_round_trip_of_its_own(sink):
    sink.set(RTT, BDAT)
    with dialogue(sink) as sock:
        began = time.monotonic()
        for line in (b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", b"Hello\r\n.\r\n"):
            sock.sendall(line)
            replies(sock, 1)
    assert time.monotonic() - began >= 4 * RTT
    assert sink.seen().protocol == "DATA"


def test_a_body_may_come_byte_by_byte_and_look_like_its_own_end(sink):
    sink.set()
    group = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
    with dialogue(sink) as sock:
        for body in (b"Hello\r\n..\r\n.x\r\n", b"", b"\r\n"):
            sock.sendall(group)
            assert replies(sock, 3) == [b"250", b"250", b"354"]
            for byte in body + b".\r\n":
                sock.sendall(bytes([byte]))
            assert replies(sock, 1) == [b"250"]
        for byte in chunked(b"MAIL FROM:<no@command.example>\r\n"):
            sock.sendall(bytes([byte]))
        assert replies(sock, 3) == [b"250"] * 3
    assert sink.seen().mails == 4
    assert len(sink.times()) == 4


def test_a_group_of_commands_counts_as_pipelining_and_a_new_measurement_forgets(sink):
    sink.set()
    with dialogue(sink) as sock:
        sock.sendall(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        replies(sock, 3)
        sock.sendall(b"Hello\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        assert replies(sock, 4) == [b"250", b"250", b"250", b"354"]
        sock.sendall(b"Hello\r\n.\r\n")
        replies(sock, 1)
    seen = sink.seen()
    assert (seen.mails, seen.protocol) == (2, "PIPELINING")
    sink.set()
    assert sink.seen().mails == 0
