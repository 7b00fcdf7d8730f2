"""Refusals for good that wait for each other: each verdict comes out once, whatever happens."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from mailbatch.application.sending.relay_health.refusals import ENOUGH, MOST, MeantFor, Refusals, group_of
from mailbatch.domain.outcome import Reply

TEXTS = [Reply(550, "Administrative prohibition"), Reply(554, "5.7.1 spam")]
events = st.lists(
    st.tuples(st.sampled_from(["refused", "accepted", "time"]), st.integers(0, 3), st.integers(0, 1)), max_size=120
)


def group(number: int, mail: int):
    """Two tags, a template, and mails by themselves."""
    return group_of(*[("a", None), ("b", "x"), (None, "x"), (None, None)][number], UUID(int=mail))


@given(events=events)
def test_each_verdict_comes_out_exactly_once_and_few_wait(events):
    refusals, out, taken_in, now = Refusals(), [], [], 0.0
    for index, (what, number, text) in enumerate(events, 1):
        if what == "refused":
            taken_in.append(index)
            reply = TEXTS[text]
            found = refusals.add(index, reply, group(number, index), index, now)  # type: ignore[arg-type]
            if found is MeantFor.THE_RELAY:
                out += refusals.take(reply)
            elif found is MeantFor.ITS_GROUP:
                out += refusals.take(reply, group(number, index))
        elif what == "accepted":
            out += refusals.accepted(group(number, index), index)
        else:
            now += 4.0
        out += refusals.overdue(now)
        assert len(refusals.waiting) <= MOST
    out += refusals.take_all()
    assert sorted(out) == taken_in
    assert refusals.waiting == []


@given(tags=st.lists(st.integers(0, 3), min_size=ENOUGH, max_size=ENOUGH))
def test_eight_of_one_group_are_the_groups_and_of_several_the_relays(tags):
    refusals = Refusals()
    groups = [group(number, mail) for mail, number in enumerate(tags)]
    found = [refusals.add(n, TEXTS[0], one, n, 0.0) for n, one in enumerate(groups)]  # type: ignore[arg-type]
    assert found[:-1] == [MeantFor.UNKNOWN] * (ENOUGH - 1)
    assert found[-1] is (MeantFor.ITS_GROUP if len(set(groups)) == 1 else MeantFor.THE_RELAY)
