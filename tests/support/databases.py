"""Databases as users have them: with rows in every state, made by earlier versions; and their comparison."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.location import schema_of
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection, Engine

Contents = dict[str, list[dict[str, Any]]]

OLDER = {"0001": "mailbatch_0001", "0002": "mailbatch_0002"}
SINCE_0002 = ("relay_circuits", "operator_actions", "api_answers", "run_reports", "mail_traces")
_OF_OLD = (Trigger.BEAT, Trigger.MANUAL, Trigger.API)
"""The triggers that each revision knows."""
_NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def make_older(url: str, revision: str = "0002", schema: str | None = None) -> None:
    """Make the tables of versions that had no version table of their own, and their row in alembic_version."""
    upgrade(url, OLDER[revision], schema=schema)
    engine = connect(url, schema)
    with engine.begin() as connection:
        connection.execute(sa.schema.DropTable(sa.Table(VERSION_TABLE, sa.MetaData())))
        make_alembic_version(connection, revision)
    engine.dispose()


def make_alembic_version(connection: Connection, *revisions: str) -> None:
    """Make the version table of any Alembic, at ``revisions``."""
    table = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), nullable=False))
    table.append_constraint(sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"))
    table.create(connection)
    for revision in revisions:
        connection.execute(sa.insert(table).values(version_num=revision))


def fill(engine: Engine, *, without: Collection[str] = ()) -> None:
    """Store a mail in every state, with the rows that refer to it, and rows in each table except ``without``."""
    with engine.begin() as connection:
        present = sa.inspect(connection).get_table_names(schema=schema_of(engine))
        for table, rows in _rows().items():
            if table in present and table not in without:
                for row in rows:
                    connection.execute(sa.insert(metadata.tables[table]).values(row))


def contents(engine: Engine) -> Contents:
    """Return every row of our existing tables, by table; a row has its columns by name."""
    schema = schema_of(engine)
    with engine.connect() as connection:
        present = metadata.tables.keys() & set(sa.inspect(connection).get_table_names(schema=schema))
        with warnings.catch_warnings():
            # SQLAlchemy 2.1 stumbles over a CHECK that is NOT VALID when it reflects one, and goes on.
            warnings.filterwarnings("ignore", message="Can't validate argument 'dialect_options'")
            tables = [
                sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection) for name in sorted(present)
            ]
        return {table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()] for table in tables}


def in_common(one: Contents, other: Contents) -> tuple[Contents, Contents]:
    """Return both without the tables and columns that only one of them has, with rows in a fixed order."""
    return _reduced(one, other), _reduced(other, one)


def _reduced(whole: Contents, to: Contents) -> Contents:
    return {
        name: sorted(({key: row[key] for key in row if not to[name] or key in to[name][0]} for row in rows), key=repr)
        for name, rows in whole.items()
        if name in to
    }


def _rows() -> dict[str, list[dict[str, Any]]]:
    mails = [_mail(number, status) for number, status in enumerate(Status, start=1)]
    runs = [_run(number, outcome) for number, outcome in enumerate([None, *RunOutcome], start=1)]
    ids, run = [mail["id"] for mail in mails], runs[0]["run_id"]
    return {
        "mail_reservations": mails,
        "batch_runs": runs,
        "mail_attempts": [
            {
                "reservation_id": one,
                "claim_no": claim,
                "run_id": run,
                "outcome": "deferred",
                "verdicts": {"a@x.org": 450},
            }
            for one in ids
            for claim in (1, 2)
        ],
        "mail_traces": [{"reservation_id": one, "traceparent": f"00-{one.hex}-0000000000000001-01"} for one in ids],
        "batch_lanes": [{"run_id": run, "lane": lane, "sent": 7} for lane in (1, 2)],
        "run_errors": [{"run_id": run, "item_index": index, "errors": ["refused"]} for index in range(3)],
        "run_reports": [{"run_id": run, "channel": channel, "report": {"n": 1}} for channel in ("mail", "webhook")],
        "batch_schedule": [{"name": f"job-{pause}", "paused": pause.value} for pause in Pause],
        "relay_circuits": [{"relay": state, "state": state} for state in ("closed", "open", "half_open")],
        "operator_actions": [{"id": run, "actor": "ann", "action": "requeue", "target": {"n": 2}, "outcome": "done"}],
        "incidents": [
            {"kind": "no_run", "channel": channel, "what": "w", "advice": "a"} for channel in ("mail", "webhook")
        ],
        "mail_blocks": [{"tag": "news", "by": "cli:ann"}, {"tag": "old", "by": "cli:ann", "lifted_at": _NOW}],
        "relay_quotas": [{"relay": "ses", "day": f"2026-11-{day}", "used": day} for day in (26, 27)],
        "mail_files": [{"id": "ab" * 32, "content": b"a picture", "filename": "logo.png", "content_type": "image/png"}],
        "api_answers": [{"key": "k", "request": "r", "status": 201, "answer": "{}"}],
    }


def _mail(number: int, status: Status) -> dict[str, Any]:
    return {
        "id": UUID(int=number),
        "recipients": f"Ann <ann{number}@example.com>",
        "subject": "Grüße",
        "body_text": "Zeile 1\nZeile 2",
        "context": {"n": number},
        "headers": {"X-N": str(number)},
        "idempotency_key": f"key-{number}",
        "tag": "t",
        "priority": number - 3,
        "scheduled_at": _NOW,
        "expires_at": _NOW + timedelta(days=1),
        "retry_at": _NOW + timedelta(hours=1),
        "status": status.value,
        "attempts": 2,
        "claim_no": 3,
        "lease_until": _NOW if status is Status.SENDING else None,
        "verdicts": {"ann@example.com": {"code": 250}},
    }


def _run(number: int, outcome: RunOutcome | None) -> dict[str, Any]:
    trigger = _OF_OLD[number % len(_OF_OLD)]
    return {
        "run_id": UUID(int=number),
        "job": "send-all",
        "trigger": trigger.value,
        "outcome": outcome.value if outcome else None,
        "sent": number,
    }
