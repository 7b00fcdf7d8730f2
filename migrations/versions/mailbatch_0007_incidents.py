"""Creates the table of incidents: problems that no run can report, so that each is reported once.

Revision ID: mailbatch_0007
Revises: mailbatch_0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

from mailbatch.infrastructure.db.types import Timestamp, server_now

revision = "mailbatch_0007"
down_revision = "mailbatch_0006"
branch_labels = None
depends_on = None

metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s"})
incidents = sa.Table(
    "incidents",
    metadata,
    Column("kind", sa.Text, primary_key=True),
    Column("channel", sa.Text, primary_key=True),
    Column("since", Timestamp, nullable=False, server_default=server_now()),
    Column("told_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("next_at", Timestamp, server_default=server_now()),
    Column("what", sa.Text, nullable=False),
    Column("advice", sa.Text, nullable=False),
)


def upgrade() -> None:
    """Create the table."""
    incidents.create(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop it."""
    incidents.drop(op.get_bind(), checkfirst=False)
