"""Why has this mail not been sent? Each state and each obstacle has its sentence; over fakes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.fake_reservations import FakeReservations
from support.fake_stores import FakeCircuits, FakePauseStore, FakeRuns
from support.fake_tables import FakeHealthQuery, FakeReports, FakeTables, FakeUpcoming
from support.rows import attempt_row, lane_row, reservation_row, run_row

from mailbatch.application.looking.explain import Explain
from mailbatch.application.looking.explain_pending import MOST_AHEAD
from mailbatch.application.looking.watch import Watch
from mailbatch.domain.errors import Busy, CannotCompose, LockUnavailable, NotFound
from mailbatch.domain.health import Patience
from mailbatch.domain.lock import Holder
from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause, RunOutcome
from mailbatch.infrastructure.db.schedule import EntryState

if TYPE_CHECKING:
    from mailbatch.application.looking.explanation import Explanation
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.message import Message
    from mailbatch.domain.rows import ReservationRow

RELAY = "relay.example:25"
PATIENCE = Patience(quiet=600, dead_after=10, lock_ttl=30, lease=60, unanswered=25, stuck=300)


@dataclass
class Observer:
    """The port ``LockObserver``."""

    holds: Holder | None = None
    away: bool = False
    asked: int = 0
    key: str = "shop:job:lock:send-all"

    def peek(self) -> float | None:
        raise NotImplementedError

    def holder(self) -> Holder | None:
        self.asked += 1
        if self.away:
            raise LockUnavailable("Redis is away")
        return self.holds


@dataclass
class World:
    """Everything that an explanation reads; ``trouble`` is raised by the composer."""

    tables: FakeTables = field(default_factory=FakeTables)
    observer: Observer = field(default_factory=Observer)
    trouble: Exception | None = None

    def __post_init__(self) -> None:
        self.pause = FakePauseStore(self.tables)
        self.circuits = FakeCircuits(self.tables)

    def ago(self, seconds: float) -> datetime:
        return self.tables.now - timedelta(seconds=seconds)

    def mail(self, due: float = 5.0, **columns: Any) -> ReservationRow:
        """A reservation that became due ``due`` seconds ago."""
        row = reservation_row(self.ago(due), **columns)
        self.tables.reservations[row.id] = row
        return row

    def run(self, beat: float = 1.0, **columns: Any) -> Any:
        """A run that began and was heard of ``beat`` seconds ago; its id."""
        row = run_row(self.ago(beat), **columns)
        self.tables.runs[row.run_id] = row
        return row.run_id

    def compose(self, claimed: ClaimedMail) -> Message:
        if self.trouble is not None:
            raise self.trouble
        return None  # type: ignore[return-value] # nobody reads it

    def explain(self, row: ReservationRow) -> Explanation:
        watch = Watch(
            health_query=FakeHealthQuery(self.tables),
            runs=FakeRuns(self.tables),
            pause_store=self.pause,
            lock_observer=self.observer,
            circuits=self.circuits,
            relay=RELAY,
            patience=lambda: PATIENCE,
        )
        return Explain(
            reservations=FakeReservations(self.tables),
            reports=FakeReports(self.tables),
            upcoming=FakeUpcoming(self.tables),
            watch=watch,
            compose=self.compose,
            carried=lambda row: {"language": row.locale},
            urgent_from=10,
        )(row.id)


@pytest.fixture
def world() -> World:
    return World()


def said(found: Explanation) -> tuple[str, str, str]:
    return found.reason, found.sentence, found.advice


def test_there_is_nothing_to_say_about_nobody(world):
    with pytest.raises(NotFound):
        world.explain(reservation_row())


# --- it waits for its time ---


def test_what_is_not_due_says_until_when(world):
    found = world.explain(world.mail(due=-3600))
    assert said(found) == ("not_due", "It is not due before 2026-11-28 13:00:00 UTC.", "")
    assert found.facts["priority"] == 0


def test_a_pause_is_advised_of_to_what_is_not_due_yet(world):
    world.pause.set("send-all", Pause.TICKS)
    advice = world.explain(world.mail(due=-3600)).advice
    assert advice == "an operator has paused the ticks; `mailbatch resume` ends that"


def test_what_was_put_off_says_why_and_when_it_is_tried_again(world):
    row = world.mail(attempts=2, retry_at=world.ago(-600), last_error="450 4.2.0 Greylisted")
    reply = {"outcome": "deferred", "reply_code": 450, "reply_text": "4.2.0 Greylisted"}
    world.tables.attempts.append(attempt_row(row, world.ago(60), **reply))
    found = world.explain(row)
    sentence = "It waits for its next try at 2026-11-28 12:10:00 UTC, after 2 that failed: 450 4.2.0 Greylisted."
    assert said(found) == ("waits_for_retry", sentence, "wait, it goes by itself")
    assert found.facts["last_try"] == "deferred at 2026-11-28 11:59:00 UTC: 450 4.2.0 Greylisted"


@pytest.mark.parametrize(
    ("reply", "end"),
    [("mounted?", "mounted?"), ("421 Bye.", "421 Bye."), ("450 later", "450 later."), ("wait...", "wait...")],
)
def test_a_sentence_that_quotes_another_has_one_end(world, reply, end):
    found = world.explain(world.mail(attempts=1, retry_at=world.ago(-600), last_error=reply))
    assert found.sentence.endswith(f"after 1 that failed: {end}")


def test_what_is_too_late_is_only_marked_by_the_next_run(world):
    found = world.explain(world.mail(expires_at=world.ago(1)))
    assert said(found)[:2] == (
        "expires",
        "Its time passed at 2026-11-28 11:59:59 UTC: the next run marks it as expired.",
    )


# --- it is due ---


@pytest.mark.parametrize(("pause", "what"), [(Pause.TICKS, "the ticks"), (Pause.ALL, "all sending")])
def test_a_pause_comes_before_every_other_reason(world, pause, what):
    world.pause.set("send-all", pause)
    world.circuits.open(RELAY, "refused", 600)
    found = world.explain(world.mail())
    assert said(found)[:2] == ("paused", f"It is due, but an operator has paused {what}.")


def test_paused_ticks_do_not_hold_up_a_run_that_goes_on(world):
    world.pause.set("send-all", Pause.TICKS)
    world.run()
    assert world.explain(world.mail()).reason == "run_in_progress"


def test_a_relay_that_is_left_alone_is_named_with_its_reason(world):
    world.circuits.open(RELAY, "connection refused", 600)
    found = world.explain(world.mail())
    assert found.reason == "relay_away"
    assert "connection refused" in found.sentence
    assert found.facts["relay_reason"] == "connection refused"
    assert "ahead" not in found.facts


@pytest.mark.parametrize(
    ("others", "ahead"), [(0, "no mail goes"), (1, "1 mail goes"), (2, "2 mails go"), (3, "3 mails go")]
)
def test_a_run_that_goes_on_and_how_many_mails_are_sent_first(world, others, ahead):
    run, row = world.run(), world.mail()
    for _ in range(others):
        world.mail(due=100)
    found = world.explain(row)
    assert said(found)[:2] == ("run_in_progress", f"It is due, and run {run} is sending; {ahead} before it.")
    assert (found.facts["ahead"], found.facts["run_id"]) == (others, run)
    assert list(found.facts)[:4] == ["due_at", "due_for_seconds", "ahead", "run_id"]


def test_very_many_mails_ahead_are_not_counted_to_the_end(world, monkeypatch):
    monkeypatch.setattr(FakeUpcoming, "ahead", lambda *_: MOST_AHEAD)
    world.run()
    assert f"; {MOST_AHEAD} or more mails go before it." in world.explain(world.mail()).sentence


def test_a_run_that_has_only_just_taken_the_lock(world):
    world.observer.holds = Holder(owner="here:1", expires_in=29.0)
    found = world.explain(world.mail())
    assert said(found)[:2] == ("run_in_progress", "It is due, and a run is about to begin; no mail goes before it.")


def test_a_relay_that_is_silent_in_a_run_that_goes_on(world):
    run = world.run(100)
    world.tables.runs[run] = replace(world.tables.runs[run], heartbeat_at=world.ago(1))
    world.mail(status=Status.SENDING, lease_until=world.ago(-50))
    found = world.explain(world.mail())
    silent = f"the relay is silent: nobody was answered for 100 s in run {run}"
    assert said(found)[:2] == ("relay_silent", f"It is due, but {silent}; no mail goes before it.")
    assert found.facts["unanswered_seconds"] == 100


def test_redis_that_is_away_keeps_every_run_from_beginning(world):
    world.observer.away = True
    found = world.explain(world.mail())
    assert said(found)[:2] == ("redis_away", "It is due, but no run can begin: Redis is away.")


@pytest.mark.parametrize("other", [None, "shop (PostgreSQL)"])
def test_a_lock_without_a_run_keeps_every_run_from_beginning(world, other):
    world.run(500, outcome="completed", finished_at=world.ago(490))
    world.observer.holds = Holder(owner="here:1", expires_in=20.0, other_database=other)
    found = world.explain(world.mail())
    assert found.reason == "locked"
    assert (other or "the lock of send-all is held") in found.sentence


def test_no_run_because_nothing_starts_one(world):
    sentence = "It is due, but no run has ever begun: beat or worker is not there."
    assert said(world.explain(world.mail(due=1000)))[:2] == ("no_run", sentence)
    world.run(900, outcome="completed", finished_at=world.ago(890))
    assert "no run has begun for 900 s" in world.explain(world.mail(due=1000)).sentence


def test_a_tick_that_is_late(world):
    world.run(100, outcome="completed", finished_at=world.ago(90))
    world.tables.slots["send-all"] = EntryState("send-all", next_tick_at=world.ago(40))
    found = world.explain(world.mail())
    sentence = "It is due, but beat's tick is 40 s late; it was to be at 2026-11-28 11:59:20 UTC."
    assert said(found)[:2] == ("no_tick", sentence)


@pytest.mark.parametrize(
    ("next_tick", "when"),
    [
        (None, "a run; no beat has planned one yet"),
        (-200, "the next run at 2026-11-28 12:03:20 UTC"),
        (3, "the next run, which is due now at 2026-11-28 11:59:57 UTC"),
    ],
)
def test_a_mail_that_only_waits_for_the_next_run(world, next_tick, when):
    world.run(100, outcome="failed", error="the relay is away", finished_at=world.ago(90))
    if next_tick is not None:
        world.tables.slots["send-all"] = EntryState("send-all", next_tick_at=world.ago(next_tick))
    found = world.explain(world.mail())
    assert said(found)[:2] == ("waits_for_run", f"It is due and waits for {when}; no mail goes before it.")
    assert found.facts["last_run"] == "failed at 2026-11-28 11:58:30 UTC: the relay is away"


def test_in_a_run_the_likely_time_follows_from_its_rate(world):
    world.run(100, heartbeat_at=world.ago(1), sent=500)
    world.mail(status=Status.SENT, finished_at=world.ago(1))
    row = world.mail()
    for _ in range(10):
        world.mail(due=100)
    found = world.explain(row)
    assert found.sentence.endswith(
        "; 10 mails go before it. At the rate of this run it goes at about 2026-11-28 12:00:02 UTC."
    )
    assert found.facts["likely_at"] == world.ago(-2)


def test_without_a_run_the_likely_time_follows_from_the_next_run_and_the_rate_of_the_last(world):
    ended = {"outcome": RunOutcome.COMPLETED, "duration": 10.0, "finished_at": world.ago(290)}
    world.run(300, sent=100, **ended)
    world.run(299, sent=49, **ended)  # it had too little to do
    world.tables.slots["send-all"] = EntryState("send-all", next_tick_at=world.ago(-60))
    row = world.mail()
    for _ in range(20):
        world.mail(due=100)
    found = world.explain(row)
    assert found.sentence.endswith(" At the rate of the last runs it goes at about 2026-11-28 12:01:02 UTC.")
    assert found.facts["likely_at"] == world.ago(-62)


def test_very_many_mails_before_it_give_the_earliest_time_only(world, monkeypatch):
    monkeypatch.setattr(FakeUpcoming, "ahead", lambda *_: MOST_AHEAD)
    world.run(100, heartbeat_at=world.ago(1), sent=500)
    world.mail(status=Status.SENT, finished_at=world.ago(1))
    assert " it goes not before about 2026-11-28 12:33:20 UTC." in world.explain(world.mail()).sentence


def test_urgent_mail_starts_a_run_unless_a_run_has_claimed_it_before(world):
    world.tables.slots["send-all"] = EntryState("send-all", next_tick_at=world.ago(-60))
    found = world.explain(world.mail(priority=10))
    assert said(found)[:2] == (
        "waits_for_run",
        "It is due and urgent: a worker starts a run for it at once; no mail goes before it.",
    )
    assert "likely_at" not in found.facts
    assert "waits for the next run" in world.explain(world.mail(priority=9)).sentence
    assert "waits for the next run" in world.explain(world.mail(priority=10, claim_no=1)).sentence


def test_a_relay_that_is_probed_next_shows_in_the_facts(world):
    world.circuits.open(RELAY, "connection refused", 600)
    world.tables.clock.now += 601
    found = world.explain(world.mail())
    assert (found.reason, found.facts["relay_reason"]) == ("waits_for_run", "connection refused")


def test_a_mail_that_will_fail_says_so_before_its_run(world):
    world.trouble = CannotCompose(["template nowhere: there is none", "more"])
    found = world.explain(world.mail())
    assert found.sentence.endswith(" As it stands it will fail then: template nowhere: there is none.")
    assert found.facts["would_fail"] == ["template nowhere: there is none", "more"]
    assert "fail" not in world.explain(world.mail(due=-60)).sentence


def test_a_renderer_that_is_busy_says_nothing_about_the_mail(world):
    world.trouble = Busy("too many")
    found = world.explain(world.mail())
    assert ("would_fail" in found.facts, found.reason) == (False, "waits_for_run")


# --- it is being sent ---


def sending(world: World, **columns: Any) -> ReservationRow:
    known = {"status": Status.SENDING, "lease_until": world.ago(-50), "wire_at": world.ago(10), "lane": 0}
    return world.mail(**known | columns)


def test_what_is_being_sent_names_lane_run_process_and_lease_and_asks_no_redis(world):
    run = world.run(host="web1", pid=77)
    found = world.explain(sending(world, run_id=run, lane=0))
    by = f"lane 0 of run {run} since 2026-11-28 11:59:50 UTC"
    sentence = f"It is being sent by {by}; its lease ends 2026-11-28 12:00:50 UTC unless it is renewed."
    assert said(found) == ("being_sent", sentence, "")
    assert (found.facts["host"], found.facts["pid"]) == ("web1", 77)
    assert world.observer.asked == 0


def test_a_lease_that_has_ended_means_that_its_sender_died(world):
    found = world.explain(sending(world, run_id=uuid4(), lease_until=world.ago(50)))
    assert found.reason == "sender_died"
    assert found.sentence.endswith("whose lease ended 2026-11-28 11:59:10 UTC: its sender died or hangs.")
    assert found.advice == "the next run takes it back, by ON_DOUBT if it may have been on the wire"


def test_a_claimed_mail_without_a_lease_was_left_by_its_sender(world):
    found = world.explain(sending(world, run_id=uuid4(), lease_until=None))
    assert found.reason == "sender_died"
    assert "whose lease ended an unknown time" in found.sentence


def test_a_run_that_has_ended_left_the_mail_behind(world):
    run = world.run(60, outcome="failed", finished_at=world.ago(20))
    found = world.explain(sending(world, run_id=run))
    assert found.sentence.endswith(f"run {run}, which has ended at 2026-11-28 11:59:40 UTC without it.")
    assert found.advice.startswith("when its lease has ended 2026-11-28 12:00:50 UTC, the next run takes it back")


def test_a_run_that_is_silent_died_or_hangs(world):
    found = world.explain(sending(world, run_id=world.run(60)))
    assert "which has given no sign of life for 60 s: its process died, or hangs." in found.sentence


@pytest.mark.parametrize(("beat", "left", "reason"), [(1, None, "being_sent"), (60, None, "sender_died")])
def test_a_helper_has_signs_of_life_of_its_own(world, beat, left, reason):
    run = world.run()
    world.tables.lanes[run, 2] = lane_row(world.ago(beat), run_id=run, lane=2, left_at=left)
    assert world.explain(sending(world, run_id=run, lane=2)).reason == reason


def test_a_helper_that_has_left_has_ended_although_its_run_goes_on(world):
    run = world.run()
    world.tables.lanes[run, 2] = lane_row(run_id=run, lane=2, left_at=world.ago(3))
    assert (
        "has ended at 2026-11-28 11:59:57 UTC without it" in world.explain(sending(world, run_id=run, lane=2)).sentence
    )


def test_a_relay_that_is_silent_while_the_mail_is_being_sent(world):
    run = world.run(100)
    world.tables.runs[run] = replace(world.tables.runs[run], heartbeat_at=world.ago(1))
    found = world.explain(sending(world, run_id=run))
    assert (found.reason, found.facts["unanswered_seconds"]) == ("relay_silent", 100)
    assert "but the relay is silent: nobody was answered for 100 s." in found.sentence


# --- it is finished, or in doubt ---


def test_a_sent_mail_names_the_relay_and_its_reply(world):
    sent = {"sent_at": world.ago(5), "relay": RELAY, "reply_code": 250, "reply_text": "2.0.0 queued"}
    found = world.explain(world.mail(status=Status.SENT, message_id="<1@x>", **sent))
    sentence = f"It was taken at 2026-11-28 11:59:55 UTC by {RELAY}, which said: 250 2.0.0 queued."
    assert said(found) == ("sent", sentence, "what the relay did with it is in its log, under <1@x>")
    assert found.facts["reply"] == "250 2.0.0 queued"


def test_a_doubt_that_an_operator_resolved_is_no_reply(world):
    found = world.explain(world.mail(status=Status.SENT, sent_at=world.ago(5)))
    sentence = "It counts as sent at 2026-11-28 11:59:55 UTC: an operator has resolved a doubt so."
    assert said(found) == ("sent", sentence, "")


@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize(
    ("status", "sentence", "again"),
    [
        (Status.FAILED, "It failed for good at 2026-11-28 11:59:55 UTC: 550 no.", "mailbatch requeue"),
        (Status.CANCELLED, "It was cancelled at 2026-11-28 11:59:55 UTC.", "mailbatch restore"),
        (
            Status.IN_DOUBT,
            "It is in doubt since 2026-11-28 11:59:40 UTC: it went out, and no verdict came back.",
            "not",
        ),
    ],
)
def test_what_ended_says_how_and_what_can_be_done_while_its_time_lasts(world, status, sentence, again, expired):
    expires_at = world.ago(1) if expired else None
    ends = {"finished_at": world.ago(5), "wire_at": world.ago(20), "last_error": "550 no", "expires_at": expires_at}
    found = world.explain(world.mail(status=status, **ends))
    assert (found.reason, found.sentence) == (status.value, sentence)
    assert again in found.advice or expired
    assert ("it cannot go again, because its time passed at 2026-11-28 11:59:59 UTC" in found.advice) == expired


def test_what_failed_without_a_reason_says_that_none_was_noted(world):
    row = world.mail(status=Status.FAILED)
    found = world.explain(row)
    assert said(found) == (
        "failed",
        "It failed for good: no reason was noted.",
        f"mend the cause, then `mailbatch requeue {row.id}`",
    )


def test_what_expired_says_so_and_is_to_be_reserved_anew(world):
    found = world.explain(world.mail(status=Status.EXPIRED, finished_at=world.ago(5), expires_at=world.ago(9)))
    sentence = "It expired at 2026-11-28 11:59:55 UTC and was not sent: its time had passed."
    assert said(found) == ("expired", sentence, "reserve it again if it is still needed")


def test_a_doubt_without_a_time_on_the_wire_is_as_old_as_its_last_attempt(world):
    row = world.mail(status=Status.IN_DOUBT)
    assert world.explain(row).sentence == "It is in doubt: it went out, and no verdict came back."
    world.tables.attempts.append(attempt_row(row, world.ago(7)))
    assert "since 2026-11-28 11:59:53 UTC" in world.explain(row).sentence


def test_a_mail_without_a_message_id_is_looked_for_by_its_recipients(world):
    assert world.explain(world.mail(status=Status.IN_DOUBT)).advice.startswith("look for its recipients in")


def test_who_accepted_it_of_several_recipients_is_a_fact(world):
    verdicts = {"b@x": {"kind": "accepted"}, "c@x": {"kind": "deferred"}, "a@x": {"kind": "accepted"}}
    assert world.explain(world.mail(verdicts=verdicts)).facts["accepted_by"] == ["a@x", "b@x"]
