"""The bench: ``python -m bench`` measures everything in one run and writes the results."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine, report
from bench.bed import ROOT, Bed
from bench.results import Results, Row, Skipped, load
from bench.sections import chain, composing, connections, drain, latency, noops, statements, wire
from bench.sizes import FULL, QUICK, TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.sizes import Sizes

SECTIONS: dict[str, Callable[[Bed, Sizes], Iterator[Row | Skipped]]] = {
    "composer": composing.measure,
    "transport": wire.measure,
    "chain": chain.measure,
    "connections": connections.measure,
    "statements": statements.measure,
    "latency": latency.measure,
    "no-ops": noops.measure,
    "drain": drain.measure,
}
MODES = {"full": FULL, "quick": QUICK, "tiny": TINY}
LATEST = Path(__file__).with_name("results") / "latest.json"
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    """Return 1 if a measurement failed."""
    asked = _arguments()
    logging.disable(logging.WARNING)
    print(machine.python(), flush=True)
    if asked.page:
        PAGE.write_text(report.page(load(LATEST)))
        return 0
    with Bed() as bed:
        results = run(bed, asked.mode, asked.only or list(SECTIONS))
    _write(results, published=asked.mode == "full" and not asked.only)
    print("\n" + "\n".join(report.lines(results)))
    print(f"\n{len(results.rows)} rows, {len(results.skipped)} skipped, {results.seconds:.0f} s")
    return int(any(one.failed for one in results.skipped))


def run(bed: Bed, mode: str, sections: Sequence[str]) -> Results:
    """Measure ``sections`` one after the other; report a section that raises, and continue with the others."""
    began = time.monotonic()
    results = Results(machine.describe(bed), mode)
    for name in sections:
        try:
            for found in SECTIONS[name](bed, MODES[mode]):
                _note(results, found)
        except Exception as error:
            logging.getLogger(__name__).exception("%s", name)
            _note(results, Skipped(name, f"{type(error).__name__}: {error}", failed=True))
    results.seconds = round(time.monotonic() - began, 1)
    return results


def _note(results: Results, found: Row | Skipped) -> None:
    if isinstance(found, Row):
        results.rows.append(found)
        print(report.line(found), flush=True)
    else:
        results.skipped.append(found)
        print(f"{'failed' if found.failed else 'skipped'}: {found.what}: {found.why}", flush=True)


def _write(results: Results, *, published: bool) -> None:
    stamp = results.machine["date"].replace(":", "").replace(" ", "-")
    results.save(LATEST.with_name(f"{stamp}-{results.mode}.json"))
    if published:
        results.save(LATEST)
        PAGE.write_text(report.page(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--mode", choices=MODES, default="full", help="tiny: to see that it works; says nothing")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section alone; may be given again")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md anew from the last full run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
