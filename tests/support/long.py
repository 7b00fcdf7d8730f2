"""What costs more time than every `make test` should take: left out there, and run by `make faults`."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

IS_LONG = os.environ.get("FAULTS") == "long"
LONG = pytest.mark.long
"""A test, or a case of one, that runs only with FAULTS=long."""


def examples(count: int) -> settings:
    """``count`` examples in the long form, and a quarter of them in every `make test`."""
    return settings(max_examples=count if IS_LONG else count // 4, deadline=None)
