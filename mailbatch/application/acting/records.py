"""The records of a file of mails: those that can be read, those that cannot, and files that cannot be read at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailbatch.application.acting.columns import meant
from mailbatch.application.acting.draft_values import make_draft, shown
from mailbatch.domain.errors import InvalidReservation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mailbatch.application.acting.reserve import Draft

LONGEST_LINE = 64 * 2**20
"""Bytes of one line that are read at most. A longer line means that this is another kind of file."""
END_OF_FILE = b"\x1a"
"""Ctrl-Z, by which DOS ended its files; some programs still write it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file. ``line`` counts from 1: the line on which the record begins.

    ``file``: its name, if the record is a file of a folder.
    """

    line: int
    draft: Draft
    file: str | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A record that cannot be reserved. Each reason is one line of text."""

    line: int
    reasons: tuple[str, ...]
    file: str | None = None


def read_record(line: int, given: Mapping[str, Any], variables: Mapping[str, Any]) -> Record | BadLine:
    """Make a draft of the values ``given`` by column; ``variables`` go into its context."""
    try:
        return Record(line, make_draft(given, variables))
    except InvalidReservation as error:
        return BadLine(line, tuple(error.problems))


class UnreadableFile(InvalidReservation):
    """A file of which no line can be read, because its columns or its encoding are wrong."""

    def __init__(self, *problems: str) -> None:
        super().__init__(list(problems))


def misnamed_columns(names: Iterable[str]) -> Iterator[str]:
    """Yield a problem for each of ``names`` that is probably meant for a column of the table."""
    for name in names:
        if column := meant(name):
            yield (
                f"{shown(name)} is no column; did you mean {column}? Rename it, or say that it is a variable: "
                f"--context-column {shown(name)}"
            )
