"""What ``make mutants`` changes, and what it leaves alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mutants.changes import mutants

import mailbatch


def changes(source: str) -> set[str]:
    return {m.applied_to(source.encode()).decode() for m in mutants("module.py", source.encode())}


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = a < b", "x = (a <= b)"),
        ("x = a and b", "x = (a or b)"),
        ("x = a and b", "x = (b)"),
        ("x = a + b", "x = (a - b)"),
        ("x = not a", "x = (a)"),
        ("x = 3", "x = (4)"),
        ("x = {'a': True}", "x = {('aX'): True}"),
        ("x = a if b else c", "x = a if True else c"),
        ("x = [a for a in b if a]", "x = [a for a in b if False]"),
        ("def f():\n    return a", "def f():\n    return None"),
        ("if a:\n    b()", "if False:\n    b()"),
        ("if a:\n    b()", "if a:\n    pass"),
        ("x = select(a).where(b).limit(c)", "x = (select(a)).limit(c)"),
        ("x = a.in_(b)", "x = (a.not_in(b))"),
        ("x = 'ä', a == b", "x = 'ä', (a != b)"),
    ],
)
def test_a_change_is_made_where_it_stands(source, changed):
    assert changed in changes(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "def f(x: int | None) -> list[3]:\n    '''A docstring.'''",
        "x: Annotated[int, 3]",
        "@dataclass(frozen=True)\nclass A(B[3]):\n    __slots__ = ('a', 'b')",
        "if TYPE_CHECKING:\n    x = 3",
        "from a import b",
        "log.warning('count', 3, a + b)",
        "assert_never(x)",
        "x = isinstance(a, Cat | Dog)",
        "x = f'a{b + 3}'",
    ],
)
def test_what_no_test_reads_is_left_alone(source):
    assert not changes(source)


def test_every_change_of_a_module_of_ours_is_another_valid_module():
    path = Path(mailbatch.__file__).parent / "domain" / "retry.py"
    source = path.read_bytes()
    drawn = mutants("retry.py", source)
    assert len(drawn) > 20
    for mutant in drawn:
        assert ast.dump(ast.parse(mutant.applied_to(source))) != ast.dump(ast.parse(source)), mutant
