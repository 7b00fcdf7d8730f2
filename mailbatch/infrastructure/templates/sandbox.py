"""Jinja2 in a box: no way to the interpreter, no amplifier of memory, and a count of steps that ends every loop.

Jinja2's own sandbox keeps templates from Python's internals, but bounds only ``range``. Here, beside that:

- what can make a long value of a short one is measured before it is made (``*``, ``**``, ``%``, ``+``, ``~``, padding
  filters and methods, ``join``, ``replace``, set blocks, macros); filters and methods not named here do not exist;
- each turn of a loop and each call is a step; steps and seconds are limited.

Not bounded: one single operation of the interpreter on values that are within the limits (sorting 100,000 values,
comparing two deeply shared structures) is not interrupted; that it took long is noticed at the next step.
"""

from __future__ import annotations

from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.runtime import LoopContext, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailbatch.infrastructure.templates.budget import added, budget, multiplied, raised, remained
from mailbatch.infrastructure.templates.filters import MEASURED_METHODS, measured_filters, measured_method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2 import BaseLoader
    from jinja2.compiler import Frame
    from jinja2.runtime import Context

TOKENS = 200_000
"""Tokens of a source that the compiler is given at most."""
CALL = 10
"""Steps that a call costs, for it takes that much longer than a turn of a loop."""
_SMALL_SOURCE = 65_536
_TEXT_METHODS = frozenset(
    """capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric
    isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip
    split splitlines startswith strip swapcase title upper""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
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
_OPERATORS: dict[str, Callable[[Any, Any], None]] = {"+": added, "*": multiplied, "**": raised, "%": remained}


class _Counting(CodeGenerator):
    """Lets every loop be counted and every ``~`` be measured."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - Jinja2 names its visitors so
        counted = nodes.EnvironmentAttribute("counted")
        node.iter = nodes.Call(counted, [node.iter], [], None, None).set_lineno(node.lineno)
        node.iter.set_environment(self.environment)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - as above
        self.write("environment.joined(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment for text (``html=False``) or for HTML, where every value is escaped, in includes as well.

    Compile and render only inside ``spending(Budget(…))``.
    """

    code_generator_class = _Counting
    intercepted_binops = frozenset(_OPERATORS)

    def __init__(self, *, html: bool, loader: BaseLoader | None = None) -> None:
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            loader=loader,
            finalize=_weighed,
        )
        del self.globals["lipsum"]
        self.filters = measured_filters()

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

    def joined(self, context: Context, values: tuple[Any, ...]) -> str:
        """Do what ``~`` does."""
        budget().weigh(values)
        return markup_join(values) if context.eval_ctx.autoescape else str_join(values)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow, of the built-in types, only the methods that are known to do no harm."""
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Put a measured method of text in the place of one that could grow without measure."""
        if not isinstance(value, (MethodType, BuiltinMethodType)) or value.__name__ not in MEASURED_METHODS:
            return None
        if not isinstance(value.__self__, str):
            return None
        return measured_method(value.__self__, super().wrap_str_format(value) or value)

    # The names are Jinja2's: a template's own keyword arguments must not collide with them.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        """Let each call be a step, and look at what it answers."""
        budget().step(CALL)
        if isinstance(__obj, LoopContext) and args:
            args = (__self.counted(args[0]), *args[1:])
        return budget().check(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Measure what an operator would make before it makes it."""
        _OPERATORS[operator](left, right)
        return super().call_binop(context, operator, left, right)

    def refuse_if_vast(self, source: str, name: str) -> None:
        """Raise ``TemplateSyntaxError`` for a source on which the compiler would spend minutes."""
        if len(source) <= _SMALL_SOURCE:
            return
        for count, token in enumerate(self.lexer.tokeniter(source, name)):
            if count > TOKENS:
                raise TemplateSyntaxError(f"has more than {TOKENS} tokens; keep data in the context", token[0], name)


def _weighed(value: Any) -> Any:
    if not isinstance(value, str):
        budget().weigh(value)
    return value
