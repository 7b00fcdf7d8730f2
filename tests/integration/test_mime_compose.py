"""The real renderer, reader and writer together: from a claimed mail to its bytes."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import default
from uuid import UUID

import pytest
from support.letters import no_files

from mailbatch.application.sending.compose import Compose
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.compiled import CompiledWriter
from mailbatch.infrastructure.mime.finished import FinishedWriter
from mailbatch.infrastructure.spool import Spool
from mailbatch.infrastructure.templates.renderer import TemplateRenderer

LARGE = 26_214_400


def compose_with(**settings) -> Compose:
    parts = {"sender": "Haus <haus@münchen.de>", "max_bytes": LARGE} | settings
    return Compose(
        read_addresses=read_addresses,
        render=TemplateRenderer(None, parts["max_bytes"]),
        enclose=no_files,
        write=CompiledWriter(),
        write_finished=FinishedWriter(Spool().put),
        now=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC),
        **parts,
    )


def claimed(**fields) -> ClaimedMail:
    mail = Mail(**({"recipients": "Zoë Ünal <zoe@example.org>", "subject": "Grüße, {{ name }}"} | fields))
    claim = Claim(UUID(int=1), 1)
    return ClaimedMail(claim=claim, index=1, mail=mail, message_id="<1@mailbatch>", attempts=0, earlier={})


@pytest.mark.parametrize("name", ["山田 太郎", "Σωκράτης", "محمد", "अनुष्का", "Ólafur", "👩‍👩‍👧 & <co>", "ไทย"])
def test_a_mail_in_any_script_arrives_as_it_was_meant(name):
    message = compose_with()(
        claimed(
            body_text="Hello {{ name }}\n.\nbye\n",
            body_html="<p>{{ name }}</p>",
            bcc="secret@example.org",
            context={"name": name},
        )
    )
    read = BytesParser(policy=default).parsebytes(message.data)
    assert read["Subject"] == f"Grüße, {name}"
    assert str(read["From"]) == "Haus <haus@xn--mnchen-3ya.de>"
    assert str(read["To"]) == "Zoë Ünal <zoe@example.org>"
    assert read["Date"].datetime == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert read["Message-ID"] == "<1@mailbatch>"
    assert read.get_body(["plain"]).get_content().replace("\r\n", "\n") == f"Hello {name}\n.\nbye\n"
    assert "<co>" not in read.get_body(["html"]).get_content()
    assert b"secret" not in message.data
    assert message.envelope.recipients == ("zoe@example.org", "secret@example.org")
    assert not message.eight_bit


@pytest.mark.parametrize("breach", ["\r\nBcc: eve@x.org", "\nX: y", "\u2028Bcc: eve@x.org", "\x00", "\x85", "\ud800"])
def test_a_value_from_the_context_cannot_break_out_of_the_subject(breach):
    with pytest.raises(CannotCompose) as caught:
        compose_with()(claimed(body_text="x", context={"name": f"Ann{breach}"}))
    [line] = caught.value.errors
    assert line.startswith("subject: ")
    assert line.isprintable()


def test_faults_of_templates_and_of_addresses_are_told_together():
    with pytest.raises(CannotCompose) as caught:
        compose_with(sender=None)(claimed(recipients="zoe", body_text="\n{{ x }}", context={}))
    assert [e.partition(":")[0] for e in caught.value.errors] == [
        "recipients",
        "sender",
        "subject line 1",
        "body_text line 2",
    ]


def test_a_message_that_grows_over_the_limit_by_its_encoding_is_refused():
    with pytest.raises(CannotCompose, match=r"the message has .* allows 3000"):
        compose_with(max_bytes=3_000)(claimed(subject="s", body_text="山" * 900))


@pytest.mark.parametrize(
    ("line", "copies"), [("a line of plain text\n", 3), ("eine Zeile mit Ünïcode\n", 3), ("long " * 5_000, 4)]
)
def test_a_mail_of_five_megabytes_is_held_only_a_few_times(line, copies):
    compose, mail = compose_with(), claimed(subject="s", body_text=line * (5_000_000 // len(line)))
    tracemalloc.start()
    try:
        message = compose(mail)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(message.data) > 4_900_000
    assert peak < copies * 5_000_000
