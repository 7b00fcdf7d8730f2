"""Creates the tables of the contract.

Revision ID: mailbatch_0001
Revises:
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import CheckConstraint, Column, Index

from mailbatch.infrastructure.db.types import JSON, Guid, Timestamp, server_now, server_uuid

revision = "mailbatch_0001"
down_revision = None
branch_labels = None
depends_on = None

OUTCOMES = ("completed", "skipped", "paused", "revoked", "shutdown", "timed_out", "lock_lost", "failed")

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(v) for v in values)})", name=column)


def _sane_time(column: str) -> list[CheckConstraint]:
    """Refuse infinity and years that some readers cannot read; on SQLite also every form except the stored one."""
    form = f"coalesce({column} = strftime('%Y-%m-%d %H:%M:%f', {column}, '+0 days'), {column} IS NULL)"
    return [
        CheckConstraint(
            f"{column} >= '1970-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00'", name=f"{column}_year"
        ).ddl_if(dialect="postgresql"),
        CheckConstraint(f"{column} >= '1970-01-01' AND {form}", name=f"{column}_form").ddl_if(dialect="sqlite"),
    ]


UUID_FORM = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))

mail_reservations = sa.Table(
    "mail_reservations",
    metadata,
    Column("id", Guid, primary_key=True, server_default=server_uuid()),
    Column("recipients", sa.Text, nullable=False),
    Column("cc", sa.Text),
    Column("bcc", sa.Text),
    Column("sender", sa.Text),
    Column("reply_to", sa.Text),
    Column("subject", sa.Text),
    Column("body_text", sa.Text),
    Column("body_html", sa.Text),
    Column("template", sa.Text),
    Column("context", JSON),
    Column("headers", JSON),
    Column("scheduled_at", Timestamp, nullable=False, server_default=server_now()),
    Column("expires_at", Timestamp),
    Column("priority", sa.Integer, nullable=False, server_default="0"),
    Column("idempotency_key", sa.Text, unique=True),
    Column("tag", sa.Text),
    Column("status", sa.Text, nullable=False, server_default="pending"),
    Column("attempts", sa.Integer, nullable=False, server_default="0"),
    Column("retry_at", Timestamp),
    Column("due_at", Timestamp, sa.Computed("coalesce(retry_at, scheduled_at)", persisted=True)),
    Column("last_error", sa.Text),
    Column("message_id", sa.Text),
    Column("sent_at", Timestamp),
    Column("finished_at", Timestamp),
    Column("claim_no", sa.Integer, nullable=False, server_default="0"),
    Column("run_id", Guid),
    Column("lane", sa.Integer),
    Column("item_index", sa.Integer),
    Column("lease_until", Timestamp),
    Column("wire_at", Timestamp),
    Column("reply_code", sa.Integer),
    Column("reply_text", sa.Text),
    Column("relay", sa.Text),
    Column("verdicts", JSON),
    Column("created_at", Timestamp, nullable=False, server_default=server_now()),
    # PostgreSQL's types check these two. On SQLite one row in another form would keep every run from reading the others.
    CheckConstraint(f"typeof(id) = 'text' AND id GLOB '{UUID_FORM}'", name="id_form").ddl_if(dialect="sqlite"),
    CheckConstraint("typeof(priority) = 'integer'", name="priority_form").ddl_if(dialect="sqlite"),
    CheckConstraint("length(trim(recipients)) > 0", name="recipients"),
    CheckConstraint("template IS NOT NULL OR subject IS NOT NULL", name="subject"),
    CheckConstraint("template IS NOT NULL OR body_text IS NOT NULL OR body_html IS NOT NULL", name="body"),
    _one_of("status", ("pending", "sending", "sent", "failed", "cancelled", "expired", "in_doubt")),
    CheckConstraint("(status = 'sending') = (lease_until IS NOT NULL)", name="lease"),
    *chain.from_iterable(map(_sane_time, ("scheduled_at", "expires_at", "retry_at", "created_at"))),
    CheckConstraint("context IS NULL OR (json_valid(context) AND json_type(context) IN ('object', 'null'))", name="context").ddl_if(
        dialect="sqlite"
    ),
    CheckConstraint("headers IS NULL OR (json_valid(headers) AND json_type(headers) IN ('object', 'null'))", name="headers").ddl_if(
        dialect="sqlite"
    ),
    CheckConstraint("jsonb_typeof(context) IN ('object', 'null')", name="context").ddl_if(dialect="postgresql"),
    CheckConstraint("jsonb_typeof(headers) IN ('object', 'null')", name="headers").ddl_if(dialect="postgresql"),
    CheckConstraint("verdicts IS NULL OR (json_valid(verdicts) AND json_type(verdicts) IN ('object', 'null'))", name="verdicts").ddl_if(dialect="sqlite"),
    CheckConstraint("jsonb_typeof(verdicts) IN ('object', 'null')", name="verdicts").ddl_if(dialect="postgresql"),
    CheckConstraint("attempts >= 0 AND claim_no >= 0", name="attempts"),
    postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05, "autovacuum_analyze_scale_factor": 0.05},
)


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


_r = mail_reservations.c
Index("ix_mail_reservations_due", _r.priority, _r.due_at, _r.id, **_where("status = 'pending'"))
Index("ix_mail_reservations_lease", _r.lease_until, **_where("status = 'sending'"))
Index("ix_mail_reservations_expiry", _r.expires_at, **_where("status = 'pending' AND expires_at IS NOT NULL"))
Index("ix_mail_reservations_status", _r.status, _r.created_at, _r.id)
Index("ix_mail_reservations_tag", _r.tag, _r.created_at, **_where("tag IS NOT NULL"))

mail_attempts = sa.Table(
    "mail_attempts",
    metadata,
    Column("reservation_id", Guid, sa.ForeignKey(_r.id, ondelete="CASCADE"), primary_key=True),
    Column("claim_no", sa.Integer, primary_key=True),
    Column("run_id", Guid),
    Column("lane", sa.Integer),
    Column("relay", sa.Text),
    Column("ended_at", Timestamp, nullable=False, server_default=server_now()),
    Column("outcome", sa.Text, nullable=False),
    Column("reply_code", sa.Integer),
    Column("enhanced_code", sa.Text),
    Column("reply_text", sa.Text),
    Column("verdicts", JSON),
)

batch_runs = sa.Table(
    "batch_runs",
    metadata,
    Column("run_id", Guid, primary_key=True),
    Column("job", sa.Text, nullable=False),
    Column("trigger", sa.Text, nullable=False),
    Column("outcome", sa.Text),
    Column("started_at", Timestamp, nullable=False, server_default=server_now()),
    Column("heartbeat_at", Timestamp, nullable=False, server_default=server_now()),
    Column("finished_at", Timestamp),
    Column("duration", sa.Float),
    Column("sent", sa.Integer, nullable=False, server_default="0"),
    Column("failed", sa.Integer, nullable=False, server_default="0"),
    Column("deferred", sa.Integer, nullable=False, server_default="0"),
    Column("in_doubt", sa.Integer, nullable=False, server_default="0"),
    Column("expired", sa.Integer, nullable=False, server_default="0"),
    Column("remaining", sa.Integer, nullable=False, server_default="0"),
    Column("bound", sa.Integer, nullable=False, server_default="0"),
    Column("claimed", sa.Integer, nullable=False, server_default="0"),
    Column("stop", sa.Text),
    Column("error", sa.Text),
    Column("host", sa.Text),
    Column("pid", sa.Integer),
    _one_of("trigger", ("beat", "manual", "api")),
    _one_of("outcome", OUTCOMES),
)
Index("ix_batch_runs_job", batch_runs.c.job, batch_runs.c.started_at)
Index("ix_batch_runs_open", batch_runs.c.job, batch_runs.c.heartbeat_at, **_where("outcome IS NULL"))

batch_lanes = sa.Table(
    "batch_lanes",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(batch_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("lane", sa.Integer, primary_key=True),
    Column("joined_at", Timestamp, nullable=False, server_default=server_now()),
    Column("heartbeat_at", Timestamp, nullable=False, server_default=server_now()),
    Column("left_at", Timestamp),
    Column("sent", sa.Integer, nullable=False, server_default="0"),
    Column("failed", sa.Integer, nullable=False, server_default="0"),
    Column("deferred", sa.Integer, nullable=False, server_default="0"),
    Column("in_doubt", sa.Integer, nullable=False, server_default="0"),
    Column("error", sa.Text),
    Column("host", sa.Text),
    Column("pid", sa.Integer),
)

run_errors = sa.Table(
    "run_errors",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(batch_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("item_index", sa.Integer, primary_key=True),
    Column("reservation_id", Guid),
    Column("errors", JSON, nullable=False),
)

batch_schedule = sa.Table(
    "batch_schedule",
    metadata,
    Column("name", sa.Text, primary_key=True),
    Column("paused", sa.Text, nullable=False, server_default="none"),
    Column("last_tick_at", Timestamp),
    Column("next_tick_at", Timestamp),
    _one_of("paused", ("none", "ticks", "all")),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), checkfirst=False)
