"""The language and the time zone in which the filters of one rendering write numbers, prices and times.

Babel has CLDR's data. It is imported when a template first uses one of these filters.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from jinja2 import TemplateRuntimeError

from mailbatch.domain.locale import ranges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from babel import Locale

_LOCALES = 32
"""Languages whose data is kept. One takes 0.3 MB."""
_LONGEST_ZONE = 64
_current: ContextVar[tuple[str, Mapping[str, Any]]] = ContextVar("language")


def write_in(tag: str, context: Mapping[str, Any]) -> None:
    """Let the filters of the rendering that begins now write in the language ``tag``.

    Times are in the zone that ``context`` names as ``timezone``.
    """
    _current.set((tag, context))


def current_locale() -> Locale:
    """Return the locale of the rendering in progress. Raises ``TemplateRuntimeError`` if CLDR does not know it."""
    tag = _current.get()[0]
    try:
        return _locale(tag)
    except LookupError:
        raise TemplateRuntimeError(f"numbers and dates cannot be written in the language {tag}: unknown") from None


@lru_cache(maxsize=_LOCALES)
def _locale(tag: str) -> Locale:
    from babel import Locale, UnknownLocaleError, localedata

    if _locale.cache_info().currsize == _LOCALES:
        _locale.cache_clear()
        localedata.clear_caches()  # which Babel would keep for ever
    for one in ranges(tag):
        try:
            return Locale.parse(one, sep="-")
        except (UnknownLocaleError, ValueError):  # the second for extensions, which it cannot read
            continue
    raise LookupError(tag)


def time_zone(given: Any = None) -> ZoneInfo | None:
    """Return the zone ``given``, else that of the context, else None. Raises ``TemplateRuntimeError``."""
    name = _current.get()[1].get("timezone") if given is None else given
    if name is None:
        return None
    if isinstance(name, str) and len(name) <= _LONGEST_ZONE:
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, LookupError):  # no name of a zone, a folder of zones, an unknown zone
            pass
    raise TemplateRuntimeError("'timezone' is no time zone; write a name such as Europe/Berlin")
