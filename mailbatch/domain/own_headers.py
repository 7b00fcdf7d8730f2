"""Header fields that a reservation may not set in ``headers``, and the column that serves instead.

mailbatch or the relay sets them. A caller who could set them too would forge the envelope, the trace or the structure
of a mail. ``docs/reference/table.md`` has this table.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_HEADERS: Mapping[str, str | None] = MappingProxyType(
    {
        "from": "sender",
        "sender": "sender",
        "reply-to": "reply_to",
        "to": "recipients",
        "cc": "cc",
        "bcc": "bcc",
        "subject": "subject",
        "return-path": "envelope_sender",
        **dict.fromkeys(("content-disposition", "content-id"), "attachments"),
        **dict.fromkeys(("date", "message-id"), "message"),
        **dict.fromkeys(("content-transfer-encoding", "content-type", "mime-version"), "message"),
        **dict.fromkeys(
            (
                *("resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-bcc"),
                *("resent-message-id", "dkim-signature"),
            ),
            "message",
        ),
        "received": None,
    }
)
"""By the name in lower case: the column, or None if there is none. ``message`` is a finished message with any field."""


def own_header_problem(name: str) -> str | None:
    """Return why ``headers`` may not set the field ``name``, or None."""
    if name.lower() not in OWN_HEADERS:
        return None
    column = OWN_HEADERS[name.lower()]
    return f"{name} is set by mailbatch; {f'use the column {column}' if column else 'leave it out'}"
