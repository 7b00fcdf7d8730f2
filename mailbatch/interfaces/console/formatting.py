"""Formats numbers, times and names for the pages."""

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
_KB = 1024
_FEW = 10
"""Below this number seconds have a decimal."""
_TRIGGERS = {"beat": "by schedule", "manual": "by hand", "api": "by console or API", "urgent": "by an urgent mail"}
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC\b", re.ASCII)
_COMMAND = re.compile(r"`([^`]+)`")
_BAD = frozenset({RunOutcome.FAILED, RunOutcome.LOCK_LOST, SILENT})


def number(value: float | None) -> str:
    """Return ``1,204``; an empty text for None."""
    return "" if value is None else f"{round(value):,}"


def octets(size: int) -> str:
    """Return a size in bytes as ``820 bytes``, ``47.1 KB`` or ``3.2 MB``."""
    if size < _KB:
        return plural(size, "byte")
    return _together(f"{size / _KB:,.1f} KB" if size < _KB * _KB else f"{size / _KB / _KB:,.1f} MB")


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 mail``, ``1,204 mails``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def span(seconds: float | None) -> str:
    """Return a duration in its two largest units: ``4.2 s``, ``2 min 10 s``, ``3 h 5 min``, ``2 d 4 h``."""
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
    """Put no-break spaces between numbers and their units."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def moment(when: datetime | None, zone: str = "UTC") -> str:
    """Return a time to the second; without the date if it is today, without the year if it is this year."""
    if when is None:
        return ""
    local, today = when.astimezone(ZoneInfo(zone)), datetime.now(ZoneInfo(zone))
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%b} {local.day}, {local:%H:%M:%S}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}"


def full(when: datetime, zone: str = "UTC") -> str:
    """Return a time with its date and its zone, for tooltips."""
    return f"{when.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %Z}"


def local(text: str, zone: str = "UTC") -> str:
    """Return a sentence with its UTC times in the format and the zone of the page."""
    return _MOMENT.sub(lambda found: moment(_utc(found[1]), zone) if _utc(found[1]) else found[0], text)


def _utc(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def ago(when: datetime | None) -> str:
    """Return the distance from now: ``2 min 10 s ago``, ``in 40 s``."""
    if when is None:
        return ""
    seconds = (datetime.now(UTC) - when).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(round(seconds))} ago" if seconds > 0 else f"in {span(round(-seconds))}"


def state(value: Any) -> str:
    """Return a state or an outcome in words: ``in doubt`` for ``in_doubt``."""
    return str(value).replace("_", " ")


def tone(outcome: str) -> str:
    """Return the colour of a run's outcome, or of a run in progress."""
    if outcome == RUNNING:
        return "sending"
    if outcome in _BAD:
        return "failed"
    return "sent" if outcome == RunOutcome.COMPLETED else "in_doubt"


def trigger(value: str) -> str:
    """Return who started a run."""
    return _TRIGGERS.get(value, value)


def schedule(when: Schedule) -> str:
    """Return when a batch runs by schedule."""
    match when:
        case Every(seconds):
            return f"every {span(seconds)}"
        case Cron(line, timezone):
            return f"cron {line} ({timezone})"


def breakable(text: str) -> Markup:
    """Return addresses with line break opportunities before ``@`` and dots, for narrow columns."""
    # The text is escaped before the tags are added.
    return Markup(re.sub(r"(?=[@.])", "<wbr>", str(escape(text))))  # noqa: S704


def steps(path: str) -> Markup:
    """Return a path of the API with line break opportunities before slashes, for narrow columns."""
    return Markup(str(escape(path)).replace("/", "<wbr>/"))  # noqa: S704 - escaped, as above


def shown(value: Any) -> Any:
    """Return any value for a page, with hidden characters as escapes, so that no row can reorder or hide a page."""
    if not isinstance(value, str) or not HIDDEN.search(value):
        return value
    # Markup stays markup: an escape contains no character that is special in HTML.
    return Markup(visible(value)) if isinstance(value, Markup) else visible(value)  # noqa: S704


def exact(value: str) -> Markup:
    """Return a form field value; hidden characters are references (HTML, 13.1.4), which browsers send back."""
    # The text is escaped before the tags are added.
    return Markup(HIDDEN.sub(lambda found: f"&#{ord(found[0])};", str(escape(value))))  # noqa: S704


def said(text: str) -> Markup:
    """Return a sentence with a capital at its beginning and its `commands` as code."""
    return prose(text[:1].upper() + text[1:])


def prose(text: str) -> Markup:
    """Return a text with its `code` as code."""
    # The text is escaped before the tags are added.
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704
