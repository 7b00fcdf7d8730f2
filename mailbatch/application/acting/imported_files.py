"""Takes the files that the rows of an imported file name by their paths: each is read and stored once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from mailbatch.application.acting.attaching import Attached
from mailbatch.domain.attachment import basename, shown, size_on_wire
from mailbatch.domain.errors import CannotCompose, InvalidReservation
from mailbatch.domain.file_rules import room_problem

if TYPE_CHECKING:
    from mailbatch.application.ports.sending import Folder
    from mailbatch.application.ports.stores import Intake
    from mailbatch.domain.reservation import Mail

_MOST_KNOWN = 100_000
"""Paths that are remembered: a file that is forgotten is read again, and not stored again."""


@dataclass(slots=True, kw_only=True)
class ImportedFiles:
    """The files below ``folder``. ``max_bytes``: of a message on the wire."""

    folder: Folder
    max_bytes: int
    _known: dict[str, tuple[str, int]] = field(default_factory=dict, init=False)
    """The id and the size of each file that is stored, by its path."""

    def attached(self, mail: Mail) -> tuple[Mail, dict[str, Attached]]:
        """Return ``mail`` with ids in place of paths, and the files that are not stored yet, by their paths.

        Raises:
            InvalidReservation: with a line for each file that cannot be read, or with which the mail is too large.
        """
        if not isinstance(mail.attachments, list):
            return mail, {}
        found, problems, room = dict[str, Attached](), list[str](), self.max_bytes
        entries = list[Any]()
        for entry in mail.attachments:
            path = entry.get("path") if isinstance(entry, Mapping) else None
            if not isinstance(path, str) or not path or entry.get("file") or entry.get("content"):
                entries.append(entry)
                continue
            try:
                own, size = self._read(path, room, found)
            except CannotCompose as error:
                problems += error.errors
                continue
            room -= size_on_wire(size)
            entries.append(_named(entry, path, own))
        if problems:
            raise InvalidReservation(problems)
        return replace(mail, attachments=entries), found

    def store(self, intake: Intake, files: Mapping[str, Attached]) -> None:
        """Store ``files``, which ``attached`` has returned."""
        for path, file in files.items():
            content = file.content or b""
            own = intake.store_file(content, file.entry["filename"], None)
            if len(self._known) < _MOST_KNOWN:
                self._known[path] = own, len(content)

    def _read(self, path: str, room: int, found: dict[str, Attached]) -> tuple[str, int]:
        """Return the id and the size of a file; put it into ``found`` if it is not stored yet."""
        if (known := self._known.get(path)) is not None:
            if problem := room_problem(shown(basename(path)), known[1], room, self.max_bytes):
                raise CannotCompose([problem])
            return known
        if path not in found:
            with self.folder.open(path) as file:
                if problem := room_problem(shown(basename(path)), file.size, room, self.max_bytes):
                    raise CannotCompose([problem])
                content = b"".join(file.pieces())
            found[path] = Attached({"file": sha256(content).hexdigest(), "filename": basename(path)}, content)
        return found[path].entry["file"], len(found[path].content or b"")


def _named(entry: Mapping[str, Any], path: str, own: str) -> dict[str, Any]:
    """Return ``entry`` with the id of a stored file in place of its path."""
    kept = {name: value for name, value in entry.items() if name != "path"}
    # Only null and an empty text mean that there is none. Anything else is judged with the mail.
    given = kept.get("filename")
    return {"file": own, **kept, "filename": basename(path) if given in (None, "") else given}
