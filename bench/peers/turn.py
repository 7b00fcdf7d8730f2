"""How a peer takes its turn: it prepares, says so, waits for the word, works, and tells how long that took."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def take_turn(work: Callable[[], Any], **told: Any) -> None:
    """Print ``ready``; on a line of input do ``work``, print ``{"seconds": …}``; end with the input."""
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    work()
    print(json.dumps({"seconds": time.monotonic() - began, **told}), flush=True)
    sys.stdin.read()
