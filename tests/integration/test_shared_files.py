"""Files that several processes store, name and purge at once, or that a killed process has stored."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from mailbatch.client import reserve, store_file
from mailbatch.infrastructure.db import unneeded_files
from mailbatch.infrastructure.db.engine import connect, writing
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.tables import mail_files, mail_reservations
from mailbatch.infrastructure.db.types import now
from mailbatch.infrastructure.db.unneeded_files import KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

LETTER: dict[str, Any] = {"to": "ada@example.com", "subject": "Hello", "text": "Hello."}
TERMS = b"terms " * 50_000
ID = sha256(TERMS).hexdigest()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The engine of mailbatch."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def application(database_url: str) -> Iterator[Engine]:
    """The engine of an application, with none of our settings."""
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def let_days_pass(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(sa.update(mail_files).values(touched_at=now(-KEPT - 1)))


def count(engine: Engine, table: sa.Table = mail_files) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_applications_that_store_the_same_files_at_once_store_each_once_and_get_its_id(database_url, engine):
    contents = [b"%d" % n * 20_000 for n in range(5)]
    start = threading.Barrier(4)

    def store() -> list[str]:
        own = sa.create_engine(database_url)
        ids = []
        for content in contents:
            start.wait(30)
            with own.begin() as connection:
                ids.append(store_file(connection, content, filename="a.txt"))
        own.dispose()
        return ids

    with ThreadPoolExecutor(4) as applications:
        stored = [applications.submit(store) for _ in range(4)]
        assert [one.result(60) for one in stored] == [[sha256(one).hexdigest() for one in contents]] * 4
    assert count(engine) == len(contents)


def test_a_purge_leaves_an_old_file_that_an_open_transaction_has_stored_again(engine, application):
    with application.begin() as connection:
        store_file(connection, TERMS)
    let_days_pass(engine)
    with ThreadPoolExecutor(1) as thread:
        with application.begin() as connection:
            assert store_file(connection, TERMS) == ID
            purged = thread.submit(SqlFiles(engine).purge)
            if engine.dialect.name == "postgresql":
                assert purged.result(30) == 0, "on SQLite it waits for the commit"
            reserve(connection, **LETTER, attachments=[ID])
        assert purged.result(30) == 0
    let_days_pass(engine)
    assert SqlFiles(engine).purge() == 0, "a reservation names it"


@pytest.mark.parametrize("newest_is_deleted", [False, True])
def test_a_purge_leaves_a_file_that_a_reservation_names_since_it_looked(
    engine, application, monkeypatch, newest_is_deleted
):
    """SQLite gives the row number of the newest reservation again if that one is deleted."""
    with application.begin() as connection:
        store_file(connection, TERMS)
        newest = reserve(connection, **LETTER)
    let_days_pass(engine)
    find = unneeded_files._find

    def find_and_be_late(*given: Any) -> Any:
        found = find(*given)
        with application.begin() as connection:
            if newest_is_deleted:
                connection.execute(sa.delete(mail_reservations).where(mail_reservations.c.id == newest))
            row = {"recipients": "a@example.org", "subject": "s", "body_text": "t", "attachments": [{"file": ID}]}
            connection.execute(sa.insert(mail_reservations), row)
        return found

    monkeypatch.setattr(unneeded_files, "_find", find_and_be_late)
    assert SqlFiles(engine).purge() == 0


def test_a_purge_finds_an_old_file_whose_new_reservation_was_rolled_back(engine, application):
    with application.begin() as connection:
        store_file(connection, TERMS)
    let_days_pass(engine)
    with application.connect() as connection:
        reserve(connection, **LETTER, attachments=[store_file(connection, TERMS)])
        connection.rollback()
    assert SqlFiles(engine).purge() == 1
    assert (count(engine), count(engine, mail_reservations)) == (0, 0)


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from mailbatch.client import reserve, store_file

def work(step):
    engine = sa.create_engine(sys.argv[1])
    with engine.connect() as connection:
        own = store_file(connection, step.encode())
        if step != "both are stored, and not committed":
            connection.commit()
        if step != "the file is committed":
            reserve(connection, to="a@example.org", subject=step, text="t", attachments=[own])
        if step == "both are committed":
            connection.commit()
        os.kill(os.getpid(), signal.SIGKILL)

for step in sys.argv[2:]:
    child = os.fork()
    if not child:
        work(step)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
STEPS = {
    "both are stored, and not committed": (False, False),
    "the file is committed": (True, False),
    "the reservation is not committed": (True, False),
    "both are committed": (True, True),
}
"""Where a process is killed; whether its file is left then, and whether it is still there a day later."""


def test_what_a_killed_application_leaves_is_purged_a_day_later_and_not_before(database_url, engine):
    argv = [sys.executable, "-c", KILLED, database_url, *STEPS]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == [str(-SIGKILL)] * len(STEPS)

    def left() -> list[bool]:
        found = SqlFiles(engine).some(ids)
        return [one in found for one in ids]

    ids = [sha256(step.encode()).hexdigest() for step in STEPS]
    assert (SqlFiles(engine).purge(), left()) == (0, [fresh for fresh, _ in STEPS.values()])
    let_days_pass(engine)
    assert (SqlFiles(engine).purge(), left()) == (2, [named for _, named in STEPS.values()])
    assert count(engine, mail_reservations) == 1
