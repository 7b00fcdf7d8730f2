"""Log lines: one form for all loggers, with the run in each of them, and without what must not stand there."""

from __future__ import annotations

import json
import logging
import re

import pytest
import structlog

from mailbatch.infrastructure.system.logs import LONGEST, formatter


def record(message: str, *args: object, name: str = "mailbatch.batch.job", **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict:
    return json.loads(formatter(json=True).format(made))


def test_a_line_carries_the_run_and_the_reservation_whoever_logs_it():
    with structlog.contextvars.bound_contextvars(run_id="r1", lane=0):
        line = as_json(record("Pool process %s", "died", name="celery.worker.request", reservation_id="x7"))
    assert line.items() >= {"event": "Pool process died", "run_id": "r1", "lane": 0, "reservation_id": "x7"}.items()
    assert line.items() >= {"level": "warning", "logger": "celery.worker.request"}.items()


def test_text_has_the_same_on_one_line():
    with structlog.contextvars.bound_contextvars(run_id="r1"):
        line = formatter(json=False).format(record("job finished: %s", "send-all"))
    assert line.endswith(" WARNING mailbatch.batch.job: job finished: send-all run_id=r1")


@pytest.mark.parametrize("json_form", [True, False])
def test_addresses_and_passwords_are_hidden_in_every_part(json_form):
    made = record('550 no such user "jo hn"@example.org <bob@example.org>', reservation_id="redis://me:s3cr@t@db/0")
    line = formatter(json=json_form).format(made)
    assert not {"jo hn", "bob", "s3cr"} & {word for word in ("jo hn", "bob", "s3cr") if word in line}
    assert "example.org" in line


def test_a_traceback_is_hidden_too():
    try:
        int("mailbox bob@example.org is full")
    except ValueError as error:
        made = record("broke")
        made.exc_info = (type(error), error, error.__traceback__)
    line = as_json(made)
    assert "***@example.org is full" in line["exception"]
    assert "bob" not in line["exception"]


def test_a_node_of_celery_is_no_address():
    assert as_json(record("celery@host ready.", name="celery.apps.worker"))["event"] == "celery@host ready."


def test_nobody_can_forge_a_line():
    line = formatter(json=False).format(record("250 ok\r\n2026-11-21 INFO x: all is well\u2028"))
    assert len(line.splitlines()) == 1


def test_arguments_of_tasks_that_celery_adds_are_left_out():
    assert "data" not in as_json(record("Task done", name="celery.app.trace", data={"kwargs": "{'to': 'x'}"}))


def test_addresses_are_hashed_or_shown_where_that_is_asked_for():
    made = record("550 <Bob@example.org> and bob@EXAMPLE.org, never ann@example.org")
    line = formatter(json=False, addresses="hashed").format(made)
    (first, second, third) = re.findall(r"(#[0-9a-f]{10})@", line)
    assert first == second != third
    assert "bob" not in line.lower()
    assert "Bob@example.org" in formatter(json=False, addresses="plain").format(made)


def test_a_message_of_any_length_is_cut_where_no_address_shows():
    line = as_json(record("x" * (LONGEST - 3) + " bob@example.org"))["event"]
    assert len(line) == LONGEST
    assert "b" not in line


def test_what_is_too_long_for_a_local_part_shows_nothing_of_itself():
    assert "bob" not in as_json(record(f"550 bob{'o' * 100}@example.org"))["event"]
