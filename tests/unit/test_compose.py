"""Composing puts a claimed mail into a message and an envelope, and reports every problem of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from support.fakes import as_it_is
from support.letters import no_files

from mailbatch.application.sending.compose import NO_RECIPIENTS, Compose, problems_of
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.errors import CannotCompose, ResourceAway, StoreError
from mailbatch.domain.letter import Rendered
from mailbatch.domain.message import Address, Claim, Envelope
from mailbatch.domain.outcome import Kind, Reply, Verdict
from mailbatch.domain.reservation import Mail
from mailbatch.domain.return_path import ReturnPath
from mailbatch.domain.written_message import Additions, WrittenMessage
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.fields import unwritable

if TYPE_CHECKING:
    from mailbatch.domain.content import Content
    from mailbatch.domain.letter import Letter, Rendered

CLAIM = Claim(UUID(int=1), 3)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Paper:
    """Keeps the letter that it is given, and writes only the local parts of its addresses."""

    letter: Letter
    data = b"written"

    additions: Additions
    has_utf8_header = False

    def __call__(self, letter: Letter) -> bytes:
        self.letter = letter
        addresses = (*letter.sender, *letter.to, *letter.cc, *letter.reply_to)
        return b" ".join([self.data, *(a.local.encode() for a in addresses if not a.local.isascii())]) + b"\r\n"

    def finished(self, message: bytes | Content, additions: Additions) -> WrittenMessage:
        assert isinstance(message, bytes)
        self.additions = additions
        author = Address("Ann", "ann", "own.example") if additions.needs_author else None
        return WrittenMessage(data=message, author=author, has_utf8_header=self.has_utf8_header)


@pytest.fixture
def paper() -> Paper:
    return Paper()


def nothing(mail: Mail) -> Rendered:
    """Find nothing to render."""
    raise CannotCompose(["body_text: is missing"])


@pytest.fixture
def compose(paper: Paper) -> Compose:
    return Compose(
        read_addresses=read_addresses,
        render=as_it_is,
        enclose=no_files,
        write=paper,
        write_finished=paper.finished,
        now=lambda: NOON,
        max_bytes=10_000,
        sender="House <house@example.org>",
    )


def claimed(*, earlier: dict[str, Verdict] | None = None, **fields) -> ClaimedMail:
    mail = Mail(**({"recipients": "ann@example.org", "subject": "hello", "body_text": "hi\n"} | fields))
    return ClaimedMail(claim=CLAIM, index=1, mail=mail, message_id="<1@example.org>", attempts=0, earlier=earlier or {})


def faults(compose: Compose, **fields) -> list[str]:
    with pytest.raises(CannotCompose) as caught:
        compose(claimed(**fields))
    return caught.value.errors


def specs(addresses) -> list[str]:
    return [address.addr_spec for address in addresses]


def test_a_mail_without_a_sender_goes_out_from_the_house(compose, paper):
    message = compose(claimed())
    assert message.claim == CLAIM
    assert message.envelope.sender == "house@example.org"
    assert paper.letter.sender[0].display_name == "House"
    assert paper.letter.date == NOON
    assert paper.letter.message_id == "1@example.org"
    assert not message.eight_bit
    assert not message.envelope.smtputf8


def test_a_mails_own_sender_goes_before_the_house(compose):
    assert compose(claimed(sender="a@x.org, b@x.org")).envelope.sender == "a@x.org"


def test_a_return_path_names_the_mail_and_its_from_stays(compose, paper):
    bouncing = replace(compose, return_path=ReturnPath("b+{id}@x.org"))
    assert bouncing(claimed()).envelope.sender == f"b+{CLAIM.reservation_id}@x.org"
    assert specs(paper.letter.sender) == ["house@example.org"]
    assert replace(compose, return_path=ReturnPath("<>"))(claimed()).envelope.sender == ""


def test_a_mail_says_that_a_program_wrote_it_unless_it_says_something_else(compose, paper):
    marking = replace(compose, auto_submitted=True)
    marking(claimed())
    assert paper.letter.headers == {"Auto-Submitted": "auto-generated"}
    marking(claimed(headers={"AUTO-submitted": "no"}))
    assert paper.letter.headers == {"AUTO-submitted": "no"}
    compose(claimed())
    assert paper.letter.headers == {}


FINISHED = {"subject": None, "body_text": None, "message": b"From: ann@own.example\r\n\r\nhi\r\n"}


def test_a_row_for_a_finished_message_that_has_none_is_called_empty(compose):
    empty = ["message: is empty; give a message with a header (RFC 5322)"]
    assert faults(replace(compose, render=nothing), subject=None, body_text=None, message=b"") == empty
    assert faults(replace(compose, render=nothing), subject="", body_text=None, message=b"", cc="x") == empty
    assert faults(replace(compose, render=nothing), body_text=None, message=b"") == ["body_text: is missing"]
    assert compose(claimed(message=b"")).envelope.recipients == ("ann@example.org",)


def test_a_folder_of_templates_that_is_away_is_no_fault_of_the_mail(compose):
    def away(mail: Mail) -> Rendered:
        raise ResourceAway([f"templates: the folder of {mail.template} is empty"])

    with pytest.raises(ResourceAway, match="the folder of order is empty"):
        replace(compose, render=away)(claimed(template="order", cc="no address"))


def test_a_finished_message_goes_to_its_recipients_from_its_author(compose, paper):
    message = compose(claimed(**FINISHED, recipients="Bob <bob@x.org>, cy@x.org, bob@x.org"))
    assert message.data == FINISHED["message"]
    assert message.envelope == Envelope("ann@own.example", ("bob@x.org", "cy@x.org"))
    assert paper.additions.message_id == "1@example.org"
    assert paper.additions.date == NOON
    assert not hasattr(paper, "letter")


def test_what_a_finished_message_cannot_do_without_reaches_the_transport(compose, paper):
    paper.has_utf8_header = True
    message = compose(claimed(**FINISHED | {"message": b"From: ann@own.example\r\n\r\n\xfc\r\n"}))
    assert message.eight_bit
    assert message.envelope.smtputf8


@pytest.mark.parametrize("fields", [{}, FINISHED])
@pytest.mark.parametrize(("given", "sender"), [("<>", ""), (" b@x.org ", "b@x.org"), ("<b@x.org>", "b@x.org")])
def test_a_mails_own_envelope_sender_goes_before_the_return_path(compose, fields, given, sender):
    bouncing = replace(compose, return_path=ReturnPath("all@x.org"))
    assert bouncing(claimed(**fields, envelope_sender=given)).envelope.sender == sender
    assert bouncing(claimed(**fields)).envelope.sender == "all@x.org"
    assert problems_of(claimed(**fields, envelope_sender=given).mail, read_addresses, unwritable, 1000) == []


@pytest.mark.parametrize("given", ["nobody", "a@x.org, b@x.org", "Ann <a@x.org>", "<>, a@x.org"])
def test_an_envelope_sender_that_is_not_one_address_is_refused(compose, given):
    [line] = faults(compose, envelope_sender=given)
    assert line.startswith("envelope_sender: ")
    assert [line] == problems_of(claimed(envelope_sender=given).mail, read_addresses, unwritable, 1000)


def test_a_redirected_message_stays_as_it_is(compose):
    message = replace(compose, redirect_all_to="catch@x.org")(claimed(**FINISHED))
    assert message.envelope.recipients == ("catch@x.org",)
    assert message.data == FINISHED["message"]


def test_a_finished_message_names_each_column_that_does_not_go_with_it(compose):
    beside = {"subject": "s", "body_text": "t", "template": "x", "cc": "c@x.org", "context": {"a": 1}, "locale": "de"}
    lines = faults(compose, **{**beside, "message": FINISHED["message"]}, recipients=" ")
    assert [line.partition(":")[0] for line in lines] == [
        *("cc", "subject", "body_text", "template", "context", "locale"),
        "recipients",
    ]
    assert "cc: does not go with message; name every recipient in recipients" in lines


def test_a_finished_message_that_is_too_large_is_not_read(compose, paper):
    [line] = faults(replace(compose, max_bytes=10), **FINISHED)
    assert line.startswith("the message has 29 bytes")
    assert not hasattr(paper, "additions")


def test_a_finished_message_that_nobody_is_left_for_is_an_error(compose):
    taken = {"ann@example.org": Verdict(Kind.ACCEPTED, Reply(250, "ok"))}
    with pytest.raises(CannotCompose, match="each of them took it before"):
        compose(claimed(**FINISHED, earlier=taken))


def test_without_any_sender_the_line_says_where_to_set_one(compose):
    [line] = faults(replace(compose, sender=None))
    assert line == "sender: there is none; give the mail a sender, or set MAILBATCH_SENDER"


@pytest.mark.parametrize("blank", ["", " "])
def test_a_mail_without_recipients_says_so_even_if_it_has_others(compose, blank):
    assert faults(compose, recipients=blank, cc="bob@example.org") == [NO_RECIPIENTS]


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_sender_counts_as_none(compose, blank):
    assert compose(claimed(sender=blank)).envelope.sender == "house@example.org"
    assert len(faults(replace(compose, sender=None), sender=blank)) == 1


def test_each_recipient_stands_once_in_the_envelope_and_bcc_only_there(compose, paper):
    message = compose(
        claimed(recipients="Ann <ann@x.org>, bob@x.org", cc="ann@X.ORG, cy@x.org", bcc="secret@x.org, bob@x.org")
    )
    assert message.envelope.recipients == ("ann@x.org", "bob@x.org", "cy@x.org", "secret@x.org")
    assert specs(paper.letter.to) == ["ann@x.org", "bob@x.org"]
    assert specs(paper.letter.cc) == ["ann@x.org", "cy@x.org"]
    assert "secret" not in repr(paper.letter)


def test_a_retry_goes_only_to_those_who_have_not_taken_it(compose, paper):
    earlier = {
        "ann@x.org": Verdict(Kind.ACCEPTED, Reply(250, "ok")),
        "bob@x.org": Verdict(Kind.DEFERRED, Reply(450, "later")),
    }
    message = compose(claimed(recipients="ann@x.org, bob@x.org, cy@x.org", earlier=earlier))
    assert message.envelope.recipients == ("bob@x.org", "cy@x.org")
    assert specs(paper.letter.to) == ["ann@x.org", "bob@x.org", "cy@x.org"], "its header stays what it was"


def test_a_mail_that_everybody_has_taken_goes_to_nobody(compose):
    with pytest.raises(CannotCompose, match="each of them took it before"):
        compose(claimed(earlier={"ann@example.org": Verdict(Kind.ACCEPTED, Reply(250, "ok"))}))


def test_on_staging_every_copy_goes_to_one_place_and_bcc_stays_secret(compose, paper):
    staging = replace(compose, redirect_all_to="Staging <catch@x.org>")
    message = staging(claimed(recipients="ann@x.org", cc="cy@x.org", bcc="secret@x.org", headers={"X-A": "1"}))
    assert message.envelope.recipients == ("catch@x.org",)
    assert specs(paper.letter.to) == ["catch@x.org"]
    assert paper.letter.cc == ()
    assert paper.letter.headers == {"X-A": "1", "X-Mailbatch-Redirected-From": "ann@x.org, cy@x.org"}
    assert "secret" not in repr(paper.letter)


def test_a_bad_redirection_sends_nothing_to_the_real_recipients(compose):
    [line] = faults(replace(compose, redirect_all_to="nobody"))
    assert line.startswith("redirect_all_to (MAILBATCH_REDIRECT_ALL_TO): ")


@pytest.mark.parametrize("field", ["recipients", "cc", "bcc", "sender", "reply_to"])
def test_one_address_beyond_ascii_asks_for_smtputf8(compose, field):
    assert compose(claimed(**{field: "jörg@x.org"})).envelope.smtputf8


def test_an_international_domain_needs_no_smtputf8(compose):
    message = compose(claimed(recipients="ann@例え.jp"))
    assert message.envelope.recipients == ("ann@xn--r8jz45g.jp",)
    assert not message.envelope.smtputf8


def test_eight_bit_data_is_called_so(compose, paper):
    paper.data = "Tö: x\r\n\r\n\r\n".encode()
    assert compose(claimed()).eight_bit


def test_all_faults_of_a_mail_are_named_at_once(compose):
    lines = faults(
        compose,
        recipients="ann",
        cc="bob@",
        sender="house",
        subject="two\u2028lines",
        body_text="nul \x00",
        headers={"Bcc": "x@y.org", "X-A": "a\r\nb", "X\nB": "c"},
    )
    starts = [
        "recipients: ",
        "cc: ",
        "sender: ",
        "headers: Bcc",
        "headers: the value",
        "headers: ",
        "subject: ",
        "body_t",
    ]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * len(starts), lines
    assert all("\n" not in line and "\r" not in line for line in lines)


@pytest.mark.parametrize("field", ["recipients", "cc", "bcc", "sender", "reply_to"])
@pytest.mark.parametrize("breach", ["\r\n", "\n", "\r", "\x00", "\u2028", "\x85", "\x0b"])
def test_no_line_break_of_any_kind_comes_through_an_address_field(compose, field, breach):
    [line] = faults(compose, **{field: f"ann@x.org{breach}Bcc: eve@x.org"})
    assert line.startswith(f"{field}: ")
    assert breach not in line


@pytest.mark.parametrize("breach", ["\r\n", "\n", "\r", "\x00", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\ud800"])
def test_a_rendered_subject_is_one_clean_line(compose, breach):
    [line] = faults(compose, subject=f"hello{breach}Bcc: eve@x.org")
    assert line.startswith("subject: ")


@pytest.mark.parametrize("field", ["headers", "context"])
def test_json_that_is_no_object_is_told_so(compose, field):
    [line] = faults(compose, **{field: ["a"]})
    assert line == f"{field}: is list, not a JSON object of names and values"


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), UnicodeEncodeError("ascii", "ö", 0, 1, "no")])
def test_whatever_breaks_is_this_mails_own_error(compose, error):
    def breaks(_mail: Mail) -> Rendered:
        raise error

    [line] = faults(replace(compose, render=breaks))
    assert line.startswith(f"cannot be composed: {type(error).__name__}")


def test_a_message_over_the_limit_is_refused_with_both_numbers(compose, paper):
    paper.data = b"x" * 9_999
    [line] = faults(compose)
    assert line == "the message has 10001 bytes (0.0 MB); MAILBATCH_MAX_MESSAGE_BYTES allows 10000"


def test_a_body_over_the_limit_is_refused_before_it_is_encoded(compose, paper):
    [line] = faults(compose, body_text="x" * 10_001)
    assert "MAILBATCH_MAX_MESSAGE_BYTES allows 10000" in line
    assert not hasattr(paper, "letter")


# --- at reservation -------------------------------------------------------------------------------------------------


def test_a_good_mail_has_no_problems():
    assert problems_of(claimed(cc="b@x.org", headers={"X-A": "b"}).mail, read_addresses, unwritable, 100) == []


def test_problems_are_known_before_a_template_runs():
    mail = claimed(recipients="ann", reply_to="a@x.org\nb", body_text="ö" * 51, headers={"To": "x"}).mail
    problems = problems_of(mail, read_addresses, unwritable, 100)
    assert [p.partition(":")[0] for p in problems] == [
        "reply_to",
        "headers",
        "recipients",
        "the bodies have 102 bytes (0.0 MB); MAILBATCH_MAX_MESSAGE_BYTES allows 100",
    ]


def test_an_empty_recipients_field_is_told_once():
    assert len(problems_of(claimed(recipients=" ").mail, read_addresses, unwritable, 100)) == 1


def test_a_lone_surrogate_in_a_body_is_a_problem_and_no_crash():
    [problem] = problems_of(claimed(body_text="\ud800").mail, read_addresses, unwritable, 100)
    assert problem.startswith("body_text: ")


def test_a_database_that_is_away_while_a_file_is_loaded_is_the_runs_error(compose):
    def away(references):
        raise StoreError("the database is away", transient=True)

    with pytest.raises(StoreError):
        replace(compose, enclose=away)(claimed(attachments=[{"file": "0" * 64}]))
