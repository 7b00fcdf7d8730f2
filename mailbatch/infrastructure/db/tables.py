"""The tables. ``migrations/`` makes them; a test shows that both say the same."""

from __future__ import annotations

from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index, event

from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db import stored
from mailbatch.infrastructure.db.types import (
    JSON,
    Bytes,
    Float,
    Guid,
    Integer,
    Json,
    Text,
    Timestamp,
    octets,
    server_now,
    server_uuid,
)

VERSION_TABLE = "mailbatch_alembic_version"
"""Where the revision of these tables stands; ``alembic_version`` belongs to the application's own Alembic."""

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: type[Status | Pause | RunOutcome | Trigger]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v.value) for v in values)})", name=column)


def _sane_time(column: str) -> list[CheckConstraint]:
    """Refuse infinity and years that some reader cannot read; on SQLite also every form but the stored one."""
    # coalesce: what is no time at all gives NULL, and a CHECK lets NULL pass. '+0 days': without a modifier SQLite
    # gives 30 February back as it came, and Python could not read it.
    form = f"coalesce({column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '+0 days'), {column} IS NULL)"
    return [
        CheckConstraint(
            f"{column} >= '1970-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00'", name=f"{column}_year"
        ).ddl_if(dialect="postgresql"),
        CheckConstraint(f"{column} >= '1970-01-01' AND {form}", name=f"{column}_form").ddl_if(dialect="sqlite"),
    ]


_SUBJECT = "subject IS NOT NULL OR message IS NOT NULL"
_BODY = "body_text IS NOT NULL OR body_html IS NOT NULL OR message IS NOT NULL"
UUID_FORM = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))

mail_reservations = sa.Table(
    "mail_reservations",
    metadata,
    # What the application writes: the contract (docs/reference/table.md).
    Column("id", Guid, primary_key=True, server_default=server_uuid()),
    Column("recipients", Text, nullable=False),
    Column("cc", Text),
    Column("bcc", Text),
    Column("sender", Text),
    Column("reply_to", Text),
    Column("subject", Text),
    Column("body_text", Text),
    Column("body_html", Text),
    Column("template", Text),
    Column("context", JSON),
    Column("headers", JSON),
    Column("scheduled_at", Timestamp, nullable=False, server_default=server_now()),
    Column("expires_at", Timestamp),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("idempotency_key", Text, unique=True),
    Column("tag", Text),
    # What mailbatch keeps.
    Column("status", Text, nullable=False, server_default=Status.PENDING.value),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("retry_at", Timestamp),
    # The caller's wish stays readable: a put-off mail has another due time, not another schedule.
    Column("due_at", Timestamp, sa.Computed("coalesce(retry_at, scheduled_at)", persisted=True)),
    Column("last_error", Text),
    Column("message_id", Text),
    Column("sent_at", Timestamp),
    Column("finished_at", Timestamp),
    Column("claim_no", Integer, nullable=False, server_default="0"),
    Column("run_id", Guid),
    Column("lane", Integer),
    Column("item_index", Integer),
    Column("lease_until", Timestamp),
    Column("wire_at", Timestamp),
    Column("reply_code", Integer),
    Column("reply_text", Text),
    Column("relay", Text),
    Column("verdicts", Json(stored.verdicts)),
    Column("created_at", Timestamp, nullable=False, server_default=server_now()),
    # Columns of the application again. A column that is added later is the last one.
    Column("attachments", JSON),
    Column("message", Bytes),
    Column("envelope_sender", Text),
    Column("locale", Text),
    # PostgreSQL's types see to these two; on SQLite one row in another form would keep every run from reading the rest.
    CheckConstraint(f"typeof(id) = 'text' AND id GLOB '{UUID_FORM}'", name="id_form").ddl_if(dialect="sqlite"),
    CheckConstraint("typeof(priority) = 'integer'", name="priority_form").ddl_if(dialect="sqlite"),
    CheckConstraint("length(trim(recipients)) > 0", name="recipients"),
    CheckConstraint(f"template IS NOT NULL OR {_SUBJECT}", name="subject").ddl_if(dialect="sqlite"),
    CheckConstraint(f"template IS NOT NULL OR {_BODY}", name="body").ddl_if(dialect="sqlite"),
    _one_of("status", Status),
    CheckConstraint("(status = 'sending') = (lease_until IS NOT NULL)", name="lease"),
    *chain.from_iterable(map(_sane_time, ("scheduled_at", "expires_at", "retry_at", "created_at"))),
    CheckConstraint(
        "context IS NULL OR (json_valid(context) AND json_type(context) IN ('object', 'null'))", name="context"
    ).ddl_if(dialect="sqlite"),
    CheckConstraint(
        "headers IS NULL OR (json_valid(headers) AND json_type(headers) IN ('object', 'null'))", name="headers"
    ).ddl_if(dialect="sqlite"),
    CheckConstraint("jsonb_typeof(context) IN ('object', 'null')", name="context").ddl_if(dialect="postgresql"),
    CheckConstraint("jsonb_typeof(headers) IN ('object', 'null')", name="headers").ddl_if(dialect="postgresql"),
    CheckConstraint(
        "verdicts IS NULL OR (json_valid(verdicts) AND json_type(verdicts) IN ('object', 'null'))", name="verdicts"
    ).ddl_if(dialect="sqlite"),
    CheckConstraint("jsonb_typeof(verdicts) IN ('object', 'null')", name="verdicts").ddl_if(dialect="postgresql"),
    CheckConstraint(
        "attachments IS NULL OR (json_valid(attachments) AND json_type(attachments) IN ('array', 'null'))",
        name="attachments",
    ).ddl_if(dialect="sqlite"),
    CheckConstraint("attempts >= 0 AND claim_no >= 0", name="attempts"),
    postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05, "autovacuum_analyze_scale_factor": 0.05},
)


def _afterwards(table: sa.Table, dialect: str, *statements: str) -> None:
    """What a CREATE TABLE of ``dialect`` cannot say."""
    for statement in statements:
        event.listen(table, "after_create", sa.DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]


def _not_valid(name: str, condition: str) -> str:
    """A CHECK as a revision adds it on PostgreSQL, where it must not read the whole table."""
    return f"ALTER TABLE %(fullname)s ADD CONSTRAINT ck_mail_reservations_{name} CHECK ({condition}) NOT VALID"


_afterwards(
    mail_reservations,
    "postgresql",
    _not_valid("idempotency_key", "idempotency_key <> ''"),
    _not_valid("subject", f"template IS NOT NULL OR {_SUBJECT}"),
    _not_valid("body", f"template IS NOT NULL OR {_BODY}"),
    _not_valid("attachments", "jsonb_typeof(attachments) IN ('array', 'null')"),
    # Not compressed, so that a part of it can be read without the rest.
    "ALTER TABLE %(fullname)s ALTER COLUMN message SET STORAGE EXTERNAL",
)
# Two mails without a key must not be one. SQLite would make the table anew for a CHECK: there triggers do it.
_afterwards(
    mail_reservations,
    "sqlite",
    *(
        f"CREATE TRIGGER ck_mail_reservations_idempotency_key_{act.split()[0].lower()} BEFORE {act} "
        "ON mail_reservations WHEN length(NEW.idempotency_key) = 0 "
        "BEGIN SELECT RAISE(ABORT, 'idempotency_key is empty; leave it out'); END"
        for act in ("INSERT", "UPDATE OF idempotency_key")
    ),
)


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


_r = mail_reservations.c
# Each claim reads a range of this one: within one priority, by due time.
Index("ix_mail_reservations_due", _r.priority, _r.due_at, _r.id, **_where("status = 'pending'"))
Index("ix_mail_reservations_lease", _r.lease_until, **_where("status = 'sending'"))
Index("ix_mail_reservations_expiry", _r.expires_at, **_where("status = 'pending' AND expires_at IS NOT NULL"))
# Lists, counts and purge.
Index("ix_mail_reservations_status", _r.status, _r.created_at, _r.id)
Index("ix_mail_reservations_tag", _r.tag, _r.created_at, **_where("tag IS NOT NULL"))
# The last hour, and the mails of a run (it has its own time, for one runs at a time), of each state.
Index("ix_mail_reservations_finished", _r.status, _r.finished_at, _r.id, **_where("finished_at IS NOT NULL"))

# Files that mails name, each once, by the SHA-256 of its content.
mail_files = sa.Table(
    "mail_files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("content", Bytes, nullable=False),
    Column("filename", Text),
    Column("content_type", Text),
    Column("size", Integer, sa.Computed(octets(sa.literal_column("content")), persisted=True)),
    Column("created_at", Timestamp, nullable=False, server_default=server_now()),
    Column("touched_at", Timestamp, nullable=False, server_default=server_now()),
    CheckConstraint("id ~ '^[0-9a-f]{64}$'", name="id_form").ddl_if(dialect="postgresql"),
    CheckConstraint(f"typeof(id) = 'text' AND id GLOB '{'[0-9a-f]' * 64}'", name="id_form").ddl_if(dialect="sqlite"),
)
Index("ix_mail_files_touched_at", mail_files.c.touched_at)
_afterwards(mail_files, "postgresql", "ALTER TABLE %(fullname)s ALTER COLUMN content SET STORAGE EXTERNAL")

mail_attempts = sa.Table(
    "mail_attempts",
    metadata,
    Column("reservation_id", Guid, sa.ForeignKey(_r.id, ondelete="CASCADE"), primary_key=True),
    Column("claim_no", Integer, primary_key=True),
    Column("run_id", Guid),
    Column("lane", Integer),
    Column("relay", Text),
    Column("ended_at", Timestamp, nullable=False, server_default=server_now()),
    Column("outcome", Text, nullable=False),
    Column("reply_code", Integer),
    Column("enhanced_code", Text),
    Column("reply_text", Text),
    Column("verdicts", Json(stored.verdicts)),
)
Index("ix_mail_attempts_outcome", mail_attempts.c.outcome, mail_attempts.c.ended_at)

batch_runs = sa.Table(
    "batch_runs",
    metadata,
    Column("run_id", Guid, primary_key=True),
    Column("job", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("outcome", Text),
    Column("started_at", Timestamp, nullable=False, server_default=server_now()),
    Column("heartbeat_at", Timestamp, nullable=False, server_default=server_now()),
    Column("finished_at", Timestamp),
    Column("duration", Float),
    Column("sent", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("deferred", Integer, nullable=False, server_default="0"),
    Column("in_doubt", Integer, nullable=False, server_default="0"),
    Column("expired", Integer, nullable=False, server_default="0"),
    Column("remaining", Integer, nullable=False, server_default="0"),
    Column("bound", Integer, nullable=False, server_default="0"),
    # The item indexes given out so far: each group claim reserves its own.
    Column("claimed", Integer, nullable=False, server_default="0"),
    # What lane 0 tells the others: a reason to stop.
    Column("stop", Text),
    Column("error", Text),
    Column("host", Text),
    Column("pid", Integer),
    _one_of("trigger", Trigger),
    _one_of("outcome", RunOutcome),
)
Index("ix_batch_runs_job", batch_runs.c.job, batch_runs.c.started_at)
Index("ix_batch_runs_open", batch_runs.c.job, batch_runs.c.heartbeat_at, **_where("outcome IS NULL"))

# The helpers of a run; lane 0 is the run itself. Their counts are written with each settlement, so that those of a lane
# that is killed are exact.
batch_lanes = sa.Table(
    "batch_lanes",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(batch_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("lane", Integer, primary_key=True),
    Column("joined_at", Timestamp, nullable=False, server_default=server_now()),
    Column("heartbeat_at", Timestamp, nullable=False, server_default=server_now()),
    Column("left_at", Timestamp),
    Column("sent", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("deferred", Integer, nullable=False, server_default="0"),
    Column("in_doubt", Integer, nullable=False, server_default="0"),
    Column("error", Text),
    Column("host", Text),
    Column("pid", Integer),
)

run_errors = sa.Table(
    "run_errors",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(batch_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("item_index", Integer, primary_key=True),
    Column("reservation_id", Guid),
    # A JSON list: one text for each thing that was wrong, addresses in full.
    Column("errors", Json(stored.lines), nullable=False),
)

batch_schedule = sa.Table(
    "batch_schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused", Text, nullable=False, server_default=Pause.NONE.value),
    Column("last_tick_at", Timestamp),
    Column("next_tick_at", Timestamp),
    _one_of("paused", Pause),
)

# Relays that are left alone for a while; one without a row is well.
relay_circuits = sa.Table(
    "relay_circuits",
    metadata,
    Column("relay", Text, primary_key=True),
    Column("state", Text, nullable=False, server_default="closed"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    Column("opened_at", Timestamp),
    Column("open_until", Timestamp),
    Column("changed_at", Timestamp, nullable=False, server_default=server_now()),
    # Of what its refusal speaks; and to which mails it was said, each with the number of probes that it was.
    Column("concern", Text),
    Column("suspects", JSON),
    CheckConstraint("state IN ('closed', 'open', 'half_open')", name="state"),
)

# Who did what to the backlog, by which interface; ids and filters, never contents.
operator_actions = sa.Table(
    "operator_actions",
    metadata,
    Column("id", Guid, primary_key=True),
    Column("at", Timestamp, nullable=False, server_default=server_now()),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Json(stored.members)),
    Column("affected", Integer),
    Column("outcome", Text, nullable=False),
)
Index("ix_operator_actions_at", operator_actions.c.at, operator_actions.c.id)

# Answers to requests that bore an Idempotency-Key; one without a status is being worked on.
api_answers = sa.Table(
    "api_answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("status", Integer),
    Column("answer", Text),
    Column("created_at", Timestamp, nullable=False, server_default=server_now()),
)
Index("ix_api_answers_created_at", api_answers.c.created_at)

# Run reports on their way to somebody; without next_at nothing more is tried.
run_reports = sa.Table(
    "run_reports",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(batch_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("report", Json(stored.members), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", Timestamp, server_default=server_now()),
    Column("delivered_at", Timestamp),
    Column("error", Text),
)
Index("ix_run_reports_next_at", run_reports.c.next_at, **_where("next_at IS NOT NULL"))

# What is wrong and no run can tell, by whom it is told: the last of each kind. Without next_at nothing more is tried.
incidents = sa.Table(
    "incidents",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("since", Timestamp, nullable=False, server_default=server_now()),
    Column("told_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("next_at", Timestamp, server_default=server_now()),
    Column("what", Text, nullable=False),
    Column("advice", Text, nullable=False),
)

# The trace (W3C) in which a mail was reserved; only where there was one.
mail_traces = sa.Table(
    "mail_traces",
    metadata,
    Column("reservation_id", Guid, sa.ForeignKey(_r.id, ondelete="CASCADE"), primary_key=True),
    Column("traceparent", Text, nullable=False),
    Column("tracestate", Text),
)


def is_ours(table: sa.Table | None) -> bool:
    """Whether ``table``, reflected from a database or declared by somebody, stands for one of these.

    It bears our name, and its columns are some of ours, or all of ours and more: a model of an application may declare
    a few, a database may have some that were added. A table of the same name with other columns is somebody else's.
    """
    if table is None or table.name not in {*metadata.tables, VERSION_TABLE}:
        return False
    if table.name == VERSION_TABLE:
        return True
    theirs, ours = set(table.columns.keys()), set(metadata.tables[table.name].columns.keys())
    return theirs <= ours or theirs >= ours
