"""Suggests the nearest task when a worker drops a call because it does not know the task."""

from __future__ import annotations

import difflib
import logging
from typing import Any

log = logging.getLogger(__name__)

_LONGEST = 80
"""Characters of a name that the log repeats."""


def suggest_task(sender: Any, name: Any, **_: Any) -> None:
    """Log which task a call of ``name`` most likely meant. ``sender``: the consumer, which has logged the call."""
    known = [task for task in sender.app.tasks if not task.startswith("celery.")]
    near = difflib.get_close_matches(str(name), sorted(known), n=1)
    meant = f"did you mean {near[0]}?" if near else f"it knows {', '.join(sorted(known))}"
    log.error("this worker has no task %s; %s", ascii(name)[:_LONGEST], meant)
