"""A served API beside a worker, for clients that are generated from its document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.api import OPERATE

if TYPE_CHECKING:
    from support.stack import Stack


@pytest.fixture
def served(sqlite_stack: Stack) -> tuple[str, str]:
    """The address of the API, and a token that operates."""
    sqlite_stack.settings |= {"API_TOKEN": OPERATE}
    process = sqlite_stack.process("mailbatch", "serve", "--port", "0")
    sqlite_stack.worker("--pool", "solo")
    return process.wait_for_log(r"serves on (http://\S+)", 30)[1], OPERATE
