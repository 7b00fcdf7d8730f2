"""What the dashboard and the alert rules ask for is what is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from support.backlogs import database

from mailbatch.application.looking.metrics import Measure
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.metrics import SqlMeasures
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.tables import batch_runs, batch_schedule, relay_circuits
from mailbatch.interfaces.http.exposition import Exposition

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "mailbatch.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "mailbatch.json"
PAGE = ROOT / "docs" / "how-to" / "monitor.md"
_NAME = re.compile(r"\bmailbatch_[a-z_]+\b")
_SELECTOR = re.compile(r"\b(mailbatch_[a-z_]+)\{([^}]*)\}")
_LABEL = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')


@pytest.fixture
def exported(sqlite_url) -> dict[str, list[dict[str, str]]]:
    """Every name that is exported, and the labels with which it is; there is one of everything."""
    now = datetime.now(UTC)
    with database(sqlite_url) as connection:
        connection.execute(
            sa.insert(batch_runs).values(
                run_id=uuid4(), job="send-all", trigger="beat", outcome="completed", started_at=now, finished_at=now
            )
        )
        connection.execute(sa.insert(batch_schedule).values(name="send-all", last_tick_at=now, next_tick_at=now))
        connection.execute(sa.insert(relay_circuits).values(relay="mx:25", state="open"))
    engine = connect(sqlite_url)
    measure = Measure(SqlReports(engine), SqlMeasures(engine), lambda: None)
    text = Exposition(measure, version="1", interval=300, connections=lambda: {"mx:25": 1})()
    engine.dispose()
    found: dict[str, list[dict[str, str]]] = {"mailbatch_recent_refusals": [{"outcome": "failed", "class": "5xx"}]}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = YAML(typ="safe").load(RULES)["groups"]
    return group["rules"]


def asked() -> list[str]:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_metric_that_is_asked_for_is_exported_with_those_labels(exported):
    named = {name for expression in asked() for name in _NAME.findall(expression)}
    assert named
    assert named <= set(exported)
    for name, selector in (pair for expression in asked() for pair in _SELECTOR.findall(expression)):
        wanted = [label for label in _LABEL.findall(selector) if label[0] != "job"]  # that one is the scrape's own

        def fits(labels: dict[str, str], wanted: list[tuple[str, str, str]] = wanted) -> bool:
            return all(
                label in labels and re.fullmatch(value if how == "=~" else re.escape(value), labels[label])
                for label, how, value in wanted
            )

        assert any(map(fits, exported[name])), f"{name}{{{selector}}}"


def test_every_metric_is_described_and_none_that_does_not_exist(exported):
    described = set(_NAME.findall(PAGE.read_text("utf-8")))
    # Samples of one family stand under its name.
    families = {
        re.sub(r"_(bucket|count|sum|gcount|gsum)$", "", name) for name in exported if not name.endswith("_created")
    }
    assert described == families | {"mailbatch_recent_lag_seconds_bucket"}


def test_what_the_issue_asks_to_be_alarmed_of_is():
    names = {rule["alert"] for rule in rules()}
    assert names >= {"MailbatchNoRun", "MailbatchLate", "MailbatchInDoubt", "MailbatchFailures"}
    page = PAGE.read_text("utf-8")
    assert all(f"`{name}`" in page for name in names)
    assert all({"summary", "description"} == set(rule["annotations"]) for rule in rules())


def test_the_dashboards_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_prometheus_accepts_the_rules():
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("needs promtool (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
