"""Somebody at the console who has a keyboard and no mouse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "a-token-for-the-keyboard"
MOST = 150
"""Steps to anything at most."""
_WHERE = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  const label = e.labels && e.labels.length ? e.labels[0].innerText : "";
  return {
    tag: e.tagName.toLowerCase(),
    says: (e.getAttribute("aria-label") || label || e.title || e.innerText || "").replace(/\\s+/g, " ").trim(),
    seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    shown: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0,
    number: e.tagName === "BODY" ? -1 : [...document.querySelectorAll("*")].indexOf(e),
  };
}"""
_STOPS = """() => [...document.querySelectorAll(
  'a[href], button:not(:disabled), input:not([type=hidden]), summary, iframe, [tabindex="0"]'
)].filter(e => e.getClientRects().length && (!e.closest("details:not([open])") || e.tagName === "SUMMARY")).length"""


class Keys:
    """Walks by Tab, and sees where it is: whatever is reached must show that it is."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def where(self) -> dict[str, object]:
        """What has the focus."""
        found: dict[str, object] = self.page.evaluate(_WHERE)
        return found

    def to(self, says: str) -> Keys:
        """Press Tab until what has the focus says this; it comes as a regular expression."""
        passed = []
        for _ in range(MOST):
            self.page.keyboard.press("Tab")
            here = self.where()
            if here["tag"] not in {"body", "iframe"}:
                assert here["seen"], f"one does not see that one is at {here}"
                assert here["shown"], f"what has the focus is not on the page: {here}"
            if re.search(says, str(here["says"])):
                return self
            passed.append(here["says"])
        raise AssertionError(f"no way by Tab to {says!r}; passed {list(dict.fromkeys(passed))}")

    def press(self, key: str = "Enter") -> Keys:
        """Press a key, and wait for where that leads."""
        self.page.keyboard.press(key)
        self.page.wait_for_load_state()
        return self

    def go(self) -> Keys:
        """Press Enter, and wait for the page to which that leads."""
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")
        return self

    def write(self, text: str) -> Keys:
        """Write into the field that has the focus."""
        self.page.keyboard.type(text)
        return self

    def round(self) -> tuple[int, int]:
        """How many stops Tab makes on this page, once round from wherever it is, and how many there are to make."""
        stops, seen = self.page.evaluate(_STOPS), set()
        for _ in range(2 * stops + 10):
            if len(seen) >= stops:
                break
            self.page.keyboard.press("Tab")
            here = self.where()["number"]
            if here != -1:
                seen.add(here)
        return len(seen), stops
