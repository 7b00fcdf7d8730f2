"""Contents in a message: what is found out about their lines, and how a body of them goes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contents import Breaking, Cut
from support.mails import message

from mailbatch.domain.body import Body, bytes_held
from mailbatch.domain.content import PIECE, ContentInMemory, Lines, LineScan, has_crlf_only, lines_of
from mailbatch.infrastructure.smtp.dialogue.outgoing import Outgoing
from mailbatch.infrastructure.smtp.envelope import Extensions, dot_stuffed, dot_stuffed_pieces, permanent_refusal
from mailbatch.infrastructure.smtp.errors import BodyUnreadable

# Cut anywhere: between CR and LF, before a dot at the beginning of a line, and into nothing.
cut_anywhere = st.lists(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\xfc"]), max_size=3).map(b"".join)
)


@given(cut_anywhere)
def test_the_lines_of_a_text_are_the_same_however_it_is_cut(pieces):
    scan, text = LineScan(), b"".join(pieces)
    for piece in pieces:
        scan.add(piece)
    assert scan.lines() == lines_of(text)
    rest = text.replace(b"\r\n", b"")
    is_whole = not text or (text.endswith(b"\r\n") and b"\r" not in rest and b"\n" not in rest)
    assert scan.lines() == Lines((b"\r\n" + text).count(b"\r\n."), is_whole, text.isascii())


@given(cut_anywhere, st.sampled_from([b"", b"a" * PIECE]))
def test_a_bare_cr_or_lf_is_found_in_a_text_of_any_size(pieces, before):
    text = before + b"".join(pieces)
    rest = text.replace(b"\r\n", b"")
    assert has_crlf_only(text) is not (b"\r" in rest or b"\n" in rest)


@given(st.lists(cut_anywhere))
def test_a_body_is_stuffed_as_its_bytes_are_however_they_are_cut(parts):
    whole = [[*pieces, b"\r\n"] for pieces in parts]
    body = Body.of(b"A: b\r\n", *(Cut(tuple(pieces)) for pieces in whole))
    data = b"A: b\r\n" + b"".join(b"".join(pieces) for pieces in whole)
    stuffed = b"".join(dot_stuffed_pieces(body))
    assert stuffed == dot_stuffed(data)
    assert len(stuffed) == len(body) + body.lines.dotted
    assert (b"".join(body.pieces()), body.isascii()) == (data, data.isascii())
    assert body.held == bytes_held(body) == 6


@pytest.mark.parametrize("text", [b"a\n.\nMAIL FROM:<x@y>\r\n", b"a\rb\r\n", b"a"])
def test_a_content_with_bare_line_ends_never_reaches_a_relay(text):
    one = message(body=Body.of(b"A: b\r\n\r\n", Cut((text,)), b"end\r\n"))
    assert permanent_refusal(one, Extensions()).enhanced == "5.6.0"


@given(st.binary(max_size=200_000))
def test_a_content_in_memory_comes_in_pieces(data):
    content = ContentInMemory(data)
    assert b"".join(content.pieces()) == data
    assert all(len(piece) <= 65536 for piece in content.pieces())


# --- what a connection is to send -------------------------------------------------------------------------------------

queued = st.lists(st.one_of(st.binary(max_size=9), st.lists(st.binary(max_size=9), max_size=5)), max_size=8)


def queue(out, item):
    if isinstance(item, bytes):
        out.queue(item)
    else:
        out.queue_stream(len(b"".join(item)), iter(item))


def send(out, most, size=8):
    """Send up to ``most`` bytes, ``size`` at once; return them."""
    sent = b""
    while out.pending and len(sent) < most:
        chunk = bytes(out.chunk(size))[: most - len(sent)]
        out.bytes_sent(len(chunk))
        sent += chunk
    return sent


def flat(items):
    return b"".join(item if isinstance(item, bytes) else b"".join(item) for item in items)


@given(queued, st.integers(1, 12), st.integers(1, 12))
def test_what_is_queued_goes_out_in_its_order(items, size, taken):
    out, sent = Outgoing(), b""
    for item in items:
        queue(out, item)
    assert out.pending == len(flat(items))
    while out.pending:
        sent += send(out, taken, size)
    assert sent == flat(items)


@given(queued, queued, st.integers(1, 12), st.integers(0, 40))
def test_what_was_not_sent_can_be_withdrawn(kept, cut, size, taken):
    out = Outgoing()
    for item in kept:
        queue(out, item)
    end = out.queued
    for item in cut:
        queue(out, item)
    sent = send(out, min(end, taken), size)
    if out.pending:
        out.chunk(64)  # more is read than is sent
    out.cut(end)
    queue(out, b"behind")
    assert sent + send(out, 1000, size) == flat(kept) + b"behind"


def test_what_stands_before_unreadable_bytes_goes_out():
    out = Outgoing()
    out.queue(b"before")
    out.queue_stream(1000, Breaking(readable=200).pieces())
    out.queue(b"behind")
    assert send(out, 206) == b"before" + (b"x" * 98 + b"\r\n") * 2
    for _ in range(2):
        with pytest.raises(BodyUnreadable, match="Input/output error"):
            out.chunk(8)


@pytest.mark.parametrize(("size", "change"), [(3, "longer"), (6, "shorter")])
def test_a_content_that_changed_its_size_is_unreadable(size, change):
    out = Outgoing()
    out.queue_stream(size, iter([b"ab", b"cd"]))
    send(out, 2 if change == "longer" else 4)
    with pytest.raises(BodyUnreadable, match=f"is {change} than it was"):
        out.chunk(1)
