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
from functools import partial
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import StrictUndefined, TemplateNotFound, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, operators
from jinja2.filters import _GroupTuple
from jinja2.runtime import LoopContext, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from markupsafe import Markup, escape

from mailbatch.infrastructure.templates.budget import (
    WIDEST,
    added,
    budget,
    gathered,
    multiplied,
    raised,
    subtracted,
)
from mailbatch.infrastructure.templates.comparing import MAKERS_OF_DICTS, MOST_KEYS, among, compared, hashable, keyed
from mailbatch.infrastructure.templates.filters import (
    TAKE_NULL,
    measure_formatting,
    measure_method,
    measured_filters,
    measured_format,
    measured_tests,
)
from mailbatch.infrastructure.templates.wording import as_text, null, number_text

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
    _GroupTuple: frozenset({"count", "grouper", "index", "list"}),
    tuple: frozenset({"count", "index"}),
}
_OPERATORS: dict[str, Callable[[Any, Any], None]] = {
    "+": added,
    "*": multiplied,
    "**": raised,
    "%": measure_formatting,
}


_OF_LOOPS = frozenset(name for name in dir(LoopContext) if not name.startswith("_"))
_METHOD = (MethodType, BuiltinMethodType)
_MARKS = re.compile("[&<>'\"]")
_STEPS_OF_A_NAME = 6
_LONGEST_NAME = 80


class _Counting(CodeGenerator):
    """Lets every loop and include be counted, every ``~`` be measured, and everything written be counted.

    What nearly all values are, short texts, is written by code in place; Jinja2's own calls three functions for each.
    """

    _called: nodes.Expr | None = None

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - Jinja2 names its visitors so
        node.iter = self._own("counted", node.iter, nodes.Const(_name(node.iter)))
        super().visit_For(node, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:  # noqa: N802 - as above
        if node.node is not None and node.name not in TAKE_NULL:
            node.node = self._own("given", node.node, nodes.Const(_name(node.node)))
        super().visit_Filter(node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: FBT001, FBT002, N802
        if not isinstance(node.node, nodes.EnvironmentAttribute):
            self._called = node.node
            super().visit_Call(node, frame, forward_caller=forward_caller)
        elif node.node.name == "given":  # in place, because nearly no value is null
            self.write("(value if (value := (")
            self.visit(node.args[0], frame)
            self.write(")) is not None else environment.refuse_null(")
            self.visit(node.args[1], frame)
            self.write("))")
        else:
            self.write(f"environment.{node.node.name}(")
            self._visit_all(node.args, frame, ")")

    def _own(self, name: str, *args: nodes.Node) -> nodes.Expr:
        """Return a call of the environment's method ``name``, which no source can write."""
        call = nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)
        call.environment, call.lineno = self.environment, args[0].lineno
        return call

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802 - as above
        if node is self._called:
            self.write("environment.method(")
            self.visit(node.node, frame)
            self.write(f", {node.attr!r})")
        else:
            super().visit_Getattr(node, frame)

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
        plain, name = f")).__class__ is str and len(value) <= {LONG}", _name(node)
        if frame.eval_ctx.volatile:
            self.write(f"{plain} and not context.eval_ctx.autoescape else ")
            self.write(f"environment.written(value, context.eval_ctx.autoescape, {name!r}))")
        elif frame.eval_ctx.autoescape:
            self.write(f"{plain} and not environment.marks(value) else environment.written(value, True, {name!r}))")
        else:
            self.write(f"{plain} else environment.written(value, False, {name!r}))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802 - as above
        if isinstance(node.arg, nodes.Slice):
            self.write("environment.sliced(")
            super().visit_Getitem(node, frame)
            self.write(")")
        else:
            if not isinstance(node.arg, nodes.Const):
                node.arg = self._own("hashable", node.arg)
            self.write("environment.method_or_item(" if node is self._called else "environment.getitem(")
            self._visit_all([node.node, node.arg], frame, ")")

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

    def _visit_all(self, parts: list[nodes.Expr], frame: Frame, end: str = "))") -> None:
        for part in parts:
            self.visit(part, frame)
            self.write(", ")
        self.write(end)

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
            item.key = self._own("hashable", item.key)
        super().visit_Dict(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - as above
        self.write("environment.joined(context, (")
        self._visit_all(node.nodes, frame, f"), {tuple(map(_name, node.nodes))!r})")


def _is_short(node: nodes.Expr) -> bool:
    """Whether ``node`` is a constant with which anything is compared at once."""
    return isinstance(node, nodes.Const) and not (isinstance(node.value, str) and len(node.value) > LONG)


def _is_text(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def _name(node: nodes.Node) -> str:
    """Return by what name an error speaks of the value of ``node``."""
    written = _as_written(node, _STEPS_OF_A_NAME)
    return "a value" if written == "…" else f"'{written[:_LONGEST_NAME]}'"


def _as_written(node: nodes.Node | None, steps: int) -> str:
    """Return ``node`` as its source writes it, about; of a long chain no more than its last ``steps``."""
    before = partial(_as_written, steps=steps - 1)
    written = "…"
    match node if steps else None:
        case nodes.Name(name=name):
            written = name
        case nodes.Getattr(node=owner, attr=attribute):
            written = f"{before(owner)}.{attribute}"
        case nodes.Getitem(node=owner, arg=nodes.Const(value=key)):
            written = f"{before(owner)}[{key!a}]"
        case nodes.Getitem(node=owner):
            written = f"{before(owner)}[…]"
        case nodes.Filter(node=owner, name=name):
            written = f"{before(owner)}|{name}"
        case nodes.Call(node=nodes.EnvironmentAttribute(), args=[own, *_]):
            written = _as_written(own, steps)
        case nodes.Call(node=owner, args=args, kwargs=kwargs):
            written = f"{before(owner)}({'…' if args or kwargs else ''})"
        case nodes.Const(value=value):
            written = "none" if value is None else ascii(value)
    return written


class _Buffer(list[str]):
    """What a macro or a set block has written so far."""

    def append(self, piece: str) -> None:
        budget().write(len(piece))
        super().append(piece)

    def extend(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.append(piece)


class _Formatter(SandboxedFormatter):
    """What ``format`` of a text does with each field."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        value, used = super().get_field(field_name, args, kwargs)
        if value.__class__ is not str:
            as_text(value, "a value that is formatted" if field_name.isdigit() else f"'{field_name}'")
        return value, used


class _MarkupFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for markup."""


def _hint(name: str) -> str:
    return f"'{name}' is a method here, not a value; it has to be called: {name}()"


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

    def counted(self, values: Iterable[Any], name: str = "a value") -> Iterator[Any]:
        """Let each turn of a loop be a step."""
        step = budget().step
        if values is None:
            raise null(name)
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

    def written(self, value: Any, escaped: bool, name: str) -> str:  # noqa: FBT001 - called by generated code
        """Return ``value``, which the source calls ``name``, as it is written. Raises as ``as_text``."""
        if value.__class__ is int:
            return str(value)
        if value.__class__ is float:
            return number_text(value, name)
        said = as_text(value, name)
        budget().weigh(said)
        text = escape(said) if escaped else str(said)
        budget().write(len(text))
        return text

    def refuse_null(self, name: str) -> NoReturn:
        """Raise what a filter raises for a null that the source calls ``name``."""
        raise null(name)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute`` where it is not called: a method is none of a value's attributes there."""
        if obj.__class__ is dict:
            try:
                return obj[attribute]
            except KeyError:
                hint = _hint(attribute) if attribute in _METHODS[dict] else None
                return self.undefined(hint, obj=obj, name=attribute)
        if obj.__class__ is LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        return self._but_methods(super().getattr(obj, attribute), attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]`` where it is not called."""
        if obj.__class__ is dict and argument.__class__ is str and argument in obj:
            return obj[argument]
        return self._but_methods(super().getitem(obj, argument), argument)

    def _but_methods(self, found: Any, name: str) -> Any:
        """Return ``found``; of a method that it is undefined, so that ``default`` and ``is defined`` see no value."""
        return self.undefined(_hint(name), name=name) if found.__class__ in _METHOD else found

    def method(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute`` where it is called: a method goes before a key."""
        if obj.__class__ is dict and attribute not in _METHODS[dict]:
            return self.getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def method_or_item(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]`` where it is called."""
        is_method = obj.__class__ is dict and isinstance(argument, str) and argument in _METHODS[dict]
        return self.method(obj, argument) if is_method else super().getitem(obj, argument)

    def weighed(self, value: Any) -> Any:
        """Return ``value`` if it may be spelled out."""
        budget().weigh(value)
        return value

    def joined(self, context: Context, values: tuple[Any, ...], names: tuple[str, ...]) -> str:
        """Do what ``~`` does with ``values``, which the source calls ``names``."""
        for value in values:
            if value.__class__ is not str:
                values = tuple(map(as_text, values, names))
                break
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
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__
        formatter = _MarkupFormatter(self, escape=text.escape) if isinstance(text, Markup) else _Formatter(self)

        def with_values(args: Any, kwargs: Any) -> str:
            made: str = text.__class__(formatter.vformat(text, args, kwargs))
            return made

        method: Callable[..., str] = lambda *args, **kwargs: with_values(args, kwargs)  # noqa: E731 - one of two
        if value.__name__ == "format_map":
            method = lambda values: with_values((), values)  # noqa: E731
        return measured_format(text, method)

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
