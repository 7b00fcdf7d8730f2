"""mailbatch as its users run it: real commands and real workers against one database, one Redis and one SMTP server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support import forkserver
from support.processes import ManagedProcess

if TYPE_CHECKING:
    from types import TracebackType

_BIN = Path(sys.executable).parent


@dataclass
class Stack:
    """``settings`` replace the defaults and have no prefix: ``Stack(…, settings={"LOCK_TTL": 3})``.

    Every command runs in ``folder``, an empty one, so that no file of the checkout is picked up or made. What goes on
    running is started by the words of ``under``, if there are any: ``("ip", "netns", "exec", "there")``.
    """

    database_url: str
    redis_url: str
    smtp_url: str
    folder: Path
    settings: dict[str, object] = field(default_factory=dict)
    under: tuple[str, ...] = ()
    _processes: list[ManagedProcess] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of every process: the settings of this stack, and none of the caller's."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAILBATCH_", "CELERY_", "FLOWER_"))}
        settings = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SMTP_URL": self.smtp_url,
            "SENDER": "sender@example.com",
            **self.settings,
        }
        # What a killed worker leaves behind goes with the test's folder.
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        return {
            **inherited,
            **{f"MAILBATCH_{name}": str(value) for name, value in settings.items()},
            "TMPDIR": str(scratch),
            "PATH": f"{_BIN}{os.pathsep}{inherited.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "C_FORCE_ROOT": "1",
        }

    def worker(self, *args: str, ready: bool = True) -> ManagedProcess:
        """Start ``celery -A mailbatch worker …``; with ``ready``, return when it takes tasks.

        It does not wait a second at its start for what other workers know; those of the demo and the smoke ring do.
        """
        number = len(self._processes) + 1
        name = () if {"-n", "--hostname"} & set(args) else ("-n", f"worker{number}@%h")
        process = self.process(
            "celery", "-A", "mailbatch", "worker", "--loglevel=INFO", "--without-mingle", *name, *args
        )
        if ready:
            process.wait_for_log(r"\bready\.", 30)
        return process

    def beat(self, *args: str) -> ManagedProcess:
        """Start ``celery -A mailbatch beat …``; return when it has begun."""
        process = self.process("celery", "-A", "mailbatch", "beat", "--loglevel=INFO", *args)
        process.wait_for_log(r"beat: Starting", 30)
        return process

    def process(self, *argv: str) -> ManagedProcess:
        """Start any command with this stack's environment; it is killed with all its children at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{len(self._processes) + 1}-{Path(argv[0]).name}.log"
        process = ManagedProcess([*self.under, *_found(argv)], log=log, env=self.env, cwd=self.folder)
        self._processes.append(process)
        return process

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run any command to its end."""
        command = _found(argv)
        if forkserver.can_start(command, self.env):
            return forkserver.run_to_the_end(command, env=self.env, cwd=self.folder, stdin=stdin or "", timeout=timeout)
        return subprocess.run(
            command,
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            input=stdin or "",
            timeout=timeout,
            check=False,
        )

    def cli(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run ``mailbatch …`` to its end, whatever its exit status."""
        return self.run("mailbatch", *args, stdin=stdin, timeout=timeout)

    def json(self, *args: str) -> Any:
        """Return the output of ``mailbatch … --json``; the command must succeed."""
        done = self.cli(*args, "--json")
        assert done.returncode == 0, f"mailbatch {' '.join(args)} ended with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def celery(self, *args: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run ``celery -A mailbatch …`` to its end."""
        return self.run("celery", "-A", "mailbatch", *args, timeout=timeout)

    def call(self, task: str = "send-all", **kwargs: object) -> str:
        """Run ``celery -A mailbatch call TASK`` and return the task's id."""
        done = self.celery("call", task, *(("--kwargs", json.dumps(kwargs)) if kwargs else ()))
        assert done.returncode == 0, f"celery call {task} ended with {done.returncode}: {done.stderr}"
        return done.stdout.split()[-1]

    def close(self) -> None:
        """Kill every process that this stack started."""
        for process in self._processes:
            process.close()


def _found(argv: tuple[str, ...]) -> list[str]:
    """Return the command line with our own scripts by their path, beside the interpreter that runs the tests."""
    script = _BIN / argv[0]
    return [str(script) if script.exists() else argv[0], *argv[1:]]
