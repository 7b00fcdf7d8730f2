"""The composer alone: rendering and MIME together, and only MIME, against EmailMessage and email.mime."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from bench import corpus
from bench.results import Row, Skipped
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.message import Claim
from mailbatch.domain.reservation import Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.bed import Bed
    from bench.sizes import Sizes
    from mailbatch.domain.letter import Letter

SECTION = "composer"


def measure(bed: Bed, sizes: Sizes) -> Iterator[Row | Skipped]:
    """Measure all with the same mails: 1.3 KB of text and 0.8 KB of HTML, each with its own names and numbers."""
    mails = claimed(sizes.solo)
    few = max(1, sizes.solo // 10)
    with bed.parts("sqlite:///unused.db") as parts:
        compose = parts.sending.compose
        letters = _letters(compose, mails)
        for mail in mails[:200]:
            compose(mail)
        yield _timed("mailbatch, rendering included", compose, mails)
        yield _timed("mailbatch, MIME alone", compose.write, letters)
        yield _timed("rendering alone", compose.render, [mail.mail for mail in mails])
        yield _timed("EmailMessage, rendering included", lambda m: _modern_of(compose.render(m.mail), m), mails[:few])
    yield _timed("EmailMessage, MIME alone", modern, letters[:few])
    yield _timed("email.mime, MIME alone", classic, letters[:few])


def claimed(count: int) -> list[ClaimedMail]:
    """Return mails as a lane has them after loading their bodies."""
    return [
        ClaimedMail(
            claim=Claim(UUID(int=i), 1),
            index=i + 1,
            mail=Mail(recipients=to, template=corpus.TEMPLATE, context=context),
            message_id=f"<{UUID(int=i)}@shop.example>",
            attempts=0,
            earlier={},
        )
        for i, (to, context) in enumerate(corpus.contexts(count))
    ]


def modern(letter: Letter) -> bytes:
    """Build a message as the manual of the standard library shows it."""
    message = EmailMessage(policy=SMTP)
    message["From"] = corpus.SENDER
    message["To"] = ", ".join(f'"{a.display_name}" <{a.addr_spec}>' for a in letter.to)
    message["Subject"] = letter.rendered.subject
    message["Date"] = format_datetime(letter.date)
    message["Message-ID"] = f"<{letter.message_id}>"
    message.set_content(letter.rendered.text or "")
    message.add_alternative(letter.rendered.html, subtype="html")
    return message.as_bytes()


def classic(letter: Letter) -> bytes:
    """Build a message in the older way, which Django uses too."""
    message = MIMEMultipart("alternative")
    message["From"] = corpus.SENDER
    message["To"] = ", ".join(f'"{a.display_name}" <{a.addr_spec}>' for a in letter.to)
    message["Subject"] = letter.rendered.subject
    message["Date"] = format_datetime(letter.date)
    message["Message-ID"] = f"<{letter.message_id}>"
    message.attach(MIMEText(letter.rendered.text or "", "plain", "utf-8"))
    message.attach(MIMEText(letter.rendered.html or "", "html", "utf-8"))
    return message.as_bytes()


def _modern_of(rendered: Any, mail: ClaimedMail) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = corpus.SENDER, mail.mail.recipients
    message["Subject"], message["Message-ID"] = rendered.subject, mail.message_id
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    return message.as_bytes()


def _letters(compose: Any, mails: Sequence[ClaimedMail]) -> list[Letter]:
    """Return the data that ``compose`` passes to its writer."""
    letters: list[Letter] = []

    def keep(letter: Letter) -> bytes:
        letters.append(letter)
        return b"\r\n"

    keeping = replace(compose, write=keep)
    for mail in mails:
        keeping(mail)
    return letters


def _timed(name: str, callback: Callable[[Any], Any], things: Sequence[Any]) -> Row:
    gc.collect()
    cpu, began = time.process_time(), time.monotonic()
    for thing in things:
        callback(thing)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    return Row(section=SECTION, name=name, count=len(things), seconds=seconds, cpu_us=cpu / len(things) * 1e6)
