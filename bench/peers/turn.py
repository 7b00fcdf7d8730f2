"""Runs a peer: it prepares, prints ``ready``, waits for the start, works, and prints its seconds."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def take_turn(work: Callable[[], Any], **told: Any) -> None:
    """Print ``ready``. For each line of input do ``work`` and print ``{"seconds": …}``. Return when the input ends."""
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    work()
    print(json.dumps({"seconds": time.monotonic() - began, **told}), flush=True)
    sys.stdin.read()
