"""Creates the tables for operators: relay circuits, operators' actions, stored API responses, reports, traces.

Revision ID: mailbatch_0002
Revises: mailbatch_0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import CheckConstraint, Column, Index

from mailbatch.infrastructure.db.types import JSON, Guid, Timestamp, server_now

revision = "mailbatch_0002"
down_revision = "mailbatch_0001"
branch_labels = None
depends_on = None

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Only the columns of the tables of 0001 that the new tables refer to.
_reservations = sa.Table(
    "mail_reservations",
    metadata,
    Column("id", Guid, primary_key=True),
    Column("status", sa.Text),
    Column("finished_at", Timestamp),
)
_attempts = sa.Table("mail_attempts", metadata, Column("outcome", sa.Text), Column("ended_at", Timestamp))
_runs = sa.Table("batch_runs", metadata, Column("run_id", Guid, primary_key=True))

relay_circuits = sa.Table(
    "relay_circuits",
    metadata,
    Column("relay", sa.Text, primary_key=True),
    Column("state", sa.Text, nullable=False, server_default="closed"),
    Column("failures", sa.Integer, nullable=False, server_default="0"),
    Column("reason", sa.Text),
    Column("opened_at", Timestamp),
    Column("open_until", Timestamp),
    Column("changed_at", Timestamp, nullable=False, server_default=server_now()),
    CheckConstraint("state IN ('closed', 'open', 'half_open')", name="state"),
)

operator_actions = sa.Table(
    "operator_actions",
    metadata,
    Column("id", Guid, primary_key=True),
    Column("at", Timestamp, nullable=False, server_default=server_now()),
    Column("actor", sa.Text, nullable=False),
    Column("action", sa.Text, nullable=False),
    Column("target", JSON),
    Column("affected", sa.Integer),
    Column("outcome", sa.Text, nullable=False),
)
Index("ix_operator_actions_at", operator_actions.c.at, operator_actions.c.id)

api_answers = sa.Table(
    "api_answers",
    metadata,
    Column("key", sa.Text, primary_key=True),
    Column("request", sa.Text, nullable=False),
    Column("status", sa.Integer),
    Column("answer", sa.Text),
    Column("created_at", Timestamp, nullable=False, server_default=server_now()),
)
Index("ix_api_answers_created_at", api_answers.c.created_at)

run_reports = sa.Table(
    "run_reports",
    metadata,
    Column("run_id", Guid, sa.ForeignKey(_runs.c.run_id, ondelete="CASCADE"), primary_key=True),
    Column("channel", sa.Text, primary_key=True),
    Column("report", JSON, nullable=False),
    Column("attempts", sa.Integer, nullable=False, server_default="0"),
    Column("next_at", Timestamp, server_default=server_now()),
    Column("delivered_at", Timestamp),
    Column("error", sa.Text),
)

mail_traces = sa.Table(
    "mail_traces",
    metadata,
    Column("reservation_id", Guid, sa.ForeignKey(_reservations.c.id, ondelete="CASCADE"), primary_key=True),
    Column("traceparent", sa.Text, nullable=False),
    Column("tracestate", sa.Text),
)


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


Index("ix_run_reports_next_at", run_reports.c.next_at, **_where("next_at IS NOT NULL"))
NEW_TABLES = [relay_circuits, operator_actions, api_answers, run_reports, mail_traces]
NEW_INDEXES = [
    Index(
        "ix_mail_reservations_finished",
        _reservations.c.status,
        _reservations.c.finished_at,
        _reservations.c.id,
        **_where("finished_at IS NOT NULL"),
    ),
    Index("ix_mail_attempts_outcome", _attempts.c.outcome, _attempts.c.ended_at),
]


def upgrade() -> None:
    bind = op.get_bind()
    metadata.create_all(bind, tables=NEW_TABLES, checkfirst=False)
    for index in NEW_INDEXES:
        index.create(bind)


def downgrade() -> None:
    bind = op.get_bind()
    for index in NEW_INDEXES:
        index.drop(bind)
    metadata.drop_all(bind, tables=NEW_TABLES, checkfirst=False)
