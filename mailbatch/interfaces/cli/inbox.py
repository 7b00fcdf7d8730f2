"""A local inbox: an SMTP server on the loopback interface that stores each mail as a file and delivers nothing.

``python -m mailbatch.interfaces.cli.inbox FD FOLDER`` serves the listening socket FD until SIGTERM. FOLDER gets an
``.eml`` for each mail, a line for each in ``journal.jsonl``, and pages to read them: ``index.html``.
A recipient ``refused.…`` is refused permanently; ``deferred.…`` is deferred once and accepted later.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailbatch.interfaces.cli import inbox_pages
from mailbatch.interfaces.cli.inbox_pages import StoredMail

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED, DEFERRED = "refused.", "deferred."
"""The beginnings of local parts that are not simply accepted."""
JOURNAL = "journal.jsonl"
MAX_BYTES = 33_554_432
"""The SIZE that the server announces (RFC 1870)."""
_QUIET = 0.5
"""Seconds without a new mail before pages are written: receiving comes first."""
_MESSAGE_ID = re.compile(rb"^message-id:[ \t\r\n]*(<[^>\r\n]*>)", re.IGNORECASE | re.MULTILINE)
_NOT_IN_NAMES = re.compile(r"[^\w.@+=-]")


def read_journal(folder: Path) -> Iterator[StoredMail]:
    """Return the mails that the inbox in ``folder`` has accepted, in order. A line without an end is skipped."""
    journal = folder / JOURNAL
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                kept = json.loads(line)
                yield StoredMail(**{**kept, "recipients": tuple(kept["recipients"])})


class Inbox:
    """The handler of aiosmtpd. One for all connections."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n = sum(1 for _ in read_journal(folder))
        self._put_off: set[str] = set()
        self._journal = (folder / JOURNAL).open("a", encoding="utf-8")
        self.last = 0.0
        """The time of the last mail, on the monotonic clock."""

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Accept or refuse a recipient."""
        local = address.rpartition("@")[0].strip('"').lower()
        if local.startswith(REFUSED):
            return f"550 5.1.1 <{address}> no such user here"
        if local.startswith(DEFERRED) and address not in self._put_off:
            self._put_off.add(address)
            return f"451 4.7.1 <{address}> not now, come back later"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Store a mail, then accept it."""
        try:
            kept = self._keep(envelope.mail_from or "", tuple(envelope.rcpt_tos), envelope.original_content or b"")
        except OSError as error:
            return f"452 4.3.1 cannot keep it: {error.strerror}"
        return f"250 2.0.0 kept as {kept.n}"

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _keep(self, sender: str, recipients: tuple[str, ...], content: bytes) -> StoredMail:
        n = self._n + 1
        name = f"{n:04}-{file_name(recipients[0])}.eml"
        unfinished = self._folder / f".{n}.part"
        unfinished.write_bytes(content)
        unfinished.rename(self._folder / name)
        head = content.partition(b"\r\n\r\n")[0]
        found = _MESSAGE_ID.search(head)
        message_id = found[1].decode("ascii", "replace") if found else None
        kept = StoredMail(n, time.time(), name, sender, recipients, message_id, len(content))
        # Write before the 250. There is no fsync: this is a demo.
        self._journal.write(json.dumps(asdict(kept), ensure_ascii=False) + "\n")
        self._journal.flush()
        self._n, self.last = n, time.monotonic()
        return kept


def file_name(address: str) -> str:
    """Return ``address`` as a part of a file name, readable and without characters that a shell interprets."""
    return _NOT_IN_NAMES.sub("_", address)[:80]


async def serve(listener: socket.socket, folder: Path) -> None:
    """Serve ``listener`` until SIGTERM; write a page for each mail into ``folder``."""
    from aiosmtpd.smtp import SMTP

    inbox = Inbox(folder)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)

    def session() -> Any:
        # With an explicit name aiosmtpd does not ask the DNS.
        return SMTP(
            inbox, hostname="localhost", ident="mailbatch inbox", enable_SMTPUTF8=True, data_size_limit=MAX_BYTES
        )

    server = await loop.create_server(session, sock=listener)
    shown = 0
    while not ended.is_set():
        try:
            await asyncio.wait_for(ended.wait(), _QUIET / 2)
        except TimeoutError:
            if time.monotonic() - inbox.last > _QUIET:
                shown = await _show(folder, shown)
    server.close()
    await _show(folder, shown)
    inbox.close()


async def _show(folder: Path, shown: int) -> int:
    """Write the pages of the mails after the first ``shown``, and the index; return how many mails there are."""
    kept = list(read_journal(folder))
    if len(kept) == shown:
        return shown
    for mail in kept[shown:]:
        inbox_pages.write_page(folder, mail)
        await asyncio.sleep(0)
    inbox_pages.write_index(folder, kept)
    return len(kept)


def main() -> None:
    """Serve the socket and the folder of the command line."""
    descriptor, folder = sys.argv[1:]
    # Ctrl-C is for our parent, which ends us when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(socket.socket(fileno=int(descriptor)), Path(folder)))


if __name__ == "__main__":
    main()
