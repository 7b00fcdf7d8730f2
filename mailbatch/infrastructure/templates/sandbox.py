"""Jinja2 in a box: no way to the interpreter, no amplifier of memory, and a count of steps that ends every loop.

Jinja2's own sandbox keeps templates from Python's internals, but bounds only ``range``. Here, beside that:

- what can make a long value of a short one is measured before it is made (``*``, ``**``, ``%``, ``+``, ``~``, padding
  filters and methods, ``join``, ``replace``, set blocks, macros); filters and methods not named here do not exist;
- each turn of a loop, each call and each include is a step; steps and seconds are limited;
- what is written is counted: into macros and set blocks all of it, elsewhere what is long (who renders counts it all);
- what all values together take is weighed now and then, and when one of them is big;
- an operation that no step can interrupt (a search, a sort, a comparison of lists in lists, a regular expression) is
  estimated before it begins, from the sizes of all that it is given, and uses up as many steps as it takes time.
"""

from __future__ import annotations

import re
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateNotFound, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, operators
from jinja2.runtime import LoopContext, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import escape

from mailbatch.infrastructure.templates.budget import (
    WIDEST,
    added,
    budget,
    gathered,
    multiplied,
    raised,
    remained,
    subtracted,
)
from mailbatch.infrastructure.templates.comparing import MAKERS_OF_DICTS, MOST_KEYS, among, compared, hashable, keyed
from mailbatch.infrastructure.templates.filters import (
    measure_method,
    measured_filters,
    measured_format,
    measured_tests,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2 import BaseLoader
    from jinja2.compiler import Frame
    from jinja2.runtime import Context

TOKENS = 100_000
"""Tokens of a source that the compiler is given at most."""
CALL = 10
"""Steps that a call or an include costs, for it takes that much longer than a turn of a loop."""
LONG = 4_096
"""Characters of a value beyond which it is counted before it is written."""
_SMALL_SOURCE = 65_536
_TEXT_METHODS = frozenset(
    """capitalize casefold center count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric
    isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust
    rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
)
_METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS,
    bytes: frozenset(),
    int: frozenset(),
    float: frozenset({"is_integer"}),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
}
_OPERATORS: dict[str, Callable[[Any, Any], None]] = {
    "+": added,
    "*": multiplied,
    "**": raised,
    "%": remained,
}


# What a dict has itself goes before its keys (``{{ item.items }}``), as everywhere in Jinja2.
_OF_DICTS = frozenset(dir(dict))
_OF_LOOPS = frozenset(name for name in dir(LoopContext) if not name.startswith("_"))
_METHOD = (MethodType, BuiltinMethodType)
_MARKS = re.compile("[&<>'\"]")


class _Counting(CodeGenerator):
    """Lets every loop and include be counted, every ``~`` be measured, and everything written be counted.

    What nearly all values are, short texts, is written by code in place; Jinja2's own calls three functions for each.
    """

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - Jinja2 names its visitors so
        counted = nodes.EnvironmentAttribute("counted")
        node.iter = nodes.Call(counted, [node.iter], [], None, None).set_lineno(node.lineno)
        node.iter.set_environment(self.environment)
        super().visit_For(node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: FBT001, FBT002, N802
        if isinstance(node.node, nodes.EnvironmentAttribute):  # which no source can write, but methods here do
            self.write(f"environment.{node.node.name}(")
            self.visit(node.args[0], frame)
            self.write(")")
        else:
            super().visit_Call(node, frame, forward_caller=forward_caller)

    def visit_Include(self, node: nodes.Include, frame: Frame) -> None:  # noqa: N802 - as above
        self.writeline("environment.include()")
        super().visit_Include(node, frame)

    def buffer(self, frame: Frame) -> None:
        super().buffer(frame)
        self.writeline(f"{frame.buffer} = environment.buffer()")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: object) -> None:  # noqa: ARG002
        self.write("(value if (value := (")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: object) -> None:  # noqa: ARG002
        plain = f")).__class__ is str and len(value) <= {LONG}"
        if frame.eval_ctx.volatile:
            self.write(f"{plain} and not context.eval_ctx.autoescape else ")
            self.write("environment.written(value, context.eval_ctx.autoescape))")
        elif frame.eval_ctx.autoescape:
            self.write(f"{plain} and not environment.marks(value) else environment.written(value, True))")
        else:
            self.write(f"{plain} else environment.written(value, False))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802 - as above
        if isinstance(node.arg, nodes.Slice):
            self.write("environment.sliced(")
            super().visit_Getitem(node, frame)
            self.write(")")
        else:
            if not isinstance(node.arg, nodes.Const):
                node.arg = self._hashable(node.arg)
            super().visit_Getitem(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802 - as above
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if any(_is_short(side) for side in sides[1:]) and len(node.ops) == 1 and "in" not in node.ops[0].op:
            super().visit_Compare(node, frame)
        elif len(node.ops) == 1:
            called = {"in": "(environment.among(", "notin": "(not environment.among("}
            self.write(called.get(node.ops[0].op, f"(environment.compared({node.ops[0].op!r}, "))
            self._visit_all(sides, frame)
        else:
            # A chain looks at its next side only if it has to: each is weighed where it stands.
            self.write("(environment.weighed(")
            self.visit(node.expr, frame)
            self.write(")")
            for operand in node.ops:
                self.write(f" {operators[operand.op]} environment.weighed(")
                self.visit(operand.expr, frame)
                self.write(")")
            self.write(")")

    def _visit_all(self, parts: list[nodes.Expr], frame: Frame) -> None:
        for part in parts:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Sub(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802 - as above
        if _is_short(node.left) or _is_short(node.right):
            super().visit_Sub(node, frame)
        else:
            self.write("(environment.subtracted(")
            self._visit_all([node.left, node.right], frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802 - as above
        odd = [item for item in node.items if not _is_text(item.key)]
        if len(odd) > MOST_KEYS:
            raise TemplateSyntaxError(f"has a dict of more than {MOST_KEYS} keys that are no texts", node.lineno)
        for item in odd:
            item.key = self._hashable(item.key)
        super().visit_Dict(node, frame)

    def _hashable(self, key: nodes.Expr) -> nodes.Expr:
        call = nodes.Call(nodes.EnvironmentAttribute("hashable"), [key], [], None, None)
        call.set_environment(self.environment)
        return call

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - as above
        self.write("environment.joined(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


def _is_short(node: nodes.Expr) -> bool:
    """Whether ``node`` is a constant with which anything is compared at once."""
    return isinstance(node, nodes.Const) and not (isinstance(node.value, str) and len(node.value) > LONG)


def _is_text(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


class _Buffer(list[str]):
    """What a macro or a set block has written so far."""

    def append(self, piece: str) -> None:
        budget().write(len(piece))
        super().append(piece)

    def extend(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.append(piece)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment for text (``html=False``) or for HTML, where every value is escaped, in includes as well.

    Compile and render only inside ``spending(Budget(…))``.
    """

    code_generator_class = _Counting
    intercepted_binops = frozenset(_OPERATORS)
    buffer = _Buffer
    marks = staticmethod(_MARKS.search)
    among = staticmethod(among)
    compared = staticmethod(compared)
    hashable = staticmethod(hashable)
    subtracted = staticmethod(subtracted)

    def __init__(self, *, html: bool, loader: BaseLoader | None = None) -> None:
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            loader=loader,
            optimized=False,  # which would spell out into the code what filters make of constants
        )
        del self.globals["lipsum"]
        self.filters = measured_filters()
        self.tests = measured_tests()

    def concat(self, parts: Iterable[str]) -> str:
        """Join what a set block, a macro or a call block wrote."""
        pieces = list(parts)
        budget().room(sum(map(len, pieces)))
        return "".join(pieces)

    def counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """Let each turn of a loop be a step."""
        step = budget().step
        for value in values:
            step()
            yield value

    def select_template(self, names: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the names be few and short enough for the error that tells them all."""
        names = gathered(names)
        budget().weigh(names)
        return super().select_template(names, *args, **kwargs)

    def _load_template(self, name: Any, globals: Any) -> Any:  # noqa: A002 - Jinja2's name
        """Let each file that is looked for be many steps; its name is a text of some length."""
        budget().step(10 * CALL)
        if not isinstance(name, str) or len(name) > WIDEST:
            raise TemplateNotFound(f"a name that is no text of at most {WIDEST} characters")
        return super()._load_template(name, globals)

    def include(self) -> None:
        """Let each include be as many steps as a call."""
        budget().step(CALL)

    def written(self, value: Any, escaped: bool) -> str:  # noqa: FBT001 - called by generated code
        """Answer ``value`` as it is written."""
        if value.__class__ is int or value.__class__ is float:
            return str(value)
        budget().weigh(value)
        text = escape(value) if escaped else str(value)
        budget().write(len(text))
        return text

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Answer ``obj.attribute``; the values of dicts, which most are, without looking for an attribute first."""
        if obj.__class__ is dict and attribute not in _OF_DICTS:
            try:
                return obj[attribute]
            except KeyError:
                return self.undefined(obj=obj, name=attribute)
        if obj.__class__ is LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def weighed(self, value: Any) -> Any:
        """Return ``value`` if it may be spelled out."""
        budget().weigh(value)
        return value

    def joined(self, context: Context, values: tuple[Any, ...]) -> str:
        """Do what ``~`` does."""
        budget().weigh(values)
        text: str = markup_join(values) if context.eval_ctx.autoescape else str_join(values)
        budget().made(text)
        return text

    def sliced(self, value: Any) -> Any:
        """Let a slice be weighed."""
        return budget().made(value)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow, of the built-in types, only the methods that are known to do no harm."""
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Measure ``format`` and ``format_map`` of a text, which are not called as other methods are."""
        method = super().wrap_str_format(value)
        return measured_format(value.__self__, method) if method is not None else None

    # The names are Jinja2's: a template's own keyword arguments must not collide with them.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        """Let each call be a step, and look at what it answers."""
        budget().step(CALL)
        if isinstance(__obj, LoopContext) and args:
            args = (__self.counted(args[0]), *args[1:])
        elif isinstance(__obj, _METHOD):
            args = measure_method(__obj, args, kwargs)
        elif args and any(__obj is maker for maker in MAKERS_OF_DICTS):
            args = (keyed(args[0]), *args[1:])
        return budget().check(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Measure what an operator would make before it makes it."""
        _OPERATORS[operator](left, right)
        return budget().made(super().call_binop(context, operator, left, right))

    def refuse_if_vast(self, source: str, name: str) -> None:
        """Raise ``TemplateSyntaxError`` for a source on which the compiler would spend minutes."""
        if len(source) <= _SMALL_SOURCE:
            return
        for count, token in enumerate(self.lexer.tokeniter(source, name)):
            if count > TOKENS:
                raise TemplateSyntaxError(f"has more than {TOKENS} tokens; keep data in the context", token[0], name)
