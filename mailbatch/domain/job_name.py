"""What a job may be called: its name is a key in the database and in Redis."""

from __future__ import annotations

LONGEST_NAME = 200
MUST_BE = f"1 to {LONGEST_NAME} printable characters"


def is_job_name(name: str) -> bool:
    """Whether a job, or an entry of the schedule, may be called ``name``."""
    return name.isprintable() and 0 < len(name) <= LONGEST_NAME
