"""Two lanes keep to the rate of a relay and to the limit of a domain, and send all else meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support.backlogs import reserve, runs, states

if TYPE_CHECKING:
    from pathlib import Path

    from support.stack import Stack

FILE = """
[relays.own]
url = "{url}"
{rate}
[[limits]]
name = "slow"
match = {{ recipient_domain = "slow.example" }}
rate = "10/s"
"""


@pytest.fixture
def limited(stack: Stack, smtp_sink, tmp_path: Path):
    def write(rate: str = "") -> Stack:
        path = tmp_path / "relays.toml"
        path.write_text(FILE.format(url=smtp_sink.url, rate=rate))
        stack.settings |= {"RELAYS": path, "LANES": 2}
        return stack

    return write


def most_in_a_second(times: list[float]) -> int:
    """Return the largest number of ``times`` that lie within one second."""
    most, first = 0, 0
    for last, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def times_of(sink, domain: str) -> list[float]:
    return sorted(mail.time for mail in sink.accepted() if mail.recipients[0].endswith(domain))


def test_no_second_has_more_than_the_rate_and_its_burst_and_nearly_all_of_it_is_used(limited, smtp_sink):
    stack = limited('rate = "50/s"')
    reserve(stack.database_url, 250)
    stack.worker("-c", "3")
    report = stack.json("send-all")
    assert (report["outcome"], report["sent"]) == ("completed", 250)
    times = sorted(mail.time for mail in smtp_sink.accepted())
    assert most_in_a_second(times) <= 2 * 50
    assert times[-1] - times[0] <= (250 - 50) / 50 / 0.95 + 0.5


def test_the_mails_of_a_limited_domain_go_along_its_rate_and_the_others_at_once(limited, smtp_sink):
    stack = limited()
    reserve(stack.database_url, 60, recipients="ann@slow.example")
    reserve(stack.database_url, 600, start=60)
    stack.worker("-c", "3")
    report = stack.json("send-all")
    assert (report["outcome"], report["sent"], report["held_back"]) == ("completed", 660, 0)
    slow, others = times_of(smtp_sink, "slow.example"), times_of(smtp_sink, "example.org")
    assert most_in_a_second(slow) <= 2 * 10
    assert others[-1] < slow[-1]
    assert Counter(mail.message_id for mail in smtp_sink.accepted()).most_common(1)[0][1] == 1
    assert states(stack.database_url) == {"sent": 660}


def test_a_relay_whose_day_is_used_up_is_left_alone_and_the_rest_waits_without_an_attempt(limited, smtp_sink):
    stack = limited('rate = "120/d"')
    reserve(stack.database_url, 200)
    done = stack.cli("send-all", "--here", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["outcome"], report["sent"], report["remaining"]) == (1, "failed", 120, 80)
    assert len(smtp_sink.accepted()) == 120
    (run,) = runs(stack.database_url)
    assert "the 120 of this day are used up" in run.error
    assert (run.failed, run.deferred) == (0, 0)
