"""Redis URLs: what is taken, what is refused, and that no password is ever shown."""

from __future__ import annotations

import pytest

from mailbatch.domain.errors import SettingsError
from mailbatch.domain.redaction.urls import mask_url
from mailbatch.infrastructure.redis.client import TIMEOUT, connect, place_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost:6379/0", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://u:p%40ss@cache:7000/3", {"host": "cache", "port": 7000, "db": 3, "password": "p@ss"}),
        ("redis://[::1]:6379/1", {"host": "::1", "db": 1}),
        ("rediss://:pw@cache/0?ssl_cert_reqs=CERT_REQUIRED", {"host": "cache", "ssl_cert_reqs": "required"}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("redis+socket:///run/redis.sock?virtual_host=2", {"path": "/run/redis.sock", "db": 2}),
        ("redis+socket://:pw@/run/redis.sock", {"path": "/run/redis.sock", "password": "pw"}),
    ],
)  # fmt: skip
def test_the_usual_forms_are_understood(url, expected):
    options = connect(url).get_connection_kwargs()
    assert {name: options.get(name) for name in expected} == expected


def test_every_client_gives_up_in_time_unless_its_url_says_otherwise():
    options = connect("redis://cache/0").get_connection_kwargs()
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (TIMEOUT, TIMEOUT)
    assert options["health_check_interval"] > 0
    assert connect("redis://cache/0?socket_timeout=1.5").get_connection_kwargs()["socket_timeout"] == 1.5


def test_tls_is_verified_unless_the_url_says_otherwise():
    connection = connect("rediss://cache/0").connection_pool.make_connection()
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_REQUIRED", True)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with redis://"),
        ("localhost:6379", "must begin with redis://"),
        ("http://:canary@cache/0", "http://"),
        ("redis://:canary@cache/mail", "number of a database"),
        ("redis://:canary@cache:port/0", "port that is no number"),
        ("redis://:can/ary@cache:6379/0", "port that is no number .* write .* in a password as %XX"),
        ("redis://:canary@cache:99999/0", "port that is no number from 1 to 65535"),
        ("redis://:canary@cache/0?colour=red", "no option colour"),
        ("redis://:canary@cache/0?socket_timeout=soon", "socket_timeout"),
        ("rediss://:canary@cache/0?ssl_cert_reqs=perhaps", "perhaps"),
        ("redis+socket://", "must name a socket"),
        ("redis://[::1/0", "host that cannot be read"),
    ],
)
def test_what_is_no_redis_url_costs_one_line_without_the_password(url, why):
    with pytest.raises(SettingsError, match=why) as refused:
        connect(url)
    text = str(refused.value)
    assert "canary" not in text
    assert "\n" not in text
    assert "redis://[user:password@]host:6379/0" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://user:canary@cache/0", "redis://user:***@cache/0"),
        ("redis://:canary@cache/0", "redis://:***@cache/0"),
        ("redis://canary@cache/0", "redis://***@cache/0"),
        ("redis://:can@ary@cache/0", "redis://:***@cache/0"),
        ("redis://:can/ary#?@cache/0", "redis://:***@cache/0"),
        ("redis://:can://ary@cache/0", "***@cache/0"),
        ("redis:canary@cache", "***@cache"),
        ("unix:///run/a@b.sock?password=canary&db=1", "unix:///run/a@b.sock?password=***&db=1"),
        ("redis+socket://:canary@/run/redis.sock?virtual_host=0", "redis+socket://:***@/run/redis.sock?virtual_host=0"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert mask_url(url) == shown


def test_a_client_tells_its_place_without_secrets():
    assert place_of(connect("redis://user:canary@cache:7000/0")) == "cache:7000"
    assert place_of(connect("redis+socket://:canary@/run/redis.sock")) == "/run/redis.sock"
