"""A recording SMTP relay in a process of its own; ``support.relay`` sets its faults while it runs.

It is ``smtpfault`` behind a control port. Each mail that it takes stands in the journal file *before* it answers: what
was taken is known whoever is killed then. A step may also be *held*: the relay stops there, says so, and goes on when
told, so that a kill can be aimed at that moment.

What it does with a recipient depends on the local part: ``refuse-*`` is answered 550, ``defer-*`` 451 the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socketserver
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import smtpfault

if TYPE_CHECKING:
    from collections.abc import Callable

_MESSAGE_ID = re.compile(rb"(?:^|\n)message-id:[ \t\r\n]*([^\r\n]+)", re.IGNORECASE)


def go_on(session: smtpfault.Session) -> None:
    """Do the ordinary thing."""
    session.ordinary()


def late(seconds: float) -> smtpfault.Action:
    """Do the ordinary thing, so many seconds late."""

    def action(session: smtpfault.Session) -> None:
        session.server.stopping.wait(seconds)
        session.ordinary()

    return action


class Journal:
    """Replaces the server's list of mails by a file, so that memory stays flat and the mails survive a kill."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, mail: smtpfault.Accepted) -> None:
        """Write a mail; a kill cannot undo it once this returns."""
        self._count += 1
        found = _MESSAGE_ID.search(mail.data.partition(b"\r\n\r\n")[0])
        line = {
            "n": self._count,
            "connection": mail.connection,
            "time": time.time(),
            "message_id": found[1].decode("utf-8", "replace").strip() if found else None,
            "sender": mail.sender,
            "recipients": mail.recipients,
            "size": len(mail.data),
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Hold:
    """Where sessions wait until they are released."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = 0
        self._free = False

    def arm(self, *, free: bool) -> None:
        """Release all waiting sessions; from now on hold new ones, or let them pass (``free``)."""
        with self._changed:
            self._free = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting, 5)
            self._free = free

    def reach(self, session: smtpfault.Session) -> None:
        """Wait until released."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._free)
            self._waiting -= 1
            self._changed.notify_all()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Return whether at least ``count`` sessions are held within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting >= count, seconds)


class Relay:
    """The server and its faults."""

    def __init__(self, port: int, journal: Path) -> None:
        self.hold = Hold()
        self.deferred: Counter[str] = Counter()
        self.server = smtpfault.FaultServer(extensions=smtpfault.OFFERS["BDAT"], port=port)
        self.server.journal = Journal(journal)  # type: ignore[assignment]
        # Memory stays flat however long it runs.
        self.server.commands = deque(maxlen=100)  # type: ignore[assignment]
        self.script({})

    def script(self, steps: dict[str, Any]) -> None:
        """Replace the actions of the steps: a list of actions and nulls, or one action for every time."""
        self.hold.arm(free=not steps)
        told: dict[str, Any] = {"rcpt": self.judge}
        for step, todo in steps.items():
            told[step] = (
                iter([action and self.action(action) for action in todo])
                if isinstance(todo, list) and (not todo or not isinstance(todo[0], str))
                else self.action(todo)
            )
        self.server.note(lambda: setattr(self.server, "script", told))

    def judge(self, session: smtpfault.Session) -> None:
        """Choose the action of RCPT by the recipient's name."""
        address = session.command.partition("<")[2].partition(">")[0]
        if address.startswith("refuse-"):
            session.say("550 5.1.1 no such user")
        elif address.startswith("defer-") and not self.deferred[address]:
            self.deferred[address] += 1
            session.say("451 4.3.0 try again later")
        else:
            session.ordinary()

    def action(self, told: list[Any]) -> smtpfault.Action:
        """Return the function of an action such as ``["say", "421 …"]``."""
        name, *rest = told
        makers: dict[str, Callable[..., smtpfault.Action]] = {
            "accept_then": lambda then: smtpfault.accept_then(self.action(then)),
            "after_reading": lambda size, then: smtpfault.after_reading(size, self.action(then)),
            "hold": lambda then=("go_on",): self.hold_then(self.action(then)),
            "say": smtpfault.say,
            "raw": lambda text: smtpfault.raw(text.encode("latin-1")),
            "drip": lambda text, seconds: smtpfault.drip(text.encode(), seconds),
            "late": late,
            "go_on": lambda: go_on,
            "drop": lambda: smtpfault.drop,
            "reset": lambda: smtpfault.reset,
            "silence": lambda: smtpfault.listen_in_silence,
            "flood": lambda: smtpfault.flood,
        }
        return makers[name](*rest)

    def hold_then(self, action: smtpfault.Action) -> smtpfault.Action:
        """Wait until released, and then do ``action``."""

        def holding(session: smtpfault.Session) -> None:
            self.hold.reach(session)
            action(session)

        return holding

    def obey(self, told: dict[str, Any]) -> Any:
        """Handle one line from the control port."""
        answer: Any = None
        match told:
            case {"script": steps}:
                self.script(steps)
            case {"extensions": dialogue}:
                self.server.extensions = smtpfault.OFFERS[dialogue]
            case {"held": count, "seconds": seconds}:
                answer = self.hold.wait_for(count, seconds)
            case {"release": _}:
                self.hold.arm(free=True)
            case {"sessions": _}:
                answer = self.server.open_sessions
            case {"hang_up": _}:
                for session in list(self.server.sessions):
                    session.stop()
        return answer


def main() -> None:
    """Read the command line and serve until killed."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--journal", type=Path, required=True)
    reader.add_argument("--ready", type=Path, required=True)
    reader.add_argument("--port", type=int, default=0)
    said = reader.parse_args()
    relay = Relay(said.port, said.journal)

    class Control(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(json.dumps(relay.obey(json.loads(line))).encode() + b"\n")

    with relay.server, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Control) as control:
        control.daemon_threads = True
        half_written = said.ready.with_suffix(".tmp")
        half_written.write_text(f"{relay.server.port} {control.server_address[1]}")
        half_written.replace(said.ready)
        control.serve_forever()


if __name__ == "__main__":
    main()
