"""Expressions that a hostile author might write: each filter, test, method and operator, on values at the bounds.

``python -m support.expressions SEED SECONDS`` renders as many of them, one JSON line for each: before it, its source;
after it, the processor's seconds. It dies of SIGPROF in one that takes ``DEADLY`` seconds.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLY = 30.0
ROOM = 4 * 2**30
"""Bytes of memory that an expression may take: a MemoryError fails one mail, a full machine fails all."""
MOST = 26_214_400
"""Characters of one value: the default of MAX_MESSAGE_BYTES."""
_METHODS_OF_TEXT = """capitalize casefold center count endswith find format format_map index isalnum isalpha isascii
    isdecimal isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix
    removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title
    upper zfill""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
_OTHER_METHODS = ("get", "items", "keys", "values", "count", "index", "is_integer")
_OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or")
_CALLS = ("dict", "namespace", "cycler", "joiner", "range", "loop.changed", "loop.cycle")
_ATTRIBUTES = ("'x'", "'l'", "0", "'x,l'", "'no.such'")
_KEYWORDS = {
    "batch": ("fill_with",),
    "currency": ("code",),
    "date": ("format", "timezone"),
    "datetime": ("format", "timezone"),
    "dictsort": ("by", "reverse", "case_sensitive"),
    "groupby": ("attribute", "default", "case_sensitive"),
    "indent": ("width", "first", "blank"),
    "int": ("default", "base"),
    "join": ("d", "attribute"),
    "map": ("attribute", "default"),
    "max": ("attribute", "case_sensitive"),
    "min": ("attribute", "case_sensitive"),
    "number": ("digits",),
    "percent": ("digits",),
    "plural": ("one", "few", "other"),
    "round": ("precision", "method"),
    "slice": ("fill_with",),
    "sort": ("reverse", "case_sensitive", "attribute"),
    "split": ("sep", "maxsplit"),
    "rsplit": ("sep", "maxsplit"),
    "sum": ("attribute", "start"),
    "tojson": ("indent",),
    "trim": ("chars",),
    "truncate": ("length", "killwords", "end", "leeway"),
    "unique": ("attribute", "case_sensitive"),
    "wordwrap": ("width", "break_long_words", "wrapstring", "break_on_hyphens"),
}
_PATTERNS = (
    """a|ab |a |<|"|ß|\U0001f600|a-|-|<!-->|<!--|-->|&amp;|&|(|1|%|%s|{|{}|a'b-- |\\n|a\\n|\\t|ab|&#|é.|_|0x|{{|{a}"""
)
DOUBLED = (
    "{% set dl = [1, 1] %}{% set el = [1, 1] %}{% set dt = (1, 1) %}{% set et = (1, 1) %}{% set dd = {'x': 1} %}"
    + "{% set dl = [dl, dl] %}{% set el = [el, el] %}{% set dt = (dt, dt) %}{% set et = (et, et) %}"
    "{% set dd = {'x': dd, 'l': dd} %}"
    * 45
    + "{% set ns = namespace(x=dl, l=dl) %}{% set es = namespace(x=el, l=el) %}"
)
"""Values that take little memory, and are endless when they are spelled out, compared or hashed."""
_DOUBLED_NAMES = ("dl", "el", "dt", "et", "dd", "ns", "es", "[dl, el]", "(dt, et)", "[ns, es]", "[dt, et]", "[dd, dd]")
_SMALL = ("0", "1", "-1", "2", "79", "1000", "100000", "26214400", "0.5", "1e308", "none", "true", "''", "'a'", "' '")
_SMALL_TEXTS = (
    *("'aa'", "'x'", "'é'", "'%s'", "'{}'", "[]", "{}", "()", "'ab ' * 3", "loop", "range(100000)"),
    *("'EUR'", "'9999-12-31T23:59Z'", "'MMMM ' * 9", "'{n}'"),
)


@dataclass(frozen=True, slots=True)
class Expression:
    """A source and the values that it uses."""

    source: str
    context: dict[str, Any] = field(repr=False)


@cache
def _text(pattern: str, size: int) -> str:
    return (pattern * (size // len(pattern) + 1))[:size]


def expressions(seed: int, most: int = MOST) -> Iterator[Expression]:
    """Yield single operations on two or three values without end; every name of each kind in turn."""
    chance = random.Random(seed)  # noqa: S311 - a test is to be repeated, not to be kept secret
    sandbox = Sandbox(html=False)
    makers: list[tuple[str, Callable[[str, _Values], str]]] = [
        *((name, _filtered) for name in sandbox.filters),
        *((name, _tested) for name in sandbox.tests),
        *((name, _called) for name in (*_METHODS_OF_TEXT, *_OTHER_METHODS)),
        *((name, _operated) for name in _OPERATORS),
        *((name, _made) for name in _CALLS),
        ("", _indexed),
        ("", _literal),
    ]
    while True:
        chance.shuffle(makers)
        for name, make in makers:
            values = _Values(chance, most)
            made = make(name, values)
            doubled = DOUBLED if values.doubled else ""
            wrapped = chance.choice(
                [
                    "{{ (%s)|string|length }}",
                    "{{ (%s)|tojson|length }}",
                    "{{ (%s)|list|length }}",
                    "{%% set z = (%s) %%}",
                    "{%% if (%s) %%}{%% endif %%}",
                ]
            )
            source = f"{doubled}{{% for i in [1] %}}{wrapped % made}{{% endfor %}}"
            yield Expression(source, values.context)


class _Values:
    """Chooses operands, and keeps those that come with the context."""

    def __init__(self, chance: random.Random, most: int) -> None:
        self.chance = chance
        self.most = most
        self.context: dict[str, Any] = {}
        self.doubled = False

    def any(self) -> str:
        roll = self.chance.random()
        if roll < 0.45:
            return self.text()
        if roll < 0.65:
            return self.many()
        if roll < 0.8:
            self.doubled = True
            return self.chance.choice(_DOUBLED_NAMES)
        return self.chance.choice(_SMALL + _SMALL_TEXTS)

    def text(self) -> str:
        pattern = self.chance.choice(_PATTERNS.replace("\\n", "\n").replace("\\t", "\t").split("|"))
        size = int(self.most / 4 ** self.chance.choice([0, 0, 1, 1, 2, 3, 4, 5, 6, 8, 10]))
        made = _text(pattern, size)
        ends = self.chance.choice(["", "", "b", "é", "\n"])
        return self._keep(self.chance.choice([made, made + ends, ends + made])[: self.most])

    def many(self) -> str:
        count = self.chance.choice([2, 60, 1000, 20_000, 100_000])
        size = self.chance.choice([1, 10, self.most // count, self.most // 60])
        text = _text("a", min(size, self.most))
        kind = self.chance.choice(["shared", "numbers", "texts", "pairs", "dicts", "lists", "same", "table", "odd"])
        return self._keep(
            {
                "shared": lambda: [text] * count,
                "numbers": lambda: list(range(count)),
                "texts": lambda: [f"{text[:200]}{i}" for i in range(count)],
                "pairs": lambda: [(2305843009213693951 * i, i) for i in range(count)],
                "dicts": lambda: [{"x": text, "l": [text]}] * count,
                "lists": lambda: [[text]] * count,
                "same": lambda: [2305843009213693951 * i for i in range(count)],
                "table": lambda: {f"k{i}": text for i in range(min(count, 20_000))},
                "odd": lambda: [None, text, 1.5, [text]] * (count // 4 + 1),
            }[kind]()
        )

    def argument(self) -> str:
        roll = self.chance.random()
        if roll < 0.3:
            return self.chance.choice(_SMALL)
        return self.chance.choice(_ATTRIBUTES) if roll < 0.4 else self.any()

    def arguments(self, name: str) -> str:
        given = [self.argument() for _ in range(self.chance.choice([0, 0, 1, 1, 1, 2, 3]))]
        words = _KEYWORDS.get(name, ())
        if words and self.chance.random() < 0.5:
            given = given[:1]
            given += [f"{word}={self.argument()}" for word in self.chance.sample(words, min(2, len(words)))]
        return ", ".join(given)

    def _keep(self, value: Any) -> str:
        name = f"v{len(self.context)}"
        self.context[name] = value
        return name


def _filtered(name: str, values: _Values) -> str:
    subject = values.any()
    if name in {"map", "select", "reject", "selectattr", "rejectattr"} and values.chance.random() < 0.6:
        inner = {"map": ["upper", "string", "length", "sort"]}.get(name, ["==", "in", "lt", "odd", "upper", "even"])
        attribute = f"{values.chance.choice(_ATTRIBUTES)}, " if name.endswith("attr") else ""
        made = f"{subject}|{name}({attribute}'{values.chance.choice(inner)}', {values.any()})"
    else:
        made = f"{subject}|{name}({values.arguments(name)})"
    return f"({made})|list" if values.chance.random() < 0.5 else made


def _tested(name: str, values: _Values) -> str:
    arguments = f"({values.any()})" if values.chance.random() < 0.8 else ""
    if not name.isidentifier() or name in {"in", "true", "false", "none"}:
        return f"[{values.any()}, {values.any()}]|select('{name}', {values.any()})|list"
    return f"{values.any()} is {name}{arguments}"


def _called(name: str, values: _Values) -> str:
    return f"({values.any() if name in _OTHER_METHODS else values.text()}).{name}({values.arguments(name)})"


def _operated(name: str, values: _Values) -> str:
    made = f"{values.any()} {name} {values.any()}"
    return f"{made} {name} {values.any()}" if values.chance.random() < 0.2 else made


def _made(name: str, values: _Values) -> str:
    return f"{name}({', '.join(values.any() for _ in range(values.chance.choice([1, 1, 2, 3])))})"


def _indexed(_name: str, values: _Values) -> str:
    start, end, step = (values.chance.choice(["", "1", "-1", "100000", "-3"]) for _ in range(3))
    return values.chance.choice([f"{values.any()}[{start}:{end}:{step}]", f"{values.any()}[{values.any()}]"])


def _literal(_name: str, values: _Values) -> str:
    key, value = values.any(), values.any()
    return values.chance.choice([f"{{{key}: {value}}}", f"[{key}, {value}]", f"({key}, {value})", f"{{1: 2}}[{key}]"])


def _shown(value: Any) -> str:
    first = value if isinstance(value, str) else next(iter(value))
    return f"{type(value).__name__} of {len(value)}: {first[:20]!r}" if isinstance(first, str) else str(type(first))


def main(seed: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    render = TemplateRenderer(None, MOST)
    until = time.monotonic() + seconds
    for number, one in enumerate(expressions(seed)):
        if time.monotonic() > until:
            return
        shown = {name: _shown(value) for name, value in one.context.items()}
        print(json.dumps({"source": one.source.removeprefix(DOUBLED), **shown}), flush=True)  # noqa: T201 - its output
        mail = Mail(
            recipients="", subject="", context=one.context, **{("body_text", "body_html")[number % 2]: one.source}
        )
        signal.setitimer(signal.ITIMER_PROF, DEADLY)
        began, error = time.thread_time(), ""
        try:
            render(mail)
        except CannotCompose as caught:
            error = caught.errors[0][:100]
        took = time.thread_time() - began
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"seconds": took, "error": error}), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
