"""The shape of the package: imports go downwards, ``bootstrap`` builds the use cases, names are used once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mailbatch"


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


def test_no_way_in_builds_a_use_case():
    names = {
        name for path in (PACKAGE / "application").rglob("*.py") for name in use_cases(ast.parse(path.read_text()))
    }
    assert len(names) > 30
    built = [
        f"{path.relative_to(PACKAGE)}: {called.func.id}"
        for path in ways_in()
        for called in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(called, ast.Call) and isinstance(called.func, ast.Name) and called.func.id in names
    ]
    assert built == []


def use_cases(tree: ast.Module) -> Iterator[str]:
    """Yield the classes that are called to do their work."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = {method.name for method in node.body if isinstance(method, ast.FunctionDef)}
            if "__call__" in methods:
                yield node.name


def ways_in() -> Iterator[Path]:
    yield from (PACKAGE / "interfaces").rglob("*.py")
    yield from (PACKAGE / "batch").rglob("*.py")
    yield PACKAGE / "celery.py"


def test_the_domain_uses_only_the_standard_library():
    modules = "errors, message, outcome, reservation, retry, run, schedule, lifecycle"
    code = (
        f"import sys; from mailbatch.domain import {modules}\n"
        "print({m.partition('.')[0] for m in sys.modules if not m.startswith('_')}"
        " - set(sys.stdlib_module_names) - {'mailbatch'})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_class_has_a_name_of_its_own():
    classes = [
        (node.name, path.relative_to(PACKAGE).as_posix())
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not is_schema(node)
    ]
    times = Counter(name for name, _ in classes)
    assert [found for found in classes if times[found[0]] > 1] == []


def is_schema(node: ast.ClassDef) -> bool:
    """Return whether it describes JSON or TOML: then it may be called as the value that is made of that."""
    return any(getattr(base, "id", "") in {"BaseModel", "Table"} for base in node.bases)
