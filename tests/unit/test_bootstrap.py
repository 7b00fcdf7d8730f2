"""The composition root: it opens and loads nothing before that is used, and a process has one set of parts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mailbatch.bootstrap import Parts, process_parts
from mailbatch.bootstrap.settings import channel_names
from mailbatch.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    given = {"database_url": f"sqlite:///{tmp_path / 'mailbatch.db'}", "redis_url": "redis://localhost:1/0"}
    with contextlib.closing(Parts(Settings(**given, sender="shop@example.com"))) as made:
        yield made


def test_importing_it_loads_no_database_no_redis_and_no_celery():
    code = (
        "import sys, mailbatch.bootstrap as b; b.Parts(b.read_settings());"
        "sys.exit(str({'sqlalchemy', 'redis', 'celery', 'jinja2'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_making_every_part_opens_nothing(parts, tmp_path):
    assert parts.stores.reports
    assert parts.sending.send_due
    assert parts.operating.explain
    assert parts.notifying.channels == {}
    assert list(tmp_path.iterdir()) == []


def test_each_lane_has_a_transport_of_its_own_and_they_share_what_they_learn(parts):
    one, other = parts.sending.transport, parts.sending.transport
    assert one is not other
    assert one.capabilities is other.capabilities


def test_closing_parts_that_nobody_used_makes_none(parts):
    parts.close()
    assert not {"engine", "redis", "operating"} & vars(parts).keys()


def test_the_stores_and_the_channels_know_the_same_names():
    settings = Settings(webhook_url="https://h.example/x", report_to="ops@example.com", sender="a@example.com")
    with contextlib.closing(Parts(settings)) as made:
        assert channel_names(settings) == tuple(made.notifying.channels) == ("webhook", "mail")


def test_a_forked_process_gets_parts_of_its_own(monkeypatch):
    ours = process_parts()
    assert process_parts() is ours
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert process_parts() is not ours


@pytest.mark.parametrize(
    ("given", "first", "most"),
    [
        ({}, 4, 20),
        ({"connections": 7}, 7, 7),
        ({"connections": "AUTO", "max_connections": 9}, 4, 9),
        ({"max_connections": 2}, 2, 2),
        ({"relay_connections": 10}, 4, 10),
        ({"relay_connections": 10, "lanes": 2}, 4, 5),
        ({"relay_connections": 3, "lanes": 2}, 4, 4),
        ({"relay_connections": 1, "lanes": 8}, 4, 4),
    ],
)
def test_a_lane_begins_with_so_many_connections_and_may_have_so_many(given, first, most):
    with contextlib.closing(Parts(Settings(**given))) as made:
        [relay] = made.sending.relays
        assert (relay.connections, relay.most_connections) == (first, most)
        assert (made.sending.transport.climb is not None) == (first < most)


def test_the_relays_file_says_it_for_its_relay(tmp_path):
    file = tmp_path / "relays.toml"
    file.write_text('[relays.own]\nurl = "smtp://localhost:25"\nconnections = "auto"\nmax_connections = 6\n')
    with contextlib.closing(Parts(Settings(relays=file, connections=30))) as made:
        [relay] = made.sending.relays
        assert (relay.connections, relay.most_connections) == (4, 6)
