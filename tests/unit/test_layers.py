"""Imports go downwards only, domain and application import no framework, and a large module says why it is large."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_go_downwards_only():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_a_module_above_300_lines_says_why_in_its_first_lines():
    large = [
        (path.relative_to(ROOT).as_posix(), ast.get_docstring(ast.parse(text)) or "")
        for path in (ROOT / "mailbatch").rglob("*.py")
        if (text := path.read_text("utf-8")).count("\n") > 300
    ]
    assert [name for name, docstring in large if "300 lines" not in docstring] == []


def test_the_domain_uses_only_the_standard_library():
    modules = "errors, message, outcome, reservation, retry, run, schedule, lifecycle"
    code = (
        f"import sys; from mailbatch.domain import {modules}\n"
        "print({m.partition('.')[0] for m in sys.modules if not m.startswith('_')}"
        " - set(sys.stdlib_module_names) - {'mailbatch'})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
