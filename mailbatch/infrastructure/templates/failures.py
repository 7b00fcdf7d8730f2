"""Describes in one line why a part of a mail could not be rendered, and in which line of which template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from jinja2 import TemplateNotFound, TemplateSyntaxError

if TYPE_CHECKING:
    from pathlib import Path

_PYTHONS_NULL = re.compile(r"'NoneType'|^'None'(?= has no )|\bNoneType\b")
_LONGEST_ERROR = 300
_Failure: TypeAlias = tuple[str, int | None, str]
"""The template file ('' for an inline source), the line in it, and the reason."""


def describe(error: Exception, part: str, file: str, directory: Path | None) -> str:
    """Return one line: which part of the mail failed, in which of its lines, and why.

    ``file`` is the file, or the field of the mail, that was rendered; the error may come from a template that it
    includes.
    """
    name, line, reason = _failure(error, directory)
    if name and name != file and directory:
        part = f"template {name} (included by {part})"
    at = f" line {line}" if line else ""
    return f"{part}{at}: {' '.join(reason[: _LONGEST_ERROR * 10].split())[:_LONGEST_ERROR]}"


def unreadable(error: OSError) -> str:
    """Return the reason without the file's path: readers of a mail's errors need not see this machine's folders."""
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _failure(error: Exception, directory: Path | None) -> _Failure:
    match error:
        case TemplateSyntaxError():
            reason = error.message or "cannot be read"
            hint = "; {# begins a comment: in a style sheet write { #" if "end of comment" in reason else ""
            # The lexer gives the file's path for its name.
            return (error.name or "").removeprefix(f"{directory}/"), error.lineno, reason + hint
        case TemplateNotFound():
            return *_place(error, directory), f"cannot include '{error}': it is not in the template directory"
        case TypeError() if "no loader" in str(error):
            return *_place(error, None), "an inline source cannot include, import or extend; use a named template"
        case UnicodeDecodeError():
            return "", None, f"is not UTF-8 (byte {error.start})"
        case OSError():
            return *_place(error, directory), unreadable(error)
    reason = str(error) if type(error).__module__.startswith(("jinja2", "mailbatch")) else _with_class(error)
    return *_place(error, directory), _PYTHONS_NULL.sub("null", reason)


def _place(error: Exception, directory: Path | None) -> tuple[str, int | None]:
    """Return the innermost template, and the line in it, through which ``error`` came."""
    name, line, trace = "", None, error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if file == "<template>":
            name, line = "", trace.tb_lineno
        elif directory and file.startswith(f"{directory}/"):
            name, line = file.removeprefix(f"{directory}/"), trace.tb_lineno
        trace = trace.tb_next
    return name, line


def _with_class(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
