"""What every ``Slots`` does, the fake and the one on Redis alike."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from support.fakes import FakeRedisServer, FakeSlots
from support.waiting import wait_until

from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.slots import QUIET, RedisSlots

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

KEY = Keys().connections("relay.example:25")
LONG = 60.0
SHORT = 0.4
PATIENT = 2.0
"""Seconds for which a busy machine does not stop a test."""


class House(Protocol):
    """Where slots are taken, and what can happen to them from outside."""

    def slots(self, cap: int, ttl: float = LONG, key: str = KEY) -> Any: ...

    def flush(self) -> None: ...

    def away(self) -> Any: ...


class FakeHouse:
    def __init__(self) -> None:
        self._server = FakeRedisServer()

    def slots(self, cap, ttl=LONG, key=KEY):
        return FakeSlots(self._server, key, cap, ttl)

    def flush(self):
        self._server.keys.clear()

    @contextmanager
    def away(self):
        self._server.away = True
        yield
        self._server.away = False


class RedisHouse:
    def __init__(self, server: EmbeddedRedis, client: redis.Redis) -> None:
        self._server = server
        self.client = client
        self._ahead = 0.0

    def slots(self, cap, ttl=LONG, key=KEY):
        return RedisSlots(self.client, key, cap, ttl, now=lambda: time.monotonic() + self._ahead)

    def flush(self):
        self.client.flushall()

    def later(self, seconds):
        self._ahead += seconds

    @contextmanager
    def away(self):
        self._server.process.send_signal(signal.SIGSTOP)
        yield
        self._server.process.send_signal(signal.SIGCONT)


@pytest.fixture
def redis_house(private_redis: EmbeddedRedis) -> Iterator[RedisHouse]:
    # Shorter than in production, for a frozen server costs each question this much.
    with connect(f"{private_redis.url}&socket_timeout=0.2") as client:
        yield RedisHouse(private_redis, client)


@pytest.fixture(params=["fake", "redis"])
def house(request: pytest.FixtureRequest) -> House:
    return FakeHouse() if request.param == "fake" else request.getfixturevalue("redis_house")


def taken(slots: Any, tries: int = 10) -> int:
    return [slots.take() for _ in range(tries)].count(True)


def test_two_holders_together_never_have_more_than_the_cap(house):
    first, second = house.slots(3), house.slots(3)
    assert first.take()
    assert taken(second) == 2
    assert not first.take()
    second.give_back()
    assert taken(first) == 1


def test_relays_are_counted_apart(house):
    assert taken(house.slots(2)) == 2
    assert taken(house.slots(2, key=Keys().connections("other.example:25"))) == 2


def test_giving_back_more_than_one_holds_frees_nobody_elses(house):
    first, second = house.slots(2), house.slots(2)
    assert first.take()
    assert second.take()
    for _ in range(5):
        second.give_back()
    assert taken(second) == 1
    assert not first.take()


def test_who_died_loses_its_slots_after_their_time_to_live(house):
    dead, heir = house.slots(2, SHORT), house.slots(2, SHORT)
    assert taken(dead) == 2
    assert not heir.take()
    wait_until(heir.take, 3, "the first slot to be free")
    wait_until(heir.take, 3, "the second, which was taken a moment later")
    assert not heir.take()


def test_who_renews_keeps_them(house):
    holder, other = house.slots(2, PATIENT), house.slots(2, PATIENT)
    assert taken(holder) == 2
    until = time.monotonic() + 1.2 * PATIENT
    while time.monotonic() < until:
        holder.renew()
        assert not other.take()
        time.sleep(PATIENT / 20)


def test_renewal_is_due_every_third_of_the_time_to_live(house):
    assert house.slots(1, 30.0).renew_every == 10.0


def test_a_renewal_counts_again_what_redis_forgot(house):
    holder, other = house.slots(3), house.slots(3)
    assert taken(holder, 2) == 2
    house.flush()
    holder.renew()
    assert taken(other) == 1


def test_nothing_is_renewed_that_was_given_back(house):
    holder = house.slots(1)
    assert holder.take()
    holder.give_back()
    holder.renew()
    assert house.slots(1).take()


def test_a_lower_cap_holds_for_who_asks_next_and_takes_from_nobody(house):
    before, after = house.slots(4), house.slots(2)
    assert taken(before) == 4
    assert not after.take()
    for _ in range(3):
        before.give_back()
    assert taken(after) == 1


def test_while_redis_is_away_nothing_is_granted_and_what_is_held_stays_held(house):
    holder, other = house.slots(3), house.slots(3)
    assert holder.take()
    assert other.take()
    with house.away():
        assert taken(holder, 2) == 0
        other.give_back()
        assert taken(other, 2) == 0
    for slots in (holder, other):
        slots.renew()
    assert taken(holder) + taken(other) == 2


def test_who_never_heard_from_redis_keeps_to_the_cap_alone(house):
    with house.away():
        alone = house.slots(2)
        assert taken(alone) == 2
        alone.give_back()
        assert taken(alone) == 1
    alone.renew()
    assert not house.slots(2).take()


# --- Redis only --------------------------------------------------------------------------------------------------


def test_the_key_ends_with_its_last_slot(redis_house):
    assert redis_house.slots(2, 30.0).take()
    assert redis_house.slots(2, 5.0).take()
    assert redis_house.client.keys() == ["mailbatch:relay:connections:relay.example:25"]
    assert 29_000 < redis_house.client.pttl(KEY) <= 30_000


def test_everybody_can_count_what_is_taken_and_has_not_ended(redis_house):
    holder, dead, watcher = redis_house.slots(5), redis_house.slots(5, SHORT), redis_house.slots(5)
    assert watcher.count() == 0
    assert taken(holder, 2) == 2
    assert dead.take()
    assert watcher.count() == 3
    wait_until(lambda: watcher.count() == 2, 3, "the dead one's slot to end")
    with redis_house.away():
        assert watcher.count() is None


def test_a_redis_that_is_away_is_asked_once_and_then_left_alone(redis_house, caplog, monkeypatch):
    slots = redis_house.slots(4)
    assert taken(slots) == 4
    asked, ask = [], redis_house.client.eval
    monkeypatch.setattr(redis_house.client, "eval", lambda *given: (asked.append(given), ask(*given))[1])
    with redis_house.away():
        for _ in range(4):
            slots.give_back()
        assert len(asked) == 1
        assert [r.levelname for r in caplog.records] == ["WARNING"]
    slots.renew()
    assert taken(redis_house.slots(4)) == 4


def test_after_a_while_it_is_asked_again(redis_house):
    slots = redis_house.slots(4)
    assert slots.take()
    with redis_house.away():
        assert not slots.take()
    assert not slots.take()
    redis_house.later(QUIET)
    assert slots.take()


def test_many_threads_and_processes_at_once_never_pass_the_cap(redis_house):
    guard, open_now, most, granted = threading.Lock(), 0, 0, 0
    shared = [redis_house.slots(3) for _ in range(2)]

    def lane(slots: Any) -> None:
        nonlocal open_now, most, granted
        for _ in range(100):
            if not slots.take():
                continue
            with guard:
                open_now += 1
                granted += 1
                most = max(most, open_now)
            slots.renew()
            with guard:
                open_now -= 1
            slots.give_back()

    threads = [threading.Thread(target=lane, args=(slots,)) for slots in shared * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 < most <= 3
    assert granted > 100
    shared[0].renew()
    shared[1].renew()
    assert redis_house.client.zcard(KEY) == 0
