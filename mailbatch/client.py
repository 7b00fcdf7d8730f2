"""Reserve and cancel mails from Python, inside your own SQLAlchemy transaction.

Nothing here commits: the reservation is there when your transaction is committed, and never existed if you roll it
back. A SAVEPOINT (``session.begin_nested()``) works as for any other statement. Celery is not needed, nor imported.

    with Session(engine) as session, session.begin():
        session.add(order)
        mailbatch.client.reserve(session, to=[(order.name, order.email)], subject="Your order", text="Thank you.")
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection
from uuid_utils.compat import uuid7

from mailbatch.application.acting.attaching import attached
from mailbatch.application.acting.reserve import CheckDraft, Draft, Reserve, with_names
from mailbatch.application.acting.store_file import FileLabels, check_labels
from mailbatch.domain.act import FROM, Act
from mailbatch.domain.address_list import address_list
from mailbatch.domain.attachment import Attachment
from mailbatch.domain.checks import schema_name_problem
from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.file_rules import NO_RULES
from mailbatch.domain.reservation import Mail, Status
from mailbatch.domain.return_path import ReturnPath
from mailbatch.infrastructure.db.driver_errors import on_their_connection
from mailbatch.infrastructure.db.intake import SqlIntake
from mailbatch.infrastructure.db.interventions import apply
from mailbatch.infrastructure.db.location import in_schema
from mailbatch.infrastructure.db.tables import is_ours
from mailbatch.infrastructure.db.traces import keep as keep_trace
from mailbatch.infrastructure.files.given_file import read_given
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.fields import unwritable
from mailbatch.infrastructure.mime.finished import message_problem
from mailbatch.infrastructure.mime.message_envelope import message_envelope
from mailbatch.infrastructure.tracing.reserving import reserving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from email.message import Message
    from os import PathLike
    from typing import TypeAlias
    from uuid import UUID

    from sqlalchemy.orm import Session, scoped_session

    from mailbatch.application.acting.attaching import Attached, Given

    Caller = Session | scoped_session[Any] | Connection
    Pair: TypeAlias = tuple[str | None, str]
    Addresses: TypeAlias = str | Pair | Sequence[str | Pair]

__all__ = ["Attachment", "bounced_reservation", "cancel", "include_object", "reserve", "reserve_message", "store_file"]

MAX_MESSAGE_BYTES = 26_214_400
_ARGUMENTS = {
    "recipients": "to",
    "body_text": "text",
    "body_html": "html",
    "scheduled_at": "at",
    "expires_at": "expires",
    "idempotency_key": "key",
}


def reserve(
    session_or_connection: Caller,
    *,
    to: Addresses,
    subject: str | None = None,
    text: str | None = None,
    html: str | None = None,
    template: str | None = None,
    context: Mapping[str, Any] | None = None,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    sender: Addresses | None = None,
    reply_to: Addresses | None = None,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    at: datetime | None = None,
    expires: datetime | None = None,
    priority: int = 0,
    key: str | None = None,
    tag: str | None = None,
    id: UUID | None = None,  # noqa: A002 - it is the column's name
    attachments: Iterable[Given] | None = None,
    locale: str | None = None,
    envelope_sender: str | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    schema: str | None = None,
) -> UUID:
    """Reserve a mail in the transaction of ``session_or_connection``; return its id (a UUID of version 7).

    ``to``, ``cc``, ``bcc``, ``sender`` and ``reply_to`` are RFC 5322 address lists; or a pair ``(name, address)``; or
    lists of pairs and single addresses. In a pair the name may be any text: the mail goes to ``address``
    only. ``headers`` are further fields, a list for several of one name. ``at`` (default: now, by the database's
    clock) and ``expires`` must have a time zone. ``key`` is an idempotency key: another call
    with the same key and content returns the same id and stores nothing. ``max_message_bytes`` bounds the bodies.

    ``attachments``: paths on this host, ``(name, bytes)``, `Attachment`, ids of ``store_file``, or objects as the
    column has them. Contents are stored in ``mail_files``, each once, by your transaction. ``locale`` is the language
    of the template (BCP 47). ``envelope_sender`` is the address to which bounces go, ``<>`` for none.
    ``schema`` is the PostgreSQL schema of mailbatch's tables, if that is not on your connection's search path.

    Raises:
        InvalidReservation: with one line for each thing that is wrong, which begins with the argument's name; nothing
            was stored.
        KeyConflict: if ``key`` belongs to a reservation with other content.
        StoreError: if the encoding of your connection cannot carry the mail. Other errors of the
            database are raised as SQLAlchemy's own.

    A role that may not read reservations (`mailbatch grants reserve`) gets the id of ``key`` without a comparison of
    the content.

    ``context`` is stored as JSON: ``Decimal``, dates, times and UUIDs as text, enums as their value
    (docs/reference/templates.md).
    """
    files = attached(attachments, partial(read_given, most=max_message_bytes))
    mail = Mail(
        recipients=_listed("to", to) or "",
        subject=subject,
        body_text=text,
        body_html=html,
        template=template,
        context=context,
        cc=_listed("cc", cc),
        bcc=_listed("bcc", bcc),
        sender=_listed("sender", sender),
        reply_to=_listed("reply_to", reply_to),
        headers=headers,
        attachments=[file.entry for file in files] or None,
        envelope_sender=envelope_sender,
        locale=locale,
    )
    draft = Draft(
        mail=mail, id=id, scheduled_at=at, expires_at=expires, priority=priority, idempotency_key=key, tag=tag
    )
    return _reserve(session_or_connection, draft, files, max_message_bytes, schema)


def reserve_message(
    session_or_connection: Caller,
    message: Message | bytes,
    *,
    to: Addresses | None = None,
    envelope_sender: str | None = None,
    at: datetime | None = None,
    expires: datetime | None = None,
    priority: int = 0,
    key: str | None = None,
    tag: str | None = None,
    id: UUID | None = None,  # noqa: A002 - it is the column's name
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    schema: str | None = None,
) -> UUID:
    """Reserve a finished message (RFC 5322) in the transaction of ``session_or_connection``; return its id.

    ``message``: an ``EmailMessage``, another message of the ``email`` package, or bytes. It goes to ``to`` if that is
    given; otherwise to its To, Cc and Bcc, or to its Resent-To, Resent-Cc and Resent-Bcc if it has any. Bcc is not
    stored. ``max_message_bytes`` bounds the message. The other arguments and the errors are those of ``reserve``.
    """
    envelope = message_envelope(message, _listed("to", to))
    mail = Mail(recipients=envelope.recipients, message=envelope.message, envelope_sender=envelope_sender)
    draft = Draft(
        mail=mail, id=id, scheduled_at=at, expires_at=expires, priority=priority, idempotency_key=key, tag=tag
    )
    return _reserve(session_or_connection, draft, (), max_message_bytes, schema)


def store_file(
    session_or_connection: Caller,
    content: str | PathLike[str] | bytes,
    *,
    filename: str | None = None,
    content_type: str | None = None,
    schema: str | None = None,
) -> str:
    """Store a file in the transaction of ``session_or_connection``; return the id by which ``attachments`` name it.

    ``content``: a path on this host, or the bytes. ``filename``: for mails that give no other; that of the path if it
    is left out. A file with the same content is stored once, and keeps its name. A file that no reservation names is
    purged a day after the last call that stored or named it.

    Raises:
        InvalidReservation: the path cannot be read, or is no regular file; or no mail could have a file of this name
            or type.
    """
    check_labels(FileLabels(filename=filename, content_type=content_type), NO_RULES)
    by_value = isinstance(content, bytes | bytearray | memoryview)
    given: Given = (filename or "", bytes(content)) if by_value else content  # type: ignore[arg-type, assignment]
    [file] = attached([given], read_given)
    if file.content is None:
        raise InvalidReservation(["content: is the id of a file; give its path, or its bytes"])
    name = filename or file.entry.get("filename") or None
    connection = _connection(session_or_connection)
    with on_their_connection(connection.engine), _naming(connection, schema):
        return SqlIntake(connection).store_file(file.content, name, content_type)


def _reserve(
    caller: Caller, draft: Draft, files: Sequence[Attached], max_message_bytes: int, schema: str | None
) -> UUID:
    for name, when in (("at", draft.scheduled_at), ("expires", draft.expires_at)):
        if when is not None and not isinstance(when, datetime):
            raise InvalidReservation([f"{name}: must be a datetime with a time zone, not {type(when).__name__}"])
    check = CheckDraft(
        new_id=uuid7,
        read_addresses=read_addresses,
        unwritable_headers=unwritable,
        check_message=message_problem,
        max_message_bytes=max_message_bytes,
    )
    connection = _connection(caller)
    with (
        with_names(_ARGUMENTS),
        on_their_connection(connection.engine),
        reserving() as trace,
        _naming(connection, schema),
    ):
        stored = Reserve(check=check, intake=SqlIntake(connection))(draft, files)
        if trace and stored.new:
            keep_trace(connection, [stored.reservation_id], trace)
    return stored.reservation_id


def cancel(session_or_connection: Caller, reservation_id: UUID, *, schema: str | None = None) -> bool:
    """Cancel a reservation in the transaction of ``session_or_connection``; ``schema`` as for ``reserve``.

    Return true if it is cancelled: after your commit it is never sent. Return false if it is too late (being sent,
    sent, failed …), or if there is no such reservation.
    """
    connection = _connection(session_or_connection)
    with on_their_connection(connection.engine), _naming(connection, schema):
        results = apply(connection, Act.CANCEL, [reservation_id], FROM[Act.CANCEL])
    return results[reservation_id].status is Status.CANCELLED


def bounced_reservation(address: str, *, return_path: str, secret: str | None = None) -> UUID | None:
    """Return the reservation whose mail was returned to ``address``; None if it is not one of ours, or is forged.

    ``return_path`` and ``secret`` are the settings MAILBATCH_RETURN_PATH and MAILBATCH_RETURN_PATH_SECRET. Nothing is
    looked up: the id and its signature stand in the address.

    Raises:
        ValueError: ``return_path`` cannot be read, or has ``{sig}`` and there is no secret.
    """
    return ReturnPath(return_path, secret).reservation_id(address)


def include_object(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:  # noqa: A002, ARG001, FBT001 - Alembic's signature
    """Return whether your Alembic should look at ``object``: false for mailbatch's tables and what belongs to them.

    For ``context.configure(include_object=…)`` in the env.py of your application, so that ``alembic revision
    --autogenerate`` and ``alembic check`` leave mailbatch's tables alone, in whatever schema they are.
    """
    return not is_ours(object if type_ == "table" else getattr(object, "table", None))


@contextmanager
def _naming(connection: Connection, schema: str | None) -> Iterator[None]:
    """Let the block's statements find our tables in ``schema``, on the connection of the caller."""
    if schema is None:
        yield
        return
    if connection.dialect.name != "postgresql":
        raise InvalidReservation([f"schema: {connection.dialect.name} has no schemas, leave it out"])
    if wrong := schema_name_problem(schema):
        raise InvalidReservation([f"schema: {wrong}"])
    before = connection.get_execution_options().get("schema_translate_map")
    connection.execution_options(**in_schema(schema))
    try:
        yield
    finally:
        connection.execution_options(schema_translate_map=before)


def _connection(caller: Caller) -> Connection:
    return caller if isinstance(caller, Connection) else caller.connection()


def _listed(name: str, addresses: Addresses | None) -> str | None:
    return addresses if addresses is None or isinstance(addresses, str) else address_list(name, addresses)
