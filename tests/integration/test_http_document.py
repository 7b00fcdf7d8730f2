"""What the OpenAPI document says is what the API does, and it does not change unnoticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from support.api import Api
from support.long import LONG

from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.interfaces.http.app import create_app

SNAPSHOT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json"
REWRITE = "REWRITE_OPENAPI"
CHECKS = (
    "not_a_server_error",
    "response_schema_conformance",
    "status_code_conformance",
    "content_type_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.fixture(scope="module")
def document():
    return create_app(Parts(Settings())).openapi()


def test_the_document_is_the_one_in_the_reference(document):
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get(REWRITE):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert SNAPSHOT.read_text(encoding="utf-8") == text, (
        f"the API has changed; if you meant it: {REWRITE}=1 pytest {Path(__file__).name}, look at the diff, commit it"
    )


def test_every_route_says_what_it_is_and_what_it_answers(document):
    known = document["components"]["schemas"]
    assert "HTTPValidationError" not in known
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            assert operation["summary"], path
            assert operation.get("description") or verb == "get", path
            assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}, path
            if path.startswith("/api/"):
                assert {"401", "422", "503"} <= set(operation["responses"]), path
    for reference in sorted(set(_references(document))):
        assert reference.rpartition("/")[2] in known, reference


def test_each_example_fits_its_schema(document):
    examples = 0
    for schema in _objects(document):
        for example in schema.get("examples", ()) if "type" in schema or "anyOf" in schema else ():
            Draft202012Validator(
                {**schema, "components": document["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
            ).validate(example)
            examples += 1
    assert examples > 20


def test_programs_that_make_clients_of_the_document_find_what_they_need(document):
    assert document["servers"][0]["url"] == "/"
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    names = []
    for path, verbs in document["paths"].items():
        for operation in verbs.values():
            names.append(operation["operationId"])
            kinds = {status[0] for status in operation["responses"]}
            assert {"2", "4"} <= kinds, path
    assert len(names) == len(set(names))
    for schema in _objects(document):
        # Generators know enumerations of one type only.
        assert not isinstance(enum := schema.get("enum"), list) or {type(one) for one in enum} == {str}, schema


def test_a_pause_is_told_by_one_type_beside_the_two_of_paused(document):
    for name in ("Standing", "Paused", "Running"):
        told = document["components"]["schemas"][name]
        assert {"paused", "pause"} <= set(told["required"]), name
        kinds = [one["type"] for one in told["properties"]["paused"]["anyOf"]]
        assert kinds == ["boolean", "string"], name
    assert document["components"]["schemas"]["Pause"]["enum"] == ["none", "ticks", "all"]


@pytest.mark.parametrize("kind", ["postgres", pytest.param("sqlite", marks=LONG)])
def test_whatever_is_asked_nothing_breaks_and_every_answer_has_its_shape(kind, redis_url, request, tmp_path):
    url = request.getfixturevalue(f"{kind}_url")
    # Without a relay nobody waits for one; run-now asks for workers, and has tests of its own.
    with Api({"database_url": url, "redis_url": redis_url, "smtp_url": "smtp://127.0.0.1:1"}) as api:
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "--config-file=/dev/null",
                "run",
                f"http://localhost:{api.port}/openapi.json",
                *("--exclude-path", "/api/run-now", "--seed", "1", "--max-examples", "3", "--workers", "1"),
                *("--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS), "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def _references(value):
    return (one["$ref"] for one in _objects(value) if isinstance(one.get("$ref"), str))


def _objects(value):
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)
