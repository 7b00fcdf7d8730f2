"""The console as a browser without JavaScript uses it: it follows links, fills forms and presses buttons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2


@dataclass
class Form:
    """A form of a page: its target, its fields and the label of its button."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    label: str = ""


_BLOCKS = frozenset({"dd", "dt", "h1", "h2", "h3", "li", "p", "td", "th", "title", "button", "label"})
"""The tags that begin a new line for a reader."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "form":
            self.forms.append(Form(given["action"], given.get("method", "get")))
        if tag == "input" and self.forms and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value") or ""
        if tag in {"a", "button"}:
            self._inside.append(tag)
            self._said, self._to = "", given.get("href")

    def handle_endtag(self, tag):
        if tag in _BLOCKS:
            self.words.append(" ")
        if tag in {"a", "button"} and self._inside:
            self._inside.pop()
            said = " ".join(self._said.split())
            if tag == "a" and self._to:
                self.links.setdefault(said, self._to)
            elif self.forms:
                self.forms[-1].label = said

    def handle_data(self, data):
        self.words.append(data)
        if self._inside:
            self._said += data


class Page:
    """One response, read as HTML."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer, self.status, self.html = answer, answer.status_code, answer.text
        reader = _Reader()
        reader.feed(self.html)
        self.forms, self.links, self.elements = reader.forms, reader.links, reader.elements
        self.text = " ".join("".join(reader.words).split())

    def form(self, label: str) -> Form:
        """Return the form whose button has this label."""
        found = [form for form in self.forms if form.label == label]
        assert found, f"no button {label!r} among {[form.label for form in self.forms]} of {self.answer.url}"
        return found[0]

    def __contains__(self, text: str) -> bool:
        return text in self.text


@dataclass
class Browser:
    """A user of the console."""

    client: httpx2.Client

    def open(self, address: str, status: int = 200) -> Page:
        """Go to an address; redirections are followed as browsers do."""
        answer = self.client.get(address, follow_redirects=True)
        assert answer.status_code == status, f"{address}: {answer.status_code} {answer.text[:2000]}"
        return Page(answer)

    def press(self, page: Page, label: str, **fields: str) -> Page:
        """Press a button; ``fields`` is the user's input. A change must redirect (post, redirect, get)."""
        form = page.form(label)
        assert form.method == "post"
        unknown = set(fields) - set(form.fields)
        assert not unknown, f"no such fields: {unknown}"
        answer = self.client.post(form.action, data={**form.fields, **fields})
        assert answer.status_code == 303, f"{form.action}: {answer.status_code} {answer.text[:2000]}"
        return self.open(answer.headers["Location"])

    def follow(self, page: Page, label: str) -> Page:
        """Follow the first link with this label."""
        assert label in page.links, f"no link {label!r} among {sorted(page.links)}"
        return self.open(page.links[label])


def ids(page: Page) -> list[str]:
    """Return the reservations that a page links to, in order."""
    found = re.findall(r'href="/reservations/([0-9a-f-]{36})"', page.html)
    return list(dict.fromkeys(found))
