"""Describes the machine, the versions and the settings of a measurement."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.bed import ROOT, postgres_version
from bench.peer import VENV
from bench.sections.chain import CONNECTIONS
from bench.sinks import has_postfix
from mailbatch.config import Settings
from mailbatch.infrastructure.redis.embedded import find_binary

if TYPE_CHECKING:
    from bench.bed import Bed

_OURS = ("mailbatch", "celery", "kombu", "SQLAlchemy", "psycopg", "Jinja2", "redis")
_PEERS = ("Django", "django-post_office", "django-mailer", "psycopg")


def describe(bed: Bed) -> dict[str, Any]:
    """Return the whole description, as JSON types."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": python(),
        "postgresql": postgres_version(bed),
        "sqlite": __import__("sqlite3").sqlite_version,
        "redis": _said(find_binary(), "--version").split(" sha=")[0],
        "postfix": _said("postconf", "-d", "-h", "mail_version")
        if has_postfix() and shutil.which("postconf")
        else None,
        "packages": {name: metadata.version(name) for name in _OURS},
        "peers": _peers(),
        "settings": {"connections": CONNECTIONS, "window": Settings.model_fields["window"].default},
    }


def python() -> str:
    """Return the interpreter's version, and whether it was built with optimisations."""
    configured = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"Python {platform.python_version()}, {optimised(configured)}"


def optimised(configured: str) -> str:
    """Return whether a Python ``configured`` by these arguments was built with profile-guided optimisation, as a text.

    Without it Python is slower by a fifth or more, so figures of the two must not be compared. Debian optimises its
    build without the flag; it is recognised by the folder of wheels that its patches add.
    """
    if "--enable-optimizations" in configured:
        return "built with optimisations"
    return "built by Debian, with optimisations" if "/usr/share/python-wheels" in configured else "not optimised"


def _peers() -> dict[str, str]:
    folders = [str(folder) for folder in VENV.glob("lib/python3*/site-packages")]
    found = {d.metadata["Name"]: d.version for d in metadata.distributions(path=folders)} if folders else {}
    return {name: found[name] for name in _PEERS if name in found}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"
