"""A lane and a relay whose refusals speak of the relay: too fast, too much, not at all, or not for this group."""

from __future__ import annotations

import logging

import pytest
from support.fake_backlog import FakeBacklog
from support.fake_stores import FakeCircuits, FakeRun, FakeStop, plain_message
from support.fakes import FakeTransport, accepted, answered, relay_fault

from mailbatch.application.ports.sending import Nap
from mailbatch.application.sending.relay_health.circuit_breaker import CircuitBreaker
from mailbatch.application.sending.relay_health.pace import LONGEST_NAP
from mailbatch.application.sending.send_due import SendDue
from mailbatch.domain.circuit import CircuitPolicy, CircuitState
from mailbatch.domain.errors import RunFailed
from mailbatch.domain.lifecycle import OnDoubt
from mailbatch.domain.outcome import Kind, RelayFault, Replied, Reply, Verdict
from mailbatch.domain.reply_kinds import Concern
from mailbatch.domain.reservation import Status
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Counts, RunOutcome, Trigger

NAME = "fake:25"
THROTTLED = (454, "4.7.0 Throttling failure: Maximum sending rate exceeded.")
FULL = (452, "4.3.1 Insufficient system storage")
DAY = (454, "4.7.0 Throttling failure: Daily message quota exceeded.")
DAY_FOR_GOOD = (550, "5.4.5 Daily user sending limit exceeded.")
PROHIBITED = (550, "Administrative prohibition")
SPAM = (554, "5.7.1 Message rejected as spam")


class World:
    """A backlog, a relay, its circuit, and runs of one lane."""

    def __init__(self) -> None:
        self.backlog = FakeBacklog()
        self.circuits = FakeCircuits(self.backlog.tables)
        self.sent = []

    def reserve(self, count: int, **mail):
        return [self.backlog.reserve(due=-100 + len(self.backlog.rows) * 0.01, **mail) for _ in range(count)]

    def run(self, script=accepted, *, trigger=Trigger.BEAT, run=None, transport=None, **given) -> FakeRun:
        transport = transport or FakeTransport(script, self.backlog.clock.sleep)
        send_due = SendDue(
            backlog=self.backlog,
            compose=plain_message,
            transport=transport,
            clock=self.backlog.clock,
            jitter=lambda: 0.5,
            retry=RetryPolicy(max_attempts=3),
            on_doubt=OnDoubt.RESEND,
            page_size=10,
            lease=self.backlog.lease,
            circuit_breaker=CircuitBreaker(
                circuits=self.circuits, relay=NAME, policy=CircuitPolicy(first=100, longest=250), jitter=lambda: 1.0
            ),
            **{"group_size": 4, **given},
        )
        run = run or FakeRun(trigger=trigger)
        try:
            send_due.probe(run)
            send_due(run)
        finally:
            self.sent = [m.claim.reservation_id for m in transport.messages]
        return run

    def fails(self, script, match, **given) -> None:
        with pytest.raises(RunFailed, match=match):
            self.run(script, **given)

    def states(self):
        return {row.status for row in self.backlog.rows.values()}

    def attempts(self):
        return {row.attempts for row in self.backlog.rows.values()}

    @property
    def circuit(self):
        return self.circuits.look(NAME)


def said(reply):
    """Return a script that gives ``reply`` to every mail."""
    code, text = reply
    return lambda message: answered(message, Kind.DEFERRED if code < 500 else Kind.REJECTED, code, text)


def said_to(who, reply):
    """Return a script that gives ``reply`` to some mails, and accepts the others."""
    return lambda message: (said(reply) if message.claim.reservation_id in who else accepted)(message)


class Limited:
    """A relay that accepts ``rate`` mails in any second. Each takes some time."""

    def __init__(self, world, rate, *, reply=THROTTLED):
        self.world, self.rate, self.reply = world, rate, reply
        self.took, self.refused = [], 0

    def __call__(self, message):
        clock = self.world.backlog.clock
        clock.now += 0.001
        if sum(clock.now - at < 1.0 for at in self.took[-self.rate :]) >= self.rate:
            self.refused += 1
            return said(self.reply)(message)
        self.took.append(clock.now)
        return accepted(message)


@pytest.fixture
def world() -> World:
    return World()


# --- rate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", [THROTTLED, (550, "5.7.0 Requested action not taken: too many emails per second"), (421, "4.7.0 [TSS04]")]
)
def test_a_relay_that_takes_so_many_a_second_gets_all_mails_in_one_run_and_none_uses_an_attempt(world, reply):
    world.reserve(300)
    relay = Limited(world, 14, reply=reply)
    began = world.backlog.clock.now
    run = world.run(relay, group_size=128)
    assert run.counts == Counts(sent=300)
    assert world.attempts() == {1}
    assert relay.refused < 0.5 * 300
    assert 300 / (world.backlog.clock.now - began) > 0.6 * 14
    assert world.circuit.state is CircuitState.CLOSED


def test_mails_that_were_too_fast_go_again_in_the_run_though_all_was_claimed_before_the_relay_said_so(world):
    class Ahead(FakeTransport):
        """Takes every mail of a pass before the first is answered, as a window does with a few mails."""

        def send(self, messages, permit, commit_intent=None):
            return super().send(list(self.without_naps(messages)), permit, commit_intent)

        def without_naps(self, messages):
            for message in messages:
                if isinstance(message, Nap):
                    world.backlog.clock.sleep(message.seconds)
                else:
                    yield message

    world.reserve(3)
    run = world.run(transport=Ahead(Limited(world, 1), world.backlog.clock.sleep))
    assert run.counts == Counts(sent=3)
    assert world.attempts() == {1}


def test_after_the_first_burst_few_mails_are_refused(world):
    world.reserve(1000)
    relay = Limited(world, 14)
    world.run(relay)
    assert relay.refused < 0.05 * 1000


def test_no_more_than_a_second_of_the_rate_is_claimed_at_once(world):
    world.reserve(200)
    relay = Limited(world, 10)
    world.run(relay, group_size=64)
    assert max(world.backlog.pages[1:]) <= 15


def test_a_relay_that_takes_no_mail_for_a_minute_and_says_too_fast_is_left_alone_without_an_attempt(world):
    world.reserve(50)
    began = world.backlog.clock.now
    world.fails(said(THROTTLED), "the relay takes no mail: fake:25: it takes no more for now: 454")
    assert 55 < world.backlog.clock.now - began < 120
    assert len(world.sent) < 60
    assert (world.states(), world.attempts()) == ({Status.PENDING}, {0})
    assert world.circuit.concern is Concern.RATE


def test_a_slow_lane_hears_a_stop_while_it_sleeps(world):
    world.reserve(50)
    run = FakeRun(stop=FakeStop())

    def script(message):
        run.stop.why = RunOutcome.REVOKED
        return said((550, "Too many messages. Try again in 92 seconds."))(message)

    began = world.backlog.clock.now
    world.run(script, run=run)
    assert world.backlog.clock.now - began <= 2 * LONGEST_NAP
    assert (world.states(), world.attempts()) == ({Status.PENDING}, {0})


def test_a_time_that_the_relay_asks_for_is_slept_within_the_run(world):
    world.reserve(3)
    began, heard = world.backlog.clock.now, []

    def script(message):
        heard.append(message)
        return (
            said((550, "Too many messages. Try again in 92 seconds."))(message)
            if len(heard) == 2
            else accepted(message)
        )

    assert world.run(script).counts == Counts(sent=3)
    assert 92 <= world.backlog.clock.now - began < 100


def test_a_mail_that_alone_is_too_fast_does_not_slow_down_the_others_for_ever(world):
    ids = world.reserve(40)
    run = world.run(said_to(ids[:1], THROTTLED))
    assert run.counts == Counts(sent=39, deferred=1)


# --- it takes no mail at all, 4xx ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [DAY, FULL, (454, "4.7.1 <ann@example.org>: Relay access denied")])
def test_three_mails_that_hear_that_the_relay_takes_none_use_no_attempt_however_often(world, reply):
    world.reserve(3)
    for _ in range(5):
        world.fails(said(reply), "the relay takes no mail: fake:25: ")
        world.backlog.clock.now += 4000
    assert (world.states(), world.attempts()) == ({Status.PENDING}, {0})


def test_the_circuit_says_why_and_until_when(world):
    world.reserve(3)
    world.fails(said(DAY), "our quota there is used up: 454 4.7.0 Throttling failure: Daily message quota exceeded")
    assert world.circuit.concern is Concern.QUOTA
    assert world.circuit.seconds_left == 3600
    world.fails(accepted, r"the relay fake:25 is left alone until .* UTC: our quota there is used up: 454")


def test_a_days_quota_is_probed_once_an_hour_by_ticks_and_at_once_by_hand(world):
    world.reserve(3)
    world.fails(said(DAY), "takes no mail")
    probes = []
    for _ in range(24):
        world.backlog.clock.now += 300
        with pytest.raises(RunFailed):
            world.run(said(DAY))
        probes.append(len(world.sent))
    assert sum(probes) == 2
    world.fails(said(DAY), "takes no mail", trigger=Trigger.MANUAL)
    assert len(world.sent) == 1
    assert world.run(trigger=Trigger.MANUAL).counts == Counts(sent=3)


def test_a_mail_that_hears_it_while_mails_handed_over_after_it_are_accepted_pays_as_for_any_4xx(world):
    ids = world.reserve(40)
    run = world.run(said_to(ids[:1], FULL))
    assert run.counts == Counts(sent=39, deferred=1)
    assert (world.backlog.rows[ids[0]].attempts, world.circuit.state) == (1, CircuitState.CLOSED)


def test_it_pays_also_if_it_is_answered_last_of_all(world):
    ids = world.reserve(4)

    class Slow(FakeTransport):
        def send(self, messages, permit, commit_intent=None):
            first, *others = [m for m in messages if permit()]
            yield from map(accepted, others)
            yield said(FULL)(first)

    run = world.run(transport=Slow())
    assert run.counts == Counts(sent=3, deferred=1)
    assert world.backlog.rows[ids[0]].attempts == 1


def test_mails_that_were_refused_before_the_quota_was_used_up_and_after_cost_nothing(world):
    ids = world.reserve(40)
    world.fails(said_to(ids[20:], DAY), "takes no mail")
    rows = [world.backlog.rows[i] for i in ids]
    assert [row.attempts for row in rows] == [1] * 20 + [0] * 20
    assert [row.status for row in rows] == [Status.SENT] * 20 + [Status.PENDING] * 20


def test_one_mail_alone_pays_at_the_third_probe(world):
    (big,) = world.reserve(1)
    attempts = []
    for _ in range(4):
        world.fails(said(FULL), "takes no mail", trigger=Trigger.MANUAL)
        attempts.append(world.backlog.rows[big].attempts)
    assert attempts == [0, 0, 0, 1]
    assert world.backlog.rows[big].due_at > world.backlog.tables.now


def test_the_next_probe_takes_another_mail_so_that_one_does_not_hold_up_the_world(world):
    big, *others = world.reserve(6)
    world.reserve(1)
    script = said_to([big], FULL)
    with pytest.raises(RunFailed):
        world.run(script, run=FakeRun(stop=FakeStop()), relay_faults=1)
    run = world.run(script, trigger=Trigger.MANUAL)
    assert world.sent[0] == others[0]
    assert run.counts == Counts(sent=6, deferred=1)
    assert world.circuit.state is CircuitState.CLOSED


def test_two_mails_that_take_turns_as_probes_let_a_third_one_have_its_turn(world):
    big = world.reserve(2)
    with pytest.raises(RunFailed):
        world.run(said(FULL))
    (small,) = world.reserve(1)
    world.fails(said_to(big, FULL), "takes no mail", trigger=Trigger.MANUAL)
    assert world.backlog.rows[small].status is Status.SENT


def test_a_relay_that_closes_the_connection_over_its_quota_is_held_too(world):
    world.reserve(5)
    reply = Reply(421, "4.7.0 Daily sending quota exceeded, closing connection")

    def script(message):
        return RelayFault(
            message.claim, NAME, f"the relay is closing (at MAIL): {reply}", in_dialogue=True, reply=reply
        )

    world.fails(script, "takes no mail")
    assert (world.states(), world.attempts(), world.circuit.concern) == ({Status.PENDING}, {0}, Concern.QUOTA)


def test_a_login_that_is_refused_over_a_quota_holds_the_relay_and_says_so(world):
    world.reserve(5)
    reply = Reply(451, "Authentication failed: Maximum credits exceeded")

    def script(message):
        return RelayFault(message.claim, NAME, f"the login was refused: {reply}", reply=reply)

    world.fails(script, "takes no mail: fake:25: the login was refused: 451 Authentication failed")
    assert (len(world.sent), world.circuit.concern, world.circuit.seconds_left) == (1, Concern.QUOTA, 3600)


def test_a_run_that_ends_over_a_quota_says_so_though_its_connections_break_afterwards(world):
    world.reserve(4)

    class Closing(FakeTransport):
        """Refuses one mail over the quota, and then drops the other connections."""

        def send(self, messages, permit, commit_intent=None):
            first, *others = list(messages)
            yield said(DAY_FOR_GOOD)(first)
            yield from (relay_fault(one, "the relay closed the connection") for one in others)

    with pytest.raises(RunFailed, match="takes no mail: fake:25: our quota there is used up"):
        world.run(transport=Closing(), relay_faults=1)
    assert (world.circuit.concern, world.circuit.seconds_left) == (Concern.QUOTA, 3600)


# --- it takes no mail at all, 5xx ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        DAY_FOR_GOOD,
        (554, "Message rejected: Sending suspended for this account."),
        (550, "5.7.1 Daily SMTP relay limit exceeded for customer."),
        (554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
        (552, "This message would take you over your relay quota of 500"),
        (550, "5.7.1 Your mail limit has been reached"),
    ],
)
@pytest.mark.parametrize("mails", [1, 30])
def test_a_5xx_that_speaks_of_the_account_holds_the_relay_at_once_even_for_one_mail(world, reply, mails):
    world.reserve(mails)
    world.fails(said(reply), "the relay takes no mail: fake:25: ")
    assert len(world.sent) == 1
    assert (world.states(), world.attempts()) == ({Status.PENDING}, {0})
    assert world.circuit.state is CircuitState.OPEN


def test_a_mail_that_alone_hears_such_a_5xx_does_not_hold_up_the_world_and_pays_as_for_any_4xx(world):
    bad, *_ = world.reserve(10)
    script = said_to([bad], DAY_FOR_GOOD)
    world.fails(script, "takes no mail")
    run = world.run(script, trigger=Trigger.MANUAL)
    assert run.counts == Counts(sent=9, deferred=1)
    assert (world.backlog.rows[bad].status, world.backlog.rows[bad].attempts) == (Status.PENDING, 1)


def test_a_quota_that_gives_way_by_and_by_costs_the_waiting_mails_no_attempt(world):
    world.reserve(40)
    for _ in range(4):
        left = [5]

        def script(message, left=left):
            left[0] -= 1
            return accepted(message) if left[0] >= 0 else said(DAY_FOR_GOOD)(message)

        with pytest.raises(RunFailed):
            world.run(script, trigger=Trigger.MANUAL)
    rows = world.backlog.rows.values()
    assert sum(row.status is Status.SENT for row in rows) == 20
    assert {row.attempts for row in rows if row.status is not Status.SENT} == {0}


# --- refused for good, with a text that no table knows -------------------------------------------------------------


@pytest.mark.parametrize("tags", [[None] * 30, ["a", "b"] * 15])
def test_a_relay_that_refuses_everybody_alike_is_held_after_eight(world, tags):
    for n, tag in enumerate(tags):
        world.reserve(1, tag=tag, recipients=f"to{n}@example.org")

    def script(message):
        return said((550, f"Administrative prohibition for <{message.envelope.recipients[0]}>"))(message)

    world.fails(script, "the relay takes no mail: fake:25: it refuses every mail: 550 Administrative prohibition")
    assert len(world.sent) == 8
    assert (world.states(), world.attempts()) == ({Status.PENDING}, {0})


def test_a_probe_that_hears_the_same_again_keeps_the_circuit_open_without_an_attempt(world):
    world.reserve(30)
    world.fails(said(PROHIBITED), "it refuses every mail")
    world.fails(said(PROHIBITED), "it refuses every mail", trigger=Trigger.MANUAL)
    assert (world.circuit.state, world.circuit.failures, world.attempts()) == (CircuitState.OPEN, 2, {0})
    assert world.run(trigger=Trigger.MANUAL).counts == Counts(sent=30)


@pytest.mark.parametrize("group", [{"tag": "newsletter"}, {"template": "newsletter", "subject": None}])
def test_a_newsletter_that_a_spam_filter_refuses_is_put_back_and_password_resets_go(world, caplog, group):
    letters = world.reserve(60, **group)
    resets = world.reserve(20, tag="reset")
    with caplog.at_level(logging.WARNING):
        run = world.run(said_to(letters, SPAM))
    assert run.counts == Counts(sent=20)
    assert {world.backlog.rows[i].status for i in resets} == {Status.SENT}
    assert {(world.backlog.rows[i].status, world.backlog.rows[i].attempts) for i in letters} == {(Status.PENDING, 0)}
    assert world.circuit.state is CircuitState.CLOSED
    assert "newsletter are put back" in caplog.text
    assert [len(e.errors) for e in run.errors] == [1]
    assert len(world.sent) == 8 + 20


def test_letters_among_resets_are_put_back_too(world):
    letters, resets = [], []
    for _ in range(30):
        letters += world.reserve(1, tag="letter")
        resets += world.reserve(1, tag="reset")
    run = world.run(said_to(letters, SPAM))
    assert run.counts == Counts(sent=30)
    assert {(world.backlog.rows[i].status, world.backlog.rows[i].attempts) for i in letters} == {(Status.PENDING, 0)}


def test_refusals_of_single_mails_among_accepted_ones_stand(world):
    ids = world.reserve(100)
    bad = ids[::5]
    run = world.run(said_to(bad, SPAM))
    assert run.counts == Counts(sent=80, failed=20)


def test_refusals_of_a_tag_whose_mails_are_accepted_between_stand(world):
    ids = world.reserve(100, tag="letter")
    run = world.run(said_to(ids[::5], SPAM))
    assert run.counts == Counts(sent=80, failed=20)


@pytest.mark.parametrize("reply", [(550, "5.1.1 no such user"), (552, "5.2.2 mailbox full"), (552, "5.3.4 too big")])
def test_refusals_of_recipients_stand_however_many_there_are(world, reply):
    world.reserve(30)
    assert world.run(said(reply)).counts == Counts(failed=30)


def test_mails_that_are_each_refused_for_themselves_do_not_hold_up_the_world_for_ever(world):
    bad = world.reserve(12)
    good = world.reserve(5)
    script = said_to(bad, (550, "we do not like this one"))
    for _ in range(12):
        try:
            world.run(script, trigger=Trigger.MANUAL)
        except RunFailed:
            continue
        break
    assert {world.backlog.rows[i].status for i in good} == {Status.SENT}
    assert {world.backlog.rows[i].status for i in bad} == {Status.FAILED}


@pytest.mark.parametrize("text", ["No such user here", "<a@b.example>: User unknown in local table", "no mailbox here"])
def test_bad_addresses_stand_also_where_the_relay_gives_no_code_for_it(world, text):
    world.reserve(30)
    assert world.run(said((550, text))).counts == Counts(failed=30)


def test_fewer_than_eight_stand_at_the_runs_end(world):
    world.reserve(7)
    assert world.run(said(PROHIBITED)).counts == Counts(failed=7)


def test_different_texts_are_no_row(world):
    world.reserve(20)
    texts = iter("abcdefghijklmnopqrst")

    def script(message):
        return said((554, f"5.7.1 reason {next(texts)}"))(message)

    run = world.run(script)
    assert run.counts == Counts(failed=20)


def test_a_refusal_waits_for_ten_seconds_only(world):
    ids = world.reserve(3)
    failed_at = []

    def script(message):
        if message.claim.reservation_id == ids[0]:
            return said(PROHIBITED)(message)
        world.backlog.clock.now += 8
        failed_at.append(world.backlog.rows[ids[0]].status)
        return answered(message, Kind.DEFERRED, 451, "4.7.1 try later")

    world.run(script, group_size=1)
    assert failed_at == [Status.SENDING, Status.SENDING]
    assert world.backlog.rows[ids[0]].status is Status.FAILED


def test_a_refusal_does_not_wait_for_longer_while_another_mail_hangs(world):
    ids = world.reserve(2)
    seen = []

    class Hanging(FakeTransport):
        """Refuses one mail, and gives no reply to the other one for a while."""

        def send(self, messages, permit, commit_intent=None):
            first, slow = list(messages)
            yield said(PROHIBITED)(first)
            for _ in range(12):
                world.backlog.clock.now += 1
                yield None
                seen.append(world.backlog.rows[ids[0]].status)
            yield accepted(slow)

    world.run(transport=Hanging())
    assert (seen[8], seen[11]) == (Status.SENDING, Status.FAILED)


# --- partial success -----------------------------------------------------------------------------------------------


def test_700_recipients_at_a_relay_that_takes_100_a_transaction_all_get_it_in_one_run(world):
    everyone = [f"to{n}@example.org" for n in range(700)]
    (mail,) = world.reserve(1, recipients=", ".join(everyone))
    got, transactions = [], []

    def script(message):
        to = message.envelope.recipients
        got.extend(to[:100])
        transactions.append(len(to))
        yes, no = (
            Verdict(Kind.ACCEPTED, Reply(250, "ok")),
            Verdict(Kind.DEFERRED, Reply(452, "4.5.3 too many recipients")),
        )
        return Replied(message.claim, NAME, {**dict.fromkeys(to[:100], yes), **dict.fromkeys(to[100:], no)})

    run = world.run(script)
    assert run.counts == Counts(sent=1)
    assert got == everyone
    assert transactions == [700, 600, 500, 400, 300, 200, 100]
    assert (world.backlog.rows[mail].status, world.backlog.rows[mail].attempts) == (Status.SENT, 1)


@pytest.mark.parametrize("reply", [FULL, DAY, THROTTLED])
def test_who_accepted_it_is_not_forgotten_though_another_one_heard_that_the_relay_takes_none(world, reply):
    world.reserve(1, recipients="b@example.org, a@example.org")
    got = []

    def script(message):
        to = message.envelope.recipients
        got.extend(one for one in to if one.startswith("a") or len(to) == 1)
        no = Verdict(Kind.DEFERRED, Reply(*reply))
        yes = Verdict(Kind.ACCEPTED, Reply(250, "ok"))
        return Replied(message.claim, NAME, {one: yes if one in got else no for one in to})

    assert world.run(script).counts == Counts(sent=1)
    assert got == ["a@example.org", "b@example.org"]


def test_a_recipient_who_is_put_off_alone_in_the_end_costs_the_attempt(world):
    (mail,) = world.reserve(1, recipients="a@example.org, b@example.org")

    def script(message):
        return Replied(
            message.claim,
            NAME,
            {
                to: Verdict(Kind.ACCEPTED, Reply(250, "ok"))
                if to.startswith("a")
                else Verdict(Kind.DEFERRED, Reply(450, "4.2.0 Greylisted"))
                for to in message.envelope.recipients
            },
        )

    run = world.run(script)
    row = world.backlog.rows[mail]
    assert (run.counts, row.status, row.attempts) == (Counts(deferred=1), Status.PENDING, 1)
    assert row.verdicts["a@example.org"]["kind"] == Kind.ACCEPTED


def test_a_mail_behind_which_another_was_accepted_pays_though_the_relay_then_takes_none(world):
    first, _, *rest = world.reserve(5)
    world.fails(said_to({first, *rest}, FULL), "452", group_size=1)
    assert world.backlog.rows[first].attempts == 1
    assert {world.backlog.rows[own].attempts for own in rest} == {0}
