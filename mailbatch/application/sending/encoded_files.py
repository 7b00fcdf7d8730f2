"""Remembers the encoded files of a run, so that each is encoded once, however many mails name it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mailbatch.domain.content import LineContent

KEPT_BYTES = 256 * 1024 * 1024
"""Bytes in the spool for files that no mail uses at this moment."""


class EncodedFiles:
    """Files by key: all that a mail uses, and of the others the ones used last, ``kept_bytes`` at most."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._room = kept_bytes
        self._used: WeakValueDictionary[Hashable, LineContent] = WeakValueDictionary()
        self._kept: OrderedDict[Hashable, LineContent] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], LineContent], *, keep: bool) -> LineContent:
        """Return the file known by ``key``, or what ``encode`` returns.

        ``keep``: other mails will probably name it. Otherwise it is forgotten when no mail uses it any more.
        """
        content = self._used.get(key)
        if content is None:
            content = self._used[key] = encode()
        if keep:
            self._keep(key, content)
        return content

    def _keep(self, key: Hashable, content: LineContent) -> None:
        if key not in self._kept:
            self._kept[key] = content
            self._room -= content.size
        self._kept.move_to_end(key)
        while self._room < 0:
            self._room += self._kept.popitem(last=False)[1].size
