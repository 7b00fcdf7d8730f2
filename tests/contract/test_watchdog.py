"""The port ``Watchdog``: a mail whose composing ended its process is refused once, at its next claim.

``tests/integration/test_process_watchdog.py`` shows what ends a process, and what does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from support.fake_system import FakeWatchdog
from support.hanging import CLAIM_NO, HANGS, URL, watched

from mailbatch.domain.message import Claim
from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fake:
    def __init__(self) -> None:
        self.dog = FakeWatchdog()

    def hang(self, mail: UUID) -> None:
        self.dog.ended.add(Claim(mail, CLAIM_NO))


class Process:
    def __init__(self) -> None:
        self.dog = ProcessWatchdog(URL, seconds=0.5)

    def hang(self, mail: UUID) -> None:
        """Let another process of this host end because of ``mail``."""
        watched(mail, HANGS).communicate(timeout=60)


@pytest.fixture(params=[Fake, Process])
def world(request: pytest.FixtureRequest, tmp_path, monkeypatch) -> Iterator[Any]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    world = request.param()
    yield world
    world.dog.end()


def test_the_next_claim_of_that_mail_is_refused_once_and_no_other_ever(world):
    mail, dog = uuid4(), world.dog
    world.hang(mail)
    dog.begin()
    assert dog.condemned(Claim(uuid4(), CLAIM_NO + 1)) is None
    assert dog.condemned(Claim(mail, CLAIM_NO)) is None
    assert dog.condemned(Claim(mail, CLAIM_NO + 2)) is None
    assert "composing it" in dog.condemned(Claim(mail, CLAIM_NO + 1))
    assert dog.condemned(Claim(mail, CLAIM_NO + 1)) is None
    dog.renew()
    assert dog.condemned(Claim(mail, CLAIM_NO + 1)) is None


def test_a_lane_that_works_already_learns_of_it_with_the_next_renewal(world):
    world.dog.begin()
    mail = uuid4()
    world.hang(mail)
    assert world.dog.condemned(Claim(mail, CLAIM_NO + 1)) is None
    world.dog.renew()
    assert world.dog.condemned(Claim(mail, CLAIM_NO + 1))


def test_a_mail_that_was_composed_is_not_accused(world):
    mail, dog = uuid4(), world.dog
    dog.begin()
    dog.composing(Claim(mail, CLAIM_NO))
    dog.composed()
    dog.end()
    dog.begin()
    assert dog.condemned(Claim(mail, CLAIM_NO + 1)) is None
