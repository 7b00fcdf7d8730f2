"""The same faults for django-post_office, django-mailer and mailbatch: ``python -m faults.peers`` (needs .venv-bench).

The peers run as their manuals say: a command, started again by cron. After the fault each gets three more runs.
mailbatch has the connections and the window of its defaults here, for on them depends how much a kill repeats.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from faults.fault import Fault
from faults.kill_rows import signalled
from faults.street import strike_all
from faults.tally import ROOT, machine, write
from sqlalchemy.engine import make_url
from support.postgres import PostgresServer
from support.processes import ManagedProcess
from support.relay import Relay

from mailbatch.domain.run import crash_bound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faults.house import House

say = partial(print, flush=True)
VENV = ROOT / ".venv-bench"
SCRIPT = Path(__file__).with_name("django_peer.py")
PEERS = ("django-post_office", "django-mailer")
MAILS, KILLED_AT, RUNS, PATIENCE = 300, 150, 3, 120.0
CONNECTIONS, WINDOW = 4, 32
SLOW = ["late", 0.01]
TAKEN_AND_DROPPED = ["accept_then", ["drop"]]


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault that any sender can meet. ``killed``: kill -9 of its processes after so many mails."""

    name: str
    script: Mapping[str, Any] = field(default_factory=dict)
    killed: bool = False
    bad: int | None = None


TRIALS = [
    Trial("kill -9 of all its processes in mid-run", {"dot": SLOW}, killed=True),
    Trial("the relay drops five connections after it has taken the mail", {"dot": [None, TAKEN_AND_DROPPED] * 5}),
    Trial("one mail has a line break in its subject", bad=20),
]


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it: mails that the relay took; of those that it did not, how they stand (``lost``: as sent)."""

    taken: int
    lost: int
    repeated: int
    failed: int
    left: int


def of_peer(peer: str, trial: Trial, postgres: PostgresServer, folder: Path) -> Came:
    """Let a peer meet it."""
    url = make_url(postgres.url(postgres.create_database()))
    with Relay(folder / "relay") as relay:
        asked = {"peer": peer, "name": "peer", "mails": MAILS, "bad": trial.bad, "lock": str(folder / "peer.lock")}
        asked |= {"host": url.query["host"], "database": url.database, "user": url.username, "port": relay.port}

        def start(do: str) -> ManagedProcess:
            argv = [str(VENV / "bin" / "python"), str(SCRIPT), json.dumps({**asked, "do": do})]
            return ManagedProcess(argv, log=folder / f"{do}.log", env={"PATH": "/usr/bin:/bin"}, cwd=folder)

        with start("fill") as process:
            assert process.wait_exit(60) == 0, process.log_text()
        relay.offer("DATA")
        relay.script(**trial.script)
        for number in range(1 + RUNS):
            with start("send") as process:
                if trial.killed and not number:
                    relay.wait_for(KILLED_AT, 60)
                    process.kill_group(SIGKILL)
                    relay.script()
                process.wait_exit(PATIENCE)
        with start("count") as process:
            process.wait_exit(60)
            stands = json.loads(process.log_text().splitlines()[-1])
        taken = Counter(to for mail in relay.accepted() for to in mail.recipients)
    return Came(
        taken=len(taken),
        lost=sum(state == "sent" and not taken[to] for to, state in stands.items()),
        repeated=sum(taken.values()) - len(taken),
        failed=sum(state == "failed" for state in stands.values()),
        left=sum(state == "queued" for state in stands.values()),
    )


def of_ours(trial: Trial) -> Came:
    """Let mailbatch meet it: a worker with beat, started again when it dies."""

    def injure(house: House) -> None:
        if trial.killed:
            house.wait_taken(KILLED_AT)
            signalled("group", SIGKILL)(house)
            house.relay.script()

    subjects = {"subject": lambda i: "one line\nand another" if i == trial.bad else f"mail {i}"}
    fault = Fault(
        row="peers",
        name=trial.name,
        script=trial.script,
        injure=injure,
        mails=MAILS,
        columns=subjects,
        dialogue="DATA",
        settings={"CONNECTIONS": CONNECTIONS, "WINDOW": WINDOW},
        doubled=crash_bound(1, CONNECTIONS, WINDOW),
        doubtful=None,
        ends={"sent": MAILS} if trial.bad is None else {"sent": MAILS - 1, "failed": 1},
    )
    (finding,) = strike_all([fault], houses=1)
    damage = finding.damage
    assert damage is not None, finding.complaints
    failed = damage.ended.get("failed", 0)
    return Came(MAILS - failed - damage.stuck, damage.lost, damage.doubled, failed, damage.stuck)


def main() -> int:
    """Every trial for everyone; into docs/reliability.md with ``--write``."""
    if not (VENV / "bin" / "python").exists():
        say("skipped: the peers are not installed here; `make .venv-bench/ready` does it")
        return 0
    lines = [
        "| fault | sender | taken of 300 | lost | repeated | given up as failed | left lying after three more runs |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    with PostgresServer(durable=False) as postgres:
        for trial in TRIALS:
            for peer in (*PEERS, "mailbatch"):
                folder = Path(tempfile.mkdtemp(prefix="peers-", dir="/tmp"))
                began = time.monotonic()
                came = of_ours(trial) if peer == "mailbatch" else of_peer(peer, trial, postgres, folder)
                shutil.rmtree(folder)
                say(f"{trial.name}; {peer}: {came} ({time.monotonic() - began:.0f} s)")
                cells = [trial.name, peer, came.taken, came.lost, came.repeated, came.failed, came.left]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    if "--write" in sys.argv:
        write("peers", [f"{machine()}; {_versions()}.", "", *lines])
    return 0


def _versions() -> str:
    done = subprocess.run(
        [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)
    return ", ".join(f"{name} {found[name]}" for name in (*PEERS, "Django"))


if __name__ == "__main__":
    sys.exit(main())
