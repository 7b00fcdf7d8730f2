"""The kernel's own killer: a mail that needs more memory than the worker may have."""

from __future__ import annotations

from faults.fault import ONE_CRASH, Fault
from faults.house import open_house

MAX_ATTEMPTS = 3
MEMORY = 320 * 2**20
POISON = 11
GREEDY = Fault(
    row="m1",
    name="the kernel's OOM killer: one of the mails needs more memory than the worker's cgroup has",
    columns={
        "context": lambda i: {"pad": "x" * 2**20} if i == POISON else {},
        "body_text": lambda i: "{% for n in range(450) %}{{ pad }}{% endfor %}" if i == POISON else f"This is {i}.",
    },
    settings={"MAX_ATTEMPTS": MAX_ATTEMPTS, "MAX_MESSAGE_BYTES": 500 * 2**20},
    ends={"sent": 23, "failed": 1},
    doubled=MAX_ATTEMPTS * ONE_CRASH,
    doubtful=True,
    lasts=30.0,
)


def test_a_mail_that_the_kernel_kills_its_sender_for_is_set_aside(small_memory, struck):
    group = small_memory(MEMORY)
    with open_house(under=group.under) as house:
        struck(house, GREEDY)
        assert group.kills() == MAX_ATTEMPTS
        (poison,) = [row for row in house.rows(GREEDY.row) if row.status == "failed"]
        said = house.stack.json("show", str(poison.id))
    assert "set aside: 3 senders in a row died" in str(said)
