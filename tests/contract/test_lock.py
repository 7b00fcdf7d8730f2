"""What every ``Lock`` does, and every ``LockObserver``, the fake and the one on Redis alike."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from support.fakes import FakeLock, FakeRedisServer
from support.waiting import wait_until

from mailbatch.domain.database import DatabaseIdentity
from mailbatch.domain.errors import LockUnavailable
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.lock import _ACQUIRE, RedisLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

KEY = Keys().lock("send-all")
SHOP = DatabaseIdentity(kind="postgresql", system=7, number=16384, name="shop", schema="public")
STAGING = DatabaseIdentity(kind="postgresql", system=8, number=16384, name="shop", schema="public")
LONG = 60.0
SHORT = 0.4


class House(Protocol):
    """Where locks are made, and what can happen to them from outside."""

    def lock(self, ttl: float = LONG, database: DatabaseIdentity | None = None) -> Any: ...

    def flush(self) -> None: ...

    def steal(self) -> None: ...

    def away(self) -> Any: ...


class FakeHouse:
    def __init__(self) -> None:
        self._server = FakeRedisServer()

    def lock(self, ttl=LONG, database=None):
        return FakeLock(self._server, KEY, ttl, database)

    def flush(self):
        self._server.keys.clear()

    def steal(self):
        self._server.set(KEY, "a thief", LONG)

    @contextmanager
    def away(self):
        self._server.away = True
        yield
        self._server.away = False


class RedisHouse:
    def __init__(self, server: EmbeddedRedis, client: redis.Redis) -> None:
        self._server = server
        self._client = client

    def lock(self, ttl=LONG, database=None):
        return RedisLock(self._client, KEY, ttl, database=lambda: database)

    def flush(self):
        self._client.flushall()

    def steal(self):
        self._client.set(KEY, "thief:1:token", ex=int(LONG))

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


def lost(lock) -> bool:
    return not lock.held()


def test_only_one_of_two_gets_it(house):
    first, second = house.lock(), house.lock()
    assert first.acquire()
    assert first.held()
    assert not second.acquire()
    assert not second.held()
    assert first.held()


def test_what_was_never_acquired_is_not_held(house):
    lock = house.lock()
    lock.renew()
    assert not lock.held()
    lock.release()
    assert house.lock().acquire()


def test_release_makes_it_free_for_the_next(house):
    first, second = house.lock(), house.lock()
    assert first.acquire()
    first.release()
    assert not first.held()
    assert second.acquire()


def test_releasing_twice_does_not_free_the_lock_of_the_next(house):
    first, second = house.lock(), house.lock()
    assert first.acquire()
    first.release()
    assert second.acquire()
    first.release()
    second.renew()
    assert second.held()


def test_a_released_lock_is_not_renewed_back_to_life(house):
    lock = house.lock()
    assert lock.acquire()
    lock.release()
    lock.renew()
    assert not lock.held()
    assert house.lock().acquire()


def test_it_ends_by_itself_when_renewals_stop(house):
    lock, heir = house.lock(SHORT), house.lock()
    assert lock.acquire()
    wait_until(lambda: lost(lock), 3, "the holder notices that its time is over")
    wait_until(heir.acquire, 3, "the lock is free for the heir")


def test_the_holder_notices_the_end_before_anybody_else_can_have_it(house):
    lock, heir = house.lock(SHORT), house.lock()
    assert lock.acquire()
    wait_until(heir.acquire, 3, "the lock is free for the heir", every=0.001)
    assert not lock.held()


def test_renewals_hold_it_for_longer_than_its_time_to_live(house):
    lock, other = house.lock(SHORT), house.lock()
    assert lock.acquire()
    renewals = 0

    def renew() -> bool:
        nonlocal renewals
        lock.renew()
        renewals += 1
        assert lock.held()
        assert not other.acquire()
        return renewals == 12

    wait_until(renew, 10, "twelve renewals", every=SHORT / 4)


def test_a_lock_that_was_lost_stays_lost(house):
    lock = house.lock(SHORT)
    assert lock.acquire()
    wait_until(lambda: lost(lock), 3, "the lock ends")
    lock.renew()
    assert not lock.held()


def test_a_stolen_key_is_noticed_at_the_next_renewal_and_left_to_the_thief(house):
    lock = house.lock()
    assert lock.acquire()
    house.steal()
    lock.renew()
    assert not lock.held()
    lock.release()
    assert not house.lock().acquire()


def test_a_release_leaves_the_lock_to_a_thief_who_was_never_noticed(house):
    lock = house.lock()
    assert lock.acquire()
    house.steal()
    lock.release()
    assert not house.lock().acquire()


def test_a_flushed_key_is_noticed_at_the_next_renewal_and_not_written_again(house):
    lock = house.lock()
    assert lock.acquire()
    house.flush()
    lock.renew()
    assert not lock.held()
    assert house.lock().acquire()


def test_a_server_that_is_away_is_no_answer(house):
    with house.away(), pytest.raises(LockUnavailable, match=KEY):
        house.lock().acquire()


def test_while_the_server_is_away_the_lock_is_held_until_its_time_is_over(house):
    lock = house.lock(1.0)
    assert lock.acquire()
    with house.away():
        lock.renew()
        assert lock.held()
        wait_until(lambda: lost(lock), 3, "the holder gives up")
        lock.renew()
        lock.release()
        assert not lock.held()


def test_a_short_outage_is_survived(house):
    lock = house.lock(3.0)
    assert lock.acquire()
    with house.away():
        lock.renew()
    lock.renew()
    assert lock.held()
    assert not house.lock().acquire()


def test_peek_tells_for_how_long_it_is_held_by_anyone(house):
    lock, stranger = house.lock(20.0), house.lock()
    assert stranger.peek() is None
    assert lock.acquire()
    assert 0 < stranger.peek() <= 20.0
    with house.away(), pytest.raises(LockUnavailable):
        stranger.peek()


def test_the_lock_of_another_databases_job_is_an_error_that_names_both_and_is_none_of_our_runs(house):
    theirs = house.lock(20.0, SHOP)
    assert theirs.acquire()
    ours = house.lock(20.0, STAGING)
    with pytest.raises(LockUnavailable) as refused:
        ours.acquire()
    assert str(SHOP) in str(refused.value)
    assert str(STAGING) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert ours.peek() is None
    assert ours.holder().other_database == str(SHOP)
    assert theirs.held()
    theirs.release()
    assert ours.acquire()


@pytest.mark.parametrize("database", [SHOP, None])
def test_the_lock_of_our_own_or_an_unknown_database_is_only_taken(house, database):
    assert house.lock(20.0, SHOP).acquire()
    other = house.lock(20.0, database)
    assert not other.acquire()
    assert 0 < other.peek() <= 20.0
    assert other.holder().other_database is None


# --- Redis only --------------------------------------------------------------------------------------------------


def test_the_key_is_the_one_of_the_contract_and_ends_in_redis_too(redis_house, private_redis):
    assert redis_house.lock(30).acquire()
    with connect(private_redis.url) as client:
        assert client.keys() == ["mailbatch:job:lock:send-all"]
        assert 29_000 < client.pttl("mailbatch:job:lock:send-all") <= 30_000


def test_the_owner_is_told_as_host_and_process(redis_house):
    lock = redis_house.lock()
    assert lock.holder() is None
    assert lock.acquire()
    assert lock.holder().owner == f"{socket.gethostname()}:{os.getpid()}"
    redis_house.steal()
    assert lock.holder().owner == "thief:1"


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b" ", b"a:b:c {]", b'x {"kind":"sqlite"}', b"x " + b"[" * 100_000])
def test_whatever_stands_in_the_lock_it_is_held_and_its_owner_is_told(redis_house, private_redis, value):
    with connect(private_redis.url) as client:
        client.set(KEY, value, ex=60)
    lock = redis_house.lock(20, STAGING)
    assert not lock.acquire()
    assert lock.peek() > 50
    assert lock.holder().other_database is None


def test_a_lock_of_another_type_is_told_in_a_line_that_says_what_to_do(redis_house, private_redis):
    with connect(private_redis.url) as client:
        client.lpush(KEY, "no lock")
    for ask in (redis_house.lock().acquire, redis_house.lock().peek):
        with pytest.raises(LockUnavailable, match=f"the key {KEY} .* another type; delete it"):
            ask()


def test_a_key_set_by_hand_never_ends_and_peek_says_so(redis_house, private_redis):
    with connect(private_redis.url) as client:
        client.set(KEY, "by hand")
    assert redis_house.lock().peek() == math.inf


def test_a_killed_server_makes_the_holder_give_up_in_time_and_without_an_exception(redis_house, private_redis):
    lock = redis_house.lock(SHORT)
    assert lock.acquire()
    private_redis.kill()
    lock.renew()
    wait_until(lambda: lost(lock), 3, "the holder gives up")
    lock.release()
    with pytest.raises(LockUnavailable):
        redis_house.lock().acquire()


def test_a_restart_that_keeps_the_data_keeps_the_lock(redis_house, private_redis):
    lock = redis_house.lock()
    assert lock.acquire()
    private_redis.restart()
    lock.renew()
    assert lock.held()
    assert not redis_house.lock().acquire()


def test_after_a_restart_that_lost_the_data_the_holder_notices_at_its_next_renewal(redis_house, private_redis):
    lock = redis_house.lock()
    assert lock.acquire()
    private_redis.restart()
    redis_house.flush()
    assert redis_house.lock().acquire()
    lock.renew()
    assert not lock.held()


def test_a_renewal_that_is_answered_too_late_does_not_bring_the_lock_back(redis_house):
    clock = iter([0.0, 29.0, 29.0, 31.0, 31.0])
    with connect(redis_house._server.url) as client:
        lock = RedisLock(client, KEY, 30.0, now=lambda: next(clock))
        assert lock.acquire()
        lock.renew()
        assert not lock.held()


def test_the_deadline_counts_from_before_the_question(redis_house):
    # Asked at 10 and answered by 24, in whose time to live of 15 the lock still is; at 26 it is not.
    clock = iter([10.0, 24.0, 26.0])
    with connect(redis_house._server.url) as client:
        lock = RedisLock(client, KEY, 15.0, now=lambda: next(clock))
        assert lock.acquire()
        assert lock.held()
        assert not lock.held()


def test_asking_again_after_a_lost_answer_does_not_lock_its_asker_out(private_redis):
    """redis-py asks once more when the connection broke: the key may hold this very token by then."""
    with connect(private_redis.url) as client:
        answers = [client.eval(_ACQUIRE, 1, KEY, f"host:{pid}:token", "30000") for pid in (1, 1, 2)]
    assert answers == ["host:1:token", "host:1:token", "host:1:token"]


def test_renewals_from_another_thread_race_with_nothing(redis_house):
    for _ in range(20):
        lock, done = redis_house.lock(), threading.Event()
        assert lock.acquire()

        def renew(lock=lock, done=done) -> None:
            while not done.is_set():
                lock.renew()

        thread = threading.Thread(target=renew)
        thread.start()
        lock.release()
        done.set()
        thread.join()
        assert not lock.held()
        assert lock.peek() is None
