"""Which Message-ID a finished message has of its own."""

from __future__ import annotations

import pytest

from mailbatch.domain.message_id import own_message_id


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"Message-ID: <a@x.org>\r\n\r\nHi", "<a@x.org>"),
        (b"From ann Sat\nTo: b@x.org\nmessage-id :\t<a@x.org>\n\n", "<a@x.org>"),
        (b"Message-Id:\r\n <a@x.org>\r\nTo: b@x.org\r\n\r\n", "<a@x.org>"),
        (b"To: b@x.org\rMESSAGE-ID: <a@x.org> (a comment)", "<a@x.org> (a comment)"),
        (b"Message-ID: <a@x.org>\nMessage-ID: <b@x.org>\n\n", "<a@x.org>"),
        (b"To: b@x.org\r\n\r\nMessage-ID: <of the body@x.org>\r\n", None),
        (b"To: b@x.org\n\nMessage-ID: <of the body@x.org>\n", None),
        (b"\r\nMessage-ID: <of the body@x.org>\r\n", None),
        (b"X-Message-ID: <a@x.org>\r\nTo: b\r\n Message-ID: <folded@x.org>\r\n\r\n", None),
        (b"Message-ID:\r\n\r\n", None),
        ("Message-ID: <\u00fc@x.org>\r\n\r\n".encode(), None),
        (b"Message-ID: <" + b"a" * 1000 + b"@x.org>\r\n\r\n", None),
        (b"", None),
    ],
)
def test_the_own_message_id_is_read_from_the_header(message, expected):
    assert own_message_id(message) == expected
