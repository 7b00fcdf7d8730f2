"""The port ``Composer``: a message for the claim, to those who have not got it yet, or every reason why not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from support.fake_stores import plain_message
from support.fake_system import FakeWatchdog
from support.letters import composer

from mailbatch.application.sending.compose_watched import ComposeWatched
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.message import Claim
from mailbatch.domain.outcome import Kind, Reply, Verdict
from mailbatch.domain.reservation import Mail

CLAIM = Claim(UUID(int=1), 3)
TOOK_IT = Verdict(Kind.ACCEPTED, Reply(250, "ok"))


@pytest.fixture(params=["fake", "compose", "watched"])
def compose(request: pytest.FixtureRequest) -> Any:
    real = composer()
    return {"fake": plain_message, "compose": real, "watched": ComposeWatched(real, FakeWatchdog())}[request.param]


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


def test_every_reason_is_named():
    dog = FakeWatchdog()
    for compose in (composer(), ComposeWatched(composer(), dog)):
        with pytest.raises(CannotCompose) as caught:
            compose(claimed(sender="nobody", reply_to="@"))
        assert [line.partition(":")[0] for line in caught.value.errors] == ["sender", "reply_to"]
    assert dog.now_composing is None
