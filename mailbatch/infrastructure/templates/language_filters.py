"""The filters that write a value as the mail's language does: numbers, prices, dates, times, plural forms.

A value has the type that JSON gave it, so numbers and times may be texts. What is no number, or no time, is an error
that names the filter.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal, InvalidOperation, localcontext
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import TemplateRuntimeError, Undefined

from mailbatch.domain.redaction.lines import quoted
from mailbatch.infrastructure.templates.budget import current_budget
from mailbatch.infrastructure.templates.language import current_locale, time_zone

if TYPE_CHECKING:
    from collections.abc import Callable

_NANOSECONDS = 400_000
"""The time of a call."""
_FORMATS = ("short", "medium", "long", "full")
_LONGEST_PATTERN = 100
_LONGEST_NUMBER = 100
"""Characters of a number that is a text."""
_MOST_DIGITS = 20
"""Before the decimal point, and behind it."""
_PRECISION = 64
_CURRENCY = re.compile("[A-Za-z]{3}")
_LONGEST_TIME = 64
_CATEGORIES = ("zero", "one", "two", "few", "many", "other")


def number(value: Any, digits: int | None = None) -> str:
    """Write a number, with ``digits`` behind its decimal point; by default as many as it has, 3 at most."""
    from babel.numbers import format_decimal

    given, decimals, locale = _number("number", value), _decimals("number", digits), current_locale()
    own = locale.decimal_formats[None].pattern
    with localcontext(prec=_PRECISION):
        return format_decimal(given, own if decimals is None else own.replace(".###", decimals), locale=locale)


def currency(value: Any, code: Any) -> str:
    """Write an amount in the currency ``code`` (ISO 4217), with as many decimals as the currency has."""
    from babel.numbers import format_currency

    given = _number("currency", value)
    locale = current_locale()
    if not isinstance(code, str) or not _CURRENCY.fullmatch(code) or code.upper() not in locale.currencies:
        _fail("currency", "needs a code of ISO 4217, such as EUR")
    with localcontext(prec=_PRECISION):
        return format_currency(given, code.upper(), locale=locale)


def percent(value: Any, digits: int | None = None) -> str:
    """Write a share of one as a percentage, with ``digits`` behind its decimal point; none by default."""
    from babel.numbers import format_percent

    given, decimals, locale = _number("percent", value), _decimals("percent", digits), current_locale()
    own = locale.percent_formats[None].pattern
    with localcontext(prec=_PRECISION):
        return format_percent(given, own.replace("0", f"0{decimals or ''}", 1), locale=locale)


def plural(value: Any, other: Any, **forms: Any) -> str:
    """Return the text for so many things, by the language's plural forms (CLDR): ``one``, ``few``, ``many``, ``other``.

    ``{n}`` in it becomes the number. A form that is not given is ``other``.
    """
    if unknown := next((name for name in forms if name not in _CATEGORIES), None):
        _fail("plural", f"has no form {quoted(unknown, 20)}; there are {', '.join(_CATEGORIES)}")
    given = _number("plural", value)
    with localcontext(prec=_PRECISION):
        text = forms.get(current_locale().plural_form(abs(given)), other)
    if not isinstance(text, str):
        _fail("plural", "needs a text for each form")
    return text.replace("{n}", number(value)) if "{n}" in text else text


def date_(value: Any, format: Any = "medium", timezone: Any = None) -> str:  # noqa: A002 - the name in templates
    """Write the date of ``value``: short, medium, long, full, or by a pattern of CLDR."""
    from babel.dates import format_date

    when = _moment("date", value, timezone)
    return _written("date", lambda locale: format_date(when, _format("date", format), locale))


def time_(value: Any, format: Any = "short", timezone: Any = None) -> str:  # noqa: A002 - as above
    """Write the time of day of ``value``: short, medium (with seconds), long, full, or by a pattern of CLDR."""
    from babel.dates import format_time

    when = _with_time("time", value, timezone)
    return _written("time", lambda locale: format_time(when, _format("time", format), locale=locale))


def datetime_(value: Any, format: Any = "medium", timezone: Any = None) -> str:  # noqa: A002 - as above
    """Write date and time of ``value``. short, medium, long and full are forms of the date; the time has no seconds."""
    from babel.dates import format_date, format_datetime, format_time

    when, form = _with_time("datetime", value, timezone), _format("datetime", format)

    def written(locale: Any) -> str:
        if form not in _FORMATS:
            return format_datetime(when, form, locale=locale)
        both = str(locale.datetime_formats[form]).replace("'", "")
        parts = {"{0}": format_time(when, "short", locale=locale), "{1}": format_date(when, form, locale)}
        return re.sub(r"\{[01]\}", lambda found: parts[found[0]], both)

    return _written("datetime", written)


def _written(name: str, write: Callable[[Any], str]) -> str:
    locale = current_locale()
    try:
        return write(locale)
    except (ValueError, KeyError, AttributeError, TypeError):  # a field that is none, or that the value does not have
        _fail(name, "is given a format that does not fit; write short, medium, long, full or a pattern such as d. MMMM")


def _number(name: str, value: Any) -> Decimal:
    """Return the number that ``value`` is, or that it spells."""
    _begin(value)
    given = None
    if value.__class__ in (int, float, Decimal) or (isinstance(value, str) and len(value) <= _LONGEST_NUMBER):
        with suppress(InvalidOperation, ValueError):  # the second for an integer with too many digits
            given = Decimal(str(value).strip())
    if given is None or not given.is_finite():
        _fail(name, "is given something other than a number, such as 19.9 or '19.90'")
    if given.adjusted() >= _MOST_DIGITS:
        _fail(name, f"is given a number with more than {_MOST_DIGITS} digits")
    return given or abs(given)  # there is no -0 in a mail


def _decimals(name: str, digits: Any) -> str | None:
    """Return the part of a pattern behind the decimal point; None for the language's own."""
    if digits is None:
        return None
    if digits.__class__ is not int or not 0 <= digits <= _MOST_DIGITS:
        _fail(name, f"needs 0 to {_MOST_DIGITS} digits")
    return f".{'0' * digits}" if digits else ""


def _moment(name: str, value: Any, timezone: Any) -> date | datetime:
    """Return the date or the time that ``value`` is or spells (ISO 8601), in the zone of the rendering."""
    _begin(value)
    zone, when = time_zone(timezone), _read_time(value)
    if when is None:
        _fail(name, "is given something other than a date or a time in ISO 8601, such as 2026-12-24T09:00:00Z")
    if zone is None or not isinstance(when, datetime) or when.tzinfo is None:
        return when
    try:
        return when.astimezone(zone)
    except (OverflowError, ValueError):
        _fail(name, "is given a time that this time zone does not have")


def _with_time(name: str, value: Any, timezone: Any) -> datetime:
    when = _moment(name, value, timezone)
    if not isinstance(when, datetime):
        _fail(name, "is given a date without a time")
    return when


def _read_time(value: Any) -> date | datetime | None:
    if isinstance(value, date):
        return value
    if not isinstance(value, str) or len(value) > _LONGEST_TIME:
        return None
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(value.strip())
        except ValueError:
            continue
    return None


def _format(name: str, given: Any) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= _LONGEST_PATTERN:
        _fail(name, f"needs a format of at most {_LONGEST_PATTERN} characters: short, medium, long, full or a pattern")
    return given


def _begin(value: Any) -> None:
    """Use up the steps of a call. Raise the error of a missing variable if ``value`` is missing."""
    current_budget().use_time(_NANOSECONDS)
    if isinstance(value, Undefined):
        str(value)


def _fail(name: str, why: str) -> NoReturn:
    raise TemplateRuntimeError(f"the filter {name} {why}")


LANGUAGE_FILTERS: dict[str, Callable[..., Any]] = {
    "currency": currency,
    "date": date_,
    "datetime": datetime_,
    "number": number,
    "percent": percent,
    "plural": plural,
    "time": time_,
}
