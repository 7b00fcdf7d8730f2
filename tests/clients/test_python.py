"""A Python client that is generated from the OpenAPI document has every operation, and they work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
WALK = Path(__file__).parent / "walk.py"


def test_a_generated_python_client_walks_the_life_of_a_mail(served, tmp_path):
    # No hooks: they would only format what nobody reads.
    (tmp_path / "settings.yml").write_text("post_hooks: []\n", encoding="utf-8")
    generator = [str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--path", str(DOCUMENT)]
    options = ["--meta", "none", "--config", "settings.yml", "--output-path", "generated_client", "--fail-on-warning"]
    made = subprocess.run([*generator, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr

    names = {path.stem for path in (tmp_path / "generated_client" / "api").glob("*/*.py")} - {"__init__"}
    paths = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"]
    assert names == {
        operation["operationId"].replace("__", "_") for verbs in paths.values() for operation in verbs.values()
    }

    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    argv = [sys.executable, str(WALK), *served]
    walked = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert walked.returncode == 0, walked.stderr
