"""Adds attachments, finished messages, the envelope sender and the language to a mail, and the table of files.

Revision ID: mailbatch_0008
Revises: mailbatch_0007
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import CheckConstraint, Column, Index

from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db.location import qualified
from mailbatch.infrastructure.db.rebuilding import rebuild
from mailbatch.infrastructure.db.types import JSON, Timestamp, octets, server_now

revision = "mailbatch_0008"
down_revision = "mailbatch_0007"
branch_labels = None
depends_on = None

metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"})
mail_files = sa.Table(
    "mail_files",
    metadata,
    Column("id", sa.Text, primary_key=True),
    Column("content", sa.LargeBinary, nullable=False),
    Column("filename", sa.Text),
    Column("content_type", sa.Text),
    Column("size", sa.Integer, sa.Computed(octets(sa.literal_column("content")), persisted=True)),
    Column("created_at", Timestamp, nullable=False, server_default=server_now()),
    Column("touched_at", Timestamp, nullable=False, server_default=server_now()),
    CheckConstraint("id ~ '^[0-9a-f]{64}$'", name="id_form").ddl_if(dialect="postgresql"),
    CheckConstraint(f"typeof(id) = 'text' AND id GLOB '{'[0-9a-f]' * 64}'", name="id_form").ddl_if(dialect="sqlite"),
)
Index("ix_mail_files_touched_at", mail_files.c.touched_at)

_MAILS = "mail_reservations"
_mails = sa.Table(
    _MAILS,
    sa.MetaData(),
    Column("status", sa.Text),
    Column("template", sa.Text),
    Column("attachments", JSON),
    Column("message", sa.LargeBinary),
)
_SUBJECT = "template IS NOT NULL OR subject IS NOT NULL"
_BODY = "template IS NOT NULL OR body_text IS NOT NULL OR body_html IS NOT NULL"
_MESSAGE = " OR message IS NOT NULL"
_WIDENED = {"subject": _SUBJECT, "body": _BODY}
_NEW: dict[str, sa.types.TypeEngine[Any]] = {
    "attachments": JSON,
    "message": sa.LargeBinary(),
    "envelope_sender": sa.Text(),
    "locale": sa.Text(),
}
_ATTEMPTS = "CONSTRAINT ck_mail_reservations_attempts "
_ATTACHMENTS = (
    "CONSTRAINT ck_mail_reservations_attachments CHECK "
    "(attachments IS NULL OR (json_valid(attachments) AND json_type(attachments) IN ('array', 'null'))), \n\t"
)
_UNSENDABLE = "a finished message, which only later versions can send"


def upgrade() -> None:
    """Add the columns and the table. On PostgreSQL no row is read or written; on SQLite the table is made anew."""
    for name, kind in _NEW.items():
        op.add_column(_MAILS, Column(name, kind))
    mail_files.create(op.get_bind(), checkfirst=False)
    if op.get_bind().dialect.name == "sqlite":
        rebuild(op.get_bind(), _MAILS, _with_messages)
        return
    for name, condition in _WIDENED.items():
        _replace_check(name, condition + _MESSAGE)
    _add_check("attachments", "jsonb_typeof(attachments) IN ('array', 'null')")
    # Not compressed, so that a part of it can be read without the rest.
    for table, column in ((_mails, "message"), (mail_files, "content")):
        op.execute(f"ALTER TABLE {qualified(op.get_bind(), table)} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Drop them. A message that is finished names a template that is not there, so that nobody sends it without."""
    _refuse_to_cut_off()
    op.execute(sa.update(_mails).where(_mails.c.message.is_not(None)).values(template=_UNSENDABLE))
    if op.get_bind().dialect.name == "sqlite":
        rebuild(op.get_bind(), _MAILS, _without_messages)
    else:
        for name, condition in _WIDENED.items():
            _replace_check(name, condition)
    for name in reversed(_NEW):
        op.drop_column(_MAILS, name)
    mail_files.drop(op.get_bind(), checkfirst=False)


def _refuse_to_cut_off() -> None:
    """The version before would send what waits without its attachments, or not at all."""
    c = _mails.c
    waits = sa.and_(
        c.status.in_(("pending", "sending")),
        sa.or_(c.message.is_not(None), sa.cast(c.attachments, sa.Text).not_in(("null", "[]"))),
    )
    count = op.get_bind().scalar(sa.select(sa.func.count()).where(waits))
    if count:
        raise StoreError(
            f"mails that wait ({count}) have attachments or a finished message, which earlier versions cannot send; "
            "send or cancel them first",
            transient=False,
        )


def _with_messages(sql: str) -> str:
    for condition in _WIDENED.values():
        sql = sql.replace(f"CHECK ({condition})", f"CHECK ({condition}{_MESSAGE})")
    return sql.replace(_ATTEMPTS, _ATTACHMENTS + _ATTEMPTS)


def _without_messages(sql: str) -> str:
    for condition in _WIDENED.values():
        sql = sql.replace(f"CHECK ({condition}{_MESSAGE})", f"CHECK ({condition})")
    return sql.replace(_ATTACHMENTS, "")


def _replace_check(name: str, condition: str) -> None:
    op.execute(sa.schema.DropConstraint(_check(name, condition)))
    _add_check(name, condition)


def _add_check(name: str, condition: str) -> None:
    op.execute(sa.schema.AddConstraint(_check(name, condition)))


def _check(name: str, condition: str) -> CheckConstraint:
    table = sa.Table(_MAILS, sa.MetaData())
    return CheckConstraint(condition, name=f"ck_{_MAILS}_{name}", table=table, postgresql_not_valid=True)
