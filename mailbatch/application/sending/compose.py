"""Composes a claimed mail: reads its addresses, renders its parts, writes its bytes, addresses its envelope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.application.sending.envelope_sender import read_envelope_sender, returns_to
from mailbatch.domain.attachment_list import read_attachments
from mailbatch.domain.checks import line_problems, text_problems
from mailbatch.domain.content import size_of
from mailbatch.domain.errors import Busy, CannotCompose, ResourceAway, StoreError
from mailbatch.domain.letter import Letter
from mailbatch.domain.message import Envelope, Message
from mailbatch.domain.outcome import Kind
from mailbatch.domain.reservation import empty_message_problem, header_problems, problems_beside_message
from mailbatch.domain.written_message import Additions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from mailbatch.application.ports.sending import LetterWriter, MessageWriter, Renderer
    from mailbatch.application.ports.system import AddressReader, HeaderCheck
    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.claimed import ClaimedMail
    from mailbatch.domain.content import Content
    from mailbatch.domain.letter import FilePart, Rendered
    from mailbatch.domain.message import Address
    from mailbatch.domain.reservation import Mail
    from mailbatch.domain.return_path import ReturnPath

ADDRESS_FIELDS = ("recipients", "cc", "bcc", "sender", "reply_to")
NO_RECIPIENTS = "recipients: is empty; give at least one address"
REDIRECTED_FROM = "X-Mailbatch-Redirected-From"
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """The port ``Composer``.

    ``enclose`` loads and encodes the files, as ``Enclose`` does. ``sender``: the default From. ``redirect_all_to``:
    every mail goes there and nowhere else. ``now`` returns the time for the Date header, with a time zone.
    ``max_bytes``: the largest message, in bytes on the wire. ``return_path``: the envelope sender of mails that name
    none; None: their From. ``auto_submitted``: say in each mail that a program wrote it (RFC 3834 §5).
    """

    read_addresses: AddressReader
    render: Renderer
    enclose: Callable[[Sequence[Reference]], tuple[FilePart, ...]]
    write: LetterWriter
    write_finished: MessageWriter
    now: Callable[[], datetime]
    max_bytes: int
    sender: str | None = None
    redirect_all_to: str | None = None
    return_path: ReturnPath | None = None
    auto_submitted: bool = False

    def __call__(self, claimed: ClaimedMail) -> Message:
        """Return the message for ``claimed``.

        Raises:
            CannotCompose: with every reason. Any other exception becomes one too: a bad mail must not end a run.
            ResourceAway: a folder that it needs is away. Whether it has faults of its own is not known then.
            StoreError: the database cannot be reached for a file of the mail.
        """
        try:
            return self._compose(claimed)
        except (CannotCompose, Busy, StoreError):
            raise
        except Exception as error:
            # A template, a strange value, a bug in the email package: only this mail cannot be sent.
            raise CannotCompose([f"cannot be composed: {_in_a_line(error)}"]) from error

    def _compose(self, claimed: ClaimedMail) -> Message:
        mail, faults = claimed.mail, list[str]()
        if mail.message:
            return self._finished(claimed, mail.message)
        read = self._addresses(mail, faults)
        faults += _json_problems(mail) or header_problems(mail.headers)
        rendered = self._rendered(mail, faults)
        files = read_attachments(mail.attachments, faults) if mail.attachments else ()
        if rendered is None or faults:
            raise CannotCompose([empty] if (empty := empty_message_problem(mail)) else faults)
        letter = Letter(
            message_id=_bare(claimed.message_id),
            date=self.now(),
            sender=read["sender"],
            to=read["redirect"] or read["recipients"],
            cc=() if read["redirect"] else read["cc"],
            reply_to=read["reply_to"],
            rendered=rendered,
            headers=self._extra_headers(mail) | _redirection(read),
            attachments=self.enclose((*files, *rendered.images)) if files or rendered.images else (),
        )
        try:
            data = self.write(letter)
        except CannotCompose as error:  # a lone surrogate, which the writer notices for nothing, has the better line
            raise CannotCompose(_text_problems(rendered) or error.errors) from error
        eight_bit = not data.isascii()
        if too_large := size_problem("the message", len(data), self.max_bytes):
            raise CannotCompose([too_large])
        # Bodies are always encoded. So a byte beyond ASCII stands in an address in a header: SMTPUTF8 (RFC 6531).
        envelope = self._envelope(claimed, read, letter, smtputf8=eight_bit)
        return Message(claimed.claim, envelope, data, eight_bit=eight_bit)

    def _finished(self, claimed: ClaimedMail, message: bytes | Content) -> Message:
        """Make a message of a mail that is a finished one: its envelope is ours, and what it lacks."""
        mail, faults = claimed.mail, list(problems_beside_message(claimed.mail))
        name = "redirect" if self.redirect_all_to else "recipients"
        whom = _read(name, self.redirect_all_to or mail.recipients, self.read_addresses, faults)
        if not _given(mail.recipients):
            faults.append(NO_RECIPIENTS)
        if too_large := size_problem("the message", size_of(message), self.max_bytes):
            faults.append(too_large)
        if faults:
            raise CannotCompose(faults)
        sender, recipients = self._returns_to(claimed), not_taken_by(claimed, whom)
        written = self.write_finished(
            message,
            Additions(
                message_id=_bare(claimed.message_id),
                date=self.now(),
                sender=self.sender,
                auto_submitted=self.auto_submitted,
                needs_author=sender is None,
            ),
        )
        if too_large := size_problem("the message", len(written.data), self.max_bytes):
            raise CannotCompose([too_large])
        if sender is None:
            sender = written.author.addr_spec if written.author else ""
        smtputf8 = written.has_utf8_header or not all(map(str.isascii, recipients))
        envelope = Envelope(sender, recipients, smtputf8=smtputf8)
        return Message(claimed.claim, envelope, written.data, eight_bit=not written.data.isascii())

    def _addresses(self, mail: Mail, faults: list[str]) -> dict[str, tuple[Address, ...]]:
        """Read every address field, the default sender and the redirection. Append each problem to ``faults``."""
        sender = _given(mail.sender) or self.sender
        texts = {
            "recipients": mail.recipients,
            "cc": mail.cc,
            "bcc": mail.bcc,
            "sender": sender,
            "reply_to": mail.reply_to,
            "redirect": self.redirect_all_to,
        }
        read = {name: _read(name, text, self.read_addresses, faults) if text else () for name, text in texts.items()}
        if not read["recipients"] and not _given(mail.recipients):
            faults.append(NO_RECIPIENTS)
        if not read["sender"] and not _given(sender):
            faults.append("sender: there is none; give the mail a sender, or set MAILBATCH_SENDER")
        return read

    def _extra_headers(self, mail: Mail) -> dict[str, Any]:
        """Return the headers of ``mail``, and Auto-Submitted if it is wanted and the mail has none of its own."""
        headers = dict(mail.headers or {})
        if self.auto_submitted and not any(name.lower() == "auto-submitted" for name in headers):
            headers["Auto-Submitted"] = "auto-generated"
        return headers

    def _envelope(
        self, claimed: ClaimedMail, read: Mapping[str, tuple[Address, ...]], letter: Letter, *, smtputf8: bool
    ) -> Envelope:
        """Address the mail to the recipients whose relay has not accepted it yet."""
        whom = read["redirect"] or (*read["recipients"], *read["cc"], *read["bcc"])
        recipients = not_taken_by(claimed, whom)
        # Those of the header are known; a recipient of Bcc stands only here.
        smtputf8 = smtputf8 or not all(map(str.isascii, recipients))
        sender = self._returns_to(claimed)
        return Envelope(letter.sender[0].addr_spec if sender is None else sender, recipients, smtputf8=smtputf8)

    def _returns_to(self, claimed: ClaimedMail) -> str | None:
        """Return the envelope sender; None if the author is it."""
        given, own = claimed.mail.envelope_sender, claimed.claim.reservation_id
        return returns_to(given, own, self.return_path, self.read_addresses)

    def _rendered(self, mail: Mail, faults: list[str]) -> Rendered | None:
        try:
            rendered = self.render(mail)
        except ResourceAway:
            raise
        except CannotCompose as error:
            faults += error.errors
            return None
        faults += line_problems("subject", rendered.subject)
        if "\x00" in (rendered.text or "") or "\x00" in (rendered.html or ""):
            faults += _text_problems(rendered)
        size = len(rendered.text or "") + len(rendered.html or "")
        if too_large := size_problem("the message", size, self.max_bytes):
            faults.append(too_large)
        return rendered


def problems_of(
    mail: Mail, read_addresses: AddressReader, unwritable_headers: HeaderCheck, max_bytes: int
) -> list[str]:
    """Return the problems of ``mail`` that are visible before its templates run, one line for each.

    This is for the moment of reservation: a mail that is refused there does not become a failed mail for the operator.
    ``max_bytes``: the largest size of all bodies together, in bytes of UTF-8.
    """
    problems = _json_problems(mail) or list(mail.problems())
    if mail.headers and not any(p.startswith("headers: ") for p in problems):
        problems += unwritable_headers(mail.headers)
    for name in ADDRESS_FIELDS:
        text = getattr(mail, name)
        if not any(line_problems(name, text)):
            _read(name, text, read_addresses, problems)
    if mail.envelope_sender and not any(line_problems("envelope_sender", mail.envelope_sender)):
        try:
            read_envelope_sender(mail.envelope_sender, read_addresses)
        except ValueError as error:
            problems.append(f"envelope_sender: {error}")
    if not any(p.startswith("body_") for p in problems):
        size = sum(len((body or "").encode()) for body in (mail.body_text, mail.body_html))
        if too_large := size_problem("the bodies", size, max_bytes):
            problems.append(too_large)
    return problems


def size_problem(what: str, size: int, max_bytes: int) -> str | None:
    """Return a line that says that ``what`` with its ``size`` bytes is larger than ``max_bytes``, or None."""
    if size <= max_bytes:
        return None
    verb = "have" if what.endswith("s") else "has"
    return f"{what} {verb} {size} bytes ({size / 2**20:.1f} MB); MAILBATCH_MAX_MESSAGE_BYTES allows {max_bytes}"


def _json_problems(mail: Mail) -> list[str]:
    """Return a line for each JSON column that holds no object: a plain INSERT can write any JSON value."""
    columns: dict[str, object] = {"headers": mail.headers, "context": mail.context}
    return [
        f"{name}: is {type(value).__name__}, not a JSON object of names and values"
        for name, value in columns.items()
        if value is not None and not isinstance(value, (dict, Mapping))
    ]


def _bare(message_id: str) -> str:
    return message_id.strip().removeprefix("<").removesuffix(">")


def _given(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _read(name: str, text: str | None, read: AddressReader, faults: list[str]) -> tuple[Address, ...]:
    if not _given(text):
        return ()
    label = "redirect_all_to (MAILBATCH_REDIRECT_ALL_TO)" if name == "redirect" else name
    try:
        return tuple(read(text or ""))
    except ValueError as error:
        faults.append(f"{label}: {error}")
        return ()


def not_taken_by(claimed: ClaimedMail, whom: Iterable[Address]) -> tuple[str, ...]:
    """Return the addr-specs of ``whom``, each once, without those whose relay took the mail before.

    Raises:
        CannotCompose: nothing is left.
    """
    recipients = tuple(dict.fromkeys([a.addr_spec for a in whom]))
    if claimed.earlier:
        taken = {to for to, verdict in claimed.earlier.items() if verdict.kind is Kind.ACCEPTED}
        recipients = tuple(to for to in recipients if to not in taken)
    if not recipients:
        raise CannotCompose(["recipients: each of them took it before; there is nobody left to send it to"])
    return recipients


def _text_problems(rendered: Rendered) -> list[str]:
    return [*text_problems("body_text", rendered.text), *text_problems("body_html", rendered.html)]


def _redirection(read: Mapping[str, tuple[Address, ...]]) -> dict[str, str]:
    """Return a header that names the recipients of a redirected mail. It leaves bcc out, because readers may see it."""
    if not read["redirect"]:
        return {}
    return {REDIRECTED_FROM: ", ".join(_specs((*read["recipients"], *read["cc"])))}


def _specs(addresses: Iterable[Address]) -> Iterator[str]:
    return iter(dict.fromkeys(a.addr_spec for a in addresses))


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_ERROR] if text else type(error).__name__
