"""Each check of the pause works alone, with all others switched off."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

import pytest
from support.backlogs import reserve, runs, states
from support.relay import Relay
from support.waiting import wait_until

from mailbatch.batch import job
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.run import Pause, RunOutcome, RunReport, Trigger
from mailbatch.infrastructure.db.runs import SqlPauseStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAILS = 30


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path / "relay") as relay:
        relay.offer("DATA")
        yield relay


@pytest.fixture
def parts(database_url: str, relay: Relay) -> Iterator[Parts]:
    given = {"database_url": database_url, "smtp_url": relay.url, "sender": "s@example.com"}
    made = Parts(Settings(**given, connections=1, window=1))
    reserve(database_url, MAILS)
    yield made
    made.close()


class Looks(SqlPauseStore):
    """The stored pause, and a record of what was read."""

    seen: ClassVar[list[Pause]] = []

    def paused(self, job: str) -> Pause:
        found = super().paused(job)
        self.seen.append(found)
        return found

    def wait_for(self, pause: Pause) -> None:
        """Wait until a run has read it twice: by then the run has acted on the first read."""
        wait_until(lambda: self.seen.count(pause) > 1, 10, f"a run sees the pause of {pause}")


@pytest.fixture
def looks(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Looks:
    found = Looks(parts.engine)
    found.seen.clear()
    monkeypatch.setattr(parts.stores, "pauses", found)
    return found


def run(parts: Parts, trigger: Trigger) -> RunReport:
    return send_all(parts, lock=False)(trigger)


@pytest.mark.parametrize(
    ("pause", "trigger"),
    [
        (Pause.TICKS, Trigger.BEAT),
        (Pause.ALL, Trigger.BEAT),
        (Pause.ALL, Trigger.MANUAL),
        (Pause.ALL, Trigger.API),
    ],
)
def test_a_call_that_was_queued_before_the_pause_sends_nothing(
    pause: Pause, trigger: Trigger, parts: Parts, relay: Relay, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beat has let the tick through, and no run checks for a pause while it works."""
    monkeypatch.setattr(job, "PAUSE_POLL", 3600)
    parts.stores.pauses.set(SEND_ALL, pause)
    assert run(parts, trigger).outcome is RunOutcome.PAUSED
    assert states(database_url) == {"pending": MAILS}
    assert relay.accepted() == []


@pytest.mark.parametrize("trigger", [Trigger.MANUAL, Trigger.API])
def test_a_pause_of_the_ticks_does_not_stop_calls_by_hand(trigger: Trigger, parts: Parts, database_url: str) -> None:
    parts.stores.pauses.set(SEND_ALL, Pause.TICKS)
    assert run(parts, trigger).outcome is RunOutcome.COMPLETED
    assert states(database_url) == {"sent": MAILS}


@pytest.mark.parametrize("trigger", [Trigger.BEAT, Trigger.MANUAL])
def test_a_pause_after_the_start_stops_the_run_in_progress(
    trigger: Trigger, parts: Parts, looks: Looks, relay: Relay, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before the start is switched off, because the pause may come just after it."""
    monkeypatch.setattr(job.Job, "_is_paused", lambda *_: False)
    relay.script(dot=["hold"])
    thread = threading.Thread(target=run, args=(parts, trigger), daemon=True)
    thread.start()
    relay.wait_held()
    parts.stores.pauses.set(SEND_ALL, Pause.ALL)
    looks.wait_for(Pause.ALL)
    relay.release()
    thread.join(30)
    assert runs(database_url)[0].outcome == "paused"
    assert states(database_url) == {"sent": 1, "pending": MAILS - 1}


def test_a_pause_of_the_ticks_does_not_stop_the_run_in_progress(
    parts: Parts, looks: Looks, relay: Relay, database_url: str
) -> None:
    relay.script(dot=["hold"])
    thread = threading.Thread(target=run, args=(parts, Trigger.BEAT), daemon=True)
    thread.start()
    relay.wait_held()
    parts.stores.pauses.set(SEND_ALL, Pause.TICKS)
    looks.wait_for(Pause.TICKS)
    relay.release()
    thread.join(30)
    assert states(database_url) == {"sent": MAILS}
