"""Print constraints.txt: for every supported Python the newest versions that fit together.

``python3 .ci/constraints.py python3.11 python3.12 python3.13 >constraints.txt``: each named interpreter resolves
all our extras and groups in its own venv, and what only an older patch release of it needs. Standard library only.
"""

# ruff: noqa: INP001  # a script, not a package

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
HEADER = """\
# Exact versions of everything that `make` installs. Made by `make constraints`, which asks each Python that it finds:
# do not edit; commit what it makes. What needs another version on some Python has a line for each.
"""

# pip compares markers only with the Python that runs it: python_full_version < "3.11.3" is false on 3.11.7.
OF_OLDER_PATCHES = """
import json, sys
from pip._vendor.packaging.requirements import Requirement
report = json.load(open(sys.argv[1], encoding="utf-8"))
here = {"extra": "", **report["environment"]}
oldest = {**here, "python_full_version": here["python_version"] + ".0"}
for item in report["install"]:
    for line in item["metadata"].get("requires_dist", ()):
        needed = Requirement(line)
        if needed.marker and needed.marker.evaluate(oldest) and not needed.marker.evaluate(here):
            needed.marker = None
            print(needed)
"""


def main(interpreters: list[str]) -> int:
    """Print the constraints; return the exit code."""
    if not interpreters:
        print("name the interpreters: python3 .ci/constraints.py python3.11 …", file=sys.stderr)  # noqa: T201
        return 2
    found: dict[str, dict[str, str]] = {}
    for interpreter in interpreters:
        version, pins = resolve(interpreter)
        print(f"Python {version}: {len(pins)} packages", file=sys.stderr)  # noqa: T201
        found[version] = pins
    sys.stdout.write(HEADER + "".join(f"{line}\n" for line in merged(found)))
    return 0


def resolve(interpreter: str) -> tuple[str, dict[str, str]]:
    """Return the version of ``interpreter`` ("3.11"), and the version of each package that it would install."""
    with tempfile.TemporaryDirectory() as folder:
        venv, report = Path(folder, "venv"), Path(folder, "report.json")
        run(interpreter, "-m", "venv", str(venv))
        python = str(venv / "bin" / "python")
        # The pip that comes with a Python may be too old to know groups.
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
        resolved = ("-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report))
        run(python, *resolved, *wanted())
        if older := output(python, "-c", OF_OLDER_PATCHES, str(report)).splitlines():
            run(python, *resolved, *wanted(), *older)
        document = json.loads(report.read_text(encoding="utf-8"))
    pins = {normal(item["metadata"]["name"]): item["metadata"]["version"] for item in document["install"]}
    del pins["mailbatch"]
    version = document["environment"]["python_version"]
    return version, pins


def wanted() -> list[str]:
    """Return pip's arguments: this project with all extras and groups, pip itself, and the build requirements."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [word for group in project["dependency-groups"] for word in ("--group", f"{TOP}/pyproject.toml:{group}")]
    # An editable wheel needs editables, which hatchling asks for only while it builds one.
    return ["--editable", f"{TOP}[all]", *groups, "pip", "editables", *project["build-system"]["requires"]]


def merged(found: dict[str, dict[str, str]]) -> list[str]:
    """Return a line for each name, or one for each Python if their versions differ. A superfluous line does no harm."""
    lines = []
    for name in sorted({name for pins in found.values() for name in pins}):
        versions = {python: pins[name] for python, pins in found.items() if name in pins}
        if len(set(versions.values())) == 1:
            lines.append(f"{name}=={next(iter(versions.values()))}")
        else:
            lines += [f"{name}=={version} ; python_version == '{python}'" for python, version in versions.items()]
    return lines


def normal(name: str) -> str:
    """Return ``name`` as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*argv: str) -> None:
    """Run a command and show its output on stderr; exit with its exit code if it fails."""
    sys.stderr.write(output(*argv))


def output(*argv: str) -> str:
    """Run a command and return its output; exit with its exit code if it fails."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
