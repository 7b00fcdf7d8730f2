"""Jinja2 in a sandbox: no way to the interpreter, no amplifier of memory, and a count of steps that ends every loop.

Jinja2's own sandbox keeps templates from Python's internals, but bounds only ``range``. This one does more:

- An operation that can make a long value of a short one is checked before it runs (``*``, ``**``, ``%``, ``+``, ``~``,
  padding filters and methods, ``join``, ``replace``, set blocks, macros). Filters and methods not named here do not
  exist.
- Each turn of a loop, each call and each include is a step; steps and seconds are limited.
- Characters written into macros and set blocks are all counted; elsewhere long values are counted here, and the
  renderer counts everything.
- The memory of all values together is measured now and then, and when one of them is big.
- An operation that no step can interrupt (a search, a sort, a comparison of lists in lists, a regular expression) is
  estimated before it begins, from the sizes of all its arguments, and uses up as many steps as it takes time.
"""

from __future__ import annotations

import re
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import StrictUndefined, TemplateNotFound, TemplateSyntaxError
from jinja2.runtime import LoopContext, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from markupsafe import Markup, escape

from mailbatch.infrastructure.templates.budget import STEPS_BETWEEN_CLOCK_READS, current_budget
from mailbatch.infrastructure.templates.code_generator import CountingCodeGenerator
from mailbatch.infrastructure.templates.comparisons import MAKERS_OF_DICTS, check_hash, check_pairs, compare, contains
from mailbatch.infrastructure.templates.filters import checked_filters
from mailbatch.infrastructure.templates.methods import METHODS, check_method, checked_format
from mailbatch.infrastructure.templates.operations import (
    WIDEST,
    check_addition,
    check_multiplication,
    check_percent,
    check_power,
    subtract,
    with_length,
)
from mailbatch.infrastructure.templates.text_values import as_text, null_error, number_text, without_exponents
from mailbatch.infrastructure.templates.value_tests import checked_tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2 import BaseLoader
    from jinja2.runtime import Context

TOKENS = 100_000
"""The most tokens of a source that the compiler gets."""
CALL = 10
"""Steps of a call or an include: it takes as long as ten turns of a loop."""
_SMALL_SOURCE = 65_536
_OPERATORS: dict[str, Callable[[Any, Any], None]] = {
    "+": check_addition,
    "*": check_multiplication,
    "**": check_power,
    "%": check_percent,
}
_LOOP_ATTRIBUTES = frozenset(name for name in dir(LoopContext) if not name.startswith("_"))
_METHOD = (MethodType, BuiltinMethodType)
_MARKUP = re.compile("[&<>'\"]")


class _Buffer(list[str]):
    """The output of a macro or a set block so far."""

    def append(self, piece: str) -> None:
        current_budget().use_written(len(piece))
        super().append(piece)

    def extend(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.append(piece)


class _Formatter(SandboxedFormatter):
    """Formats the fields of a text's ``format``."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        value, used = super().get_field(field_name, args, kwargs)
        if value.__class__ is not str:
            as_text(value, "a value that is formatted" if field_name.isdigit() else f"'{field_name}'")
        return without_exponents(value), used


class _MarkupFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for markup."""


def _hint(name: str) -> str:
    return f"'{name}' is a method here, not a value; it has to be called: {name}()"


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment for text (``html=False``) or for HTML, where every value is escaped, in includes as well.

    Compile and render only inside ``with Budget(…)``.
    """

    code_generator_class = CountingCodeGenerator
    intercepted_binops = frozenset(_OPERATORS)

    def __init__(self, *, html: bool, loader: BaseLoader | None = None) -> None:
        super().__init__(
            autoescape=html,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            loader=loader,
            optimized=False,  # an optimized source holds the results of filters on constants, at full length
        )
        del self.globals["lipsum"]
        self.filters = checked_filters()
        self.tests = checked_tests()

    def refuse_if_vast(self, source: str, name: str) -> None:
        """Raise ``TemplateSyntaxError`` for a source on which the compiler would spend minutes."""
        if len(source) <= _SMALL_SOURCE:
            return
        for count, token in enumerate(self.lexer.tokeniter(source, name)):
            if count > TOKENS:
                raise TemplateSyntaxError(f"has more than {TOKENS} tokens; keep data in the context", token[0], name)

    # --- called by the generated code ---

    buffer = _Buffer
    check_hash = staticmethod(check_hash)
    compare = staticmethod(compare)
    contains = staticmethod(contains)
    markup_in = staticmethod(_MARKUP.search)
    subtract = staticmethod(subtract)

    def count_turns(self, values: Iterable[Any], name: str = "a value") -> Iterable[Any]:
        """Return ``values`` for a loop; each turn is a step. The turns over a short list are counted at once."""
        if type(values) is list and len(values) <= STEPS_BETWEEN_CLOCK_READS:
            current_budget().step(len(values))
            return values
        return self._counted(values, name)

    def _counted(self, values: Iterable[Any], name: str) -> Iterator[Any]:
        step = current_budget().step
        if values is None:
            raise null_error(name)
        for value in values:
            step()
            yield value

    def count_include(self) -> None:
        """Count an include as as many steps as a call."""
        current_budget().step(CALL)

    def to_output(self, value: Any, escaped: bool, name: str) -> str:  # noqa: FBT001 - called by generated code
        """Return the text of ``value``, which the source calls ``name``. Raises as ``as_text``."""
        if value.__class__ is int:
            return str(value)
        if value.__class__ is float:
            return number_text(value, name)
        shown = as_text(value, name)
        current_budget().measure(shown)
        text = escape(shown) if escaped else str(shown)
        current_budget().use_written(len(text))
        return text

    def refuse_null(self, name: str) -> NoReturn:
        """Raise the error of a filter for a null that the source calls ``name``."""
        raise null_error(name)

    def method(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute`` where it is called: a method goes before a key."""
        if obj.__class__ is dict and attribute not in METHODS[dict]:
            return self.getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def method_or_item(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]`` where it is called."""
        is_method = obj.__class__ is dict and isinstance(argument, str) and argument in METHODS[dict]
        return self.method(obj, argument) if is_method else super().getitem(obj, argument)

    def measured(self, value: Any) -> Any:
        """Return ``value`` if it may be spelled out."""
        current_budget().measure(value)
        return value

    def concatenate(self, context: Context, values: tuple[Any, ...], names: tuple[str, ...]) -> str:
        """Return what ``~`` makes of ``values``, which the source calls ``names``."""
        for value in values:
            if value.__class__ is not str:
                values = tuple(map(as_text, values, names))
                break
        current_budget().measure(values)
        text: str = markup_join(values) if context.eval_ctx.autoescape else str_join(values)
        current_budget().check_memory_of(text)
        return text

    def check_slice(self, value: Any) -> Any:
        """Return a slice if there is memory for it."""
        return current_budget().check_memory_of(value)

    # --- called by Jinja2 ---

    def concat(self, parts: Iterable[str]) -> str:
        """Join the output of a set block, a macro or a call block."""
        pieces = list(parts)
        current_budget().check_length(sum(map(len, pieces)))
        return "".join(pieces)

    def select_template(self, names: Any, *args: Any, **kwargs: Any) -> Any:
        """As Jinja2's. The names must be few and short, because its error shows them all."""
        names = with_length(names)
        current_budget().measure(names)
        return super().select_template(names, *args, **kwargs)

    def _load_template(self, name: Any, globals: Any) -> Any:  # noqa: A002 - Jinja2's name
        """As Jinja2's; looking for a file is many steps, and its name has a bounded length."""
        current_budget().step(10 * CALL)
        if not isinstance(name, str) or len(name) > WIDEST:
            raise TemplateNotFound(f"a name that is no text of at most {WIDEST} characters")
        return super()._load_template(name, globals)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute`` where it is not called: there a method does not count as an attribute."""
        if obj.__class__ is dict:
            try:
                return obj[attribute]
            except KeyError:
                hint = _hint(attribute) if attribute in METHODS[dict] else None
                return self.undefined(hint, obj=obj, name=attribute)
        if obj.__class__ is LoopContext and attribute in _LOOP_ATTRIBUTES:
            return getattr(obj, attribute)
        return self._undefined_if_method(super().getattr(obj, attribute), attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]`` where it is not called."""
        if obj.__class__ is dict and argument.__class__ is str and argument in obj:
            return obj[argument]
        return self._undefined_if_method(super().getitem(obj, argument), argument)

    def _undefined_if_method(self, found: Any, name: str) -> Any:
        """Return ``found``, or undefined if it is a method, so that ``default`` and ``is defined`` see no value."""
        return self.undefined(_hint(name), name=name) if found.__class__ in _METHOD else found

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow, of the built-in types, only the methods that are known to do no harm."""
        for kind, methods in METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Check ``format`` and ``format_map`` of a text, which are not called as other methods are."""
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__
        formatter = _MarkupFormatter(self, escape=text.escape) if isinstance(text, Markup) else _Formatter(self)

        def format_with(args: Any, kwargs: Any) -> str:
            formatted: str = text.__class__(formatter.vformat(text, args, kwargs))
            return formatted

        method: Callable[..., str] = lambda *args, **kwargs: format_with(args, kwargs)  # noqa: E731 - one of two
        if value.__name__ == "format_map":
            method = lambda values: format_with((), values)  # noqa: E731
        return checked_format(text, method)

    # The names are Jinja2's: a template's own keyword arguments must not collide with them.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        """Count the call's steps, check its arguments and its result."""
        current_budget().step(CALL)
        if isinstance(__obj, LoopContext) and args:
            args = (__self.count_turns(args[0]), *args[1:])
        elif isinstance(__obj, _METHOD):
            args = check_method(__obj, args, kwargs)
        elif args and any(__obj is maker for maker in MAKERS_OF_DICTS):
            args = (check_pairs(args[0]), *args[1:])
        return current_budget().check_result(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Check an operator before it makes its result."""
        _OPERATORS[operator](left, right)
        if operator == "%" and isinstance(left, str):
            right = without_exponents(right)
        return current_budget().check_memory_of(super().call_binop(context, operator, left, right))
