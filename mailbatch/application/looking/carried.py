"""Show what a mail carries beside its text: its files, its language, and the address to which it is returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.application.sending.envelope_sender import returns_to
from mailbatch.domain.content import beginning_of
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.locale import language_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from mailbatch.application.looking.mail_files import MailFiles
    from mailbatch.application.ports.system import AddressReader
    from mailbatch.domain.attached_file import AttachedFile
    from mailbatch.domain.message import Address
    from mailbatch.domain.reservation import Mail
    from mailbatch.domain.return_path import ReturnPath
    from mailbatch.domain.rows import ReservationRow

NOBODY = "<>"
_FROM = {"path": "path", "file": "stored file", "content": "in the row", "template": "image of the template"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a mail carries.

    ``files``: those of the column ``attachments``; ``problems``: a line for each entry of it that is no file.
    ``locale``: the language that it asks for; ``served_in``: those of the template's files from which it is made.
    ``returns_to``: the envelope sender with which the mail goes out; ``<>`` for none, None if it cannot be known.
    ``returns_elsewhere``: that address is not simply its author's.
    """

    files: Sequence[AttachedFile]
    problems: Sequence[str]
    locale: str | None
    served_in: Sequence[str]
    returns_to: str | None
    returns_elsewhere: bool

    @property
    def language(self) -> str | None:
        """Its language in words; None if it has none."""
        return language_text(self.locale, self.served_in)

    @property
    def lines(self) -> list[str]:
        """The files in words: a line for each, and for each entry of ``attachments`` that is none."""
        return [*map(file_text, self.files), *self.problems]

    @property
    def beside_text(self) -> list[str]:
        """All of it in words: a line for each file, the language, and the envelope sender if it is not the author."""
        language = [f"language {self.language}"] if self.language else []
        returned = [f"returned to {self.returns_to}"] if self.returns_elsewhere and self.returns_to else []
        return [*self.lines, *language, *returned]


def file_text(file: AttachedFile) -> str:
    """Return the line of one file: name, type, size, where it is, and what is wrong with it."""
    facts = [file.content_type, "size not known" if file.size is None else f"{file.size} bytes"]
    if file.content_id:
        facts.append(f"cid:{file.content_id}")
    facts.append(f"{_FROM[file.source]} {file.named}" if file.named else _FROM[file.source])
    return " · ".join([f"{file.filename} ({', '.join(facts)})", *file.problems])


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowCarried:
    """Show it for one mail. ``sender`` is the From of mails that name none.

    ``author_of`` gets the beginning of a finished message and returns its author; it raises ``ValueError``.
    ``served_in`` returns the languages of the files that serve a mail.
    """

    mail_files: MailFiles
    read_addresses: AddressReader
    return_path: ReturnPath | None
    sender: str | None
    author_of: Callable[[bytes], Address | None]
    served_in: Callable[[Mail], Sequence[str]]

    def __call__(self, mail: Mail, own: UUID) -> Carried:
        """Return what the ``mail`` of the reservation ``own`` carries. Reads no content of a file.

        Raises ``StoreError``.
        """
        files, problems = self.mail_files(mail.attachments)
        return Carried(
            files=files,
            problems=problems,
            locale=mail.locale,
            served_in=self.served_in(mail),
            returns_to=self._returns_to(mail, own),
            returns_elsewhere=bool(mail.envelope_sender or self.return_path),
        )

    def facts(self, row: ReservationRow) -> Mapping[str, Any]:
        """Return what an explanation shows of it: the envelope sender only if it is not simply the author.

        Raises ``StoreError``.
        """
        carried = self(row, row.id)
        return {
            "attachments": carried.lines,
            "language": carried.language,
            "finished_message": None if row.message is None else "yes" if row.message else "empty",
            "returns_to": carried.returns_to if carried.returns_elsewhere else None,
        }

    def _returns_to(self, mail: Mail, own: UUID) -> str | None:
        try:
            address = returns_to(mail.envelope_sender, own, self.return_path, self.read_addresses)
            if address is None:
                address = self._author(mail)
        except (CannotCompose, ValueError):  # the check of the whole mail reports it
            return None
        return NOBODY if address == "" else address

    def _author(self, mail: Mail) -> str | None:
        if mail.message:
            author = self.author_of(beginning_of(mail.message))
            return author.addr_spec if author else None
        authors = self.read_addresses(mail.sender or self.sender or "")
        return authors[0].addr_spec if authors else None
