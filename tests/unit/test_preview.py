"""A preview renders a mail and sends nothing; a test mail is sent once, past the backlog."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from support.fakes import FakeTransport, answered, relay_fault

from mailbatch.application.looking.preview import Preview, Tried, TrySending
from mailbatch.domain.errors import Busy, CannotCompose, InvalidReservation, NotFound
from mailbatch.domain.letter import Rendered
from mailbatch.domain.message import Envelope, Message
from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.mime.message_view import see_message

MAIL = Mail(recipients="ann@example.org", subject="Hi {{ name }}", body_text="t", context={"name": "Ann"})


def preview(render: Any, reservations: Any = None) -> Preview:
    return Preview(render, reservations, see_message, lambda _mail: ())


def test_a_preview_is_what_the_templates_make_now():
    rendered = Rendered(subject="Hi Ann", text="t", html=None)
    assert preview(lambda _mail: rendered)(MAIL) is rendered


@pytest.mark.parametrize("error", [CannotCompose(["subject line 1: 'n' is undefined"]), Busy("all are taken")])
def test_known_errors_come_out_as_they_are(error):
    def render(_mail: Mail) -> Rendered:
        raise error

    with pytest.raises(type(error)) as raised:
        preview(render)(MAIL)
    assert raised.value is error


def test_any_other_error_is_the_fault_of_the_template_and_one_short_line():
    def render(_mail: Mail) -> Rendered:
        raise RecursionError("too\ndeep" + "x" * 500)

    with pytest.raises(CannotCompose) as raised:
        preview(render)(MAIL)
    [line] = raised.value.errors
    assert line.startswith("cannot be rendered: RecursionError: too")
    assert "\n" not in line
    assert len(line) < 330


def test_of_a_finished_message_nothing_is_rendered_and_its_parts_are_shown():
    class Stored:
        class row:  # noqa: N801 - stands for a row
            mail = Mail(recipients="ann@example.org", message=b"Subject: Hi\r\n\r\nHi\r\n")

        def get(self, _own: UUID) -> Any:
            return self.row

    shown = preview(pytest.fail, Stored()).stored(UUID(int=1)).rendered
    assert (shown.subject, shown.text, shown.html) == ("Hi", "Hi\r\n", None)


def test_a_reservation_is_rendered_from_what_is_stored():
    class Stored:
        class row:  # noqa: N801 - stands for a row
            mail = MAIL

        def get(self, own: UUID) -> Any:
            return self.row if own == UUID(int=1) else None

    seen = []
    show = preview(seen.append, Stored())
    show.stored(UUID(int=1))
    assert seen == [MAIL]
    with pytest.raises(NotFound, match="no reservation"):
        show.stored(UUID(int=2))


# --- a test mail ---


def try_sending(transport: FakeTransport, *, free: bool = True) -> TrySending:
    composer: Any = lambda claimed: Message(claimed.claim, Envelope("s@example.org", ("a@x.org", "b@x.org")), b"m")  # noqa: E731
    return TrySending(
        compose=composer,
        transport=transport,
        permit=lambda: free,
        new_id=lambda: UUID(int=7),
        message_id=lambda own: f"<{own}@example.org>",
    )


def test_a_test_mail_is_sent_once_under_an_id_of_its_own():
    transport = FakeTransport()
    assert try_sending(transport)(MAIL) == Tried(outcome="sent", relay="fake:25", reply="250 2.0.0 queued")
    assert [message.claim.reservation_id for message in transport.messages] == [UUID(int=7)]


@pytest.mark.parametrize(
    ("kind", "outcome"), [(Kind.DEFERRED, "deferred"), (Kind.REJECTED, "failed"), (Kind.NO_VERDICT, "in_doubt")]
)
def test_what_the_relay_says_is_its_outcome(kind, outcome):
    tried = try_sending(FakeTransport(lambda message: answered(message, kind, 450, "4.2.1 later")))(MAIL)
    assert (tried.outcome, tried.reply) == (outcome, "450 4.2.1 later")


def test_a_relay_that_is_away_is_a_relay_fault():
    tried = try_sending(FakeTransport(lambda message: relay_fault(message, "connection refused")))(MAIL)
    assert (tried.outcome, tried.reply) == ("relay_fault", "connection refused")


def test_a_connection_that_is_not_free_in_time_is_one_too():
    tried = try_sending(FakeTransport(), free=False)(MAIL)
    assert (tried.outcome, tried.relay) == ("relay_fault", None)


def test_a_mail_that_cannot_be_sent_is_refused_before():
    transport = FakeTransport()
    with pytest.raises(InvalidReservation):
        try_sending(transport)(Mail(recipients=""))
    assert transport.messages == []
