"""docs/lineage.md keeps its word: each row that is asked for is there, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "lineage.md").read_text(encoding="utf-8")
ASKED = [
    *(f"S0.{n}" for n in range(1, 11)),
    *(f"S1.{n}" for n in range(1, 13)),
    *(f"S2.{n}" for n in range(1, 7)),
    *(f"S3.{n}" for n in range(1, 12)),
    *(f"S4.{n}" for n in (1, 2, 3, 4, 5, 6, 8, 9, 10)),
]
ROWS = {
    row: (does, shown) for row, does, shown in re.findall(r"^\| (S\d\.\d+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
}


@cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_row_that_is_asked_for_is_there_in_order():
    assert list(ROWS) == ASKED


@pytest.mark.parametrize("row", ASKED)
def test_a_row_says_what_is_done_and_names_its_tests(row):
    does, shown = ROWS[row]
    assert does.endswith(".")
    assert re.fullmatch(r"(`[\w/]+\.py::test_\w+`(?: |$))+", shown)


def test_every_test_that_is_named_exists():
    named = re.findall(r"`([^`\s]+\.py)::(\w+)`", PAGE)
    assert len(named) == PAGE.count("::")
    missing = [f"{path}::{name}" for path, name in named if not (TESTS / path).is_file() or name not in named_in(path)]
    assert missing == []
