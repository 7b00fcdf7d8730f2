"""A lane of a run, over fakes: what it claims, sends, settles and gives back."""

from __future__ import annotations

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeRun, FakeStop, plain_message
from support.fakes import FakeTransport, accepted, answered, relay_fault

from mailbatch.application.sending.message_stream import within_budget
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.claimed import Claimed
from mailbatch.domain.errors import CannotCompose, ContentUnavailable, ResourceAway, RunFailed, StoreError
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import ContentFault, Kind, NotSent, RelayFault, Reply, Verdict
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, RunOutcome
from mailbatch.domain.settlement import AWAY_FOR
from mailbatch.infrastructure.db.settling import stored_verdicts


@pytest.fixture
def backlog() -> FakeBacklog:
    return FakeBacklog()


def lane(
    backlog, transport=None, *, compose=plain_message, group_size=4, on_doubt=OnDoubt.RESEND, strict=False
) -> SendDue:
    return SendDue(
        backlog=backlog,
        compose=compose,
        transport=transport or FakeTransport(),
        clock=backlog.clock,
        jitter=lambda: 0.5,
        retry=RetryPolicy(max_attempts=3),
        on_doubt=on_doubt,
        group_size=group_size,
        page_size=10,
        lease=backlog.lease,
        strict=strict,
        relay_faults=5,
    )


def states(backlog) -> list[Status]:
    return [row.status for row in backlog.rows.values()]


def test_everything_that_is_due_is_sent_in_pages_and_the_last_page_is_empty(backlog):
    for _ in range(10):
        backlog.reserve()
    later = backlog.reserve(due=3600)
    run = FakeRun()
    lane(backlog)(run)
    assert run.counts == Counts(sent=10)
    assert backlog.rows[later].status is Status.PENDING
    assert backlog.pages == [4, 4, 2, 0]


def test_mails_go_by_priority_then_by_due_time(backlog):
    late, early, urgent = backlog.reserve(due=-10), backlog.reserve(due=-20), backlog.reserve(priority=9)
    transport = FakeTransport()
    lane(backlog, transport)(FakeRun())
    assert [m.claim.reservation_id for m in transport.messages] == [urgent, early, late]


def test_nothing_due_opens_no_stream_of_mails(backlog):
    transport = FakeTransport()
    lane(backlog, transport)(FakeRun())
    assert transport.messages == []


def test_an_items_error_is_collected_with_its_index_over_the_whole_run_and_stops_nobody(backlog):
    ids = [backlog.reserve(recipients=f"to{i}@example.org") for i in range(9)]

    def script(message):
        return (
            answered(message, Kind.REJECTED, 550, "5.1.1 no")
            if message.claim.reservation_id == bad
            else accepted(message)
        )

    order = sorted(ids)
    bad = order[6]
    run = FakeRun()
    lane(backlog, FakeTransport(script))(run)
    assert run.counts == Counts(sent=8, failed=1)
    assert [(e.index, e.reservation_id, e.errors) for e in run.errors] == [(7, bad, ("550 5.1.1 no",))]


def test_a_mail_that_cannot_be_composed_fails_with_every_reason(backlog):
    good, bad = backlog.reserve(), backlog.reserve()

    def compose(claimed):
        if claimed.claim.reservation_id == bad:
            raise CannotCompose(["subject: has a line break", "body_text: 'x' is undefined"])
        return plain_message(claimed)

    run = FakeRun()
    lane(backlog, compose=compose)(run)
    assert backlog.rows[good].status is Status.SENT
    assert backlog.rows[bad].status is Status.FAILED
    assert run.errors[0].errors == ("subject: has a line break", "body_text: 'x' is undefined")


def test_a_mail_whose_content_is_not_available_now_is_deferred_and_keeps_who_took_it_before(backlog):
    good, bad = backlog.reserve(), backlog.reserve()
    took = {"a@example.org": Verdict(Kind.ACCEPTED, Reply(250, "ok"))}
    backlog.change(bad, verdicts=stored_verdicts(took))

    def compose(claimed):
        if claimed.claim.reservation_id == bad:
            raise ContentUnavailable(["attachments: a.pdf: cannot be read at this moment: Input/output error"])
        return plain_message(claimed)

    run = FakeRun()
    lane(backlog, compose=compose)(run)
    assert backlog.rows[good].status is Status.SENT
    assert (backlog.rows[bad].status, backlog.rows[bad].attempts, backlog.rows[bad].verdicts) == (
        Status.PENDING,
        1,
        stored_verdicts(took),
    )
    assert run.counts == Counts(sent=1, deferred=1)
    assert run.errors[0].errors == ("attachments: a.pdf: cannot be read at this moment: Input/output error",)


def test_a_folder_that_is_away_costs_no_mail_an_attempt_and_is_the_runs_fault(backlog):
    good, *waiting = [backlog.reserve() for _ in range(9)]
    took = {"a@example.org": Verdict(Kind.ACCEPTED, Reply(250, "ok"))}
    backlog.change(waiting[0], verdicts=stored_verdicts(took))
    composed = []

    def compose(claimed):
        composed.append(claimed.claim.reservation_id)
        if claimed.claim.reservation_id != good:
            raise ResourceAway(["attachments: the folder /srv/files cannot be opened: No such file or directory"])
        return plain_message(claimed)

    run = FakeRun()
    lane(backlog, compose=compose)(run)
    assert backlog.rows[good].status is Status.SENT
    rows = [backlog.rows[one] for one in waiting]
    assert {(row.status, row.attempts) for row in rows} == {(Status.PENDING, 0)}
    assert rows[0].verdicts == stored_verdicts(took)
    assert {row.last_error for row in rows} == {run.fault}
    assert sorted(composed) == sorted([good, *waiting]), "each once in this run"
    assert (run.counts, run.errors) == (Counts(sent=1), []), "the fault is not that of nine mails"
    assert run.fault == "attachments: the folder /srv/files cannot be opened: No such file or directory"
    backlog.clock.now += AWAY_FOR + 1
    lane(backlog)(FakeRun())
    assert set(states(backlog)) == {Status.SENT}


def test_a_mail_that_waits_for_a_folder_is_claimed_once_in_a_run_however_long_it_takes(backlog):
    waiting = [backlog.reserve() for _ in range(3)]
    composed = []

    def compose(claimed):
        composed.append(claimed.claim.reservation_id)
        assert len(composed) < 9
        if len(composed) == 3:
            late.append(backlog.reserve())
        if claimed.claim.reservation_id in waiting:
            backlog.clock.now += AWAY_FOR
            raise ResourceAway(["attachments: the folder /srv/files cannot be opened: No such file or directory"])
        return plain_message(claimed)

    late = []
    lane(backlog, compose=compose, group_size=1)(FakeRun())
    assert composed == [*sorted(waiting), *late]
    assert backlog.rows[late[0]].status is Status.SENT, "a new mail is claimed"


def test_our_own_unreadable_bytes_are_the_runs_fault_and_say_nothing_of_the_relay(backlog):
    for _ in range(100):
        backlog.reserve()
    run = FakeRun()
    lane(backlog, FakeTransport(lambda m: ContentFault(m.claim, "relay:25", "Input/output error")))(run)
    assert (run.counts, run.errors, run.fault) == (Counts(), [], "Input/output error")
    assert {(row.status, row.attempts) for row in backlog.rows.values()} == {(Status.PENDING, 0)}


def test_a_deferred_mail_is_not_tried_again_in_the_same_run(backlog):
    backlog.reserve()
    transport = FakeTransport(lambda m: answered(m, Kind.DEFERRED, 451, "later"))
    run = FakeRun()
    lane(backlog, transport)(run)
    assert len(transport.messages) == 1
    assert run.counts == Counts(deferred=1)
    assert states(backlog) == [Status.PENDING]


@pytest.mark.parametrize("why", [RunOutcome.REVOKED, RunOutcome.SHUTDOWN, RunOutcome.PAUSED, RunOutcome.LOCK_LOST])
def test_a_stop_is_seen_before_the_next_mail_and_the_rest_goes_back_at_once(backlog, why):
    for _ in range(8):
        backlog.reserve()
    transport = FakeTransport()
    stop = FakeStop(why, after=10**9)

    def script(message):
        if len(transport.messages) == 3:
            stop.after = 0
        return accepted(message)

    transport._script = script
    run = FakeRun(stop=stop)
    lane(backlog, transport)(run)
    assert run.counts == Counts(sent=3)
    assert sorted(states(backlog)) == [Status.PENDING] * 5 + [Status.SENT] * 3
    assert all(row.lease_until is None and row.wire_at is None for row in backlog.rows.values())


def test_no_mail_is_begun_once_the_lease_has_run_out_on_this_machines_clock(backlog):
    for _ in range(4):
        backlog.reserve()
    transport = FakeTransport()

    def frozen(message):
        backlog.clock.now += backlog.lease  # the process was stopped and goes on
        return accepted(message)

    transport._script = frozen
    run = FakeRun(stop=FakeStop(RunOutcome.SHUTDOWN, after=60))
    lane(backlog, transport)(run)
    first_group = transport.messages[:4]
    assert len({m.claim for m in transport.messages}) == len(transport.messages)
    assert transport.messages[0].claim.claim_no == 1
    assert all(m.claim.claim_no > 1 for m in first_group[1:])  # they were claimed anew, under a new number


def test_renewing_keeps_a_slow_lane_going(backlog):
    for _ in range(4):
        backlog.reserve()
    transport = FakeTransport()
    run = FakeRun()

    def slow(message):
        for _ in range(4):
            backlog.clock.now += backlog.lease / 4
            run.upkeep[0]()
        return accepted(message)

    transport._script = slow
    lane(backlog, transport)(run)
    assert run.counts == Counts(sent=4)
    assert [m.claim.claim_no for m in transport.messages] == [1, 1, 1, 1]


def test_a_relay_that_is_away_ends_the_run_soon_and_burns_no_attempt(backlog):
    for _ in range(100):
        backlog.reserve()
    transport = FakeTransport(lambda m: relay_fault(m, "connection refused"))
    with pytest.raises(RunFailed, match=r"the relay is away: fake:25: connection refused"):
        lane(backlog, transport)(FakeRun())
    assert len(transport.messages) == 5
    assert set(states(backlog)) == {Status.PENDING}
    assert all(row.attempts == 0 for row in backlog.rows.values())


def test_a_relay_that_stays_away_for_some_seconds_ends_the_run_after_fewer_faults(backlog):
    for _ in range(100):
        backlog.reserve()

    def slow_to_fail(message):
        backlog.clock.now += 3
        return relay_fault(message, "timed out")

    transport = FakeTransport(slow_to_fail)
    with pytest.raises(RunFailed, match="timed out"):
        lane(backlog, transport)(FakeRun())
    assert len(transport.messages) == 3


def test_one_mail_and_a_relay_that_is_away_burn_no_attempt_either(backlog):
    backlog.reserve()
    with pytest.raises(RunFailed, match="the relay is away"):
        lane(backlog, FakeTransport(relay_fault))(FakeRun())
    assert backlog.rows.popitem()[1].attempts == 0


def test_a_hopeless_relay_is_not_asked_twice(backlog):
    for _ in range(9):
        backlog.reserve()
    transport = FakeTransport(lambda m: relay_fault(m, "535 5.7.8 bad password", hopeless=True))
    with pytest.raises(RunFailed, match="535"):
        lane(backlog, transport)(FakeRun())
    assert len(transport.messages) == 1


def test_a_mail_given_back_by_a_passing_fault_is_sent_in_the_same_run(backlog):
    for _ in range(6):
        backlog.reserve()
    seen = []

    def script(message):
        seen.append(message)
        return relay_fault(message, "421 too many") if len(seen) == 2 else accepted(message)

    run = FakeRun()
    lane(backlog, FakeTransport(script))(run)
    assert run.counts == Counts(sent=6)


def test_a_mail_that_breaks_the_relay_each_time_is_put_off_like_a_deferral(backlog):
    ids = [backlog.reserve() for _ in range(5)]
    poison = ids[2]

    def script(message):
        if message.claim.reservation_id != poison:
            return accepted(message)
        return RelayFault(message.claim, "fake:25", "connection lost in the body", in_dialogue=True)

    run = FakeRun()
    lane(backlog, FakeTransport(script))(run)
    assert run.counts == Counts(sent=4, deferred=1)
    assert (backlog.rows[poison].status, backlog.rows[poison].attempts) == (Status.PENDING, 1)


def test_one_mail_that_makes_the_relay_hang_is_put_off_and_does_not_pass_for_a_relay_that_is_away(backlog):
    poison = backlog.reserve()

    def hang(message):
        backlog.clock.now += 30
        return RelayFault(message.claim, "fake:25", "RCPT took longer than 30 s", in_dialogue=True)

    run = FakeRun()
    lane(backlog, FakeTransport(hang))(run)
    assert run.counts == Counts(deferred=1)
    assert (backlog.rows[poison].status, backlog.rows[poison].attempts) == (Status.PENDING, 1)


def test_mails_that_make_the_relay_hang_one_after_the_other_pass_for_a_relay_that_is_away(backlog):
    for _ in range(9):
        backlog.reserve()

    def hang(message):
        backlog.clock.now += 30
        return RelayFault(message.claim, "fake:25", "RCPT took longer than 30 s", in_dialogue=True)

    transport = FakeTransport(hang)
    with pytest.raises(RunFailed, match="the relay is away"):
        lane(backlog, transport)(FakeRun())
    assert len(transport.messages) == 2


def test_a_relay_that_says_nothing_to_any_mail_leaves_no_more_in_doubt_than_a_crash(backlog):
    for _ in range(50):
        backlog.reserve()
    run = FakeRun()
    with pytest.raises(RunFailed, match="the relay is away: fake:25: the connection broke"):
        lane(backlog, FakeTransport(lambda m: answered(m, Kind.NO_VERDICT, 0, "the connection broke")))(run)
    assert run.counts == Counts(in_doubt=8)


def test_a_lost_reply_between_answers_ends_no_run(backlog):
    for _ in range(50):
        backlog.reserve()
    seen = []

    def script(message):
        seen.append(message)
        return answered(message, Kind.NO_VERDICT, 0, "the connection broke") if len(seen) % 5 else accepted(message)

    run = FakeRun()
    lane(backlog, FakeTransport(script))(run)
    assert run.counts == Counts(sent=10, in_doubt=40)


def test_a_lane_that_outslept_its_lease_waits_for_what_is_on_the_wire_before_it_claims_more(backlog):
    for _ in range(20):
        backlog.reserve()

    class Sleeper(FakeTransport):
        """Sleeps with a mail on the wire, and gets no reply to it until the stream of mails ends."""

        def send(self, messages, permit, commit_intent=None):
            messages = iter(messages)
            if self.messages:
                yield from super().send(messages, permit, commit_intent)
                return
            self.messages.append(slow := next(messages))
            backlog.clock.now += 2 * backlog.lease
            for message in messages:
                assert len(backlog.pages) < 20, "it claims and gives back, over and over"
                yield accepted(message) if permit() else NotSent(message.claim)
            yield answered(slow, Kind.REJECTED, 550, "5.1.1 no")

    run = FakeRun()
    lane(backlog, Sleeper())(run)
    assert states(backlog).count(Status.SENT) == 19


def test_a_backlog_that_cannot_be_read_fails_the_run_with_the_exact_text(backlog):
    backlog.reserve()
    backlog.failing["claim"] = StoreError("database x: connection refused", transient=True)
    transport = FakeTransport()
    with pytest.raises(RunFailed, match=r"^failed to find reservation mail list\. err:database x: connection refused$"):
        lane(backlog, transport)(FakeRun())
    assert transport.messages == []


def test_verdicts_are_kept_until_the_database_takes_them(backlog):
    backlog.reserve()
    outage = StoreError("database x: restarting", transient=True)
    backlog.failing["settle"] = outage
    tries = []
    real_sleep = backlog.clock.sleep

    def sleep(seconds):
        tries.append(seconds)
        real_sleep(seconds)
        if len(tries) == 4:
            del backlog.failing["settle"]

    backlog.clock.sleep = sleep
    run = FakeRun()
    lane(backlog)(run)
    assert run.counts == Counts(sent=1)
    assert tries == [0.1, 0.2, 0.4, 0.8]


def test_verdicts_that_never_could_be_written_leave_their_mails_claimed_not_pending(backlog):
    backlog.reserve()
    backlog.failing["settle"] = StoreError("database x: gone", transient=True)
    with pytest.raises(RunFailed, match="could not be written"):
        lane(backlog)(FakeRun())
    assert states(backlog) == [Status.SENDING]


def test_a_verdict_for_a_mail_that_another_run_holds_is_not_counted(backlog):
    mail = backlog.reserve()
    transport = FakeTransport()

    def stolen(message):
        backlog.change(mail, claim_no=2)
        return accepted(message)

    transport._script = stolen
    run = FakeRun()
    lane(backlog, transport)(run)
    assert run.counts == Counts()
    assert states(backlog) == [Status.SENDING]


@pytest.mark.parametrize(
    ("policy", "status", "sent"), [(OnDoubt.RESEND, Status.SENT, 1), (OnDoubt.HOLD, Status.IN_DOUBT, 0)]
)
def test_the_leases_of_a_dead_sender_are_judged_by_the_policy_and_counted_by_this_run(backlog, policy, status, sent):
    mail = backlog.reserve()
    backlog.claim(FakeRun().id, 0, None, 1)
    backlog.clock.now += backlog.lease
    run = FakeRun()
    lane(backlog, on_doubt=policy)(run)
    assert run.counts == Counts(sent=sent, in_doubt=1)
    assert backlog.rows[mail].status is status


def test_in_strict_mode_each_mail_is_intended_before_its_last_bytes(backlog):
    backlog.strict = True
    for _ in range(3):
        backlog.reserve()
    on_wire = []

    def script(message):
        on_wire.append([row.wire_at is not None for row in backlog.rows.values()].count(True))
        return accepted(message)

    run = FakeRun()
    lane(backlog, FakeTransport(script), strict=True, group_size=1, on_doubt=OnDoubt.HOLD)(run)
    assert run.counts == Counts(sent=3)
    assert on_wire == [1, 1, 1]


def test_what_could_not_be_intended_is_withdrawn_and_given_back(backlog):
    backlog.strict = True
    backlog.reserve()
    backlog.failing["commit_intent"] = StoreError("database x: restarting", transient=True)
    transport, run = FakeTransport(), FakeRun(stop=FakeStop(RunOutcome.SHUTDOWN, after=12))
    lane(backlog, transport, strict=True, on_doubt=OnDoubt.HOLD)(run)
    assert (transport.messages, run.counts, states(backlog)) == ([], Counts(), [Status.PENDING])


def test_a_transport_torn_down_in_strict_mode_leaves_only_what_was_intended_in_doubt(backlog):
    backlog.strict = True
    ids = [backlog.reserve(due=-9 + i) for i in range(3)]

    class Torn(FakeTransport):
        def send(self, messages, permit, commit_intent=None):
            first, _second = next(messages).claim, next(messages).claim
            commit_intent([first])
            raise KeyboardInterrupt
            yield

    with pytest.raises(KeyboardInterrupt):
        lane(backlog, Torn(), strict=True, on_doubt=OnDoubt.HOLD)(FakeRun())
    assert [backlog.rows[i].status for i in ids] == [Status.SENDING, Status.PENDING, Status.PENDING]


def test_verdicts_wait_for_the_next_claim_but_not_long(backlog):
    for _ in range(8):
        backlog.reserve()
    waiting = []

    def slow(message):
        backlog.clock.now += 0.4
        waiting.append([row.status for row in backlog.rows.values()].count(Status.SENT))
        return accepted(message)

    lane(backlog, FakeTransport(slow), group_size=8)(FakeRun())
    assert waiting == [0, 0, 0, 0, 4, 4, 4, 4]


def test_at_the_end_verdicts_do_not_wait_for_a_mail_that_hangs(backlog):
    for _ in range(7):
        backlog.reserve()
    seen = []

    class Hanging(FakeTransport):
        """Replies to all mails but one, and hangs at that one for minutes."""

        def send(self, messages, permit, commit_intent=None):
            *quick, slow = list(messages)
            yield from map(accepted, quick)
            seen.append(states(backlog).count(Status.SENT))
            yield accepted(slow)

    run = FakeRun()
    lane(backlog, Hanging(), group_size=7)(run)
    assert seen == [6]
    assert run.counts == Counts(sent=7)


def test_a_group_that_cannot_be_turned_over_is_settled_before_the_claim_is_tried_again(backlog):
    for _ in range(6):
        backlog.reserve()
    transport = FakeTransport()

    def script(message):
        if len(transport.messages) == 4:
            backlog.failing["settle_and_claim"] = StoreError("database x: restarting", transient=True)
        return accepted(message)

    transport._script = script
    run = FakeRun()
    lane(backlog, transport)(run)
    assert run.counts == Counts(sent=6)


def test_verdicts_whose_commit_went_unanswered_are_counted_all_the_same(backlog, caplog):
    for _ in range(4):
        backlog.reserve()
    settle = backlog.settle

    def unanswered(run_id, lane, settlements):
        settle(run_id, lane, settlements)
        backlog.settle = settle
        raise StoreError("server closed the connection", transient=True)

    backlog.settle = unanswered
    run = FakeRun()
    lane(backlog)(run)
    assert run.counts == Counts(sent=4)
    assert "too late" not in caplog.text


def test_a_mail_whose_time_has_passed_expires_and_is_not_sent(backlog):
    backlog.reserve(due=-10, expires=-1)
    transport, run = FakeTransport(), FakeRun()
    lane(backlog, transport)(run)
    assert (transport.messages, run.counts) == ([], Counts(expired=1))


def test_urgent_mail_that_comes_in_during_a_long_run_overtakes_the_backlog(backlog):
    for _ in range(20):
        backlog.reserve()
    transport = FakeTransport()
    urgent = []

    def script(message):
        backlog.clock.now += 1
        if len(transport.messages) == 2:
            urgent.append(backlog.reserve(priority=5))
        return accepted(message)

    transport._script = script
    lane(backlog, transport)(FakeRun())
    order = [m.claim.reservation_id for m in transport.messages]
    assert order.index(urgent[0]) < 12


def test_a_group_is_loaded_in_parts_of_at_most_the_budget_and_a_larger_mail_comes_alone():
    sizes = [3, 3, 3, 20, 1, 1]
    claimed = [Claimed(None, i, size) for i, size in enumerate(sizes)]
    assert [[c.size for c in part] for part in within_budget(claimed, 7)] == [[3, 3], [3], [20], [1, 1]]


def test_a_retry_that_cannot_be_composed_keeps_who_took_the_mail_before(backlog):
    mail = backlog.reserve(recipients="a@example.org, b@example.org")
    took = {"a@example.org": Verdict(Kind.ACCEPTED, Reply(250, "ok"))}
    backlog.change(mail, verdicts=stored_verdicts(took))

    def compose(_claimed):
        raise CannotCompose(["template: there is none"])

    lane(backlog, compose=compose)(FakeRun())
    assert (backlog.rows[mail].status, backlog.rows[mail].verdicts) == (Status.FAILED, stored_verdicts(took))


class LosesAnswers(FakeBacklog):
    """Commits, and then loses the connection before the answer: once for each verb named in ``lost``."""

    lost: set[str]

    def settle_and_claim(self, *args):
        done = super().settle_and_claim(*args)
        self._lose("settle_and_claim")
        return done

    def claim(self, *args):
        page = super().claim(*args)
        if "settle_and_claim" not in self.lost:
            self._lose("claim")
        return page

    def _lose(self, verb):
        if verb in self.lost:
            self.lost.remove(verb)
            raise StoreError("the connection broke", transient=True)


def test_a_group_whose_claim_was_done_but_never_answered_goes_out_in_the_same_run():
    backlog = LosesAnswers()
    backlog.lost = {"settle_and_claim"}
    for _ in range(10):
        backlog.reserve()
    transport, run = FakeTransport(), FakeRun()
    lane(backlog, transport)(run)
    assert states(backlog) == [Status.SENT] * 10
    assert len(transport.messages) == 10
    assert (run.counts, run.errors) == (Counts(sent=10), [])


def test_a_run_that_fails_over_a_lost_answer_leaves_nothing_claimed_and_says_so(caplog):
    backlog = LosesAnswers()
    backlog.lost = {"claim"}
    for _ in range(3):
        backlog.reserve()
    with pytest.raises(RunFailed, match="failed to find reservation mail list"):
        lane(backlog)(FakeRun())
    assert states(backlog) == [Status.PENDING] * 3
    assert all(row.wire_at is None for row in backlog.rows.values())
    assert "3 orphaned claims are released" in caplog.text


def test_claims_without_an_answer_are_looked_for_again_when_that_fails_too(backlog):
    for _ in range(10):
        backlog.reserve()
    transport = FakeTransport()
    worker = lane(backlog, transport)
    backlog.failing["settle_and_claim"] = backlog.failing["release_orphans"] = StoreError("away", transient=True)
    run = FakeRun()
    worker(run)
    assert run.counts == Counts(sent=10)
