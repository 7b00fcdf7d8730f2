"""Finds Chromium and starts it."""

from __future__ import annotations

import os
import shutil

NEEDS = "needs Chromium (Debian: apt install chromium; elsewhere name it: CHROMIUM=/path/to/chrome)"
# No sandbox of its own: as root, as in most containers, it has none. It sees pages of ours alone.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"]
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def chromium() -> str | None:
    """Return the path of the browser, if there is one."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)
