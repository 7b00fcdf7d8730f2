"""Strict mode under kill -9 at random: no mail goes twice, none is lost, and what is in doubt is named and counted."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from signal import SIGKILL
from typing import TYPE_CHECKING

import sqlalchemy as sa
from support.backlogs import database, reserve, runs, states
from support.long import IS_LONG
from support.waiting import wait_until

from mailbatch.domain.run import crash_bound
from mailbatch.infrastructure.db.tables import mail_attempts

if TYPE_CHECKING:
    from support.sink import Sink
    from support.stack import Stack

KILLS = 20 if IS_LONG else 4
CONNECTIONS = 3
MAILS = KILLS * 40


def test_a_strict_sender_that_is_killed_at_random_repeats_nothing_and_loses_nothing(stack: Stack, smtp_sink: Sink):
    seed = int(os.environ.get("SEED", time.time_ns()))
    chance = random.Random(seed)  # noqa: S311 - a seed that can be given again
    stack.settings |= {"ON_DOUBT": "hold", "WINDOW": 1, "CONNECTIONS": CONNECTIONS, "LEASE": 1}
    stack.settings["LOG_LEVEL"] = "ERROR"
    reserve(stack.database_url, MAILS)
    for _ in range(KILLS):
        already = len(smtp_sink.accepted())
        sender = stack.process("mailbatch", "send-all", "--here", "--no-lock")
        smtp_sink.wait_for(already + chance.randrange(1, 25), 60)
        sender.kill_group(SIGKILL)

    def ended() -> bool:
        assert stack.cli("send-all", "--here", "--no-lock").returncode == 0
        return not {"pending", "sending"} & set(states(stack.database_url))

    wait_until(ended, 60, "the leases of the dead to end and the rest to be sent", every=0.2)
    found = Counter(states(stack.database_url))
    taken = Counter(mail.recipients[0] for mail in smtp_sink.accepted())
    told = f"seed {seed}: {dict(found)}, {len(taken)} taken"
    assert set(taken.values()) == {1}, told
    assert found["sent"] + found["in_doubt"] == MAILS, told
    assert found["sent"] <= len(taken) <= MAILS, told
    assert found["in_doubt"] <= KILLS * crash_bound(1, CONNECTIONS, 1, strict=True), told
    with database(stack.database_url) as connection:
        noted = Counter(connection.execute(sa.select(mail_attempts.c.outcome)).scalars())
    assert noted["in_doubt"] == found["in_doubt"], told
    assert {run.bound for run in runs(stack.database_url)} == {CONNECTIONS}
