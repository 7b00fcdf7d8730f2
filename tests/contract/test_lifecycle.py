"""Every event in every state, on the fake, SQLite and PostgreSQL: each does what the table of states says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from support.fake_backlog import FakeBacklog
from support.fake_reservations import FakeInterventions
from support.fake_tables import FakeTables

from mailbatch.domain.act import EVENTS, Act
from mailbatch.domain.gate import NotBefore
from mailbatch.domain.lifecycle import TABLE, Attempts, Event, OnDoubt, blocked_by_expiry
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import ContentFault, Kind, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.settlement import held_back, released, settle, unavailable, uncomposable
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.tables import batch_runs, mail_attempts, mail_reservations
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.domain.settlement import Settlement

RETRY = RetryPolicy(max_attempts=3)
CLAIM_NO = 7
EARLIER = "an earlier error"
SENDER = UUID(int=1)
"""The run whose claims are settled, or whose leases end."""


@dataclass
class Stand:
    """What a test puts into a store, and what it reads of it afterwards."""

    attempts: int = 1
    deaths: int = 0
    on_wire: bool = True
    lease: float = 60.0
    expires: float | None = None


@dataclass
class Seen:
    status: Status
    attempts: int
    finished: bool
    error: str | None
    leased: bool


class Fake:
    def __init__(self) -> None:
        self.tables = FakeTables()
        self.backlog = FakeBacklog(self.tables, retry=RETRY)
        self.interventions = FakeInterventions(self.tables)

    def run(self) -> UUID:
        return uuid4()

    def put(self, status: Status, stand: Stand) -> UUID:
        now = self.tables.now
        own = self.backlog.reserve(due=-1.0, expires=stand.expires)
        last = CLAIM_NO - 1 if status is Status.SENDING else CLAIM_NO
        self.backlog.change(own, claim_no=last - stand.deaths)
        self.backlog.let_senders_die(own, stand.deaths)
        finished_at = now - timedelta(seconds=60) if status in FINISHED else None
        columns = {"status": status, "claim_no": CLAIM_NO, "attempts": stand.attempts, "finished_at": finished_at}
        self.backlog.change(own, last_error=EARLIER, **columns)
        if status is Status.SENDING:
            lease = {"run_id": SENDER, "lane": 0, "lease_until": now + timedelta(seconds=stand.lease)}
            self.backlog.change(own, wire_at=now if stand.on_wire else None, **lease)
        return own

    def see(self, own: UUID) -> Seen | None:
        row = self.tables.reservations.get(own)
        if row is None:
            return None
        finished, leased = row.finished_at is not None, row.lease_until is not None
        return Seen(row.status, row.attempts, finished, row.last_error, leased)


class Sql:
    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        self.backlog = SqlBacklog(engine=self.engine, lease=60, retry=RETRY, message_id_domain="example.org")
        self.interventions = SqlInterventions(self.engine)

    def run(self) -> UUID:
        run_id = uuid4()
        with self.engine.begin() as connection:
            connection.execute(sa.insert(batch_runs).values(run_id=run_id, job="send-all", trigger="manual"))
        return run_id

    def put(self, status: Status, stand: Stand) -> UUID:
        own = uuid4()
        row: dict[str, Any] = {
            "id": own,
            "recipients": "ann@example.org",
            "subject": "s",
            "body_text": "t",
            "status": status.value,
            "scheduled_at": now(-1),
            "claim_no": CLAIM_NO,
            "attempts": stand.attempts,
            "last_error": EARLIER,
            "finished_at": now(-60) if status in FINISHED else None,
        }
        if stand.expires is not None:
            row["expires_at"] = now(stand.expires)
        if status is Status.SENDING:
            row |= {"run_id": SENDER, "lane": 0, "lease_until": now(stand.lease)}
            row["wire_at"] = now() if stand.on_wire else None
        last = CLAIM_NO - 1 if status is Status.SENDING else CLAIM_NO
        died = [{"reservation_id": own, "claim_no": last - n, "outcome": "crashed"} for n in range(stand.deaths)]
        with self.engine.begin() as connection:
            connection.execute(sa.insert(mail_reservations).values(row))
            if died:
                connection.execute(sa.insert(mail_attempts), died)
        return own

    def see(self, own: UUID) -> Seen | None:
        with self.engine.begin() as connection:
            row = connection.execute(sa.select(mail_reservations).where(mail_reservations.c.id == own)).one_or_none()
        if row is None:
            return None
        finished, leased = row.finished_at is not None, row.lease_until is not None
        return Seen(Status(row.status), row.attempts, finished, row.last_error, leased)


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[Fake | Sql]:
    if request.param == "fake":
        yield Fake()
        return
    sql = Sql(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))
    yield sql
    sql.engine.dispose()


# --- how each event comes about ---


def _verdict(kind: Kind, code: int) -> dict[str, Verdict]:
    return {"ann@example.org": Verdict(kind, Reply(code, "the relay's words"))}


def _answered(verdicts: dict[str, Verdict], on_doubt: OnDoubt = OnDoubt.RESEND) -> Callable[[Any, UUID], None]:
    def happen(world: Any, own: UUID) -> None:
        seen = world.see(own)
        outcome = Replied(Claim(own, CLAIM_NO), "relay:25", verdicts)
        settlement = settle(outcome, attempts=seen.attempts, earlier={}, retry=RETRY, on_doubt=on_doubt, jitter=0.5)
        world.backlog.settle(SENDER, 0, [settlement])

    return happen


def _faulty(kind: type[RelayFault | ContentFault], reason: str) -> Callable[[Any, UUID], None]:
    def happen(world: Any, own: UUID) -> None:
        fault, seen = kind(Claim(own, CLAIM_NO), "relay:25", reason), world.see(own)
        settlement = settle(fault, attempts=seen.attempts, earlier={}, retry=RETRY, on_doubt=OnDoubt.RESEND, jitter=0.5)
        world.backlog.settle(SENDER, 0, [settlement])

    return happen


def _unavailable(reason: str) -> Callable[[Any, UUID], None]:
    def happen(world: Any, own: UUID) -> None:
        given = unavailable(
            Claim(own, CLAIM_NO), [reason], {}, attempts=world.see(own).attempts, retry=RETRY, jitter=0.5
        )
        world.backlog.settle(SENDER, 0, [given])

    return happen


def _held(own: UUID, soon: bool) -> Settlement:  # noqa: FBT001
    at = datetime.now(UTC)
    return held_back(Claim(own, CLAIM_NO), NotBefore(at + timedelta(hours=1), "the hours"), at, soon=soon)


def _lease_ends(on_doubt: OnDoubt) -> Callable[[Any, UUID], None]:
    return lambda world, _own: world.backlog.resolve_doubts(world.run(), on_doubt, 10)


def _act(act: Act) -> Callable[[Any, UUID], None]:
    return lambda world, own: world.interventions.apply(act, [own], list(Status))


def _purge(world: Any, _own: UUID) -> None:
    portion = world.interventions.purge(30)
    while portion.place is not None:
        portion = world.interventions.purge(30, portion)


@dataclass
class Way:
    """One way in which an event comes about; ``stand``: how the reservations stand before it."""

    event: Event
    name: str
    happen: Callable[[Any, UUID], None]
    stand: Stand
    error: str | None = None


_DIED = Stand(on_wire=False, lease=-1.0)
_QUIET = "no verdict: the sender stopped while the mail may have been on the wire"
WAYS = [
    Way(Event.CLAIM, "a lane", lambda world, _own: world.backlog.claim(world.run(), 0, None, 10), Stand()),
    Way(
        Event.CLAIM,
        "a lane, alone",
        lambda world, _own: world.backlog.claim_isolated(world.run(), 0),
        Stand(deaths=2),
    ),
    Way(Event.ACCEPTED, "the relay", _answered(_verdict(Kind.ACCEPTED, 250)), Stand()),
    Way(Event.ACCEPTED, "the relay, after a requeue", _answered(_verdict(Kind.ACCEPTED, 250)), Stand(attempts=0)),
    Way(Event.DEFERRED, "the relay", _answered(_verdict(Kind.DEFERRED, 451)), Stand(), "451 the relay's words"),
    Way(Event.DEFERRED, "a file of its own", _unavailable("a.pdf: bad sector"), Stand(), "a.pdf: bad sector"),
    Way(
        Event.EXHAUSTED,
        "a file of its own",
        _unavailable("a.pdf: bad sector"),
        Stand(attempts=2),
        "a.pdf: bad sector; all 3 attempts are used up",
    ),
    Way(
        Event.EXHAUSTED,
        "the relay",
        _answered(_verdict(Kind.DEFERRED, 451)),
        Stand(attempts=2),
        "451 the relay's words; all 3 attempts are used up",
    ),
    Way(Event.REJECTED, "the relay", _answered(_verdict(Kind.REJECTED, 550)), Stand(), "550 the relay's words"),
    Way(
        Event.UNCOMPOSABLE,
        "the composer",
        lambda world, own: world.backlog.settle(SENDER, 0, [uncomposable(Claim(own, CLAIM_NO), ["no such file"], {})]),
        Stand(),
        "no such file",
    ),
    Way(
        Event.NO_VERDICT_RESEND,
        "silence",
        _answered(_verdict(Kind.NO_VERDICT, 0)),
        Stand(),
        "the relay's words",
    ),
    Way(
        Event.NO_VERDICT_HOLD,
        "silence",
        _answered(_verdict(Kind.NO_VERDICT, 0), OnDoubt.HOLD),
        Stand(),
        "the relay's words",
    ),
    Way(
        Event.NO_VERDICT_HOLD,
        "silence at the last attempt",
        _answered(_verdict(Kind.NO_VERDICT, 0)),
        Stand(attempts=2),
        "the relay's words",
    ),
    Way(Event.NO_VERDICT_RESEND, "a crash", _lease_ends(OnDoubt.RESEND), Stand(lease=-1.0), _QUIET),
    Way(Event.NO_VERDICT_HOLD, "a crash", _lease_ends(OnDoubt.HOLD), Stand(lease=-1.0), _QUIET),
    Way(
        Event.NO_VERDICT_HOLD,
        "a crash at the last attempt",
        _lease_ends(OnDoubt.RESEND),
        Stand(lease=-1.0, attempts=2),
        _QUIET,
    ),
    Way(Event.PUT_BACK, "a fault", _faulty(RelayFault, "the relay's words"), Stand(), "the relay's words"),
    Way(Event.PUT_BACK, "our own bytes", _faulty(ContentFault, "the spool is lost"), Stand(), "the spool is lost"),
    Way(
        Event.PUT_BACK,
        "some recipients",
        _answered({**_verdict(Kind.ACCEPTED, 250), "bob@example.org": Verdict(Kind.DEFERRED, Reply(451, "later"))}),
        Stand(),
        "451 later",
    ),
    Way(
        Event.RELEASED,
        "a stop",
        lambda world, own: world.backlog.settle(SENDER, 0, [released(Claim(own, CLAIM_NO))]),
        Stand(),
    ),
    Way(
        Event.RELEASED,
        "an orphan",
        lambda world, _own: world.backlog.release_orphans(SENDER, 0, set()),
        Stand(),
    ),
    *(
        Way(event, "a gate", lambda world, own, soon=soon: world.backlog.settle(SENDER, 0, [_held(own, soon)]), Stand())
        for event, soon in ((Event.HELD_BACK, False), (Event.PACED, True))
    ),
    Way(Event.CRASHED, "the first crash", _lease_ends(OnDoubt.HOLD), _DIED),
    Way(Event.CRASHED, "the second crash", _lease_ends(OnDoubt.HOLD), replace(_DIED, deaths=1)),
    Way(
        Event.QUARANTINED,
        "the last crash",
        _lease_ends(OnDoubt.HOLD),
        replace(_DIED, deaths=2),
        "set aside: 3 senders in a row died while they held it, the last of them with nothing else at hand",
    ),
    Way(
        Event.EXPIRE,
        "expires_at",
        lambda world, _own: world.backlog.expire(10),
        Stand(expires=-0.5),
        "expires_at has passed",
    ),
    Way(
        Event.EXPIRE,
        "MAX_LATENESS",
        lambda world, _own: replace(world.backlog, max_lateness=0.5).expire(10),
        Stand(),
        "due for longer than MAX_LATENESS (0.5 s)",
    ),
    *(Way(EVENTS[act], "an operator", _act(act), Stand()) for act in Act),
    Way(Event.DELETE, "its age", _purge, Stand()),
]
ATTEMPTS = {
    Attempts.KEEP: lambda used: used,
    Attempts.USE: lambda used: used + 1,
    Attempts.COUNTED: lambda used: max(used, 1),
    Attempts.RESET: lambda _used: 0,
}


def expected(way: Way, before: Seen) -> Seen | None:
    change = TABLE[way.event].get(before.status)
    if change is None:
        return before
    if change.deletes:
        return None
    return Seen(
        status=change.status,
        attempts=ATTEMPTS[change.attempts](before.attempts),
        finished=change.finished,
        error=way.error if change.sets_error else before.error,
        leased=change.status is Status.SENDING,
    )


def test_every_event_has_a_way_in_which_it_comes_about():
    assert {way.event for way in WAYS} == set(Event) - {Event.CRASHED_ALONE}


def one_in_each_state(world: Any, stand: Stand) -> dict[UUID, Seen]:
    mails = [world.put(status, stand) for status in Status]
    return {own: world.see(own) for own in mails}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.event} by {way.name}")
def test_an_event_does_in_each_state_what_the_table_says(world, way):
    before = one_in_each_state(world, way.stand)
    for own in before:
        way.happen(world, own)
    assert {seen.status: world.see(own) for own, seen in before.items()} == {
        seen.status: expected(way, seen) for seen in before.values()
    }


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_crash_with_nothing_else_at_hand_uses_an_attempt(world, deaths):
    world.backlog = replace(world.backlog, retry=RetryPolicy(max_attempts=5))
    own = world.put(Status.SENDING, replace(_DIED, deaths=deaths))
    before = world.see(own)
    _lease_ends(OnDoubt.HOLD)(world, own)
    assert world.see(own) == expected(
        Way(Event.CRASHED_ALONE, "", _faulty(RelayFault, "the relay's words"), Stand()), before
    )


@pytest.mark.parametrize(
    "way", [way for way in WAYS if blocked_by_expiry(way.event)], ids=lambda way: f"{way.event} by {way.name}"
)
def test_what_has_expired_is_neither_claimed_nor_requeued(world, way):
    before = one_in_each_state(world, replace(way.stand, expires=-0.5))
    for own in before:
        way.happen(world, own)
    assert {own: world.see(own) for own in before} == before
