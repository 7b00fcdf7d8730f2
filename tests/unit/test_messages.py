"""Messages of a queue that a worker can take, and the reasons for which others are dropped."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from mailbatch.batch.messages import problem_of

CALL = {"task": "send-all", "id": "0b9c4f0e-5a34-4c36-9b0a-0c1f3d5e7a11"}


def message(*, headers: Any = CALL, body: Any = "[[], {}, {}]", **changes: Any) -> dict[str, Any]:
    properties = {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "mailbatch"}}
    kinds = {"content-type": "application/json", "content-encoding": "utf-8"}
    return {"body": body, **kinds, "headers": headers, "properties": {**properties, **changes}}


@pytest.mark.parametrize(
    "fine",
    [
        message(),
        message(body=base64.b64encode(b"[[], {}, null]").decode(), body_encoding="base64"),
        message(
            headers={**CALL, "timelimit": [None, 60.5], "retries": 0, "expires": "2026-11-27T00:00:00", "eta": None}
        ),
        message(headers={**CALL, "stamps": {"campaign": "spring"}, "stamped_headers": ["campaign"], "own": [1]}),
        message(headers={}, body=json.dumps({**CALL, "args": [], "kwargs": {}})),
        message(headers={}, body='{"method": "ping"}'),
        message(headers=None, body=""),
    ],
)
def test_calls_of_both_protocols_and_control_commands_are_taken(fine):
    assert problem_of(fine) is None


@pytest.mark.parametrize(
    ("junk", "reason"),
    [
        (None, "no JSON object"),
        ([], "no JSON object"),
        ({}, "properties is missing, not dict"),
        (message(headers=7), "headers is int, not dict"),
        (message(delivery_tag=7), "delivery_tag is int, not str"),
        (message(delivery_info={}), "delivery_info needs exchange"),
        (message(headers={"task": "send-all"}), "id is missing, not str"),
        (message(headers={**CALL, "id": ""}), "its id is empty"),
        (message(headers={**CALL, "task": ["send-all"]}), "task is list, not str"),
        (message(headers={**CALL, "timelimit": [1]}), "timelimit must be two numbers"),
        (message(headers={**CALL, "timelimit": [1, "x"]}), "timelimit must be two numbers"),
        (message(body="{"), "its body cannot be read"),
        (message(body="[" * 100_000), "its body cannot be read"),
        (message(body="no base64", body_encoding="base64"), "its body cannot be read"),
        (message(body="[[], {}]"), "its body must be a list of"),
        (message(body="[7, 7, 7]"), "its body must be a list of"),
        (message(headers={}, body='{"task": "send-all"}'), "id is missing, not str"),
        (message(headers={}, body=json.dumps({**CALL, "kwargs": 7})), "its body must be a list of"),
    ],
)
def test_the_reason_names_what_is_wrong(junk, reason):
    assert reason in problem_of(junk)
