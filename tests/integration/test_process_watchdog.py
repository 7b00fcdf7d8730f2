"""The watchdog of a process that composes: it ends what holds the interpreter, and nothing else.

``tests/contract/test_watchdog.py`` shows what other processes learn of it.
"""

from __future__ import annotations

import signal
import time
from uuid import uuid4

import pytest
from support.hanging import HANGS, URL, watched

from mailbatch.domain.message import Claim
from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

WORKS = "until = time.thread_time() + 1.5\nwhile time.thread_time() < until: pass"
WAITS = "time.sleep(1.5)"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def dog():
    watchdog = ProcessWatchdog(URL, seconds=0.5)
    yield watchdog
    watchdog.end()


def test_what_holds_the_interpreter_ends_with_exit_code_1_and_a_line_that_names_the_mail():
    mail = uuid4()
    process = watched(mail, HANGS)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    [line] = err.splitlines()
    assert line.startswith(f"mailbatch: mail {mail}, claim          7 held its process for more than")


def test_another_database_on_this_host_knows_nothing_of_it():
    mail = uuid4()
    watched(mail, HANGS).communicate(timeout=60)
    other = ProcessWatchdog("sqlite:///other.db")
    other.begin()
    assert other.condemned(Claim(mail, 8)) is None
    other.end()


@pytest.mark.parametrize("what", [WORKS, WAITS])
def test_work_that_lets_others_come_to_their_turn_and_waiting_are_well(what):
    out, err = watched(uuid4(), what).communicate(timeout=60)
    assert (out, err) == ("well\n", "")


def test_a_process_that_was_stopped_goes_on_when_it_is_resumed():
    process = watched(uuid4(), WORKS)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "well\n", "")


def test_a_process_that_is_killed_while_it_composes_accuses_no_mail(dog, tmp_path):
    mail = uuid4()
    process = watched(mail, WAITS)
    process.kill()
    process.communicate(timeout=60)
    dog.begin()
    assert dog.condemned(Claim(mail, 8)) is None
    dog.end()
    assert not [note for folder in tmp_path.iterdir() for note in folder.iterdir()]


def test_the_note_of_a_process_that_lives_is_left_alone(dog):
    process = watched(uuid4(), WAITS)
    dog.begin()
    assert process.communicate(timeout=60)[0] == "well\n"


def test_a_folder_that_others_may_write_is_not_used(dog, tmp_path, caplog):
    dog.begin()
    dog.end()
    [folder] = tmp_path.iterdir()
    folder.chmod(0o777)
    dog.begin()
    assert "is not a folder of this user alone" in caplog.text
    dog.composing(Claim(uuid4(), 1))
    dog.composed()


def test_greenlets_are_left_alone(dog, monkeypatch):
    monkeypatch.setattr("threading.get_ident", lambda: 7)  # as gevent and eventlet have it
    dog.begin()
    dog.renew()
    dog.composing(Claim(uuid4(), 1))
    dog.composed()
    assert dog._timers is None
