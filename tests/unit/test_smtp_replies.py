"""Replies: read out of any pieces, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.infrastructure.smtp.replies import MAX_LINE, MAX_REPLY, MAX_TEXT, MalformedReply, ReplyReader


def read(data: bytes):
    reader = ReplyReader()
    reader.feed(data)
    return reader.read()


def test_a_reply_of_one_line():
    reply = read(b"250 2.1.0 fine\r\n").decoded()
    assert (reply.code, reply.text, reply.enhanced) == (250, "2.1.0 fine", "2.1.0")


def test_lines_are_joined_by_one_blank():
    assert read(b"550-5.7.1 go\r\n550-away,\r\n550 please\r\n").decoded().text == "5.7.1 go away, please"


@pytest.mark.parametrize("data", [b"250\r\n", b"250 \r\n", b"250\n"])
def test_a_code_alone_is_a_reply(data):
    assert str(read(data).decoded()) == "250"


def test_an_unfinished_reply_is_none_yet():
    reader = ReplyReader()
    reader.feed(b"250-first\r\n250 sec")
    assert reader.read() is None
    assert reader
    reader.feed(b"ond\r\n")
    assert reader.read().lines == (b"first", b"second")
    assert not reader


def test_what_follows_a_reply_stays():
    reader = ReplyReader()
    reader.feed(b"354 go\r\n250 queued\r\n")
    assert reader.read().code == 354
    assert reader
    assert reader.read().code == 250


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_the_pieces_in_which_it_comes_do_not_matter(sizes):
    data, reader, found = b"250-a\r\n250 b\r\n550 c\r\n", ReplyReader(), []
    for size in [*sizes, len(data)]:
        reader.feed(data[:size])
        data = data[size:]
        while reply := reader.read():
            found.append((reply.code, reply.lines))
    assert found == [(250, (b"a", b"b")), (550, (b"c",))]


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n",
        b"\r\n",
        b"25\r\n",
        b"2500 fine\r\n",
        b"250fine\r\n",
        b"150 early\r\n",
        b"600 late\r\n",
        b"\x00\x00\x00\r\n",
        "\uff12\uff15\uff10 fine\r\n".encode(),
        b"250-first\r\n550 second\r\n",
        b"2" * (MAX_LINE + 1),
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250-and so on\r\n" * (MAX_REPLY // 10),
    ],
)
def test_what_is_no_reply_is_garbled(data):
    with pytest.raises(MalformedReply):
        read(data)


def test_the_text_is_printable_and_bounded():
    text = read(b"550 a\x00b\x1b[31m\xff\xc3\xa9\xc2\x85" + b"x" * 1000 + b"\r\n").decoded().text
    assert text.startswith("a b [31m\ufffdé x")
    assert len(text) == MAX_TEXT


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise_anything_else(data):
    reader = ReplyReader()
    reader.feed(data)
    try:
        while reply := reader.read():
            assert 200 <= reply.code <= 599
            assert reply.decoded().text.isprintable() or not reply.decoded().text.isascii()
    except MalformedReply:
        pass
