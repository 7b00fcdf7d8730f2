"""Twelve HTML templates in three languages, as transactional mails have them: written from ``tests/gallery``.

Nested tables, conditional comments and VML for Outlook, dark mode, ``@media``, a preheader, right-to-left, CJK and
emoji, a logo beside the template, and one newsletter of 80 KB.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import tomllib
import zlib
from pathlib import Path
from typing import Any

GALLERY = Path(__file__).parents[1] / "gallery"
WORDS: dict[str, dict[str, dict[str, str]]] = tomllib.loads((GALLERY / "words.toml").read_text(encoding="utf-8"))
FOOTERS: dict[str, str] = WORDS.pop("footer")  # type: ignore[assignment]
COLOURS = dict(zip(WORDS, ("#0f766e", "#1d4ed8", "#b91c1c", "#7c3aed", "#b45309", "#334155") * 2, strict=True))
FONTS = {"ar": "Tahoma,Arial,sans-serif", "ja": "'Hiragino Sans','Noto Sans CJK JP',Meiryo,sans-serif"}
_VARIABLE = re.compile(r"\{\{ (.*?) \}\}")
CONTEXT: dict[str, Any] = {
    "name": "Zoë",
    "url": "https://alder.example/a?b=1&c=2",
    "code": "481 902",
    "day": "2026-12-24",
    "at": "2026-12-24T14:30:00+01:00",
    "total": 63.7,
    "items": [
        {"sign": "🍵", "name": "Sencha 煎茶", "count": 2, "price": 12.4},
        {"sign": "📚", "name": "كتاب الطبخ", "count": 1, "price": 34},
    ],
    "shares": [["2026-11-23", 0.31], ["2026-11-24", 0.22], ["2026-11-25", 0.87], ["2026-11-26", 0.55]],
}
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n"
CSV = "\ufeffitem;price\r\n煎茶;12,40\r\nΒιβλίο;34,00\r\n".encode()  # noqa: RUF001 - a name in Greek
ICS = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Alder//EN\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@alder.example\r\n"
    b"DTSTAMP:20261128T120000Z\r\nDTSTART:20261224T133000Z\r\nDTEND:20261224T140000Z\r\nSUMMARY:Dr Okafor\r\n"
    b"ORGANIZER:mailto:desk@alder.example\r\nATTENDEE;RSVP=TRUE:mailto:zoe@example.org\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


def _file(name: str, content: bytes, **labels: str) -> dict[str, str]:
    return {"filename": name, "content": base64.b64encode(content).decode(), **labels}


FILES: dict[str, list[dict[str, str]]] = {
    "order": [_file("Rechnung für Zoë.pdf", PDF)],
    "invoice": [_file("請求書.pdf", PDF), _file("items.csv", CSV)],
    "appointment": [_file("invite.ics", ICS, content_type="text/calendar; method=REQUEST; charset=utf-8")],
    "report": [_file("تقرير.csv", CSV)],
}
"""The attachments of the mails of a template: values of the column ``attachments``."""


def write_gallery(folder: Path) -> list[tuple[str, str]]:
    """Write the templates below ``folder``; return each with each of its languages."""
    for name, languages in WORDS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "sample.json").write_text(json.dumps(CONTEXT), encoding="utf-8")
        (folder / name / "template.toml").write_text("html_to_text = true\n", encoding="utf-8")
        for locale, words in languages.items():
            _write_language(folder, name, locale, words)
    return [(name, locale) for name, languages in WORDS.items() for locale in languages]


def _write_language(folder: Path, name: str, locale: str, words: dict[str, str]) -> None:
    start, end = ("right", "left") if locale == "ar" else ("left", "right")
    layout = {
        "lang": locale,
        "dir": "rtl" if locale == "ar" else "ltr",
        "start": start,
        "end": end,
        "font": FONTS.get(locale, "'Helvetica Neue',Helvetica,Arial,sans-serif"),
        "accent": COLOURS[name],
        "footer": FOOTERS[locale],
    }
    place = folder / name / locale
    place.mkdir()
    for file in ("base.html", "macros.html"):
        (place / file).write_text(_filled(GALLERY / file, layout), encoding="utf-8")
    (place / "subject.txt").write_text(words["subject"] + "\n", encoding="utf-8")
    (place / "logo.png").write_bytes(logo(COLOURS[name]))
    blocks = {"title": words["subject"], "preheader": words["preheader"], "heading": words["heading"]}
    lines = [
        f'{{% extends "{name}/{locale}/base.html" %}}',
        f'{{% from "{name}/{locale}/macros.html" import say, button, box, rows %}}',
        *(f"{{% block {block} %}}{text}{{% endblock %}}" for block, text in blocks.items()),
        f"{{% block main %}}{_filled(GALLERY / f'{name}.html', layout | words)}{{% endblock %}}",
    ]
    (place / "body.html").write_text("\n".join(lines), encoding="utf-8")


def _filled(path: Path, words: dict[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for key, word in words.items():
        # As an argument of a macro a word is an expression, and its variables are not in a text.
        argument = _VARIABLE.sub(lambda found: f'" ~ ({found[1]}) ~ "', word)
        text = text.replace(f'"[[{key}]]"', f'"{argument}"').replace(f"[[{key}]]", word)
    assert "[[" not in text, path
    return text


def logo(colour: str, size: int = 80) -> bytes:
    """Return a PNG: a white leaf on a disc of the colour."""
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    middle = (size - 1) / 2

    def pixel(x: float, y: float) -> bytes:
        dx, dy = (x - middle) / middle, (y - middle) / middle
        leaf = (dx - 0.45) ** 2 + dy**2 < 0.55 and (dx + 0.45) ** 2 + dy**2 < 0.55
        return bytes((255, 255, 255, 255) if leaf else (red, green, blue, 255 if dx**2 + dy**2 <= 1 else 0))

    lines = b"".join(b"\0" + b"".join(pixel(x, y) for x in range(size)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
