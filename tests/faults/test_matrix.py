"""The page about faults says what is tried, and it is."""

from __future__ import annotations

import re

from faults.__main__ import ON_SQLITE, TABLE
from faults.matrix import MATRIX, lines
from faults.tally import PAGE, ROOT

ROWS = {fault.row.partition("/")[0] for fault in [*TABLE, *ON_SQLITE]} | {"1r", "1s", "2r"}
TESTS = re.findall(
    r"^def (test_\w+)", "\n".join(path.read_text() for path in ROOT.glob("tests/*/test_*.py")), re.MULTILINE
)


def test_every_fault_is_tried_or_says_why_not():
    for known in MATRIX:
        assert known.rows or known.tests or known.left, known
        assert set(known.rows) <= ROWS, known
        assert all(any(name.startswith(test) for name in TESTS) for test in known.tests), known


def test_the_page_says_so():
    assert "\n".join(lines()) in PAGE.read_text(encoding="utf-8"), "PYTHONPATH=tests python -m faults.matrix writes it"
