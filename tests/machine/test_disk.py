"""A disk that is full in mid-run, for real, and has room again after a while."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from faults.house import open_house
from faults.store_rows import in_database
from psycopg import sql

if TYPE_CHECKING:
    from pathlib import Path

    from faults.house import House

MAILS = 200
FULL = 2.0
"""Seconds for which it stays full once it is noticed."""


def filled(disk: Path) -> Path:
    """Take every block that is left of ``disk``; removing what is answered gives them back."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def noticed(house: House, words: str) -> None:
    """Wait until the worker says that the disk is full, and for a while longer."""
    house.wait(lambda: words in house.log(), 30, f"the worker says {words!r}")
    house.pass_time(FULL)


def test_a_full_disk_below_the_tables_of_postgresql_is_waited_for(small_disk, struck):
    disk = small_disk(40)

    def injure(house: House) -> None:
        ballast = filled(disk)
        house.relay.script()
        noticed(house, "No space left on device")
        ballast.unlink()

    with open_house() as house:
        assert house.postgres is not None
        place = disk / "tables"
        place.mkdir(mode=0o777)
        os.chown(place, (owner := house.postgres.folder.stat()).st_uid, owner.st_gid)
        name = house.stack.database_url.partition("@/")[2].partition("?")[0]
        house.postgres._execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(place)))
        house.postgres._execute(sql.SQL("ALTER DATABASE {} SET TABLESPACE small").format(sql.Identifier(name)))
        struck(house, in_database("m3a", "the disk of PostgreSQL's tables is full", injure, mails=MAILS))


def test_a_full_disk_below_the_log_of_postgresql_which_it_does_not_survive_is_waited_for(small_disk, struck):
    disk = small_disk(200)

    def injure(house: House) -> None:
        postgres = house.postgres
        assert postgres
        server = postgres.process
        assert server
        ballast = filled(disk)
        house.relay.script()
        with suppress(psycopg.Error):
            for _ in range(100):
                house.execute("SELECT pg_switch_wal()", "SELECT pg_logical_emit_message(false, 'faults', 'x')")
        house.wait(lambda: server.poll() is not None, 30, "PostgreSQL goes down")
        house.pass_time(FULL)
        ballast.unlink()
        postgres.start()

    with open_house(data=disk) as house:
        name = "the disk of PostgreSQL's log is full, it goes down and is started again when there is room,"
        struck(house, in_database("m3b", name, injure, mails=MAILS))


def test_a_full_disk_below_an_sqlite_file_is_waited_for(small_disk, struck):
    disk = small_disk(8)

    def injure(house: House) -> None:
        ballast = filled(disk)
        house.relay.script()
        noticed(house, "disk is full")
        ballast.unlink()

    with open_house("sqlite", data=disk) as house:
        struck(house, in_database("m3c", "the disk of SQLite's file is full", injure, mails=MAILS))
