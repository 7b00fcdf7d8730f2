"""Stores searches under random names, because an address in a link would get into histories and logs."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

MOST = 1000
"""Searches that are stored at most; the oldest is removed first."""


@dataclass(frozen=True, slots=True)
class Searches:
    """Parts of addresses by random names, in this process's memory only."""

    most: int = MOST
    _texts: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, text: str) -> str:
        """Store ``text``; return its name for a link."""
        with self._guard:
            for name, known in self._texts.items():
                if known == text:
                    self._texts.move_to_end(name)
                    return name
            name = secrets.token_urlsafe(9)
            self._texts[name] = text
            while len(self._texts) > self.most:
                self._texts.popitem(last=False)
            return name

    def find(self, name: str) -> str | None:
        """Return the text of ``name``, None if it is no longer stored."""
        with self._guard:
            return self._texts.get(name)
