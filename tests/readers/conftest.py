"""Node's mailparser, the reader of many web mailers, installed as ``package-lock.json`` says."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
INSTALLED = Path(__file__).parents[2] / "var" / "readers"
PINS = ("package.json", "package-lock.json")


@pytest.fixture(scope="session")
def mailparser() -> Callable[[list[bytes]], list[dict[str, Any]]]:
    """Reads mails by Node's mailparser, which is installed as package-lock.json says."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    pins = [(HERE / name).read_bytes() for name in PINS]
    INSTALLED.mkdir(parents=True, exist_ok=True)
    done = INSTALLED / "installed"
    if not done.exists() or done.read_bytes() != b"".join(pins):
        for name, content in zip(PINS, pins, strict=True):
            (INSTALLED / name).write_bytes(content)
        argv = ["npm", "ci", "--no-audit", "--no-fund", "--silent", "--ignore-scripts"]
        said = subprocess.run(argv, cwd=INSTALLED, capture_output=True, text=True, check=False)
        if said.returncode:
            pytest.skip(f"npm cannot install: {said.stderr.strip()[-200:]}")
        done.write_bytes(b"".join(pins))

    def read(mails: list[bytes]) -> list[dict[str, Any]]:
        said = subprocess.run(
            ["node", str(HERE / "read.js")],
            input="".join(f"{base64.b64encode(mail).decode()}\n" for mail in mails),
            capture_output=True,
            text=True,
            env={"NODE_PATH": str(INSTALLED / "node_modules"), "PATH": "/usr/local/bin:/usr/bin:/bin"},
            check=True,
        )
        return [json.loads(line) for line in said.stdout.splitlines()]

    return read
