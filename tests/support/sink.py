"""Controls the SMTP sink from a test: starts it, reads its journal, stops, freezes and restarts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from support.waiting import wait_until

from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from types import TracebackType

_SERVER = Path(__file__).with_name("smtpsink.py")


@dataclass(frozen=True, slots=True)
class Accepted:
    """One mail that the sink has accepted. ``n`` counts from its last start; ``size`` in bytes.

    ``digest``: the SHA-256 of its largest part, decoded, if the sink was told to find it.
    """

    n: int
    connection: int
    time: float
    message_id: str | None
    sender: str
    recipients: tuple[str, ...]
    size: int
    file: str | None = None
    digest: str | None = None


class Sink:
    """An SMTP server process; ``smtpsink`` describes its rules. ``folder`` holds its journal, log and stored mails.

    ``latency`` (of each reply) and ``slow`` in seconds; ``defer``: how often a ``defer-*`` recipient is put off.
    """

    def __init__(
        self,
        folder: Path,
        *,
        latency: float = 0.0,
        slow: float = 2.0,
        defer: int = 1,
        store: bool = False,
        digest: bool = False,
    ) -> None:
        self.folder = folder
        self.digest = digest
        self.latency, self.slow, self.defer, self.store = latency, slow, defer, store
        self.process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._read = 0
        self._accepted: list[Accepted] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return ``smtp://127.0.0.1:port``; the port stays the same after a restart."""
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port on the loopback interface."""
        assert self._port, "the sink was never started"
        return self._port

    def start(self) -> None:
        """Start it and wait until clients can connect. Rules changed on this object apply from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        argv = [sys.executable, "-I", "-S", *self._command(), "--ready", str(ready), "--port", str(self._port)]
        with (self.folder / "sink.log").open("ab") as log:
            self.process = subprocess.Popen(
                ending_with_parent(argv, at_parents_end=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = self.process
        wait_until(lambda: ready.exists() or process.poll() is not None, 15, "the SMTP sink starts", every=0.005)
        assert ready.exists(), f"the SMTP sink ended: {(self.folder / 'sink.log').read_text()}"
        self._listening(*map(int, ready.read_text().split()))

    def _command(self) -> list[str]:
        argv = [str(_SERVER), "--journal", str(self._journal), "--connections", str(self._connections)]
        argv += ["--latency", str(self.latency), "--slow", str(self.slow), "--defer", str(self.defer)]
        argv += ["--digest"] if self.digest else []
        return [*argv, "--store", str(self.mails)] if self.store else argv

    def _listening(self, port: int) -> None:
        self._port = port

    def stop(self) -> None:
        """End it at once, connections and all. Its journal can still be read."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, away: float = 0.0) -> None:
        """Stop it for ``away`` seconds, and start it again at the same port with the same journal."""
        self.stop()
        time.sleep(away)
        self.start()

    def freeze(self) -> None:
        """Freeze it: the kernel takes connections, and they get no reply."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def accepted(self) -> list[Accepted]:
        """Return every mail accepted so far, in order, those before a restart included."""
        if self._journal.exists():
            with self._journal.open("rb") as journal:
                journal.seek(self._read)
                new = journal.read()
            # A line that is being written has no end yet.
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self._accepted += [_accepted(json.loads(line)) for line in whole.splitlines()]
        return list(self._accepted)

    def wait_for(self, n: int, timeout: float = 30.0) -> list[Accepted]:
        """Wait until it has accepted at least ``n`` mails, and return all of them."""
        return wait_until(
            lambda: found if len(found := self.accepted()) >= n else [],
            timeout,
            lambda: f"the sink takes {n} mails, it has {len(self.accepted())}",
        )

    def connections(self) -> int:
        """Return how many connections were made to it, those before a restart included."""
        return self._connections.read_bytes().count(b"\n") if self._connections.exists() else 0

    def most_connections(self) -> int:
        """Return the most connections that were open at the same time."""
        return max(json.loads(line)["live"] for line in self._connections.read_bytes().splitlines())

    def raw(self, mail: Accepted) -> bytes:
        """Return the bytes of a mail as they came, without dot-stuffing; needs ``store``."""
        assert mail.file, "the sink was not told to store mails"
        return (self.mails / mail.file).read_bytes()

    @property
    def mails(self) -> Path:
        """The folder of the stored mails."""
        return self.folder / "mails"

    @property
    def _journal(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def _connections(self) -> Path:
        return self.folder / "connections.jsonl"


def _accepted(line: dict[str, object]) -> Accepted:
    recipients = line.pop("recipients")
    assert isinstance(recipients, list)
    return Accepted(recipients=tuple(recipients), **line)  # type: ignore[arg-type]  # the journal is our own
