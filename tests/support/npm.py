"""Installs the npm packages of the tests into ``var``; their ``package.json`` has the versions."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def install(wanted: Path, folder: Path) -> None:
    """Install what the file ``wanted`` names into ``folder``/node_modules, or skip the test and say why."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder.mkdir(parents=True, exist_ok=True)
    text, here = wanted.read_text(encoding="utf-8"), folder / "package.json"
    if here.exists() and here.read_text(encoding="utf-8") == text:
        return
    here.write_text(text, encoding="utf-8")
    argv = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    said = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if said.returncode:
        here.unlink()
        pytest.skip(f"npm cannot install: {said.stderr.strip()[-200:]}")
