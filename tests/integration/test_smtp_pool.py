"""The stream over several connections: how many, how fast it pulls, how it waits and how it ends."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import smtpfault
from support.mails import always, by_claim, kinds, message
from support.smtpfault import FaultServer, drop, listen_in_silence, say
from support.waiting import wait_until

from mailbatch.domain.outcome import Kind, NotSent, RelayFault, Replied
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

MEGABYTE = 2**20


@pytest.fixture(params=smtpfault.OFFERS, autouse=True)
def mode(request, monkeypatch):
    """What the relay of a test announces, unless the test says so itself: each runs in all three dialogues."""
    monkeypatch.setattr(smtpfault, "EXTENSIONS", smtpfault.OFFERS[request.param])
    return request.param


def transport_to(server, timeout=10, **settings):
    relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=timeout, data_timeout=timeout)
    return SmtpTransport(relay, **settings)


def wire_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("smtp 127.0.0.1")]


def open_sockets():
    gc.collect()
    return sum(str(fd.readlink()).startswith("socket:") for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())


class Gate:
    """Holds the relay's answer to each body until it is let through, and counts who waits."""

    def __init__(self):
        self.waiting = 0
        self.most = 0
        self._tickets = threading.Semaphore(0)

    def __call__(self, session):
        ordinary = session.ordinary
        session.server.note(lambda: self._count(1))
        assert self._tickets.acquire(timeout=10)
        session.server.note(lambda: self._count(-1))
        ordinary()

    def _count(self, change):
        self.waiting += change
        self.most = max(self.most, self.waiting)

    def let_through(self, mails):
        for _ in range(mails):
            self._tickets.release()


@contextlib.contextmanager
def meanwhile(callback):
    """Call ``callback`` in another thread, and wait for it at the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(callback)
        yield
        doing.result(10)


def test_one_mail_opens_one_connection(mode):
    with FaultServer() as server:
        list(transport_to(server, connections=4).send([message()], always))
    assert len(server.sessions) == 1
    assert server.verbs == ["EHLO", "MAIL", "RCPT", "BDAT" if mode == "BDAT" else "DATA", "QUIT"]


def test_no_mail_opens_none():
    with FaultServer() as server:
        assert list(transport_to(server).send([], always)) == []
    assert server.sessions == []


def test_many_mails_use_all_connections_again_and_again():
    gate = Gate()
    messages = [message() for _ in range(40)]

    def relay():
        server.wait_for(lambda: gate.waiting >= 1)
        gate.let_through(1)
        server.wait_for(lambda: gate.waiting == 4)
        gate.let_through(39)

    with FaultServer({"dot": gate}) as server, meanwhile(relay):
        outcomes = list(transport_to(server, connections=4).send(messages, always))
    assert by_claim(outcomes).keys() == {m.claim for m in messages}
    assert gate.most == 4
    assert len(server.sessions) == 4
    assert len(server.journal) == 40


@pytest.mark.parametrize("mode", ["DATA"], indirect=True)
def test_the_next_mail_is_pulled_only_when_a_connection_is_free():
    gate, pulled = Gate(), []

    def source():
        for _ in range(8):
            pulled.append(threading.get_ident())
            yield message()

    def relay():
        for mails in range(1, 9):
            server.wait_for(lambda mails=mails: gate.waiting == min(2, 9 - mails))
            assert len(pulled) == min(mails + 1, 8)
            gate.let_through(1)
            server.wait_for(lambda mails=mails: len(server.journal) == mails)

    with FaultServer({"dot": gate}) as server, meanwhile(relay):
        outcomes = list(transport_to(server, connections=2).send(source(), always))
    assert len(outcomes) == 8
    assert set(pulled) == {threading.get_ident()}
    assert gate.most == 2


def test_the_first_mail_is_on_the_wire_before_the_next_is_fetched():
    def source():
        yield message()
        server.wait_for(lambda: len(server.journal) == 1)
        yield message()

    with FaultServer() as server:
        outcomes = list(transport_to(server, connections=1).send(source(), always))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 2


@pytest.mark.parametrize("mode", ["BDAT"], indirect=True)
def test_a_relay_is_not_late_because_its_client_was_away():
    def source():
        # More than the kernels hold: the rest can only be written when we are back.
        yield message(body=b"x" * 70 + b"\r\n" * 15_000_000)
        back = time.monotonic() + 1.2
        wait_until(lambda: time.monotonic() > back, 10, "more time passes than a relay has")
        yield message()

    with FaultServer(extensions=("PIPELINING", "CHUNKING")) as server:
        outcomes = list(transport_to(server, timeout=1, byte_budget=2**30).send(source(), always))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 2


@pytest.mark.parametrize("mode", ["DATA"], indirect=True)
def test_outcomes_come_before_the_source_is_asked_again():
    outcomes, seen = [], []

    def source():
        for _ in range(3):
            seen.append(len(outcomes))
            yield message()

    with FaultServer() as server:
        for outcome in transport_to(server, connections=1).send(source(), always):
            outcomes += [outcome]
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(("budget", "most"), [(3 * MEGABYTE, 3), (1, 1)])
def test_fat_mails_in_flight_are_bounded_by_their_bytes(budget, most):
    in_flight = set()
    peak = 0

    def source():
        nonlocal peak
        for _ in range(12):
            one = message(body=b"x" * (MEGABYTE - 2) + b"\r\n")
            in_flight.add(one.claim)
            peak = max(peak, len(in_flight))
            yield one

    with FaultServer() as server:
        for outcome in transport_to(server, connections=8, byte_budget=budget).send(source(), always):
            in_flight.discard(outcome.claim)
    assert len(server.journal) == 12
    assert peak <= most


def test_a_connection_is_worn_out_after_so_many_mails():
    with FaultServer() as server:
        transport = transport_to(server, connections=1, mails_per_connection=3)
        list(transport.send([message() for _ in range(7)], always))
    assert [accepted.connection for accepted in server.journal] == [1, 1, 1, 2, 2, 2, 3]
    assert server.verbs.count("QUIT") == 3


def test_a_connection_that_was_idle_for_too_long_is_not_risked():
    with FaultServer() as server:
        # Any time at all is too long here.
        transport = transport_to(server, connections=1, window=1, idle_seconds=1e-9)
        outcomes = list(transport.send([message() for _ in range(3)], always))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 3
    assert [accepted.connection for accepted in server.journal] == [1, 2, 3]
    assert server.verbs.count("QUIT") == 3


def test_a_relay_that_is_away_touches_one_mail_at_a_time():
    with FaultServer({"connect": drop}) as server:
        stream = transport_to(server, connections=4).send((message() for _ in range(100)), always)
        began = time.monotonic()
        outcomes = [next(stream) for _ in range(4)]
        elapsed = time.monotonic() - began
        stream.close()
    assert all(isinstance(outcome, RelayFault) for outcome in outcomes)
    assert len(server.sessions) <= 5
    assert elapsed >= 0.1 + 0.2 + 0.4


def test_a_relay_that_lets_no_more_connections_in_gets_all_over_the_first(caplog):
    with FaultServer({"connect": [None] + [say("421 4.7.0 too many")] * 100}) as server:
        outcomes = list(transport_to(server, connections=4).send([message() for _ in range(40)], always))
    assert [kinds(outcome) for outcome in outcomes] == [{"ann@example.org": Kind.ACCEPTED}] * 40
    assert {accepted.connection for accepted in server.journal} == {1}
    assert caplog.text.count("too many") <= 1


def test_success_ends_the_waiting():
    with FaultServer({"connect": [drop, drop]}) as server:
        outcomes = list(transport_to(server).send([message() for _ in range(10)], always))
    assert [type(outcome) for outcome in outcomes] == [RelayFault] * 2 + [Replied] * 8


def test_a_withdrawn_permit_cuts_the_waiting_short():
    stop = threading.Event()
    with FaultServer({"connect": drop}) as server:
        stream = transport_to(server).send((message() for _ in range(100)), lambda: not stop.is_set())
        for _ in range(5):
            next(stream)
        stop.set()
        began = time.monotonic()
        assert sum(isinstance(outcome, NotSent) for outcome in stream) == 95
        assert time.monotonic() - began < 5


def test_a_permit_withdrawn_while_connecting_holds():
    permits = iter([True, False])
    with FaultServer() as server:
        (outcome,) = transport_to(server).send([message()], lambda: next(permits))
    assert isinstance(outcome, NotSent)
    assert server.verbs == ["EHLO", "QUIT"]


def test_closing_the_stream_ends_dialogues_threads_and_sockets(caplog):
    silent = []

    def dot(session):
        if b"silence" in session.data:
            session.server.note(lambda: silent.append(session))
            listen_in_silence(session)
        if b"wait" in session.data:
            server.wait_for(lambda: len(silent) == 3)
        session.ordinary()

    def source():
        yield message()
        for _ in range(3):
            yield message(body=b"silence\r\n")
        while True:
            yield message(body=b"wait\r\n")

    sockets = open_sockets()
    with FaultServer({"dot": dot}) as server:
        stream = transport_to(server, connections=4, window=1, timeout=60).send(source(), always)
        next(stream)
        next(stream)
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 20
        wait_until(lambda: wire_threads() == [], 10, "the threads of the wire to end")
        server.wait_for(lambda: server.open_sessions == 0)
    assert open_sockets() == sockets
    assert caplog.text == ""


def test_closing_interrupts_a_connection_that_waits_for_its_next_try():
    with FaultServer({"connect": drop}) as server:
        stream = transport_to(server).send((message() for _ in range(100)), always)
        for _ in range(5):
            next(stream)
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 5
    wait_until(lambda: wire_threads() == [], 10, "the threads of the wire to end")


def test_an_error_of_the_consumer_leaves_nothing_behind():
    def consume():
        with contextlib.closing(transport_to(server).send((message() for _ in range(10)), always)) as stream:
            for _ in stream:
                raise RuntimeError("no more")

    with FaultServer() as server, pytest.raises(RuntimeError, match="no more"):
        consume()
    wait_until(lambda: wire_threads() == [], 10, "the threads of the wire to end")


def test_an_error_of_the_permit_ends_the_stream():
    def permit():
        raise RuntimeError("nobody knows")

    with FaultServer() as server, pytest.raises(RuntimeError, match="nobody knows"):
        list(transport_to(server).send([message()], permit))
    wait_until(lambda: wire_threads() == [], 10, "the threads of the wire to end")


def test_a_fault_is_logged_once_without_addresses(caplog):
    with FaultServer({"rcpt": [say("421 4.3.2 no more for ann@example.org")]}) as server, caplog.at_level(logging.INFO):
        (outcome,) = transport_to(server).send([message("ann@example.org")], always)
    assert "ann@example.org" in outcome.reason
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert str(outcome.claim.reservation_id) in caplog.text
    assert "@" not in caplog.text


def test_the_threads_know_which_run_they_serve():
    run = contextvars.ContextVar("run")
    run.set("this one")
    seen = []
    with FaultServer() as server:
        list(transport_to(server).send([message()], lambda: not seen.append(run.get("none"))))
    assert set(seen) == {"this one"}


def test_the_end_of_the_body_does_not_wait_for_a_delayed_acknowledgement():
    with FaultServer() as server:
        began = time.monotonic()
        list(transport_to(server, connections=1).send([message() for _ in range(500)], always))
        # At 40 ms each, as without TCP_NODELAY, it takes 20 s.
        assert time.monotonic() - began < 10
