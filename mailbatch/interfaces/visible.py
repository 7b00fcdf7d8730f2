"""Writes hidden characters as escapes: controls and bidi controls, which would change how a text reads."""

from __future__ import annotations

import re

# C0 and C1 (a line end and a tab stay), line and paragraph separators; Bidi_Control (UAX #9); what has no width at all.
# Joiners stay, because Persian, Indic scripts and emoji need them.
HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]|\r(?!\n)"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    r"|[\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb]"
)
"""A character that is invisible, and that can reorder or hide its neighbours."""


def visible(text: str) -> str:
    r"""Return ``text`` with each hidden character as an escape such as ``\u202e``."""
    return HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
