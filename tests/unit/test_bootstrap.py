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
