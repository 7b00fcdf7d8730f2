"""One turn of the paired comparison: ``python bench/turn.py CHECKOUT DATABASE MAILS`` prints CPU µs a mail.

It runs the ``mailbatch`` and the ``bench`` of CHECKOUT, which may be an older version. It uses only names that all
compared versions have.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from typing import Any

WARM_UP = 500
"""Mails that are sent before the measurement, for imports, caches and prepared statements."""


def main(checkout: str, database: str, mails: int) -> None:
    """Send ``mails`` in this process, one lane, to a sink without a round trip."""
    sys.path.insert(0, checkout)
    from bench.bed import Bed, reserve

    logging.disable(logging.WARNING)
    with Bed() as bed:
        bed.sink.set()
        with (bed.sqlite if database == "sqlite" else bed.database)() as url, bed.parts(url) as parts:
            reserve(url, WARM_UP)
            send(parts, WARM_UP)
            reserve(url, mails)
            gc.collect()
            gc.freeze()  # as a worker does before its first run
            cpu = time.process_time()
            send(parts, mails)
            print((time.process_time() - cpu) / mails * 1e6)


def send(parts: Any, mails: int) -> None:
    """Run once; all mails must be sent."""
    from mailbatch.batch.send_all import send_all

    report = send_all(parts)()
    if report.counts.sent != mails:
        raise SystemExit(f"{report.counts.sent} of {mails} were sent: {report}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
