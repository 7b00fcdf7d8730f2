"""A mail is composed while the watchdog knows of it, and is refused if it ended a process before."""

from __future__ import annotations

from uuid import UUID

import pytest
from support.fake_stores import plain_message
from support.fake_system import FakeWatchdog

from mailbatch.application.sending.compose_watched import ComposeWatched
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import Mail


def claimed(claim_no: int) -> ClaimedMail:
    mail = Mail(recipients="ann@example.org", subject="s", body_text="t")
    claim = Claim(UUID(int=1), claim_no)
    return ClaimedMail(claim=claim, index=1, mail=mail, message_id="<1@example.org>", attempts=0, earlier={})


def test_the_watchdog_knows_the_mail_only_while_it_is_composed():
    dog, seen = FakeWatchdog(), []

    def compose(mail: ClaimedMail):
        seen.append(dog.now_composing)
        return plain_message(mail)

    ComposeWatched(compose, dog)(claimed(1))
    assert (seen, dog.now_composing) == ([Claim(UUID(int=1), 1)], None)


def test_a_mail_that_ended_a_process_is_refused_once_and_not_composed():
    dog = FakeWatchdog(ended={Claim(UUID(int=1), 1)})
    dog.begin()
    compose = ComposeWatched(plain_message, dog)
    with pytest.raises(CannotCompose) as caught:
        compose(claimed(2))
    assert caught.value.errors == ["composing it ended its process"]
    assert compose(claimed(3)).claim.claim_no == 3
