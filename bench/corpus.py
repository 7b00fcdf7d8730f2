"""The mails of the bench: one template and the same data for all senders. Standard library only: peers import it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).with_name("templates")
TEMPLATE = "notice"
SENDER = "Shop <orders@shop.example>"

_NAMES = ("Ann Brown", "Jürgen Groß", "Ольга Иванова", "山田太郎", "Zoë Núñez", "Nuria Peña", "Sam Green", "Li Wei")
_TITLES = ("Teapot, blue", "Garden chair", "Café au lait cups", "Bicycle bell", "Reading lamp", "Wool socks <L>")


def part(name: str) -> str:
    """Return the source of a part of the template: ``subject.txt``, ``body.txt`` or ``body.html``."""
    return (FOLDER / TEMPLATE / name).read_text(encoding="utf-8")


def recipient(i: int) -> str:
    """Return an address list with one address, as in the column ``recipients``."""
    return f'"{_NAMES[i % len(_NAMES)]}" <customer{i}@mail.example>'


def context(i: int) -> dict[str, Any]:
    """Return the template variables of mail ``i``."""
    items = [
        {"count": 1 + (i + k) % 3, "title": _TITLES[(i + k) % len(_TITLES)], "price": f"{(i * 7 + k) % 90 + 9}.90"}
        for k in range(2)
    ]
    return {
        "name": _NAMES[i % len(_NAMES)],
        "order": f"A-{100000 + i}",
        "day": f"{1 + i % 28} November 2026",
        "items": items,
        "total": f"{(i * 13) % 200 + 20}.80",
        "discount": "5.00" if i % 4 == 0 else "",
        "tracking": f"{i * 2654435761 % 2**32:08x}",
    }


def contexts(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return recipient and context of ``count`` mails."""
    return ((recipient(i), context(i)) for i in range(count))
