"""Adds to a relay's circuit what its refusal concerns, and which mails were refused.

Revision ID: mailbatch_0004
Revises: mailbatch_0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mailbatch.infrastructure.db.types import JSON

revision = "mailbatch_0004"
down_revision = "mailbatch_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns without a default: no row is rewritten."""
    op.add_column("relay_circuits", sa.Column("concern", sa.Text))
    op.add_column("relay_circuits", sa.Column("suspects", JSON))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("relay_circuits", "suspects")
    op.drop_column("relay_circuits", "concern")
