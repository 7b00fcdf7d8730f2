"""How figures, times and names read on a page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from mailbatch.domain.run import RunOutcome
from mailbatch.domain.schedule import Cron, Every
from mailbatch.interfaces.documents import RUNNING, SILENT
from mailbatch.interfaces.visible import HIDDEN, visible

if TYPE_CHECKING:
    from mailbatch.domain.schedule import Schedule

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_FEW = 10
"""Below so many of them, seconds are told with a decimal."""
_TRIGGERS = {"beat": "by schedule", "manual": "by hand", "api": "by console or API"}
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC\b", re.ASCII)
_COMMAND = re.compile(r"`([^`]+)`")
_BAD = frozenset({RunOutcome.FAILED, RunOutcome.LOCK_LOST, SILENT})


def number(value: float | None) -> str:
    """``1,204``; nothing for None."""
    return "" if value is None else f"{round(value):,}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 mail``, ``1,204 mails``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def span(seconds: float | None) -> str:
    """A length of time in the two units that matter: ``4.2 s``, ``2 min 10 s``, ``3 h 5 min``, ``2 d 4 h``."""
    if seconds is None:
        return ""
    if seconds < _FEW:
        return _together(f"{seconds:.1f} s" if seconds else "0 s")
    whole = round(seconds)
    for size, name, part, small in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return _together(f"{whole // size} {name}" + (f" {rest} {small}" if rest else ""))
    return _together(f"{whole} s")


def _together(text: str) -> str:
    """No line ends between a number and its unit."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def moment(when: datetime | None, zone: str = "UTC") -> str:
    """A time to the second, without the date if it is today's, without the year if it is this one's."""
    if when is None:
        return ""
    local, today = when.astimezone(ZoneInfo(zone)), datetime.now(ZoneInfo(zone))
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%b} {local.day}, {local:%H:%M:%S}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}"


def full(when: datetime, zone: str = "UTC") -> str:
    """A time with its date and its zone, for whoever points at one."""
    return f"{when.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %Z}"


def local(text: str, zone: str = "UTC") -> str:
    """A sentence of ours with its times, which are in UTC, as the page writes all times."""
    return _MOMENT.sub(lambda found: moment(_utc(found[1]), zone) if _utc(found[1]) else found[0], text)


def _utc(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def ago(when: datetime | None) -> str:
    """How far it is from now: ``2 min 10 s ago``, ``in 40 s``."""
    if when is None:
        return ""
    seconds = (datetime.now(UTC) - when).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(round(seconds))} ago" if seconds > 0 else f"in {span(round(-seconds))}"


def state(value: Any) -> str:
    """A state or an outcome as people say it: ``in doubt``, ``put off``."""
    return "put off" if value == "deferred" else str(value).replace("_", " ")


def tone(outcome: str) -> str:
    """In which colour an outcome of a run stands, or that it goes on."""
    if outcome == RUNNING:
        return "sending"
    if outcome in _BAD:
        return "failed"
    return "sent" if outcome == RunOutcome.COMPLETED else "in_doubt"


def trigger(value: str) -> str:
    """Who started a run."""
    return _TRIGGERS.get(value, value)


def schedule(when: Schedule) -> str:
    """When a batch runs by itself."""
    match when:
        case Every(seconds):
            return f"every {span(seconds)}"
        case Cron(line, timezone):
            return f"cron {line} ({timezone})"


def breakable(text: str) -> Markup:
    """An address, or several: a narrow column breaks it where eyes do, before its sign and its dots."""
    # The text is escaped before anything is put into it.
    return Markup(re.sub(r"(?=[@.])", "<wbr>", str(escape(text))))  # noqa: S704


def steps(path: str) -> Markup:
    """A path of the API: a narrow column breaks it before its slashes."""
    return Markup(str(escape(path)).replace("/", "<wbr>/"))  # noqa: S704 - escaped, as above


def shown(value: Any) -> Any:
    """What stands on a page of any value: hidden characters as escapes, so that no row reorders or hides its page."""
    if not isinstance(value, str) or not HIDDEN.search(value):
        return value
    # What is markup stays so: an escape has no sign that means something in HTML.
    return Markup(visible(value)) if isinstance(value, Markup) else visible(value)  # noqa: S704


def exact(value: str) -> Markup:
    """The value of a form's field, which comes back as it was: hidden characters as references (HTML, 13.1.4)."""
    # The text is escaped before anything is put into it.
    return Markup(HIDDEN.sub(lambda found: f"&#{ord(found[0])};", str(escape(value))))  # noqa: S704


def said(text: str) -> Markup:
    """A sentence of ours: beginning with a capital, its `commands` set as code."""
    return prose(text[:1].upper() + text[1:])


def prose(text: str) -> Markup:
    """A text of ours with its `code` set as code."""
    # The text is escaped before anything is put round it.
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704
