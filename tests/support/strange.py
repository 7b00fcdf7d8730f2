"""Rows as other programs write them: any value that a column takes, and every command and page that reads it."""

from __future__ import annotations

import contextlib
import io
import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from unittest import mock
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql
from starlette.testclient import TestClient

from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.reservation import FINISHED, Status
from mailbatch.infrastructure.db.tables import mail_reservations, metadata
from mailbatch.interfaces.cli import main
from mailbatch.interfaces.http.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from sqlalchemy.engine import Connection, Engine

_UUID = "0192aaaa-7a1e-7cc0-9f5e-3b1a52d0c9aa"
_DEEP = "[" * 900 + "]" * 900

JSON_VALUES = [
    *("null", "true", "5", '"text"', "[]", "[1]", '[null, {"a": []}]', "{}", '{"": ""}', '{"a": 1, "a": 2}'),
    *('{"a": 1e400}', '{"a": -1e400}', f'{{"a": {2**70}}}', f'{{"a": {_DEEP}}}', f'{{"a": {"9" * 5000}}}'),
    *('{"ann@example.org": null}', '{"ann@example.org": []}', '{"ann@example.org": {}}', '{"x": "accepted"}'),
    *('{"ann@example.org": {"kind": "accepted"}}', '{"ann@example.org": {"kind": 1, "code": "x", "text": 5}}'),
    f'{{"ann@example.org": {{"kind": "accepted", "code": {10**30}, "text": null}}}}',
    '{"ann@example.org": {"kind": "accepted", "code": 250, "text": {"a": 1}}}',
    '{"ann@example.org": {"kind": "gone", "code": -5, "text": "\\u0007\\n"}}',
    '{"X-A": 5, "X-B": null, "To": "x", "a b": "c"}',
]
TEXT_VALUES = [
    *("", " ", "x", "accepted", "completed", "-", "\t\n\r", "a\x07\x1b[31mb\x85\u2028c\u202e", "{{ 1 / 0 }}", "{% if"),
    *("{{ nobody }}", "<script>alert(1)</script>", "'; --", "\U0001f389" * 50, "%s {0} \\", "../../etc", "x" * 100_000),
    *(_UUID, _UUID.upper(), "2026-12-01 09:00:00", "2026-12-01T09:00:00Z", "infinity", "now", "0", "-1", "1e999"),
]
NUMBERS = [0, 1, -1, 5, 999, 2**31 - 2, 2**31 - 1, -(2**31)]
BIG_NUMBERS = [2**31, 2**53, 2**62, 2**63 - 1, -(2**63)]
BYTES = [b"", b"\x00", b"\xff\xfe", b"a", b"{}", b"From: a@b\n\nHi", b"Subject: s\r\n\r\n" + b"x" * 100_000, b".\r\n"]
TIMES = [
    *("1970-01-01 00:00:00.000", "2026-12-01 09:00:00.000", "9999-12-31 23:59:59.999", "9999-12-30 00:00:00.000"),
    *("2000-01-01 00:00:00.000", "0001-01-01 00:00:00.000", "1900-01-01 00:00:00.000"),
]
POSTGRES_TIMES = [*TIMES, "infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "10000-01-01", "294276-12-31"]


def quoted(text: str) -> str:
    """Return ``text`` as SQL."""
    return "'" + text.replace("'", "''") + "'"


SQLITE = [
    "NULL",
    *(quoted(text) for text in (*JSON_VALUES, *TEXT_VALUES, *TIMES)),
    *(str(n) for n in (*NUMBERS, *BIG_NUMBERS)),
    *("1.5", "-0.5", "1e300", "9e999", "-9e999", "0.1"),
    *("x''", "x'00'", "x'fffe00'", "x'61'", "x'616e6e406578616d706c652e6f7267'", "x'7b7d'", "x'7b2261223a317d'"),
    *("CAST(x'ff61' AS TEXT)", "CAST(x'612062edb08080' AS TEXT)", "'a' || char(0) || 'b'", "char(0)"),
    *("'NaN'", "'[NaN, Infinity]'", "'{\"a\": NaN}'", "'{'", "'{''a'': 1}'", "'\ufeff{}'"),
    "CAST(x'7b2261223a22ff227d' AS TEXT)",
    '\'{"a": "\\ud800"}\'',
]
"""Values as SQL: SQLite keeps most of them in any column."""


def values_of(column: sa.Column[Any], dialect: str) -> list[str]:
    """Return the values, as SQL, to try in ``column``."""
    if dialect == "sqlite":
        return SQLITE
    kind = str(column.type.compile(postgresql.dialect()))
    texts: dict[str, list[str]] = {
        "JSONB": JSON_VALUES,
        "TIMESTAMP WITH TIME ZONE": POSTGRES_TIMES,
        "TEXT": TEXT_VALUES,
    }
    plain = {
        "INTEGER": [str(n) for n in NUMBERS],
        "FLOAT": ["0", "-1", "1e308", "'infinity'", "'-infinity'", "'NaN'"],
        "UUID": [quoted(_UUID), quoted(str(UUID(int=0)))],
        "BYTEA": [f"'\\x{raw.hex()}'" for raw in BYTES],
    }
    return ["NULL", *(map(quoted, texts[kind]) if kind in texts else plain[kind])]


EVERY = 1 if os.environ.get("STRANGE") == "all" else 3
"""One of so many values goes into a column, another third into the next: ``STRANGE=all`` tries each in each."""


def some_of(values: list[str], turn: int) -> list[tuple[int, str]]:
    """Return the values for the column number ``turn``, each with its position in ``values``."""
    return [(n, value) for n, value in enumerate(values) if n % EVERY == turn % EVERY]


def stranger(url: str) -> Engine:
    """Return an engine without our types and events."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _record: setattr(raw, "text_factory", bytes.decode))
    return engine


def insert(connection: Connection, table: str, row: Mapping[str, str]) -> bool:
    """INSERT a row of values written as SQL; False if the database refuses it."""
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})"  # noqa: S608
    if connection.dialect.name == "postgresql":
        statement = statement.replace("%", "%%")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except exc.DBAPIError:
        return False
    return True


def reservation(status: Status, **columns: str) -> dict[str, str]:
    """Return a row of ``mail_reservations`` in ``status``, as SQL."""
    row = {"id": quoted(str(uuid4())), "recipients": "'ann@example.org'", "subject": "'s'", "body_text": "'t'"}
    row["status"] = quoted(status.value)
    if status is not Status.PENDING:
        row["claim_no"] = "1"
    if status is Status.SENDING:
        row["lease_until"] = "'2020-01-01 00:00:00.000'"
    if status in FINISHED:
        row["finished_at"] = "'2020-01-01 00:00:00.000'"
    return {**row, **columns}


def others(table: str, reservation_id: str, run_id: str, n: int) -> dict[str, str]:
    """Return the ``n``-th row of another table, as SQL."""
    own, of_run, when = quoted(str(uuid4())), quoted(run_id), "'2020-01-01 00:00:00.000'"
    ended = "NULL" if n % 2 else "'completed'"
    return {
        "batch_schedule": {"name": own},
        "relay_circuits": {"relay": own},
        "batch_runs": {
            "run_id": own,
            "job": "'send-all'",
            "trigger": "'beat'",
            "outcome": ended,
            "started_at": when,
            "heartbeat_at": when,
        },
        "mail_attempts": {
            "reservation_id": quoted(reservation_id),
            "claim_no": str(n),
            "run_id": of_run,
            "outcome": ("'in_doubt'", "'failed'", "'deferred'")[n % 3],
        },
        "run_errors": {"run_id": of_run, "item_index": str(n), "reservation_id": own, "errors": "'[\"x\"]'"},
        "operator_actions": {"id": own, "actor": "'a'", "action": "'a'", "outcome": "'done'"},
        "api_answers": {"key": own, "request": "'x'"},
        "run_reports": {"run_id": of_run, "channel": own, "report": "'{}'"},
        "incidents": {"kind": own, "channel": own, "what": "'x'", "advice": "'x'"},
        "mail_blocks": {"tag": own, "by": "'a'"},
        "relay_quotas": {"relay": own, "day": "'2020-01-01'"},
        "mail_files": {"id": quoted(sha256(own.encode()).hexdigest()), "content": "'x'"},
        "mail_traces": {"reservation_id": quoted(reservation_id), "traceparent": "'x'"},
        "batch_lanes": {"run_id": of_run, "lane": str(n)},
    }[table]


def fill(connection: Connection, dialect: str) -> tuple[list[str], str]:
    """Try every value in every column of every table; return the ids of the stored reservations, and of a run."""
    run_id = str(uuid4())
    ended = {"outcome": "'completed'", "finished_at": "'2020-01-01 00:00:00.000'"}
    insert(
        connection,
        "batch_runs",
        {"run_id": quoted(run_id), "job": "'send-all'", "trigger": "'beat'", **ended},
    )
    ids, statuses = [], [status for status in Status if status is not Status.PENDING]
    for turn, column in enumerate(mail_reservations.c):
        if column.computed is None:
            for n, value in some_of(values_of(column, dialect), turn):
                for status in (Status.PENDING, statuses[n % len(statuses)]):
                    row = {**reservation(status), column.name: value}
                    if insert(connection, "mail_reservations", row):
                        ids.append(row["id"].strip("'"))
    for table in metadata.tables.values():
        if table is not mail_reservations:
            for turn, column in enumerate(table.c):
                for n, value in some_of(values_of(column, dialect), turn):
                    row = others(table.name, ids[n + 1], run_id, n + 1)
                    insert(connection, table.name, {**row, column.name: value})
    return ids, run_id


# --- doors ---


@dataclass
class Doors:
    """Every command and page that reads a database. Errors are collected in ``faults``."""

    settings: Mapping[str, Any]
    faults: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self.parts = self._open.enter_context(contextlib.closing(Parts(Settings(**self.settings))))
        app = create_app(self.parts)
        self._client = self._open.enter_context(TestClient(app, base_url="http://localhost"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def say(self, *args: str, allowed: Sequence[int] = (0,)) -> str:
        """Run a command and return its output."""
        with self._watching(f"mailbatch {' '.join(args)}"):
            out, err = io.StringIO(), io.StringIO()
            env = {f"MAILBATCH_{name.upper()}": str(value) for name, value in self.settings.items()}
            with mock.patch.dict(os.environ, env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main.run(list(args))
            assert code in allowed, f"exit {code}: {err.getvalue()[-500:]}"
            if "--json" in args:
                strict(out.getvalue())
        return out.getvalue()

    def get(self, path: str, allowed: Sequence[int] = (HTTPStatus.OK,)) -> Any:
        """Send a GET and return the response, parsed if it is JSON."""
        with self._watching(f"GET {path}"):
            answer = self._client.get(path)
            assert answer.status_code in allowed, f"{answer.status_code} {answer.text[:300]}"
            is_json = answer.headers.get("content-type", "").endswith("json")
            return strict(answer.text) if is_json else answer.text
        return None

    def post(self, path: str, body: object) -> Any:
        """Send a POST with ``body`` as JSON and return the response."""
        return self._client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})

    def listed(self, path: str) -> list[str]:
        """Go through a list of the API to its end, and return the ids."""
        found: list[str] = []
        page = self.get(path)
        while page:
            found += [item.get("id") or item.get("run_id") for item in page["items"]]
            page = page["next"] and self.get(f"{path}&cursor={page['next']}")
            assert len(found) < 50_000, f"{path} has no end"
        return found

    def everywhere(self) -> None:
        """Read everything by each command and each page."""
        many = ("--limit", "100000")
        self.say("list", *many)
        self.say("list", *many, "--json")
        for flags in (["--since", "20000d"], ["--status", "failed"], ["--to", "x"], ["--reply", "5xx"], ["--tag", "x"]):
            self.say("list", *flags)
        for command in ("status", "runs", "duplicates", "actions"):
            self.say(command)
            self.say(command, "--json")
        self.say("duplicates", "--since", "20000d", *many)
        self.say("plan", *many, allowed=(0, 1))
        self.say("plan", "--json", allowed=(0, 1))
        pages = ("/", "/live", "/reservations", "/reservations?status=failed", "/runs", "/schedule", "/schedule/plan")
        for path in (*pages, "/duplicates", "/metrics", "/api/status", "/api/is-running"):
            self.get(path)

    def at(self, reservation_id: str) -> None:
        """Read one reservation."""
        self.say("show", reservation_id)
        self.say("show", reservation_id, "--json")
        self.say("explain", reservation_id)
        self.get(f"/api/reservations/{reservation_id}")
        self.get(f"/api/reservations/{reservation_id}/explain")
        self.get(f"/api/reservations/{reservation_id}/preview", (HTTPStatus.OK, HTTPStatus.UNPROCESSABLE_ENTITY))
        self.get(f"/reservations/{reservation_id}")

    def at_run(self, run_id: str) -> None:
        """Read one run."""
        self.say("run", run_id)
        self.say("run", run_id, "--json")
        for path in (f"/api/runs/{run_id}", f"/api/runs/{run_id}/errors", f"/runs/{run_id}"):
            self.get(path)

    @contextmanager
    def _watching(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - each fault is told, not the first alone
            self.faults.append(ascii(f"{what}: {type(error).__name__}: {str(error)[:600]}"))


def strict(text: str) -> Any:
    """Parse JSON strictly by RFC 8259."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
