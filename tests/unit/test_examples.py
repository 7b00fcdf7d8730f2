"""The example reservations are what their README says, and every one of them can be composed."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections import Counter
from datetime import datetime
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import pytest
from email_validator import validate_email
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailbatch.domain.reservation import MAIL_FIELDS, Mail

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TABLE = {*MAIL_FIELDS, "scheduled_at", "expires_at", "priority", "idempotency_key", "tag"}


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("examples_generate", EXAMPLES / "generate.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def csv_rows() -> list[dict[str, Any]]:
    with (EXAMPLES / "reservations.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    for row in rows:
        row["context"] = {name: row.pop(name) for name in list(row) if name not in TABLE}
        row["headers"] = json.loads(row.pop("headers", "null"))
    return rows


def jsonl_rows() -> list[dict[str, Any] | None]:
    rows = []
    for line in (EXAMPLES / "reservations.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            rows.append(None)
    return rows


def problems(row: dict[str, Any] | None) -> list[str]:
    if row is None:
        return ["no JSON"]
    try:
        mail = Mail(**{name: row.get(name) for name in MAIL_FIELDS} | {"recipients": row.get("recipients", "")})
        found = list(mail.problems())
        if row.get("scheduled_at") and datetime.fromisoformat(row["scheduled_at"]).tzinfo is None:
            found.append("scheduled_at: no zone")
        int(row.get("priority", 0))
    except ValueError as error:
        found = [str(error)]
    return found


def test_the_committed_files_are_what_the_generator_makes(generate):
    assert generate.main(["--check"]) == 0


def test_ten_times_as_many_mails_have_ten_thousand_keys_and_addresses(generate, tmp_path):
    assert generate.main(["--times", "10", "--out", str(tmp_path)]) == 0
    lines = (tmp_path / "reservations.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4_000 + generate.JSONL_BAD
    keys = [mail["idempotency_key"] for mail in (*generate.csv_mails(10), *generate.jsonl_mails(10))]
    assert len(set(keys)) == 10_000


@pytest.mark.parametrize(("rows", "good", "bad"), [(csv_rows, 600, 4), (jsonl_rows, 400, 4)])
def test_the_counts_in_the_readme_hold(rows, good, bad):
    counted = Counter(bool(problems(row)) for row in rows())
    assert counted == {False: good, True: bad}


def test_every_good_mail_renders_with_no_variable_missing():
    loader = FileSystemLoader(EXAMPLES / "templates")
    text = ImmutableSandboxedEnvironment(loader=loader, undefined=StrictUndefined)
    html = ImmutableSandboxedEnvironment(loader=loader, undefined=StrictUndefined, autoescape=True)
    rendered = 0
    for row in [row for row in (*csv_rows(), *jsonl_rows()) if not problems(row)]:
        context = row.get("context") or {}
        if name := row.get("template"):
            subject = text.get_template(f"{name}/subject.txt").render(context).strip()
            body = text.get_template(f"{name}/body.txt").render(context)
            page = html.get_template(f"{name}/body.html").render(context)
            assert "</html>" in page
            assert "<Dental>" not in page, "what people wrote is escaped in HTML"
        else:
            subject = text.from_string(row["subject"]).render(context)
            body = text.from_string(row["body_text"]).render(context)
        assert subject
        assert subject == " ".join(subject.splitlines())
        assert body.strip()
        rendered += 1
    assert rendered == 1_000


def test_the_demo_inbox_has_its_recipients_to_refuse_and_to_defer(generate):
    mails = [row["recipients"] for row in (*csv_rows(), *jsonl_rows()) if not problems(row)]
    assert sum("refused." in to for to in mails) == generate.REFUSED
    assert sum("deferred." in to for to in mails) == generate.DEFERRED


def test_every_address_is_one_and_belongs_to_nobody():
    seen: list[str] = []
    for row in [row for row in (*csv_rows(), *jsonl_rows()) if not problems(row)]:
        lists = [row[name] for name in ("recipients", "cc", "bcc", "sender", "reply_to") if name in row]
        for _, address in getaddresses(lists):
            checked = validate_email(address, strict=True, check_deliverability=False)
            assert checked.ascii_domain.rpartition(".")[2] == "example" or checked.ascii_domain in {
                "example.com",
                "example.net",
                "example.org",
            }
        seen += [address for _, address in getaddresses([row["recipients"]])]
    assert len(seen) == len(set(seen)), "each recipient gets one mail"
    assert sum(not address.rpartition("@")[0].isascii() for address in seen) == 5
