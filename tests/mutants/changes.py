"""Every small change that may be made to a module: one operator, constant, condition, return value or statement.

Docstrings, annotations, log calls, messages of errors and ``TYPE_CHECKING`` blocks stay: no test should read them.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch

OPERATORS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PAIRS = [
    ("all", "any"),
    ("and_", "or_"),
    ("asc", "desc"),
    ("in_", "not_in"),
    ("is_", "is_not"),
    ("like", "not_like"),
    ("max", "min"),
    ("union", "union_all"),
]
NAMES = {a: b for one, other in _PAIRS for a, b in ((one, other), (other, one))}
"""Functions and SQL operators that are written with a name."""
DROPPED = {"distinct", "group_by", "having", "limit", "offset", "order_by", "where", "with_for_update"}
"""Clauses of an SQL statement: without its clause the statement stays valid."""
_LOGGERS = {"log", "logger", "logging", "warnings"}


@dataclass(frozen=True)
class Mutant:
    """``file`` with ``after`` in the place of the text from ``start`` to ``end`` (offsets in bytes)."""

    file: str
    lines: range
    """The lines of the statement, without the statements inside it."""
    in_function: bool
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.lines.start}: {_short(self.before)} → {_short(self.after)}"

    def applied_to(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tree = ast.parse(source)
    found = set()
    for statement, inside in _statements(tree.body, inside=False):
        for node, after in _of_statement(statement):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            before = source[start:end].decode()
            if after != before:
                found.add(Mutant(file, _lines(statement), inside, start, end, before, after))
    return sorted(found, key=lambda m: (m.start, m.end, m.after))


def _statements(body: list[ast.stmt], *, inside: bool) -> Iterator[tuple[ast.stmt, bool]]:
    for statement in body:
        if _is_unread(statement):
            continue
        yield statement, inside
        within = inside or isinstance(statement, ast.FunctionDef)
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from _statements([child], inside=within)
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                yield from _statements(child.body, inside=within)


def _lines(statement: ast.stmt) -> range:
    """Where a statement is executed; of a compound statement its head only."""
    body = getattr(statement, "body", None) or getattr(statement, "cases", None)
    first = body[0].pattern.lineno if body and isinstance(body[0], ast.match_case) else body and body[0].lineno
    last = max(statement.lineno, first - 1) if first else statement.end_lineno
    return range(statement.lineno, last + 1)


def _is_unread(statement: ast.stmt) -> bool:
    match statement:
        case (
            ast.Expr(value=ast.Constant() | ast.Call(func=ast.Name(id="assert_never")))
            | ast.Import()
            | ast.ImportFrom()
            | ast.Assert()
            | ast.If(test=ast.Name(id="TYPE_CHECKING"))
            | ast.Assign(targets=[ast.Name(id="__all__" | "__slots__" | "__match_args__")])
            | ast.Assign(value=ast.Call(func=ast.Name(id="NewType" | "TypeVar")))
        ):
            return True
        case ast.Expr(value=ast.Call() as call):
            return _is_log(call)
        case _:
            return False


def _is_log(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in _LOGGERS
    )


def _of_statement(statement: ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    """The changes of one statement, without those of the statements in it."""
    if _may_go(statement):
        yield statement, "pass"
    match statement:
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield value, "None"
        case ast.If(test=test) | ast.While(test=test):
            yield from _both_ways(test)
        case ast.Raise():
            return
        case _:
            pass
    for expression in _expressions(statement):
        yield from _of_expression(expression)


def _may_go(statement: ast.stmt) -> bool:
    """Whether the module can do without it. Without a name's only assignment it could not run at all."""
    match statement:
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.AugAssign() | ast.Delete() | ast.Raise():
            return True
        case ast.Continue() | ast.Break():
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return True
        case _:
            return False


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions that run when the statement runs: no annotation, no decorator, no base class."""
    match statement:
        case ast.FunctionDef():
            yield from statement.args.defaults
            yield from (one for one in statement.args.kw_defaults if one)
        case ast.ClassDef():
            return
        case ast.AnnAssign():
            yield from [statement.value] if statement.value else []
        case ast.Try() | ast.Match():
            yield from [statement.subject] if isinstance(statement, ast.Match) else []
            for case in getattr(statement, "cases", []):
                yield from [case.guard] if case.guard else []
        case ast.With():
            yield from (item.context_expr for item in statement.items)
        case _:
            yield from (child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr))


def _of_expression(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and _is_log(node)):
        return
    for changed in _changed(node):
        yield node, f"({ast.unparse(changed)})"
    if isinstance(node, ast.IfExp):
        yield from _both_ways(node.test)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            for test in child.ifs:
                yield from _both_ways(test)
        yield from _of_expression(child)


def _both_ways(test: ast.expr) -> Iterator[tuple[ast.AST, str]]:
    if not isinstance(test, ast.Constant):
        yield test, "True"
        yield test, "False"


@singledispatch
def _changed(_node: ast.AST) -> Iterator[ast.AST]:
    """The node with one small change each."""
    yield from ()


@_changed.register
def _(node: ast.Compare) -> Iterator[ast.AST]:
    for i, operator in enumerate(node.ops):
        other = copy.deepcopy(node)
        other.ops[i] = OPERATORS[type(operator)]()
        yield other


@_changed.register
def _(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(OPERATORS[type(node.op)](), node.values)
    for i in range(len(node.values)):
        rest = node.values[:i] + node.values[i + 1 :]
        yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


@_changed.register
def _(node: ast.BinOp) -> Iterator[ast.AST]:
    untouched = _is_text(node.left) or _is_text(node.right) or _is_class(node.left) or _is_class(node.right)
    if type(node.op) in OPERATORS and not untouched:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)


@_changed.register
def _(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if not isinstance(node.operand, ast.Constant):
        yield node.operand


@_changed.register
def _(node: ast.Constant) -> Iterator[ast.AST]:
    match node.value:
        case bool(value):
            yield ast.Constant(not value)
        case int(value) | float(value):
            yield ast.Constant(value + 1)
        case str(value) if value and not any(c.isspace() for c in value.strip("\r\n")):
            yield ast.Constant(f"{value}X")
        case bytes(value) if value:
            yield ast.Constant(value + b"X")


@_changed.register
def _(node: ast.Call) -> Iterator[ast.AST]:
    match node.func:
        case ast.Name(id=name) if name in NAMES:
            yield ast.Call(ast.Name(NAMES[name]), node.args, node.keywords)
        case ast.Attribute(value=value, attr=name):
            if name in NAMES:
                yield ast.Call(ast.Attribute(value, NAMES[name]), node.args, node.keywords)
            if name in DROPPED:
                yield value
        case _:
            pass


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_class(node: ast.expr) -> bool:
    """Whether ``A | B`` is a union of types."""
    match node:
        case ast.Constant(value=None) | ast.Name(id="bool" | "bytes" | "float" | "int" | "str"):
            return True
        case ast.Name(id=name):
            return not name.isupper() and name.lstrip("_")[:1].isupper()
        case _:
            return False


def _short(text: str, most: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
