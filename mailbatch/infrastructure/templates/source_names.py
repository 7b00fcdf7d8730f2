"""Names values in error messages as the template's source writes them: ``'order.items[0]'``."""

from __future__ import annotations

from functools import partial

from jinja2 import nodes

_LINKS = 6
"""Of a chain of attributes, items and calls, so many links at its end are shown."""
_LONGEST_NAME = 80


def name_of(node: nodes.Node) -> str:
    """Return the name by which an error message speaks of the value of ``node``."""
    written = _as_written(node, _LINKS)
    return "a value" if written == "…" else f"'{written[:_LONGEST_NAME]}'"


def _as_written(node: nodes.Node | None, links: int) -> str:
    """Return ``node`` about as its source writes it; of a long chain only its last ``links``."""
    before = partial(_as_written, links=links - 1)
    written = "…"
    match node if links else None:
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
            written = _as_written(own, links)
        case nodes.Call(node=owner, args=args, kwargs=kwargs):
            written = f"{before(owner)}({'…' if args or kwargs else ''})"
        case nodes.Const(value=value):
            written = "none" if value is None else ascii(value)
    return written
