"""Starts a peer in its own process, waits until it is ready, lets it work, and measures the cost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import make_url

from bench.watch import Watch
from mailbatch.infrastructure.redis.parent_death import ending_with_parent

if TYPE_CHECKING:
    from bench.bed import Bed

FOLDER = Path(__file__).with_name("peers")
VENV = Path(__file__).parents[1] / ".venv-bench"


class PeerFailed(Exception):
    """A peer did not do its work; the text is the peer's output."""


def has_django() -> bool:
    """Return whether the peers are installed (`make .venv-bench/ready`)."""
    return any(VENV.glob("lib/python3*/site-packages/post_office"))


def run(bed: Bed, database_url: str, port: int, peer: str, mails: int, **options: Any) -> tuple[float, Watch, Watch]:
    """Let ``peer`` send ``mails``. Return its working seconds, its processes' cost, and the cost of the database."""
    url = make_url(database_url)
    asked = {
        "peer": peer,
        "port": port,
        "mails": mails,
        "lock": str(bed.folder / "peer.lock"),
        **options,
        "url": database_url.replace("+psycopg", ""),
        "host": url.query.get("host"),
        "database": url.database,
        "user": url.username,
    }
    script, python = FOLDER / "django_peer.py", VENV / "bin" / "python"
    if peer == "smtplib loop":
        script, python = FOLDER / "smtplib_loop.py", Path(sys.executable)
    argv = ending_with_parent([str(python), str(script), json.dumps(asked)], at_parents_end=signal.SIGKILL)
    log = bed.folder / "peer.log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, cwd=bed.folder
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise PeerFailed(f"{peer} was not ready: {log.read_text()[-800:].strip()}")
        with Watch(process.pid) as cost, Watch(bed.postgres_pid) as database:
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        process.stdin.close()
    if process.returncode or not answer:
        raise PeerFailed(f"{peer} failed: {log.read_text()[-800:].strip()}")
    return float(json.loads(answer)["seconds"]), cost, database
