"""What every ``RateLimits`` does, the fake and the one on Redis alike."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakes import FakeRateLimits
from support.waiting import wait_until

from mailbatch.domain.rate import SECOND, Asked, Grant, Rate, grant, unused
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.own_share import OwnShare
from mailbatch.infrastructure.redis.rate_limits import QUIET, RedisRateLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis as redis_py

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

SLOW = "2/h"
"""So slow that the time of a test lets nobody more go."""


class House(Protocol):
    """Where all lanes ask."""

    def lane(self) -> Any: ...


class FakeHouse:
    def __init__(self) -> None:
        self._shared = FakeRateLimits(time.time)

    def lane(self):
        return self._shared


class RedisHouse:
    def __init__(self, client: redis_py.Redis) -> None:
        self.client = client

    def lane(self):
        return RedisRateLimits(self.client, Keys())


@pytest.fixture
def client(private_redis: EmbeddedRedis) -> Iterator[redis_py.Redis]:
    with connect(f"{private_redis.url}&socket_timeout=0.5") as connected:
        yield connected


@pytest.fixture(params=["fake", "redis"])
def house(request: pytest.FixtureRequest) -> House:
    return FakeHouse() if request.param == "fake" else RedisHouse(request.getfixturevalue("client"))


def asked(*weights: int, rate: str = "10/s", limit: str = "gmail", **rest: Any) -> Asked:
    return Asked(limit=limit, rates=tuple(map(Rate.read, rate.split())), weights=weights, **rest)


def take(lane: Any, one: Asked) -> tuple[int, list[float]]:
    """Return how many may go, and in how many seconds each of the others, rounded."""
    (granted,) = lane.take([one])
    return granted.count, [round(place / SECOND, 1) for place in granted.places]


def test_a_second_goes_at_once_and_the_others_get_places_along_the_rate(house):
    one, other = house.lane(), house.lane()
    count, places = take(one, asked(*[1] * 13))
    assert (count, len(places)) == (10, 3)
    assert places == pytest.approx([0.1, 0.2, 0.3], abs=0.051)
    count, places = take(other, asked(1, 1))
    assert count == 0
    assert places == pytest.approx([0.4, 0.5], abs=0.101)


def test_each_limit_counts_for_itself_and_all_are_asked_at_once(house):
    lane = house.lane()
    granted = lane.take([asked(*[1] * 12), asked(1, limit="tag"), asked(1, 1, rate=SLOW, limit="slow")])
    assert [one.count for one in granted] == [10, 1, 1]


def test_all_rates_of_a_limit_hold(house):
    lane = house.lane()
    assert take(lane, asked(1, 1, rate=f"100/s {SLOW}")) == (1, [1800.0])


def test_who_comes_at_its_place_goes_although_others_are_told_to_wait(house):
    lane = house.lane()
    assert take(lane, asked(1, 1, 1, 1, rate="2/s")) == (2, [0.5, 1.0])
    back = asked(1, rate="2/s", waited=1, queue=False)
    wait_until(lambda: take(lane, back)[0] == 1, 10, "the place of the first that waits")
    assert take(lane, asked(1, rate="2/s"))[0] == 0


def test_while_some_wait_a_new_one_is_put_behind_them(house):
    lane = house.lane()
    lane.take([asked(1, *[1] * 5, rate="1/10s")])
    (new,) = lane.take([asked(1, rate="1/10s")])
    assert new.count == 0
    assert round(new.places[0] / SECOND) == 60


def test_without_a_queue_the_only_place_is_the_next_and_it_is_not_kept(house):
    lane = house.lane()
    first = take(lane, asked(1, 1, 1, rate=SLOW, queue=False))
    assert first == (1, [1800.0])
    assert take(lane, asked(1, rate=SLOW, queue=False)) == (0, [1800.0])


def test_what_was_not_used_goes_to_another(house):
    one, other = house.lane(), house.lane()
    assert take(one, asked(1, rate=SLOW))[0] == 1
    assert take(other, asked(1, rate=SLOW, queue=False))[0] == 0
    one.give_back([asked(1, rate=SLOW)])
    assert take(other, asked(1, rate=SLOW, queue=False))[0] == 1


def test_a_mail_with_more_recipients_than_a_second_allows_goes_when_nobody_has_gone_for_a_second(house):
    lane = house.lane()
    count, places = take(lane, asked(25, 1))
    assert (count, places) == (1, pytest.approx([1.6], abs=0.051))


def test_redis_comes_to_the_same_numbers_as_the_algorithm(client):
    lane = RedisRateLimits(client, Keys())
    rates = st.lists(
        st.builds(Rate, st.integers(1, 500), st.sampled_from([SECOND, 60 * SECOND])), min_size=1, max_size=3
    )
    step = st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 40), st.booleans())

    @settings(max_examples=60, deadline=None)
    @given(rates=rates, steps=st.lists(step, min_size=1, max_size=6))
    def same(rates: list[Rate], steps: list[tuple[list[int], int, bool]]) -> None:
        limit, used = uuid4().hex, unused(rates)
        for weights, waited, queue in steps:
            one = Asked(
                limit=limit, rates=tuple(rates), weights=tuple(weights), waited=min(waited, len(weights)), queue=queue
            )
            seconds, micros = client.time()
            now = seconds * SECOND + micros
            expected, used = grant(one, used, now)
            (found,) = lane.take([one])
            assert found.count >= expected.count
            # The server asked its clock a little later, so its times are a little later too.
            stored = client.hgetall(Keys().rate(limit))
            arrivals = [int(stored[str(n + 1)]) for n in range(len(rates))]
            if found.count == expected.count:
                assert arrivals == pytest.approx(list(used.arrivals), abs=SECOND)
                assert list(found.places) == pytest.approx(list(expected.places), abs=SECOND)
            used = type(used)(tuple(arrivals), int(stored["line"]))

    same()


def test_on_redis_too_the_line_is_forgotten_if_nobody_came_to_it(client):
    lane = RedisRateLimits(client, Keys())
    lane.take([asked(*[1] * 5, rate="1/1s")])
    seconds, _ = client.time()
    client.hset(Keys().rate("gmail"), mapping={"1": (seconds - 5) * SECOND})
    assert take(lane, asked(1, rate="1/1s"))[0] == 1


def test_a_limit_that_nobody_uses_leaves_nothing_behind(client):
    RedisRateLimits(client, Keys()).take([asked(1)])
    assert 0 < client.pttl(Keys().rate("gmail")) < 30_000


def test_without_redis_from_the_start_the_full_rate_is_used_and_said_once(caplog):
    with connect("redis://127.0.0.1:1/0") as nobody:
        lane = RedisRateLimits(nobody, Keys())
        assert take(lane, asked(*[1] * 12))[0] == 10
        assert take(lane, asked(1))[0] == 0
    (line,) = caplog.messages
    assert "goes on at the full rate of each limit" in line


def test_a_lane_that_loses_redis_keeps_its_share_and_no_more(private_redis, client, caplog):
    ahead = [0.0]
    lane = RedisRateLimits(client, Keys(), now=lambda: ahead[0])
    take(lane, asked(*[1] * 4))
    private_redis.process.send_signal(signal.SIGSTOP)
    try:
        ahead[0] = 2.0  # four in two seconds
        assert take(lane, asked(*[1] * 9))[0] == 2
        assert take(lane, asked(1, limit="other"))[0] == 0
        ahead[0] = 4.0
        assert take(lane, asked(*[1] * 9, waited=9))[0] == 2
    finally:
        private_redis.process.send_signal(signal.SIGCONT)
    assert len(caplog.messages) == 1
    ahead[0] = 2.0 + QUIET
    assert lane.take([asked(1)])[0].count == 1


def test_a_share_is_that_of_the_last_ten_seconds():
    ahead = [0.0]
    share = OwnShare(lambda: ahead[0])
    for second in range(31):
        ahead[0] = float(second)
        share.note(asked(*[1] * (9 if second < 15 else 3)), Grant(9 if second < 15 else 3))
    assert share.grant(asked(*[1] * 9)).count == 3
