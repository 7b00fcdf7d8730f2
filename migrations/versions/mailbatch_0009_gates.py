"""Adds why a mail is held back, how many a run held back, blocked tags, days' quotas of relays, and urgent runs.

Revision ID: mailbatch_0009
Revises: mailbatch_0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import CheckConstraint, Column

from mailbatch.infrastructure.db.rebuilding import rebuild
from mailbatch.infrastructure.db.types import Timestamp, server_now

revision = "mailbatch_0009"
down_revision = "mailbatch_0008"
branch_labels = None
depends_on = None

metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s"})
mail_blocks = sa.Table(
    "mail_blocks",
    metadata,
    Column("tag", sa.Text, primary_key=True),
    Column("since", Timestamp, nullable=False, server_default=server_now()),
    Column("by", sa.Text, nullable=False),
    Column("note", sa.Text),
    Column("lifted_at", Timestamp),
)
relay_quotas = sa.Table(
    "relay_quotas",
    metadata,
    Column("relay", sa.Text, primary_key=True),
    Column("day", sa.Text, primary_key=True),
    Column("used", sa.Integer, nullable=False, server_default="0"),
)
_RUNS = "batch_runs"
_runs = sa.Table(_RUNS, sa.MetaData(), Column("trigger", sa.Text))
_mails = sa.Table(
    "mail_reservations",
    sa.MetaData(),
    Column("status", sa.Text),
    Column("waits_for", sa.Text),
    Column("retry_at", Timestamp),
    Column("scheduled_at", Timestamp),
    Column("due_at", Timestamp),
    Column("tag", sa.Text),
)
_HELD_BACK = sa.text("status = 'pending' AND waits_for IS NOT NULL")
_waits = sa.Index(
    "ix_mail_reservations_waits",
    _mails.c.scheduled_at,
    _mails.c.tag,
    _mails.c.due_at,
    postgresql_where=_HELD_BACK,
    sqlite_where=_HELD_BACK,
)
_COUNTED = (_RUNS, "batch_lanes")
_BEFORE = "trigger IN ('beat', 'manual', 'api')"
_AFTER = "trigger IN ('beat', 'manual', 'api', 'urgent')"


def upgrade() -> None:
    """Add the columns, the tables and an index that is empty. No mail is written.

    For the index PostgreSQL reads the mails once. On SQLite the table of runs is made anew.
    """
    op.add_column("mail_reservations", Column("waits_for", sa.Text))
    _waits.create(op.get_bind(), checkfirst=False)
    for table in _COUNTED:
        op.add_column(table, Column("held_back", sa.Integer, nullable=False, server_default="0"))
    metadata.create_all(op.get_bind(), checkfirst=False)
    _replace_check(_BEFORE, _AFTER)


def downgrade() -> None:
    """Drop them. The version before knows no gates, so mails that are held back are due at their own time again.

    It knows no urgent runs either: they become runs by schedule.
    """
    held_back = sa.and_(_mails.c.status == "pending", _mails.c.waits_for.is_not(None))
    op.execute(sa.update(_mails).where(held_back).values(retry_at=None))
    op.execute(sa.update(_runs).where(_runs.c.trigger == "urgent").values(trigger="beat"))
    _replace_check(_AFTER, _BEFORE)
    metadata.drop_all(op.get_bind(), checkfirst=False)
    for table in reversed(_COUNTED):
        op.drop_column(table, "held_back")
    _waits.drop(op.get_bind())
    op.drop_column("mail_reservations", "waits_for")


def _replace_check(before: str, after: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        rebuild(op.get_bind(), _RUNS, lambda sql: sql.replace(f"CHECK ({before})", f"CHECK ({after})"))
        return
    op.execute(sa.schema.DropConstraint(_check(before)))
    op.execute(sa.schema.AddConstraint(_check(after)))


def _check(condition: str) -> CheckConstraint:
    table = sa.Table(_RUNS, sa.MetaData())
    return CheckConstraint(condition, name=f"ck_{_RUNS}_trigger", table=table, postgresql_not_valid=True)
