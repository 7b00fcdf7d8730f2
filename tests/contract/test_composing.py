"""The port ``Composer``: a message for the claim, to those who have not got it yet, or every reason why not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from support.fake_stores import plain_message
from support.fake_system import FakeWatchdog
from support.letters import composer

from mailbatch.application.sending.compose_watched import ComposeWatched
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.content import PIECE, lines_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind, Reply, Verdict
from mailbatch.domain.reservation import Mail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.domain.message import Message

CLAIM = Claim(UUID(int=1), 3)
TOOK_IT = Verdict(Kind.ACCEPTED, Reply(250, "ok"))


@pytest.fixture(params=["fake", "compose", "watched"])
def compose(request: pytest.FixtureRequest) -> Any:
    real = composer()
    return {"fake": plain_message, "compose": real, "watched": ComposeWatched(real, FakeWatchdog())}[request.param]


@pytest.fixture
def real() -> Any:
    """The use case itself. The fake makes no message."""
    return composer()


def claimed(earlier: dict[str, Verdict] | None = None, **fields: Any) -> ClaimedMail:
    mail = Mail(**{"recipients": "ann@example.org, bob@example.org", "subject": "s", "body_text": "t"} | fields)
    return ClaimedMail(claim=CLAIM, index=1, mail=mail, message_id="<1@example.org>", attempts=0, earlier=earlier or {})


def test_the_message_belongs_to_the_claim_and_goes_to_every_recipient(compose):
    message = compose(claimed())
    assert message.claim == CLAIM
    assert message.envelope.recipients == ("ann@example.org", "bob@example.org")
    assert message.data.endswith(b"\r\n")


def test_it_does_not_go_to_those_who_have_got_it(compose):
    message = compose(claimed(earlier={"ann@example.org": TOOK_IT}))
    assert message.envelope.recipients == ("bob@example.org",)


# --- finished messages ---

HEADER = b"From: Shop <shop@example.org>\r\nTo: Ann <ann@example.org>\r\nBcc: eve@example.org\r\nSubject: Hi\r\n"
SIGNED = (
    b"Content-Type: multipart/signed; boundary=s; protocol=x/y\r\n\r\n--s\r\n%s\r\n--s\r\n"
    b"Content-Type: application/pkcs7-signature\r\n\r\nQUJD\r\n--s--\r\n"
)
COVERED = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
LARGE = b"a line of a large message\r\n" * 12_000


@dataclass(frozen=True)
class Stored:
    """A message that the database gives in pieces."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    def pieces(self) -> Iterator[bytes]:
        return (self.data[at : at + PIECE] for at in range(0, len(self.data), PIECE))


def finished(message: Any, **fields: Any) -> ClaimedMail:
    return claimed(**{"message": message, "subject": None, "body_text": None} | fields)


def on_wire(message: Message) -> bytes:
    return message.data if isinstance(message.data, bytes) else b"".join(message.data.pieces())


@pytest.fixture(params=["in memory", "in pieces"])
def kept(request: pytest.FixtureRequest) -> Any:
    """How a finished message comes from the database."""
    return Stored if request.param == "in pieces" else bytes


def test_a_finished_message_goes_to_the_recipients_of_its_row_who_have_not_got_it(compose, kept):
    message = compose(finished(kept(HEADER + b"\r\nHi\r\n")))
    assert message.envelope.recipients == ("ann@example.org", "bob@example.org")
    again = replace(finished(kept(HEADER + b"\r\nHi\r\n")), earlier={"ann@example.org": TOOK_IT})
    assert compose(again).envelope.recipients == ("bob@example.org",)
    assert on_wire(message).endswith(b"\r\n")


def test_a_finished_message_arrives_as_it_was_written_but_for_bcc_and_what_it_lacks(real, kept):
    message = real(finished(kept(HEADER + b"X-Own: 1\r\n\r\n.\r\n" + LARGE)))
    header, _, body = on_wire(message).partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in header.split(b"\r\n")]
    assert names == [b"From", b"To", b"Subject", b"X-Own", b"Date", b"Message-ID"]
    assert b"Message-ID: <1@example.org>" in header
    assert body == b".\r\n" + LARGE
    assert message.envelope.sender == "shop@example.org"
    assert len(message.data) == len(on_wire(message))


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_finished_message_has_the_line_ends_of_smtp_whatever_it_was_written_with(real, kept, end):
    data = on_wire(real(finished(kept((HEADER + b"\r\n" + LARGE).replace(b"\r\n", end)))))
    assert lines_of(data).are_whole
    assert data.endswith(b"\r\n\r\n" + LARGE)


def test_what_a_signature_covers_passes_byte_for_byte(real, kept):
    message = real(finished(kept(HEADER + SIGNED % COVERED)))
    assert (SIGNED % COVERED).partition(b"\r\n\r\n")[2] in on_wire(message)
    assert message.eight_bit


def test_what_no_relay_would_get_is_one_line_that_says_which_part(real, kept):
    long = b"Content-Type: text/plain\r\n\r\n" + b"x" * 999
    for bad, why in (
        (HEADER + SIGNED % long, r"part 1 .* has a line of more than 998 bytes"),
        (b"no header\r\n\r\nHi", "line 1 of its header is no field"),
    ):
        with pytest.raises(CannotCompose, match=why) as caught:
            real(finished(kept(bad)))
        assert len(caught.value.errors) == 1


def test_a_column_beside_a_finished_message_is_named(real, kept):
    with pytest.raises(CannotCompose) as caught:
        real(finished(kept(HEADER + b"\r\n"), subject="s", attachments=[{"path": "a.pdf"}]))
    assert [line.partition(":")[0] for line in caught.value.errors] == ["subject", "attachments"]


def test_every_reason_is_named():
    dog = FakeWatchdog()
    for compose in (composer(), ComposeWatched(composer(), dog)):
        with pytest.raises(CannotCompose) as caught:
            compose(claimed(sender="nobody", reply_to="@"))
        assert [line.partition(":")[0] for line in caught.value.errors] == ["sender", "reply_to"]
    assert dog.now_composing is None
