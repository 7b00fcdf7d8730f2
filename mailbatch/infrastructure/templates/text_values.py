"""Decides which values a mail may show, and writes them as text.

A context is JSON, and templates run on Python. Without these rules a customer reads ``Dear None`` or
``<built-in method …>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from math import isfinite
from typing import Any

from jinja2 import TemplateRuntimeError, Undefined, UndefinedError
from jinja2.runtime import LoopContext

# Python writes floats between these two without an exponent.
_LEAST_PLAIN, _LEAST_VAST = 1e-4, 1e16
_WITH_FLOATS = frozenset({float, tuple})
_NAMED_FIELD = re.compile(r"%\(([^)]*)\)")


def null_error(what: str) -> UndefinedError:
    """Return the error for a null whose text is asked for: the same as for a missing variable."""
    return UndefinedError(f"{what} is null")


def as_text(value: Any, what: str) -> Any:
    """Return ``value`` if it is a text or markup, else the text by which a mail shows it; ``what`` is its name.

    Numbers are written without an exponent.

    Raises:
        UndefinedError: for null and for a missing value.
        TemplateRuntimeError: for a list, an object, a function and everything else that has no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (float, Decimal)):
        return number_text(value, what)
    if value is None:
        raise null_error(what)
    if isinstance(value, (int, date, time, Undefined)):
        return str(value)  # which raises if it is undefined
    if hasattr(type(value), "__html__"):
        return value
    raise TemplateRuntimeError(f"{what} is {_kind(value)}")


def number_text(value: float | Decimal, what: str) -> str:
    """Return the digits of a number, without an exponent. Raises ``TemplateRuntimeError`` if it is not finite."""
    text = str(value)
    if text[-1].isdigit() and "e" not in text and "E" not in text:
        return text if value or text[0] != "-" else text[1:]
    if not isfinite(value):
        raise TemplateRuntimeError(f"{what} is {text}, not a number that can be written")
    return format(Decimal(text), "f")


class _Digits(float):
    """A float whose text has no exponent, wherever Python writes it: ``%s``, ``format``, ``str``."""

    __slots__ = ()

    def __str__(self) -> str:
        return number_text(float(self), "a number")

    def __format__(self, spec: str) -> str:
        if "." in spec or spec[-1:].isalpha() or spec[-1:] == "%":
            return super().__format__(spec)
        return format(Decimal(float.__repr__(self)), f"{spec}f")


def without_exponents(values: Any) -> Any:
    """Return ``values``, so that Python writes no float in it with an exponent; also in tuples, a list or a dict."""
    kind = values.__class__
    if kind is float:
        return values if _LEAST_PLAIN <= abs(values) < _LEAST_VAST else _Digits(values)
    if kind is dict:
        return {name: without_exponents(one) if one.__class__ is float else one for name, one in values.items()}
    if kind is tuple or kind is list:
        return kind(without_exponents(one) if one.__class__ in _WITH_FLOATS else one for one in values)
    return values


def ensure_formattable(text: str, values: Any) -> None:
    """Raise as ``as_text`` unless each of ``values`` that ``text % values`` writes has a text."""
    parts = values if isinstance(values, tuple) else (values,)
    if isinstance(values, dict) and (names := _NAMED_FIELD.findall(text)):
        parts = tuple(values[name] for name in names if name in values)
    for part in parts:
        kind = part.__class__
        if kind is not str and kind is not int and not (kind is float and isfinite(part)):
            as_text(part, "a value that is formatted")


def _kind(value: Any) -> str:
    """Say what ``value`` is, and how a template gets a text from it."""
    if isinstance(value, LoopContext):
        return "the loop itself; write loop.index"
    if callable(value):
        return "a function; call it, or write a value"
    if isinstance(value, Mapping):
        return "an object; write one of its values, or use |tojson"
    if isinstance(value, bytes):
        return "bytes, not text"
    if isinstance(value, Iterable):
        return "a list; loop over it, or use |join(', ')"
    return f"a {type(value).__name__}, not a text or a number"
