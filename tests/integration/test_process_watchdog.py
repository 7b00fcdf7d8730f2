"""The watchdog of a process that composes: it bites what holds the interpreter, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from mailbatch.domain.message import Claim
from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

URL = "sqlite:///watched.db"
_WATCHED = """
import sys, threading, time
from uuid import UUID
from mailbatch.domain.message import Claim
from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

dog = ProcessWatchdog("sqlite:///watched.db", seconds=0.5)
dog.begin()
over = threading.Event()

def keep():
    while not over.wait(0.05):
        dog.renew()

threading.Thread(target=keep, daemon=True).start()
dog.composing(Claim(UUID(sys.argv[1]), 7))
print("composing", flush=True)
exec(sys.argv[2])
dog.composed()
over.set()
dog.end()
print("well", flush=True)
"""
HANGS = "('a' * 8_000_000).rfind('ab' + 'a' * 4_000_000)"
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


def watched(mail, what: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCHED, str(mail), what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "composing\n"
    return process


def test_what_holds_the_interpreter_ends_with_exit_code_1_and_a_line_that_names_the_mail():
    mail = uuid4()
    process = watched(mail, HANGS)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    [line] = err.splitlines()
    assert line.startswith(f"mailbatch: mail {mail}, claim          7 held its process for more than")


def test_the_next_claim_of_that_mail_is_refused_once_and_no_other_ever(dog):
    mail = uuid4()
    watched(mail, HANGS).communicate(timeout=60)
    dog.begin()
    assert dog.condemned(Claim(uuid4(), 8)) is None
    assert dog.condemned(Claim(mail, 7)) is None
    assert dog.condemned(Claim(mail, 9)) is None
    assert "held its process" in dog.condemned(Claim(mail, 8))
    assert dog.condemned(Claim(mail, 8)) is None
    dog.renew()
    assert dog.condemned(Claim(mail, 8)) is None


def test_a_lane_that_works_already_learns_of_it_with_the_next_renewal(dog):
    dog.begin()
    mail = uuid4()
    watched(mail, HANGS).communicate(timeout=60)
    dog.renew()
    assert dog.condemned(Claim(mail, 8))


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
