"""Controls the SMTP sinks of the bench: our own, with a delay, and Postfix's smtp-sink."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

SERVER = Path(__file__).with_name("sink") / "server.py"
BDAT = ("PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8")
PIPELINING = ("PIPELINING", "8BITMIME", "SMTPUTF8")
_READY = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The counts of a sink for one measurement; None if this sink does not report a value. ``cpu`` is in seconds."""

    cpu: float
    mails: int | None = None
    mail_bytes: int | None = None
    connections: int | None = None
    protocol: str
    first: float | None = None


class OwnSink:
    """Our own sink, in its own process. ``set`` begins a measurement."""

    name = "own sink"

    def __enter__(self) -> Self:
        argv = [sys.executable, "-I", "-S", str(SERVER)]
        self._process = subprocess.Popen(
            ending_with_parent(argv, at_parents_end=signal.SIGKILL), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def set(self, rtt: float = 0.0, offers: tuple[str, ...] = BDAT) -> None:
        """Reset the counts. From now on a round trip takes ``rtt`` seconds, and the reply to EHLO has ``offers``."""
        # The greeting of this connection still had the old delay; the reply already has the new one.
        self._ask("XSET " + json.dumps({"delay": rtt, "offers": offers}))

    def seen(self) -> Seen:
        stats = self._ask("XSTATS")
        return Seen(
            cpu=stats["cpu"],
            mails=stats["mails"],
            mail_bytes=stats["bytes"] // stats["mails"] if stats["mails"] else None,
            connections=stats["connections"],
            protocol=_main_of(stats["protocols"]),
            first=stats["first"],
        )

    def times(self) -> list[float]:
        """Return the time when each mail was complete, on the monotonic clock of this machine."""
        times: list[float] = self._ask("XTIMES")
        return times

    def _ask(self, line: str) -> Any:
        with socket.create_connection(("127.0.0.1", self.port)) as sock, sock.makefile("rwb") as file:
            file.readline()
            file.write(line.encode() + b"\r\n")
            file.flush()
            return json.loads(file.readline())


class PostfixSink:
    """Postfix's smtp-sink: PIPELINING, no CHUNKING, no delay. It reports no counts."""

    name = "smtp-sink"

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        argv = [str(shutil.which("smtp-sink")), *user, f"127.0.0.1:{self.port}", "1000"]
        self._process = subprocess.Popen(
            ending_with_parent(argv, at_parents_end=signal.SIGKILL), stdin=subprocess.DEVNULL
        )
        self._wait()
        self.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def set(self, rtt: float = 0.0, offers: tuple[str, ...] = PIPELINING) -> None:
        """Begin a measurement; this sink has no delay."""
        if rtt or offers != PIPELINING:
            raise ValueError("smtp-sink has no delay line and no CHUNKING")
        self._cpu = self._cpu_now()

    def seen(self) -> Seen:
        return Seen(cpu=self._cpu_now() - self._cpu, protocol="PIPELINING offered")

    def _cpu_now(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def _wait(self) -> None:
        deadline = time.monotonic() + _READY
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


def has_postfix() -> bool:
    """Return whether smtp-sink and smtp-source are installed (Debian: apt install postfix)."""
    _add_sbin()
    return bool(shutil.which("smtp-sink") and shutil.which("smtp-source"))


def _add_sbin() -> None:
    """Return the path for the search: tools of daemons are in folders that a user's path does not have."""
    if "/usr/sbin" not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"


def _main_of(protocols: Mapping[str, int]) -> str:
    """Return the protocol of most mails, with the other protocols if a client also used them."""
    ranked = sorted(protocols, key=lambda name: -protocols[name])
    few = [name for name in ranked[1:] if protocols[name] * 100 > sum(protocols.values())]
    return " + ".join([*ranked[:1], *few]) or "–"
