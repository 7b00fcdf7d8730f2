"""Declares the tables for SQL statements. ``migrations/`` creates them in a database; a test shows that both agree.

Above 300 lines because it is one list: a line for each column.
"""

from __future__ import annotations

from itertools import chain

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index

from mailbatch.domain.reservation import Status
from mailbatch.domain.run import Pause, RunOutcome, Trigger
from mailbatch.infrastructure.db import stored
from mailbatch.infrastructure.db.constraints import (
    UUID_FORM,
    afterwards,
    is_json,
    is_json_on_sqlite,
    is_one_of,
    not_valid,
    one_of,
    sane_time,
    where,
)
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
"""The table that stores the revision. ``alembic_version`` belongs to the application's own Alembic."""

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_SUBJECT = "subject IS NOT NULL OR message IS NOT NULL"
_BODY = "body_text IS NOT NULL OR body_html IS NOT NULL OR message IS NOT NULL"

mail_reservations = sa.Table(
    "mail_reservations",
    metadata,
    # Columns that the application writes: the contract (docs/reference/table.md).
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
    # Columns that mailbatch writes.
    Column("status", Text, nullable=False, server_default=Status.PENDING.value),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("retry_at", Timestamp),
    # scheduled_at keeps the time that the caller asked for, also when the mail is deferred.
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
    # Written by mailbatch: what a mail that is put back waits for.
    Column("waits_for", Text),
    # On PostgreSQL the types ensure these two. On SQLite one row in another form would prevent every run from reading.
    CheckConstraint(f"typeof(id) = 'text' AND id GLOB '{UUID_FORM}'", name="id_form").ddl_if(dialect="sqlite"),
    CheckConstraint("typeof(priority) = 'integer'", name="priority_form").ddl_if(dialect="sqlite"),
    CheckConstraint("length(trim(recipients)) > 0", name="recipients"),
    CheckConstraint(f"template IS NOT NULL OR {_SUBJECT}", name="subject").ddl_if(dialect="sqlite"),
    CheckConstraint(f"template IS NOT NULL OR {_BODY}", name="body").ddl_if(dialect="sqlite"),
    one_of("status", Status),
    CheckConstraint("(status = 'sending') = (lease_until IS NOT NULL)", name="lease"),
    *chain.from_iterable(map(sane_time, ("scheduled_at", "expires_at", "retry_at", "created_at"))),
    *is_json("context", "object"),
    *is_json("headers", "object"),
    *is_json("verdicts", "object"),
    is_json_on_sqlite("attachments", "array"),
    CheckConstraint("attempts >= 0 AND claim_no >= 0", name="attempts"),
    postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05, "autovacuum_analyze_scale_factor": 0.05},
)

afterwards(
    mail_reservations,
    "postgresql",
    not_valid("idempotency_key", "idempotency_key <> ''"),
    not_valid("subject", f"template IS NOT NULL OR {_SUBJECT}"),
    not_valid("body", f"template IS NOT NULL OR {_BODY}"),
    not_valid("attachments", "jsonb_typeof(attachments) IN ('array', 'null')"),
    # EXTERNAL: not compressed, so that a part can be read without the rest.
    "ALTER TABLE %(fullname)s ALTER COLUMN message SET STORAGE EXTERNAL",
)
# Two mails with an empty key would become one. SQLite rebuilds the table to add a CHECK, so triggers check it there.
afterwards(
    mail_reservations,
    "sqlite",
    *(
        f"CREATE TRIGGER ck_mail_reservations_idempotency_key_{act.split()[0].lower()} BEFORE {act} "
        "ON mail_reservations WHEN length(NEW.idempotency_key) = 0 "
        "BEGIN SELECT RAISE(ABORT, 'idempotency_key is empty; leave it out'); END"
        for act in ("INSERT", "UPDATE OF idempotency_key")
    ),
)

_r = mail_reservations.c
# A claim reads a range of this index: one priority, by due time.
Index("ix_mail_reservations_due", _r.priority, _r.due_at, _r.id, **where("status = 'pending'"))
Index("ix_mail_reservations_lease", _r.lease_until, **where("status = 'sending'"))
Index("ix_mail_reservations_expiry", _r.expires_at, **where("status = 'pending' AND expires_at IS NOT NULL"))
# Lists, counts and purge.
Index("ix_mail_reservations_status", _r.status, _r.created_at, _r.id)
Index("ix_mail_reservations_tag", _r.tag, _r.created_at, **where("tag IS NOT NULL"))
# What gates hold back, by the time that the caller asked for. It is empty where there are no gates.
Index(
    "ix_mail_reservations_waits",
    _r.scheduled_at,
    _r.tag,
    _r.due_at,
    **where("status = 'pending' AND waits_for IS NOT NULL"),
)
# By state: the mails finished in the last hour, and those of a run, which are found by the time of the run.
Index("ix_mail_reservations_finished", _r.status, _r.finished_at, _r.id, **where("finished_at IS NOT NULL"))

# Files that mails name. The id is the SHA-256 of the content, so each content is stored once.
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
afterwards(mail_files, "postgresql", "ALTER TABLE %(fullname)s ALTER COLUMN content SET STORAGE EXTERNAL")

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
    # How many item indexes were given out. Each claim of a group reserves its own.
    Column("claimed", Integer, nullable=False, server_default="0"),
    # Why the run must stop: set by lane 0 or an operator, read by every lane.
    Column("stop", Text),
    Column("error", Text),
    Column("host", Text),
    Column("pid", Integer),
    Column("held_back", Integer, nullable=False, server_default="0"),
    one_of("trigger", Trigger).ddl_if(dialect="sqlite"),
    one_of("outcome", RunOutcome),
)
# A revision made it anew there, without reading the table.
afterwards(batch_runs, "postgresql", not_valid("trigger", is_one_of("trigger", Trigger)))
Index("ix_batch_runs_job", batch_runs.c.job, batch_runs.c.started_at)
Index("ix_batch_runs_open", batch_runs.c.job, batch_runs.c.heartbeat_at, **where("outcome IS NULL"))

# The helpers of a run; lane 0 is the run itself. Counts are written in the transaction of the settlement, so they are
# exact even if the lane is killed.
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
    Column("held_back", Integer, nullable=False, server_default="0"),
)

run_errors = sa.Table(
    "run_errors",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(batch_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("item_index", Integer, primary_key=True),
    Column("reservation_id", Guid),
    # A JSON list of texts, one for each error. It has full addresses.
    Column("errors", Json(stored.lines), nullable=False),
)

batch_schedule = sa.Table(
    "batch_schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused", Text, nullable=False, server_default=Pause.NONE.value),
    Column("last_tick_at", Timestamp),
    Column("next_tick_at", Timestamp),
    one_of("paused", Pause),
)

# Circuits of relays. The circuit of a relay without a row is closed.
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
    # concern: what the refusal is about. suspects: the mails that got it, each with how often it was the probe.
    Column("concern", Text),
    Column("suspects", JSON),
    CheckConstraint("state IN ('closed', 'open', 'half_open')", name="state"),
)

# Tags whose mails are held back until somebody lifts the block. lifted_at: it was, and its mails become due again.
mail_blocks = sa.Table(
    "mail_blocks",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("since", Timestamp, nullable=False, server_default=server_now()),
    Column("by", Text, nullable=False),
    Column("note", Text),
    Column("lifted_at", Timestamp),
)

# What a relay took on a day (YYYY-MM-DD in the time zone of the relay), for quotas of a day.
relay_quotas = sa.Table(
    "relay_quotas",
    metadata,
    Column("relay", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("used", Integer, nullable=False, server_default="0"),
)

# Actions of operators: who, what, through which interface. With ids and filters, without contents of mails.
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

# Responses to requests with an Idempotency-Key. A row without a status: the request is still being processed.
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

# Run reports to deliver. next_at NULL: it was delivered, or is not tried again.
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
Index("ix_run_reports_next_at", run_reports.c.next_at, **where("next_at IS NOT NULL"))

# Incidents that no run can report: the last of each kind, and its notification by each channel. next_at NULL: nothing
# more is sent.
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

# The trace (W3C Trace Context) in which a mail was reserved, if there was one.
mail_traces = sa.Table(
    "mail_traces",
    metadata,
    Column("reservation_id", Guid, sa.ForeignKey(_r.id, ondelete="CASCADE"), primary_key=True),
    Column("traceparent", Text, nullable=False),
    Column("tracestate", Text),
)


def is_ours(table: sa.Table | None) -> bool:
    """Return whether ``table``, reflected from a database or declared by an application, is one of mailbatch's tables.

    It is if it has the name of one and its columns fit. They fit if all are ours, because an application's model may
    declare only some. They also fit if all of ours are among them, because somebody may have added columns.
    """
    if table is None or table.name not in {*metadata.tables, VERSION_TABLE}:
        return False
    if table.name == VERSION_TABLE:
        return True
    theirs, ours = set(table.columns.keys()), set(metadata.tables[table.name].columns.keys())
    return theirs <= ours or theirs >= ours
