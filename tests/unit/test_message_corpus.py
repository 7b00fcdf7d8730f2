"""Five hundred messages, of people and of broken programs, through the composer and an SMTP dialogue.

Each arrives equal when it is read, or is refused in one line; what a signature covers arrives byte for byte.
"""

from __future__ import annotations

from collections import Counter
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest
from support.letters import composed
from support.message_corpus import KINDS, corpus

from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.mime.finished import message_problem
from mailbatch.infrastructure.smtp.dialogue.data import DataDialogue

if TYPE_CHECKING:
    from email.message import Message as Read

    from mailbatch.domain.message import Message

MESSAGES = corpus(seed=12, count=500)
SHOULD_ARRIVE = {"text", "attached", "alternative", "inside", "deep"}
"""Kinds of which no message is refused."""


def written(message: bytes) -> Message | list[str]:
    """Return the message as it goes on the wire, or why it is refused."""
    try:
        return composed(subject=None, body_text=None, message=message, envelope_sender="bounces@example.org")
    except CannotCompose as error:
        return error.errors


def carried(message: Message) -> bytes:
    """Return what a relay without PIPELINING reads of ``message``."""
    dialogue = DataDialogue("relay", {"8bitmime": "", "smtputf8": "", "size": "30000000"}, 1)
    dialogue.begin(message)
    for reply in (b"250 2.1.0 ok\r\n", b"250 2.1.5 ok\r\n", b"354 go on\r\n"):
        sent(dialogue)
        dialogue.receive_data(reply)
    body = sent(dialogue)
    dialogue.receive_data(b"250 2.0.0 queued\r\n")
    assert body.endswith(b"\r\n.\r\n")
    assert body.count(b"\r\n.\r\n") == 1
    return body.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.").removeprefix(b".")


def sent(dialogue: DataDialogue) -> bytes:
    pieces = []
    while dialogue.out.pending:
        pieces.append(bytes(dialogue.out.chunk(65_536)))
        dialogue.bytes_sent(len(pieces[-1]))
    return b"".join(pieces)


def leaves(data: bytes) -> list[tuple[str, str | None, bytes | None]]:
    """Return each part as the standard library reads it, with one kind of line end."""
    return [_leaf(part) for part in message_from_bytes(data).walk()]


def _leaf(part: Read) -> tuple[str, str | None, bytes | None]:
    content = None if part.is_multipart() else part.get_payload(decode=True)
    if isinstance(content, bytes):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")
    return part.get_content_type(), part.get_filename(), content if isinstance(content, bytes) else None


def crlf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def test_five_hundred_messages_arrive_as_they_were_written_or_are_refused_in_one_line():
    refused, signed = Counter[str](), 0
    for name, message in MESSAGES.items():
        kind = name.partition("-")[2] or "library"
        whole = written(message)
        if isinstance(whole, list):
            assert whole == [f"message: {message_problem(message)}"], name
            assert whole[0].isprintable(), name
            refused[kind] += 1
            continue
        assert message_problem(message) is None, name
        data = carried(whole)
        assert data == (whole.data if isinstance(whole.data, bytes) else b"".join(whole.data.pieces())), name
        assert max(map(len, data.split(b"\r\n"))) <= 998, name
        assert leaves(data) == leaves(message), name
        if kind == "under dkim":
            signed += 1
            assert data.startswith(crlf(message).partition(b"\r\n\r\n")[0]), name
            assert data.partition(b"\r\n\r\n")[2].rstrip() == crlf(message).partition(b"\r\n\r\n")[2].rstrip(), name
        else:
            assert data.isascii() or whole.envelope.smtputf8, name
    assert len(MESSAGES) == 500
    assert signed > 10
    assert not SHOULD_ARRIVE & refused.keys()
    assert sum(refused.values()) < 100, refused


def test_each_kind_of_message_occurs():
    kinds = Counter(name.partition("-")[2] for name in MESSAGES)
    assert min(kinds[kind] for kind in KINDS) >= 30


def test_the_same_seed_makes_the_same_messages():
    assert corpus(seed=3, count=150) == corpus(seed=3, count=150) != corpus(seed=4, count=150)


@pytest.mark.parametrize("name", [name for name in MESSAGES if "-" not in name])
def test_of_the_standard_librarys_own_messages_only_two_are_refused(name):
    # These have no empty line behind the header.
    assert isinstance(written(MESSAGES[name]), list) == (name in {"msg_19", "msg_35"})
