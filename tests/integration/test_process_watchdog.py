"""The watchdog of a process that composes: it ends what holds the interpreter, and nothing else.

``tests/contract/test_watchdog.py`` shows what other processes learn of it.
"""

from __future__ import annotations

import os
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


def test_a_run_with_another_database_on_this_host_knows_nothing_of_it_and_leaves_the_note(dog):
    mail = uuid4()
    watched(mail, HANGS).communicate(timeout=60)
    other = ProcessWatchdog("sqlite:///other.db")
    other.begin()
    assert other.condemned(Claim(mail, 8)) is None
    other.end()
    dog.begin()
    assert dog.condemned(Claim(mail, 8)) is not None


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


def test_the_folder_of_another_database_goes_when_its_processes_are_gone(dog, tmp_path):
    process = watched(uuid4(), WAITS)
    other = ProcessWatchdog("sqlite:///other.db")
    other.begin()
    assert len(list(tmp_path.iterdir())) == 2, "its process lives"
    other.end()
    process.kill()
    process.communicate(timeout=60)
    [left] = tmp_path.glob("*/[0-9]*")
    (left.parent / f".{left.name}1").touch()  # it was killed before it had locked its note
    other.begin()
    assert [folder for folder in tmp_path.iterdir() if folder != other._folder] == []
    other.end()


def test_what_only_looks_like_such_a_folder_stays(dog, tmp_path):
    mine = tmp_path / f"mailbatch-composing-{os.getuid()}-0123456789ab"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "1-2-3").touch()
    mine.symlink_to(elsewhere)
    shared, full, named = (mine.with_name(mine.name[:-2] + end) for end in ("aa", "bb", "cc-mine"))
    for folder in (shared, full, named):
        folder.mkdir(mode=0o700)
    shared.chmod(0o755)
    (full / "letter.txt").touch()
    dog.begin()
    assert all(path.exists() for path in (mine, elsewhere / "1-2-3", shared, full / "letter.txt", named))


def test_a_folder_that_is_removed_while_its_note_is_made_is_made_again(dog, monkeypatch):
    real, folder = os.open, dog._folder

    def remove_it_first(path, *rest):
        monkeypatch.setattr(os, "open", real)
        folder.rmdir()
        return real(path, *rest)

    monkeypatch.setattr(os, "open", remove_it_first)
    dog.begin()
    assert dog._timers is not None


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
