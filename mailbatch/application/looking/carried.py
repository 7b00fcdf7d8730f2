"""Show what a mail carries beside its text: its files, and the address to which it is returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.application.sending.envelope_sender import returns_to
from mailbatch.domain.errors import CannotCompose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailbatch.application.looking.mail_files import MailFiles
    from mailbatch.application.ports.system import AddressReader
    from mailbatch.domain.attached_file import AttachedFile
    from mailbatch.domain.return_path import ReturnPath
    from mailbatch.domain.rows import ReservationRow

NOBODY = "<>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a mail carries.

    ``files``: those of the column ``attachments``; ``problems``: a line for each entry of it that is no file.
    ``returns_to``: the envelope sender with which the mail goes out; ``<>`` for none, None if it cannot be known.
    """

    files: Sequence[AttachedFile]
    problems: Sequence[str]
    returns_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowCarried:
    """Show it for one mail. ``sender`` is the From of mails that name none."""

    mail_files: MailFiles
    read_addresses: AddressReader
    return_path: ReturnPath | None
    sender: str | None

    def __call__(self, row: ReservationRow) -> Carried:
        """Return what the mail of ``row`` carries. Reads no content of a file. Raises ``StoreError``."""
        files, problems = self.mail_files(row.attachments)
        return Carried(files=files, problems=problems, returns_to=self._returns_to(row))

    def _returns_to(self, row: ReservationRow) -> str | None:
        try:
            address = returns_to(row.envelope_sender, row.id, self.return_path, self.read_addresses)
            if address is None:
                address = self._author(row)
        except (CannotCompose, ValueError):
            return None
        return NOBODY if address == "" else address

    def _author(self, row: ReservationRow) -> str | None:
        if row.message is not None:
            return None
        author = self.read_addresses(row.sender or self.sender or "")
        return author[0].addr_spec if author else None
