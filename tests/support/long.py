"""What costs more time than every `make test` should take: left out there, and run by `make faults`."""

from __future__ import annotations

import os

import pytest

IS_LONG = os.environ.get("FAULTS") == "long"
LONG = pytest.mark.long
"""A test, or a case of one, that runs only with FAULTS=long."""
