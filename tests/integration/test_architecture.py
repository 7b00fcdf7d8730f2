"""docs/explanation/architecture.md names every module on the way of a mail, and only modules that exist."""

from __future__ import annotations

import inspect
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.backlogs import reserve

import mailbatch

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = Path(mailbatch.__file__).parent
PAGE = PACKAGE.parent / "docs" / "explanation" / "architecture.md"
NAMED = {name for name in re.findall(r"`([\w/]+(?:\.py|/))`", PAGE.read_text(encoding="utf-8")) if "/" in name}
NAMED = {name for name in NAMED if not name.startswith("tests/")}
AROUND = ("interfaces/", "bootstrap/", "config/", "infrastructure/cron.py")
"""What only begins a run by hand, builds parts or reads settings: the page names these as folders."""


def test_every_module_that_is_named_exists() -> None:
    assert [name for name in sorted(NAMED) if not (PACKAGE / name).exists()] == []


def test_every_folder_has_its_row() -> None:
    folders = {f"{init.parent.relative_to(PACKAGE)}/" for init in PACKAGE.rglob("__init__.py")} - {"./"}
    text = PAGE.read_text(encoding="utf-8")
    assert [folder for folder in sorted(folders) if f"`{folder}" not in text] == []


def test_every_module_through_which_a_mail_goes_is_named(
    say: Any, sqlite_url: str, redis_url: str, smtp_sink: Any
) -> None:
    reserve(sqlite_url, 3)
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        # The body of a module or of a class is no function: it runs when it is imported.
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(str(PACKAGE)):
            seen.add(Path(code.co_filename).relative_to(PACKAGE).as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        settings = {"DATABASE_URL": sqlite_url, "REDIS_URL": redis_url, "SMTP_URL": smtp_sink.url}
        code, _, err = say("send-all", "--here", **settings, SENDER="sender@example.com")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert code == 0, err
    assert len(smtp_sink.accepted()) == 3
    on_the_way = {name for name in seen if not name.startswith(AROUND)}
    folders = tuple(name for name in NAMED if name.endswith("/") and name.count("/") > 1)
    assert sorted(name for name in on_the_way - NAMED if not name.startswith(folders)) == []
