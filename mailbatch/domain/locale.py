"""Language tags (BCP 47): whether a text is one, and which other tags stand in for it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from mailbatch.domain.redaction.lines import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_TAG = 64
"""Characters. RFC 5646 §4.4.1 asks for at least 35."""
# RFC 5646 §2.1, without the tags that were registered before it. Case has no meaning (§2.1.1).
_TAG = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})"  # language, and its extension
    r"(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?"  # script, region
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"  # variants
    r"(?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?"  # extensions, private use
)


@lru_cache(maxsize=256)
def ranges(tag: str) -> tuple[str, ...]:
    """Return ``tag`` and the tags that stand in for it, the most specific first (RFC 4647 §3.4): ``pt-br``, ``pt``.

    They have lower case and hyphens; ``tag`` may have any case, and underscores. Returns nothing if it is no tag.
    """
    normal = tag.lower().replace("_", "-")
    if len(normal) > LONGEST_TAG or not _TAG.fullmatch(normal):
        return ()
    parts, found = normal.split("-"), list[str]()
    while parts:
        if len(parts[-1]) > 1:  # a single character only begins an extension
            found.append("-".join(parts))
        parts.pop()
    return tuple(found)


def language_text(locale: str | None, served_in: Sequence[str]) -> str | None:
    """Return the language of a mail in words: the one that it asks for, and those whose files serve it if others do.

    Returns None for a mail that asks for none and is served by no language.
    """
    served = ", ".join(served_in)
    if not locale:
        return f"{served} (the default)" if served else None
    asked = locale.lower().replace("_", "-")
    others = any(tag.lower().replace("_", "-") != asked for tag in served_in)
    return f"{locale} (served by {served})" if others else locale


def locale_problem(tag: str) -> str | None:
    """Return why ``tag`` names no language, or None if it does."""
    if ranges(tag):
        return None
    return f"locale: {quoted(tag, 40)} is no language tag (BCP 47), such as de, pt-BR or zh-Hant-TW"
