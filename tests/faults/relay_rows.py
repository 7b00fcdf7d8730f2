"""What a relay may do wrong (row 5 of the table)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.fault import Fault
from faults.house import WINDOW

if TYPE_CHECKING:
    from faults.house import House

DROP = ["drop"]
CLOSING = ["say", "421 4.3.2 closing"]
TAKEN_AND_DROPPED = ["accept_then", DROP]
NOISE = ["raw", "\x00\xff\x16 what is this\r\n"]
AWAY = 3.0


def away(house: House) -> None:
    """The relay's port is closed for some seconds."""
    house.relay.stop()
    house.pass_time(AWAY)
    house.relay.start()


def frozen(house: House) -> None:
    """The relay's process is stopped in the middle of its work."""
    house.relay.wait_held()
    house.relay.freeze()
    house.pass_time(AWAY)
    house.relay.thaw()
    house.relay.release()


RELAY = [
    Fault(row="5a", name="refuses connections", injure=away, lasts=AWAY),
    Fault(
        row="5b",
        name="drops the connection at the greeting, EHLO, MAIL and RCPT",
        script={"connect": [DROP], "ehlo": [DROP], "mail": [None, DROP], "rcpt": [None, None, None, DROP]},
        dialogue="DATA",
    ),
    Fault(row="5c", name="drops it inside the body", script={"body": [None, DROP, None, ["reset"]]}, doubtful=None),
    Fault(
        row="5d",
        name="drops it after the last byte, and has not taken the mail",
        script={"dot": [None, DROP, None, None, ["reset"]]},
        doubtful=True,
    ),
    Fault(
        row="5e",
        name="drops it after it has taken the mail (the gap of RFC 1047)",
        script={"dot": [None, TAKEN_AND_DROPPED, None, None, TAKEN_AND_DROPPED]},
        doubled=2,
        doubtful=True,
    ),
    Fault(
        row="5f",
        name="says 421 at each step",
        script={
            "connect": [CLOSING],
            "ehlo": [CLOSING],
            "mail": [None, CLOSING],
            "rcpt": [None, None, None, CLOSING],
            "dot": [None, None, None, CLOSING],
        },
        # Mails that stood behind it on the connection had gone out too.
        doubtful=None,
    ),
    Fault(
        row="5g",
        name="puts mails off with 4xx twice, then takes them",
        script={"dot": [["say", "451 4.3.0 busy"], ["say", "452 4.3.1 full"]]},
        columns={"recipients": lambda i: f"{'defer-' if i % 3 == 0 else ''}5g-{i}@faults.example"},
    ),
    Fault(
        row="5h",
        name="refuses recipients and bodies with 5xx",
        script={"dot": [["say", "554 5.6.0 not like this"]]},
        columns={"recipients": lambda i: f"{'refuse-' if i % 3 == 0 else ''}5h-{i}@faults.example"},
        ends={"sent": 15, "failed": 9},
    ),
    Fault(
        row="5i",
        name="answers a byte each half second, and late",
        script={"connect": [["drip", "220 fault.example ESMTP\r\n", 0.5]], "dot": [["late", 1.0], None, ["late", 1.0]]},
        lasts=3.0,
    ),
    Fault(
        row="5j",
        name="takes a mail and never answers its end",
        script={"dot": [None, ["accept_then", ["silence"]]]},
        doubled=1,
        doubtful=True,
        lasts=3.0,
    ),
    Fault(
        row="5k",
        name="answers garbage",
        script={"connect": [NOISE], "mail": [None, NOISE], "dot": [None, None, NOISE]},
        # The relay goes on as if nothing were, and takes what stands behind the noise on that connection.
        doubled=2 * WINDOW,
        doubtful=True,
    ),
    Fault(
        row="5l",
        name="answers a reply without end",
        script={"ehlo": [["flood"]], "dot": [None, ["flood"]]},
        doubtful=True,
    ),
    Fault(
        row="5m",
        name="answers the end of a mail before it has come",
        script={"data": [["raw", "354 go on\r\n250 2.0.0 queued as 1\r\n"]]},
        dialogue="DATA",
        doubtful=None,
    ),
    Fault(
        row="5n",
        name="refuses one of two recipients",
        mails=6,
        columns={"recipients": lambda i: f"5n-{i}@faults.example, refuse-5n-{i}@faults.example"},
        ends={"failed": 6},
    ),
    Fault(
        row="5o",
        name="is frozen in the middle of a mail",
        script={"dot": [None, ["hold"]]},
        injure=frozen,
        doubled=2 * WINDOW,
        doubtful=None,
        lasts=AWAY + 3.0,
    ),
]
