"""Ids: in the order of time, and no two alike, though nobody is asked for them."""

from __future__ import annotations

import subprocess
import sys
import time

from mailbatch.infrastructure.system.clock import new_id

FORKED = """
import os
from mailbatch.infrastructure.system.clock import new_id
new_id()
read, write = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        os.write(write, "".join(f"{new_id()}\\n" for _ in range(50)).encode())
        os._exit(0)
for _ in range(8):
    os.wait()
print(os.read(read, 2**16).decode(), end="")
"""


def test_ids_are_uuids_of_version_7_in_the_order_of_their_making():
    before = time.time()
    ids = [new_id() for _ in range(1000)]
    assert {one.version for one in ids} == {7}
    assert ids == sorted(ids)
    # RFC 9562 §5.7: the first 48 bits are the milliseconds since 1970.
    assert before - 0.001 <= (ids[0].int >> 80) / 1000 <= time.time() + 0.001


def test_children_of_one_worker_make_no_two_alike():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    ids = done.stdout.split()
    assert len(ids) == len(set(ids)) == 8 * 50
