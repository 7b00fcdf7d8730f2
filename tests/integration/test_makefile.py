"""``make`` finds a Python that can be used, or says in one line what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(tmp_path: Path, *variables: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Ask ``make`` for a venv in ``tmp_path``; with ``path`` first on the PATH."""
    outer = {k: v for k, v in os.environ.items() if k not in {"PYTHON", "MAKEFLAGS", "MAKELEVEL"}}
    first = f"{path}{os.pathsep}" if path else ""
    venv = tmp_path / "venv"
    return subprocess.run(
        ["make", "-f", ROOT / "Makefile", f"VENV={venv}", *variables, f"{venv}/made"],
        cwd=ROOT,
        env={**outer, "PATH": f"{first}{outer['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


NOT_ACTIVE = "echo 'pyenv: python3.12: command not found' >&2; exit 127"


@pytest.mark.parametrize("text", [NOT_ACTIVE, "exit 1"])
def test_a_python_that_does_not_start_or_is_too_old_costs_one_line(tmp_path, text):
    shim = script(tmp_path / "python3.12", text)
    done = make(tmp_path, f"PYTHON={shim}")
    assert done.returncode != 0
    assert "mailbatch needs Python 3.11 or newer with venv" in done.stderr
    assert "pyenv" not in done.stdout + done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_inactive_shim_on_the_path_is_passed_over(tmp_path):
    folder = tmp_path / "shims"
    folder.mkdir()
    for name in ("python3.13", "python3.12"):
        script(folder / name, NOT_ACTIVE)
    # It can be used, and then makes no venv.
    script(folder / "python3.11", "case $1 in -c) exit 0;; *) echo asked for a venv; exit 3;; esac")
    done = make(tmp_path, path=folder)
    assert f"setting up {tmp_path / 'venv'} with {folder / 'python3.11'} …" in done.stdout
    assert "asked for a venv" in done.stdout
    assert "pyenv" not in done.stderr
