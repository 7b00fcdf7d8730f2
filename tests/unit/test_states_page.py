"""docs/reference/states.md says what the table of states decides, and it does not change unnoticed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mailbatch.domain.lifecycle import TABLE, Attempts, Event, Transition
from mailbatch.domain.reservation import Status

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "states.md"
REWRITE = "REWRITE_STATES"
OPERATORS = {Event.CANCEL, Event.REQUEUE, Event.RESTORE, Event.RESOLVE, Event.DELETE}
_IN_PICTURE = {
    Attempts.KEEP: "",
    Attempts.USE: ", attempts + 1",
    Attempts.COUNTED: ", after its lease ended",
    Attempts.RESET: ", attempts set to 0",
}
_IN_TABLE = {
    Attempts.KEEP: "no",
    Attempts.USE: "yes",
    Attempts.COUNTED: "no: it was counted when the lease ended",
    Attempts.RESET: "set to 0",
}


def picture() -> str:
    arrows = ["[*] --> pending: reserved"]
    for event, cells in TABLE.items():
        for before, change in cells.items():
            after = "[*]" if change.deletes else change.status.value
            arrows.append(f"{before.value} --> {after}: {event.text}{_IN_PICTURE[change.attempts]}")
    return "".join(f"    {arrow}\n" for arrow in arrows)


def table() -> str:
    lines = [
        "| event | state before | state after | attempt used | `finished_at` | `last_error` |",
        "|---|---|---|---|---|---|",
    ]
    for event, cells in TABLE.items():
        for change in dict.fromkeys(_without_own_state(change) for change in cells.values()):
            before = ", ".join(f"`{s.value}`" for s, c in cells.items() if _without_own_state(c) == change)
            name = f"`{event.value}`" if event.text == event.value else f"`{event.value}`: {event.text}"
            lines.append(f"| {name} | {before} | {_row(change)} |")
    return "".join(f"{line}\n" for line in lines)


def _without_own_state(change: Transition) -> Transition | None:
    return None if change.deletes else change


def _row(change: Transition | None) -> str:
    if change is None:
        return "the row is deleted | – | – | –"
    after = f"`{change.status.value}`" + (", unless `expires_at` has passed" if change.unless_expired else "")
    finished, error = "set" if change.finished else "empty", "written" if change.sets_error else "kept"
    return f"{after} | {_IN_TABLE[change.attempts]} | {finished} | {error}"


def test_the_picture_and_the_table_of_events_are_made_from_the_code():
    text = PAGE.read_text(encoding="utf-8")
    made = re.sub(r"(?<=^stateDiagram-v2\n).*?(?=^```$)", lambda _: picture(), text, flags=re.MULTILINE | re.DOTALL)
    made = re.sub(r"^\| event \|.*?\n(?=\n)", lambda _: table(), made, flags=re.MULTILINE | re.DOTALL)
    if os.environ.get(REWRITE):
        PAGE.write_text(made, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == made, (
        f"the table of states has changed; if you meant it: {REWRITE}=1 pytest {Path(__file__).name}, and commit it"
    )
    assert picture() in made
    assert table() in made


def test_the_page_lists_for_each_state_what_an_operator_can_do():
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE))
    assert {state: set(re.findall(r"`(\w+)[^`]*`", said)) for state, said in rows.items()} == {
        status.value: {event.value for event in OPERATORS if status in TABLE[event]} for status in Status
    }
