"""Write as escapes what would change how a page or a table reads without being seen: control and bidi characters."""

from __future__ import annotations

import re

# C0 and C1 (a line end and a tab stay), line and paragraph separators; Bidi_Control (UAX #9); what has no width at all.
# Joiners stay: Persian, Indic scripts and emoji are written with them.
HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]|\r(?!\n)"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    r"|[\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb]"
)
"""A character that nobody sees, and that can reorder or hide what stands beside it."""


def visible(text: str) -> str:
    r"""Return ``text`` with each hidden character as an escape such as ``\u202e``."""
    return HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
