"""Mails that carry stored files, among others that carry none, when something breaks (row 9 of the table)."""

from __future__ import annotations

from hashlib import sha256
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from faults.fault import ONE_CRASH, Fault
from faults.kill_rows import HOLD, HOLD_THEN_DROP, TARGETS, VICTIMS, Step, at, signalled, under_strict
from faults.store_rows import AWAY, LONG_LEASE, restarted

from mailbatch.infrastructure.db.tables import mail_files

if TYPE_CHECKING:
    from faults.house import House

FILE = b"%PDF " + b"x" * 7_000_000
"""In base64 no socket buffer holds it, and the relay takes it: the sender reads the spool while it stands."""
ID = sha256(FILE).hexdigest()
GONE = "0" * 64


def store(house: House) -> None:
    """Store the file as ``client.store_file`` does."""
    with house.database() as connection:
        connection.execute(sa.delete(mail_files))
        connection.execute(sa.insert(mail_files), {"id": ID, "content": FILE, "filename": "invoice.pdf"})


def store_another(house: House) -> None:
    """Store under the same id what does not have its digest, as a disk that lies would."""
    with house.database() as connection:
        connection.execute(sa.delete(mail_files))
        connection.execute(sa.insert(mail_files), {"id": ID, "content": b"%PDF other", "filename": "invoice.pdf"})


def carried(file_id: str, mails: int = 1) -> dict[str, Any]:
    """The columns of mails of which the first ones carry the file; they go first."""
    return {
        "attachments": lambda i: [{"file": file_id}] if i < mails else None,
        "priority": lambda i: int(i < mails),
    }


INSIDE = Step(
    name="inside a file that a mail carries",
    script={"body": [["after_reading", 5000, HOLD_THEN_DROP]]},
    columns=carried(ID),
)
WAITING = Step(name=INSIDE.name, script={"body": [["after_reading", 5000, HOLD]]}, columns=carried(ID))
DROPPED = {"body": [["after_reading", 5000, ["drop"]], ["after_reading", 5000, ["reset"]]]}

KILLS = [
    at(
        INSIDE,
        f"9a/{target}",
        f"kill -9 of {VICTIMS[target]}",
        signalled(target, SIGKILL),
        prepare=store,
        doubled=ONE_CRASH,
        short=target == "child",
    )
    for target in TARGETS
]
FILES = [
    *KILLS,
    under_strict(KILLS[0]),
    at(WAITING, "9b", "SIGTERM to the worker", signalled("worker", SIGTERM), prepare=store, doubled=0, doubtful=False),
    Fault(
        row="9c",
        name="the relay drops the connection inside a file",
        script=DROPPED,
        columns=carried(ID, 3),
        prepare=store,
        doubtful=None,
    ),
    at(
        WAITING,
        "9d",
        "restart of the database",
        restarted("fast"),
        prepare=store,
        settings={"LEASE": LONG_LEASE},
        doubled=0,
        doubtful=None,
        lasts=AWAY + 5.0,
    ),
    Fault(
        row="9e",
        name="a stored file that is damaged",
        columns=carried(ID, 3),
        prepare=store_another,
        ends={"sent": 21, "failed": 3},
    ),
    Fault(row="9f", name="a stored file that is gone", columns=carried(GONE, 3), ends={"sent": 21, "failed": 3}),
]
"""A file is read and checked before the mail's first byte goes out, so 9e and 9f send nothing of it."""
