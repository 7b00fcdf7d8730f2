"""The columns of a file: the table's, those probably meant for one of them, and the variable names of the others."""

from __future__ import annotations

import difflib
import unicodedata

from mailbatch.domain.reservation import MAIL_FIELDS

COLUMNS = (
    *("id", *(name for name in MAIL_FIELDS if name != "message")),
    *("scheduled_at", "expires_at", "priority", "idempotency_key", "tag"),
)
"""The columns that may be written."""
OWN = frozenset(
    {
        *("status", "attempts", "retry_at", "due_at", "last_error", "message_id", "sent_at", "finished_at", "claim_no"),
        *("run_id", "lane", "item_index", "lease_until", "wire_at", "reply_code", "reply_text", "relay", "verdicts"),
        "created_at",
    }
)
"""The columns that mailbatch writes itself."""
_ALIASES = {
    "id": "reservation id, uuid",
    "recipients": "to, to address, to addresses, to email, to emails, mail to, send to, addressee, addressees",
    "cc": "ccs, cc 1, cc 2, cc list, cc to, cc address, cc addresses, cc email, cc emails, cc mail, cc recipient, "
    "cc recipients, carbon copy, carbon copies, copy to",
    "bcc": "bccs, bcc 1, bcc 2, bcc list, bcc to, bcc address, bcc addresses, bcc email, bcc emails, bcc mail, "
    "bcc recipient, bcc recipients, blind copy, blind copies, blind copy to, blind carbon copy, blind carbon copies, "
    "hidden copy, hidden copies",
    "sender": "from, from address, from addr, from email, from mail, sender address, sender addr, sender email, "
    "sender mail, mail from, sent from, sent by, send from",
    "reply_to": "reply, replies, replies to, reply address, reply email, reply mail, reply to address, reply to email, "
    "reply to mail, answer to, respond to",
    "subject": "subject line, mail subject, email subject",
    "body_text": "text, body, text body, plain, plain text, plain body, body plain, mail body, email body, mail text",
    "body_html": "html, html body, mail html, email html",
    "template": "template name, template id, mail template, email template",
    "context": "variables, template context, template data, template variables, context json",
    "headers": "header, extra headers, custom headers, additional headers, mail headers, email headers",
    "attachments": "attach, attached, attached file, attached files, attachment file, attachment files, "
    "attachment name, attachment names, attachment path, attachment paths",
    "envelope_sender": "envelope from, return path, bounce address, bounces to",
    "scheduled_at": "at, send at, send on, send time, send date, send after, send later, send when, sending time, "
    "sending date, send datetime, send date time, send date and time, send timestamp, send at utc, send time utc, "
    "sending datetime, delivery datetime, deliver datetime, mail at, schedule datetime, schedule date time, "
    "schedule timestamp, scheduled datetime, scheduled date time, scheduled timestamp, scheduled utc, schedule, "
    "schedule at, schedule for, schedule on, schedule time, schedule date, scheduled, scheduled for, scheduled on, "
    "scheduled time, scheduled date, deliver at, deliver on, deliver after, delivery at, delivery time, not before, "
    "delay until",
    "expires_at": "expires, expire, expire at, expire on, expire date, expire time, expires date, expires time, "
    "expires at utc, expires utc, expiry datetime, expires on, expires after, expiry, expiry at, expiry time, "
    "expiry date, expiration, expiration time, expiration date, not after, send before, send until",
    "priority": "prio, mail priority, email priority",
    "idempotency_key": "key, idempotency, idempotency id, dedup key, dedupe key, deduplication key, unique key",
    "tag": "tags, mail tag, email tag",
}
"""Other names of the columns: in our other interfaces, in other programs, and by people."""
_LIKE_RECIPIENTS = (
    "email, emails, mail, mails, email address, email addresses, mail address, address, addresses, recipient email, "
    "recipient emails, recipients email, recipient mail, recipient address, recipient addresses, rcpt, rcpt to"
)
"""Names of recipients in a file without that column; in other files each is a variable."""
_ALIKE = 0.88
"""The similarity of a mistyped name: one letter of nine differs, or two of twelve changed places."""
_LEAST = 6
"""Letters of a name that is compared at least: shorter names resemble other words too easily."""


def _plain(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def _by_plain_name() -> dict[str, str]:
    return {
        **{_plain(alias): column for column, aliases in _ALIASES.items() for alias in aliases.split(",")},
        **{_plain(column): column for column in COLUMNS},
    }


_MEANT = _by_plain_name()
_MEANT_FOR_RECIPIENTS = frozenset(map(_plain, _LIKE_RECIPIENTS.split(",")))
_LONG = [_plain(column) for column in COLUMNS if len(_plain(column)) >= _LEAST]
# Words that mean something else in an expression of a template.
_WORDS = frozenset({"true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else"})


def meant(name: str) -> str | None:
    """Return the column for which ``name`` is most likely meant, None for that column itself and for other names."""
    if name in COLUMNS or name in OWN:
        return None
    plain = _plain(name)
    if plain in _MEANT:
        return _MEANT[plain]
    near = difflib.get_close_matches(plain, _LONG, n=1, cutoff=_ALIKE)
    return _MEANT[near[0]] if near else None


def meant_for_recipients(name: str) -> bool:
    """Return whether ``name`` is the column of the recipients in a file that has no column ``recipients``."""
    return meant(name) == "recipients" or _plain(name) in _MEANT_FOR_RECIPIENTS


def variable(name: str, number: int) -> str:
    """Return the template variable for the column ``name``, the ``number``-th.

    That is ``name`` if it is an identifier; else its letters and digits with underscores: ``First_Name`` for
    ``First Name``.
    """
    if name.isidentifier():
        return f"{name}_" if name in _WORDS else name
    kept = "".join(c if f"a{c}".isidentifier() else " " for c in name)
    found = "_".join(kept.split())
    if not found.strip("_"):
        return f"column_{number}"
    return found if found.isidentifier() else f"_{found}"
