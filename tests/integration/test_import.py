"""Importing into a real database: what is kept, what is named, and in how much memory."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil
import pytest
import sqlalchemy as sa
from support.long import LONG

from mailbatch.application.acting.csv_records import read_csv
from mailbatch.application.acting.importing import Import, Imported
from mailbatch.application.acting.jsonl_records import read_jsonl
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.errors import StoreError
from mailbatch.domain.reservation import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.acting.records import BadLine

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def parts(database_url: str) -> Iterator[Parts]:
    parts = Parts(Settings(database_url=database_url))
    yield parts
    parts.close()


def run(
    parts: Parts, file: IO[bytes] | str, *, strict: bool = False, batch: int = 500
) -> tuple[Imported, list[BadLine]]:
    bad: list[BadLine] = []
    importing = Import(check=parts.reserving.check_draft, reservations=parts.stores.reservations, batch=batch)
    stream = io.BytesIO(file.encode()) if isinstance(file, str) else file
    return importing(read_csv(stream), strict=strict, on_bad=bad.append, on_progress=lambda _: None), bad


def pending(parts: Parts) -> int:
    return parts.stores.reports.census().counts[Status.PENDING]


TABLE = (
    "recipients,subject,body_text,idempotency_key,name\n"
    "a@example.com,Hi,Hello {{ name }},k1,Ada\n"
    "nobody,Hi,Hello,k2,Bob\n"
    "c@example.com,Hi,Hello,k3,Zoë\n"
    "a@example.com,Hi,Hello {{ name }},k1,Ada\n"
    "a@example.com,Other,Hello,k1,Ada\n"
)


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_good_lines_are_kept_and_bad_ones_are_named(parts, batch):
    done, bad = run(parts, TABLE, batch=batch)
    assert done == Imported(new=2, known=1, bad=2)
    assert [b.line for b in bad] == [3, 6]
    assert bad[0].reasons[0].startswith('recipients: "nobody" is no address')
    assert "idempotency_key: 'k1' was used before" in bad[1].reasons[0]
    assert pending(parts) == 2


def test_importing_the_same_file_again_costs_a_few_statements(parts):
    rows = "".join(f"a{n}@example.com,Hi,Hello,k{n},Ada\n" for n in range(200))
    table, statements = TABLE.partition("\n")[0] + "\n" + rows, list[str]()
    assert run(parts, table)[0] == Imported(new=200)
    sa.event.listen(parts.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert run(parts, table)[0] == Imported(known=200)
    assert len(statements) < 20, statements


def test_importing_the_same_file_again_changes_nothing(parts):
    run(parts, TABLE)
    done, bad = run(parts, TABLE)
    assert (done, len(bad)) == (Imported(known=3, bad=2), 2)
    assert pending(parts) == 2


@pytest.mark.parametrize("batch", [1, 500])
def test_strict_keeps_none_if_one_is_bad_and_names_them_all(parts, batch):
    done, bad = run(parts, TABLE, strict=True, batch=batch)
    assert done == Imported(bad=2)
    assert [b.line for b in bad] == [3, 6]
    assert pending(parts) == 0
    good = "".join(line for i, line in enumerate(TABLE.splitlines(keepends=True), 1) if i not in {3, 6})
    assert run(parts, good, strict=True) == (Imported(new=2, known=1), [])
    assert pending(parts) == 2


def test_a_database_that_goes_away_keeps_the_portions_before(private_postgres):
    from mailbatch.infrastructure.db.migrate import upgrade

    url = private_postgres.url(private_postgres.create_database())
    upgrade(url)
    parts = Parts(Settings(database_url=url))

    def on_progress(done: Imported) -> None:
        if done.new == 20:
            private_postgres.kill()

    rows = "".join(f"u{i}@example.com,Hi,Hello\n" for i in range(100))
    records = read_csv(io.BytesIO(f"recipients,subject,body_text\n{rows}".encode()))
    importing = Import(check=parts.reserving.check_draft, reservations=parts.stores.reservations, batch=10)
    with pytest.raises(StoreError) as caught:
        importing(records, strict=False, on_bad=lambda _: None, on_progress=on_progress)
    assert caught.value.transient
    private_postgres.start()
    assert pending(parts) == 20
    parts.close()


def test_the_examples_are_good_but_for_the_lines_that_are_meant_to_be_bad(sqlite_url):
    parts = Parts(Settings(database_url=sqlite_url))
    importing = Import(check=parts.reserving.check_draft, reservations=parts.stores.reservations)
    bad: list[BadLine] = []
    done = Imported()
    for name, read in (("reservations.csv", read_csv), ("reservations.jsonl", read_jsonl)):
        with (EXAMPLES / name).open("rb") as file:
            done += importing(read(file), strict=False, on_bad=bad.append, on_progress=lambda _: None)
    parts.close()
    assert done.new + done.bad == 1000 or done.new == 1000
    assert 0 < done.bad < 20
    assert all(line.reasons for line in bad)


class Rows(io.RawIOBase):
    """A file of a hundred thousand rows that is never whole anywhere."""

    def __init__(self, count: int) -> None:
        self._rows = iter(range(count))
        self._rest = b"recipients,subject,body_text,name\n"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while len(self._rest) < len(buffer) and (row := next(self._rows, None)) is not None:
            self._rest += f"u{row}@example.com,Hello {row},Dear {{{{ name }}}},Zoë {row}\n".encode()
        given, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


@pytest.mark.parametrize("lines", [20_000, pytest.param(100_000, marks=LONG)])
def test_many_lines_need_no_more_memory_than_a_few(sqlite_url, lines):
    parts = Parts(Settings(database_url=sqlite_url))
    process = psutil.Process()
    sizes: list[int] = []

    def on_progress(done: Imported) -> None:
        if done.new % 5_000 == 0:
            gc.collect()
            sizes.append(process.memory_info().rss)

    importing = Import(check=parts.reserving.check_draft, reservations=parts.stores.reservations)
    done = importing(
        read_csv(io.BufferedReader(Rows(lines))), strict=False, on_bad=lambda _: None, on_progress=on_progress
    )
    assert done == Imported(new=lines)
    assert sizes[-1] - sizes[0] < 8 * 2**20
    assert pending(parts) == lines
    parts.close()
