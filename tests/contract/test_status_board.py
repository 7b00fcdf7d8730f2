"""What every ``StatusBoard`` does, the fake and the one on Redis alike."""

from __future__ import annotations

import json
import logging
import signal
from datetime import UTC, datetime
from uuid import UUID

import pytest
from support.fakes import FakeRedisServer, FakeStatusBoard

from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.status import QUIET, RedisStatusBoard

JOB = "send-all"
KEY = "mailbatch:job:status:send-all"


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client(request):
    """The Redis of all tests, or the test's own if it breaks it."""
    own = "private_redis" in request.fixturenames
    url = request.getfixturevalue("private_redis").url if own else request.getfixturevalue("redis_url")
    with connect(f"{url}&socket_timeout=0.2") as client:
        yield client


@pytest.fixture
def redis_board(client, clock):
    return RedisStatusBoard(client, Keys(), now=clock)


@pytest.fixture(params=["fake", "redis"])
def board(request):
    return FakeStatusBoard(FakeRedisServer()) if request.param == "fake" else request.getfixturevalue("redis_board")


def test_a_job_that_never_showed_anything_shows_nothing(board):
    assert board.get(JOB) is None


def test_the_last_progress_is_what_is_shown(board):
    board.put(JOB, {"state": "running", "sent": 1})
    board.put(JOB, {"state": "running", "sent": 2, "rate": 1.5, "note": "日本"})
    assert board.get(JOB) == {"state": "running", "sent": 2, "rate": 1.5, "note": "日本"}


def test_jobs_do_not_see_each_other(board):
    board.put(JOB, {"sent": 1})
    assert board.get("purge") is None


def test_ids_and_times_are_shown_as_text(board):
    run, now = UUID(int=7), datetime(2026, 1, 2, tzinfo=UTC)
    board.put(JOB, {"run_id": run, "at": now})
    assert board.get(JOB) == {"run_id": str(run), "at": str(now)}


# --- Redis only --------------------------------------------------------------------------------------------------


def test_the_key_is_the_one_of_the_contract_and_lives_an_hour(redis_board, client):
    redis_board.put(JOB, {"state": "finished"})
    assert client.keys() == [KEY]
    assert 3590 < client.ttl(KEY) <= 3600


@pytest.mark.parametrize(
    "written", ["", "no JSON", "[1]", '"text"', "null", "7", "[" * 100_000, '{"a":' * 100_000, "1" * 5_000, b"\xff\xfe"]
)
def test_what_cannot_be_read_is_nothing(redis_board, client, written):
    client.set(KEY, written)
    assert redis_board.get(JOB) is None


@pytest.mark.parametrize(
    "odd", ['"7"', "[]", "{}", "null", "true", "NaN", "-Infinity", "1e400", "-1", "9" * 400, "1.5"]
)
@pytest.mark.parametrize(
    "name", ["sent", "failed", "deferred", "in_doubt", "expired", "remaining", "run_id", "trigger"]
)
def test_an_odd_value_is_left_out_and_the_others_are_shown(redis_board, client, name, odd):
    if (name, odd) == ("trigger", '"7"'):
        return
    client.set(KEY, f'{{"state": "running", "elapsed": 2.5, "{name}": {odd}}}')
    assert redis_board.get(JOB) == {"state": "running", "elapsed": 2.5}


@pytest.mark.parametrize("odd", ['"x"', "[]", "NaN", "Infinity", "-1", "true", "null"])
def test_an_odd_time_is_left_out(redis_board, client, odd):
    client.set(KEY, f'{{"state": "running", "sent": 1, "elapsed": {odd}}}')
    assert redis_board.get(JOB) == {"state": "running", "sent": 1}


def test_whatever_is_shown_can_be_written_as_json_in_utf_8(redis_board, client):
    client.set(
        KEY, '{"state": "\\ud800", "note\\udfff": "' + "x" * 10_000 + '", "deep": ' + "[" * 500 + "]" * 500 + "}"
    )
    shown = redis_board.get(JOB)
    assert set(shown) == {"state", "note?"}
    assert len(json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()) < 300


def test_a_key_of_another_type_is_nothing_and_is_warned_of_once(redis_board, client, caplog):
    client.hset(KEY, "a", "b")
    assert [redis_board.get(JOB), redis_board.get(JOB)] == [None, None]
    assert len(caplog.records) == 1
    redis_board.put(JOB, {"state": "running"})
    assert redis_board.get(JOB) == {"state": "running"}


def test_an_outage_raises_nothing_and_is_warned_of_once(redis_board, private_redis, clock, caplog):
    caplog.set_level(logging.INFO)
    redis_board.put(JOB, {"state": "running", "sent": 1})
    private_redis.kill()
    for sent in range(5):
        clock.seconds += QUIET + 1
        redis_board.put(JOB, {"state": "running", "sent": sent})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    private_redis.start()
    clock.seconds += QUIET + 1
    redis_board.put(JOB, {"state": "running", "sent": 9})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert redis_board.get(JOB)["sent"] == 9
    private_redis.kill()
    redis_board.put(JOB, {"state": "running", "sent": 10})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_a_board_that_is_away_is_not_asked_at_each_progress(redis_board, private_redis, clock, client):
    private_redis.process.send_signal(signal.SIGSTOP)
    redis_board.put(JOB, {"state": "running", "sent": 1})
    private_redis.process.send_signal(signal.SIGCONT)
    client.delete(KEY)
    redis_board.put(JOB, {"state": "running", "sent": 2})
    assert client.get(KEY) is None
    clock.seconds += QUIET
    redis_board.put(JOB, {"state": "running", "sent": 3})
    assert redis_board.get(JOB)["sent"] == 3


def test_the_end_of_a_job_is_shown_even_shortly_after_an_outage(redis_board, private_redis):
    redis_board.put(JOB, {"state": "running"})
    private_redis.kill()
    redis_board.put(JOB, {"state": "running"})
    private_redis.start()
    redis_board.put(JOB, {"state": "finished"})
    assert redis_board.get(JOB) == {"state": "finished"}


def test_a_progress_that_is_no_json_costs_the_job_nothing(redis_board, caplog):
    endless: dict[str, object] = {}
    endless["self"] = endless
    redis_board.put(JOB, endless)
    assert "cannot show the progress of send-all" in caplog.text


def test_reading_from_a_server_that_is_away_shows_nothing_and_says_why(redis_board, private_redis, caplog):
    private_redis.kill()
    assert redis_board.get(JOB) is None
    assert "cannot read the progress of send-all" in caplog.text
