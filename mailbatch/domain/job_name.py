"""The names of our jobs, and what another job may be called: its name is a key in the database and in Redis."""

from __future__ import annotations

SEND_ALL, PURGE = "send-all", "purge"
OURS = (SEND_ALL, PURGE)
SEND_LANE = "send-lane"
"""The task of a further lane in a run of ``send-all``: no job of its own."""
LONGEST_NAME = 200
MUST_BE = f"1 to {LONGEST_NAME} printable characters"


def is_job_name(name: str) -> bool:
    """Return whether a job, or an entry of the schedule, may be called ``name``."""
    return name.isprintable() and 0 < len(name) <= LONGEST_NAME
