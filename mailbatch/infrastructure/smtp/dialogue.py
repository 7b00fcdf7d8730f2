"""One mail over an open session, one command at a time (RFC 5321 §3.3): what is known of it for each recipient."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailbatch.domain.outcome import Kind, Reply, Verdict
from mailbatch.infrastructure.smtp.connection import CLOSING, OK, START_BODY, SessionGone
from mailbatch.infrastructure.smtp.relay import RelayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mailbatch.domain.message import Message
    from mailbatch.infrastructure.smtp.connection import Connection

_ATOM = r'[^\s<>"@\x00-\x1f\x7f]'
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
# What stands between < and > must not be able to end it: the last wall behind the checks at the entry.
_MAILBOX = re.compile(rf'(?:{_ATOM}+|{_QUOTED})@[^\s<>"@\x00-\x1f\x7f]+')
_SIZE = re.compile(r"[0-9]{1,20}")


class DialogueBroken(RelayError):
    """The relay was well until it had answered this mail's MAIL: the mail itself may be what breaks it."""


def transact(connection: Connection, message: Message) -> dict[str, Verdict]:
    """Hand ``message`` over; answer a verdict for each of its recipients.

    Raises:
        SessionGone: the session was over before the relay answered MAIL, or it answered 421.
        DialogueBroken: the relay failed later, but certainly before it could take the message, or it said 421.
    """
    if (refusal := unfit(message, connection.esmtp_features)) is not None:
        return _all(message.envelope.recipients, Verdict(Kind.REJECTED, refusal))
    if (refused := _mail(connection, message)) is not None:
        return _all(message.envelope.recipients, refused)
    try:
        return _go_on(connection, message)
    except RelayError as error:
        raise DialogueBroken(str(error)) from error


def _go_on(connection: Connection, message: Message) -> dict[str, Verdict]:
    recipients = message.envelope.recipients
    verdicts = _rcpt(connection, recipients)
    taken = [recipient for recipient in recipients if recipient not in verdicts]
    if not taken:
        connection.spoiled = True
    elif (refused := _refusal("DATA", connection.ask("DATA"), START_BODY)) is not None:
        connection.spoiled = True
        verdicts |= _all(taken, refused)
    else:
        verdicts |= _all(taken, _body(connection, message.data))
    return verdicts


def unfit(message: Message, features: Mapping[str, str]) -> Reply | None:
    """Why this relay can never take ``message``, as the reply that it would give; known before anything is sent."""
    return _malformed(message) or _beyond(message, features)


def _malformed(message: Message) -> Reply | None:
    data, envelope = message.data, message.envelope
    if not (data.endswith(b"\r\n") and data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r")):
        # The family of CVE-2023-51764: where a relay sees the end of a body there, what follows becomes commands.
        return Reply(554, "5.6.0 the message has a bare CR or LF, or does not end with CRLF; not sent")
    if envelope.sender and not _MAILBOX.fullmatch(envelope.sender):
        return Reply(553, "5.1.7 the sender is not an address; not sent")
    if not all(map(_MAILBOX.fullmatch, envelope.recipients)):
        return Reply(553, "5.1.3 a recipient is not an address; not sent")
    return None


def _beyond(message: Message, features: Mapping[str, str]) -> Reply | None:
    size = features.get("size", "")
    limit = int(size) if _SIZE.fullmatch(size) else 0
    if _needs_smtputf8(message) and "smtputf8" not in features:
        return Reply(553, "5.6.7 the relay does not offer SMTPUTF8, which an address needs (RFC 6531); not sent")
    if message.eight_bit and not features.keys() & {"8bitmime", "smtputf8"}:
        return Reply(554, "5.6.3 the relay does not offer 8BITMIME, which the message needs (RFC 6152); not sent")
    if 0 < limit < len(message.data):
        length = len(message.data)
        return Reply(552, f"5.3.4 the message has {length} bytes, the relay takes {limit} (RFC 1870); not sent")
    return None


def _needs_smtputf8(message: Message) -> bool:
    envelope = message.envelope
    return envelope.smtputf8 or not "".join((envelope.sender, *envelope.recipients)).isascii()


def _mail(connection: Connection, message: Message) -> Verdict | None:
    options = ""
    if "size" in connection.esmtp_features:
        options += f" SIZE={len(message.data)}"
    if message.eight_bit:
        options += " BODY=8BITMIME"
    if _needs_smtputf8(message):
        options += " SMTPUTF8"
    try:
        return _refusal("MAIL", connection.ask(f"MAIL FROM:<{message.envelope.sender}>{options}"))
    except RelayError as error:
        raise SessionGone(str(error)) from error


def _rcpt(connection: Connection, recipients: Iterable[str]) -> dict[str, Verdict]:
    """Name the recipients; answer the verdicts of those that were refused."""
    answers = ((to, _refusal("RCPT", connection.ask(f"RCPT TO:<{to}>"))) for to in recipients)
    return {to: refused for to, refused in answers if refused is not None}


def _body(connection: Connection, data: bytes) -> Verdict:
    connection.write_body(data)
    connection.end_body()
    # From here on the relay may have taken it, whatever happens to the connection.
    try:
        reply = connection.final_reply()
    except RelayError as error:
        return _no_verdict(connection, str(error))
    if reply.code == OK:
        return Verdict(Kind.ACCEPTED, reply)
    refused = _verdict("the end of the body", reply)
    return refused or _no_verdict(connection, f"the answer to the end of the body means nothing: {reply}")


def _no_verdict(connection: Connection, what: str) -> Verdict:
    connection.close()
    return Verdict(Kind.NO_VERDICT, Reply(0, what))


def _refusal(doing: str, reply: Reply, wanted: int = OK) -> Verdict | None:
    """None if the relay said go on, else its verdict.

    Raises:
        RelayError: 421, or a reply that has no meaning here; the session is of no more use.
    """
    if reply.code == wanted or (wanted == OK and reply.code // 100 == OK // 100):
        return None
    if (verdict := _verdict(doing, reply)) is None:
        raise RelayError(f"the answer to {doing} means nothing: {reply}")
    return verdict


def _verdict(doing: str, reply: Reply) -> Verdict | None:
    """What a definite refusal says of the mail; None if it is no refusal."""
    if reply.code == CLOSING:
        raise RelayError(f"the relay is closing (at {doing}): {reply}")
    match reply.code // 100:
        case 4:
            return Verdict(Kind.DEFERRED, reply)
        case 5:
            return Verdict(Kind.REJECTED, reply)
        case _:
            return None


def _all(recipients: Iterable[str], verdict: Verdict) -> dict[str, Verdict]:
    return dict.fromkeys(recipients, verdict)
