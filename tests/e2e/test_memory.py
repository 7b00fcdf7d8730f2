"""Memory grows neither with the backlog nor with fat mails."""

from __future__ import annotations

import psutil
from support.backlogs import database, reserve, runs, states
from support.long import LONG
from support.waiting import wait_until

MB = 2**20


def resident(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def the_sender(stack) -> int:
    """The pid of the process that sends: a pool child."""
    wait_until(lambda: runs(stack.database_url), 60, "a run to begin")
    return runs(stack.database_url)[0].pid


@LONG
def test_with_300000_due_the_sender_does_not_grow_between_mail_2000_and_mail_20000(stack, smtp_sink):
    with database(stack.database_url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO mail_reservations (recipients, subject, body_text) "
            "SELECT 'to' || i || '@example.org', 'Nº ' || i, 'Hello ' || i FROM generate_series(1, 300000) i"
        )
    stack.worker("-c", "1")
    stack.call()
    pid = the_sender(stack)
    smtp_sink.wait_for(2_000, 60)
    early = resident(pid)
    smtp_sink.wait_for(20_000, 120)
    grown = resident(pid) - early
    assert grown < 8 * MB, f"{grown / MB:.1f} MB"


def test_many_mails_of_five_megabytes_cost_the_memory_of_a_few(stack, smtp_sink):
    reserve(stack.database_url, 20)
    stack.settings["LOG_LEVEL"] = "WARNING"
    stack.worker("-c", "1")
    stack.call()
    pid = the_sender(stack)
    wait_until(lambda: states(stack.database_url) == {"sent": 20}, 30, "the small ones to be sent")
    before = resident(pid)
    peak = before

    line = "fünf Megabyte, Zeile um Zeile\n"
    fat = line * (5 * MB // len(line.encode()))
    for i in range(24):
        reserve(stack.database_url, 1, start=100 + i, body=fat)
    stack.call()

    def all_sent() -> bool:
        nonlocal peak
        peak = max(peak, resident(pid))
        return states(stack.database_url).get("sent") == 44

    wait_until(all_sent, 180, "the fat ones to be sent")
    grown = peak - before
    assert grown < 12 * 5 * MB, f"{grown / MB:.1f} MB for 24 mails of 5 MB"
