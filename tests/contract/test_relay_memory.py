"""What every ``RelayMemory`` does, the fake and the one on Redis alike."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from support.fakes import FakeRelayMemory

from mailbatch.domain.relay_profile import RelayProfile
from mailbatch.infrastructure.redis.client import connect
from mailbatch.infrastructure.redis.keys import Keys
from mailbatch.infrastructure.redis.relay_memory import KEPT, RedisRelayMemory

KEY = Keys().relay_profile("relay.example:25")
LEARNED = RelayProfile(
    dialogue="PIPELINING", takes_ahead=False, swallows=True, mails=3, idle=9.5, connections=14, reason="503 too early"
)


@pytest.fixture
def client(private_redis):
    with connect(f"{private_redis.url}&socket_timeout=0.2") as client:
        client.delete(KEY)
        yield client


@pytest.fixture(params=["fake", "redis"])
def memory(request):
    if request.param == "fake":
        return FakeRelayMemory()
    return RedisRelayMemory(request.getfixturevalue("client"), KEY)


def test_of_a_relay_that_taught_nothing_the_defaults_are_known(memory):
    assert memory.recall() == RelayProfile()


def test_the_last_that_was_learned_is_known(memory):
    assert memory.note(RelayProfile(mails=10))
    assert memory.note(LEARNED)
    assert memory.recall() == LEARNED


def test_redis_forgets_after_a_day(client):
    RedisRelayMemory(client, KEY).note(LEARNED)
    assert 0 < client.ttl(KEY) <= KEPT == 86_400


@pytest.mark.parametrize("wrong", [{}, {"idle": -1, "connections": "many"}, {"idle": None, "connections": 1e99}])
def test_what_an_earlier_version_wrote_without_these_fields_is_known(client, wrong):
    before = {name: value for name, value in asdict(LEARNED).items() if name not in {"idle", "connections"}}
    client.set(KEY, json.dumps(before | wrong))
    assert RedisRelayMemory(client, KEY).recall() == replace(LEARNED, idle=0, connections=0)


@pytest.mark.parametrize(
    "text", ["", "what?", "[]", "{}", '{"dialogue": 5}', "null", json.dumps({"mails": "many", "swallows": "yes"})]
)
def test_what_has_another_shape_is_as_good_as_nothing(client, text):
    client.set(KEY, text)
    assert RedisRelayMemory(client, KEY).recall() == RelayProfile()


def test_a_key_of_another_type_or_no_redis_is_no_reason_not_to_send(client, private_redis):
    client.lpush(KEY, "x")
    memory = RedisRelayMemory(client, KEY)
    assert memory.recall() is None
    private_redis.kill()
    assert memory.recall() is None
    assert not memory.note(LEARNED)
