"""Every port has a suite in ``tests/contract``, which its fake and its adapters pass.

Docstrings say which belong together: of a fake and of an adapter "the port ``X``", of a suite "``X``".
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PORTS = ROOT / "mailbatch/application/ports"
SHARED = ("contract/conftest.py", "support/table_worlds.py")
"""Where worlds are made that several suites use."""
FUNCTIONS = {
    "AddressReader": "integration/test_mime_addresses.py",
    "EnvelopeReader": "unit/test_message_envelope.py",
    "HeaderCheck": "integration/test_mime_readers.py",
    "LetterWriter": "contract/test_composer.py",
    "MessageCheck": "unit/test_message_corpus.py",
    "MessageReader": "unit/test_message_view.py",
    "MessageWriter": "unit/test_finished_message.py",
}
"""Ports that need no fake, and where their adapters are tested.

Each is one function without I/O, and has one adapter. So the tests of the use cases take that adapter itself.
"""
_NAMED = re.compile(r"ports? (``\w+``(?:(?:,| and) ``\w+``)*)")


def modules(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the classes and functions of a module with their docstrings."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, ast.get_docstring(node) or ""


def implementations(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what says that it is a port, with that port's name."""
    for _path, tree in modules(folder):
        for name, docstring in documented(tree):
            for named in _NAMED.findall(docstring):
                yield from ((name, port) for port in re.findall(r"``(\w+)``", named) if port in DECLARED)


def _declared() -> Iterator[str]:
    for _path, tree in modules(PORTS):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "Protocol" for base in node.bases):
                yield node.name


DECLARED = list(_declared())
FAKED = {port for _, port in implementations(ROOT / "tests/support")}
ADAPTERS = [found for found in implementations(ROOT / "mailbatch") if found[1] not in FUNCTIONS]
SUITES = [(path, ast.get_docstring(tree) or "") for path, tree in modules(ROOT / "tests/contract")]


def suites_of(port: str) -> list[Path]:
    return [path for path, docstring in SUITES if f"``{port}``" in docstring]


@pytest.mark.parametrize("port", sorted(set(DECLARED) - set(FUNCTIONS)))
def test_a_port_has_a_suite_and_a_fake(port):
    assert suites_of(port), f"no docstring of a module in tests/contract names ``{port}``"
    assert port in FAKED, f"no docstring in tests/support says: the port ``{port}``"


@pytest.mark.parametrize(("adapter", "port"), [found for found in ADAPTERS if not found[0].startswith("_")])
def test_every_adapter_is_in_the_suite_of_its_port(adapter, port):
    texts = [path.read_text("utf-8") for path in (*suites_of(port), *(ROOT / "tests" / name for name in SHARED))]
    assert any(adapter in text for text in texts), f"no suite of the port {port} names {adapter}"


def test_every_port_has_an_adapter():
    assert {port for _, port in ADAPTERS} | set(FUNCTIONS) == set(DECLARED)


@pytest.mark.parametrize(("port", "tests"), sorted(FUNCTIONS.items()))
def test_a_port_of_one_function_has_tests_of_its_adapter(port, tests):
    assert port in DECLARED
    assert (ROOT / "tests" / tests).is_file()
