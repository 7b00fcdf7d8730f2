"""Refuses an empty idempotency key, because two mails without a key are two mails.

Revision ID: mailbatch_0006
Revises: mailbatch_0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "mailbatch_0006"
down_revision = "mailbatch_0004"
branch_labels = None
depends_on = None

NAME = "ck_mail_reservations_idempotency_key"
TRIGGERS = {"insert": "INSERT", "update": "UPDATE OF idempotency_key"}

_mails = sa.Table("mail_reservations", sa.MetaData(), sa.Column("idempotency_key", sa.Text))
_CHECK = sa.CheckConstraint("idempotency_key <> ''", name=NAME, postgresql_not_valid=True, table=_mails)


def upgrade() -> None:
    """Remove the key of the one mail that may have an empty one, because a CHECK tests each changed row."""
    op.execute(sa.update(_mails).where(_mails.c.idempotency_key == "").values(idempotency_key=None))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.AddConstraint(_CHECK))
        return
    for name, act in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {NAME}_{name} BEFORE {act} ON mail_reservations WHEN length(NEW.idempotency_key) = 0 "
            "BEGIN SELECT RAISE(ABORT, 'idempotency_key is empty; leave it out'); END"
        )


def downgrade() -> None:
    """Allow empty keys again."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropConstraint(_CHECK))
        return
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {NAME}_{name}")
