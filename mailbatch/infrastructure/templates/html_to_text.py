"""Makes the text part of a mail from its HTML: paragraphs, lists, tables and headings as text, links as URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple

from mailbatch.infrastructure.templates.text_lines import DEEPEST, WIDTH, TextLines, lines_of_table

LONGEST_HTML = 1_000_000
"""Characters. A megabyte takes about a second."""
# A comment, conditional ones as well; a declaration; a tag. Each alternative ends at the next ``<`` or ``>``, or takes
# what it has read, so hostile HTML takes linear time. ``html.parser`` takes minutes for a megabyte of ``<a ``.
_TOKEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<[!?][^>]*(?:>|\Z)|<(/?)([A-Za-z][^\s/<>]*)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*+)>", re.DOTALL
)
_ATTRIBUTE = re.compile(r"([^\s=\"'/]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"']+)))?")
_VAST_REFERENCE = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{8,});?")
_RAW = {tag: re.compile(f"</{tag}", re.IGNORECASE) for tag in ("script", "style", "title")}
"""Elements that hold no tags, and what ends them."""
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
# What fills the line of a preview in a list of mails: invisible characters between blanks.
_FILLER = re.compile("[\\s\u00ad\u034f\u200b-\u200f\u2060\ufeff]*")
_UNSEEN = frozenset({"head", "template"})
_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "dl", "pre", "hr"})
_BLOCKS = frozenset(
    """address article aside body center dd div dt fieldset figcaption figure footer form header html legend li main nav
    section table tbody td tfoot th thead tr""".split()  # noqa: SIM905 - read as prose, not as a column of quotes
)
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
_UNDERLINES = {"h1": "=", "h2": "-"}
_SCHEMES = ("http://", "https://", "mailto:", "tel:")


def text_of(html: str) -> str:
    """Return the text that stands for ``html``, a line feed at the end of each line; '' if it shows no text.

    What has ``display:none`` or ``hidden`` as an attribute is left out, and so are images without ``alt``.

    Raises:
        ValueError: if it has more than ``LONGEST_HTML`` characters.
    """
    if len(html) > LONGEST_HTML:
        raise ValueError(f"has more than {LONGEST_HTML} characters, from which no text is made; give a text")
    reader, at = _Reader(), 0
    while token := _TOKEN.search(html, at):
        if token.start() > at:
            reader.data(html[at : token.start()])
        at = token.end()
        end, tag, attributes = token[1], (token[2] or "").lower(), token[3]
        if end:
            reader.end(tag)
        elif tag in _RAW:
            raw = _RAW[tag].search(html, at)
            at = raw.start() if raw else len(html)
        elif tag:
            reader.start(tag, _attributes(attributes) if "=" in attributes or "hidden" in attributes else {})
    reader.data(html[at:])
    return reader.text()


class _Table(NamedTuple):
    """A table that is not closed yet, and what it stands in."""

    outside: TextLines
    rows: list[list[TextLines]]


@dataclass(slots=True)
class _List:
    """A list that is not closed yet. ``number``: of its last item; None if it has bullets."""

    number: int | None
    in_item: bool = False


class _Link(NamedTuple):
    url: str
    text: list[str]


class _Reader:
    """Goes through the tags once. Nothing is recursive, because a mail may nest as deep as it likes."""

    def __init__(self) -> None:
        self._lines = TextLines()
        self._tables: list[_Table] = []
        self._deeper = 0
        self._lists: list[_List] = []
        self._link: _Link | None = None
        self._unseen = ("", 0)
        self._in_pre = False

    def text(self) -> str:
        self._end_link()
        while self._tables:
            self._end_table()
        self._lines.end_line()
        return "\n".join([*self._lines.lines, ""]) if self._lines.lines else ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._unseen[1] and not self._ends_unseen(tag):
            self._unseen = (self._unseen[0], self._unseen[1] + (tag == self._unseen[0]))
            return
        if tag in _UNSEEN or "hidden" in attributes or _HIDDEN.search(attributes.get("style", "")):
            self._unseen = (tag, 0 if tag in _VOID else 1)
            return
        self._break_before(tag)
        match tag:
            case "a":
                self._end_link()
                self._link = _Link("".join(attributes.get("href", "").split()), [])
            case "img":
                self._write(attributes.get("alt", ""))
            case _:
                self._begin(tag)

    def end(self, tag: str) -> None:
        if self._unseen[1]:
            self._unseen = (self._unseen[0], self._unseen[1] - (tag == self._unseen[0]))
            return
        match tag:
            case "a":
                self._end_link()
            case "pre":
                self._in_pre = False
            case "blockquote":
                self._lines.outdent()
            case "ul" | "ol" if self._lists:
                self._end_item()
                self._lists.pop()
                self._end_block()
            case "li" if self._lists:
                self._end_item()
            case "table":
                self._deeper -= self._deeper > 0
                if self._tables and not self._deeper:
                    self._end_table()
            case "h1" | "h2":
                self._underline(_UNDERLINES[tag])
        self._break_before(tag)

    def data(self, data: str) -> None:
        if self._unseen[1]:
            return
        data = _unescaped(data)
        if self._in_pre:
            for line in data.splitlines():
                self._lines.append(line)
        elif _FILLER.fullmatch(data):
            self._lines.write(" ")
        else:
            self._write(data)

    # --- parts ---

    def _begin(self, tag: str) -> None:
        match tag:
            case "br":
                self._lines.break_line()
            case "hr":
                self._lines.append("-" * 40)
            case "pre":
                self._in_pre = True
            case "blockquote":
                self._lines.indent("> ")
            case "ul" | "ol":
                self._begin_list(ordered=tag == "ol")
            case "li":
                self._begin_item()
            case "table" | "tr" | "td" | "th":
                self._begin_table_part(tag)

    def _ends_unseen(self, tag: str) -> bool:
        """Return whether ``tag`` ends, by its start, what is not seen: a paragraph, or a head without an end."""
        ends = (self._unseen[0], tag) in {("p", "p"), ("head", "body")}
        if ends:
            self._unseen = ("", 0)
        return ends

    def _write(self, text: str) -> None:
        words = " ".join(text.split())
        if not words:
            return
        self._lines.write(f"{' ' * text[0].isspace()}{words}{' ' * text[-1].isspace()}")
        if self._link:
            self._link.text.append(words)

    def _break_before(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._lines.end_paragraph()
        elif tag in _BLOCKS:
            self._lines.end_line()

    def _end_link(self) -> None:
        link, self._link = self._link, None
        if link and link.url.lower().startswith(_SCHEMES) and _bare(link.url) != _bare("".join(link.text)):
            self._lines.write(f" <{link.url}>")

    def _underline(self, character: str) -> None:
        before = len(self._lines.lines)
        self._lines.end_line()
        if len(self._lines.lines) > before:
            self._lines.append(character * min(len(self._lines.lines[-1]), WIDTH))

    def _begin_list(self, *, ordered: bool) -> None:
        self._end_block()
        self._lists.append(_List(0 if ordered else None))

    def _end_block(self) -> None:
        """End the line; outside of lists the paragraph as well."""
        if self._lists:
            self._lines.end_line()
        else:
            self._lines.end_paragraph()

    def _begin_item(self) -> None:
        if not self._lists:
            return
        self._end_item()
        own, marker = self._lists[-1], "- "
        if own.number is not None:
            own.number += 1
            marker = f"{own.number}. "
        own.in_item = True
        self._lines.indent(" " * len(marker), marker)

    def _end_item(self) -> None:
        if self._lists[-1].in_item:
            self._lists[-1].in_item = False
            self._lines.outdent()

    def _begin_table_part(self, tag: str) -> None:
        if tag == "table":
            if self._deeper or len(self._tables) == DEEPEST:
                self._deeper += 1
                return
            self._tables.append(_Table(self._lines, []))
        elif self._tables and not self._deeper:
            rows = self._tables[-1].rows
            if tag == "tr" or not rows:
                rows.append([])
            if tag != "tr":
                self._lines = TextLines()
                rows[-1].append(self._lines)

    def _end_table(self) -> None:
        self._lines.end_line()
        table = self._tables.pop()
        self._lines = table.outside
        self._lines.end_paragraph()
        for line in lines_of_table([[cell.lines for cell in row] for row in table.rows]):
            if line:
                self._lines.append(line)
            else:
                self._lines.end_paragraph()
        self._lines.end_paragraph()


def _attributes(source: str) -> dict[str, str]:
    found = _ATTRIBUTE.findall(source)
    return {name.lower(): _unescaped("".join(values)) for name, *values in found}


def _unescaped(text: str) -> str:
    return unescape(_VAST_REFERENCE.sub("\ufffd", text)) if "&" in text else text


def _bare(url: str) -> str:
    """Return the part of a link by which it is the same as its text."""
    bare = "".join(url.lower().split())
    for scheme in _SCHEMES:
        bare = bare.removeprefix(scheme)
    return bare.rstrip("/")
