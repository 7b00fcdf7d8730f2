"""The document passes redocly's recommended rules, and a TypeScript client that is generated from it works."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.npm import install

HERE = Path(__file__).parent
TOP = HERE.parents[1]
DOCUMENT = TOP / "docs" / "reference" / "openapi.json"
INSTALLED = TOP / "var" / "clients"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a program of ours from npm in a folder of its own; returns what it said."""
    install(HERE / "package.json", INSTALLED)
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")
    quiet = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}

    def run(*argv):
        done = subprocess.run(argv, cwd=folder, env=quiet, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run.folder = folder
    return run


def test_the_document_passes_the_recommended_rules_without_a_warning(run):
    said = run("node_modules/.bin/redocly", "lint", "--extends", "recommended", "--format", "json", str(DOCUMENT))
    assert '"errors": 0' in said, said
    assert '"warnings": 0' in said, said


def test_a_generated_typescript_client_walks_the_life_of_a_mail(run, served):
    run("node_modules/.bin/openapi-ts", "--input", str(DOCUMENT), "--output", "client", "--no-log-file")
    shutil.copy(HERE / "walk.ts", run.folder)
    to_javascript = ("--outDir", "out", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10")
    run("node_modules/.bin/tsc", "--strict", "--esModuleInterop", *to_javascript, "--skipLibCheck", "walk.ts")
    assert "walked" in run("node", "out/walk.js", *served)
