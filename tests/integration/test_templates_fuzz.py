"""No single expression that the sandbox accepts takes longer than its share, whatever its values are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.long import IS_LONG

TESTS = Path(__file__).parent.parent
SEED = int(os.environ.get("FUZZ_SEED", "9"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "20" if IS_LONG else "3"))
"""How long it looks; more is for whoever changes the sandbox."""
SHARE = 3.0
"""Seconds of the processor: one for the operation by its estimate, and as much for measuring it and a slow machine."""


def test_no_expression_takes_longer_than_its_share():
    looking = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.expressions", str(SEED), str(SECONDS)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
    )
    lines = [json.loads(line) for line in looking.stdout.splitlines()]
    assert looking.returncode == 0, f"{looking.stderr[-500:]} in {lines[-1]}"
    tried = list(zip(lines[::2], lines[1::2], strict=False))
    assert len(tried) >= 5
    assert not [one for one in tried if one[1]["seconds"] > SHARE]
