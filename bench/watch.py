"""Measures the cost of a tree of processes: CPU seconds, and the memory of its largest process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from types import TracebackType

EVERY = 0.25
"""Seconds between two checks. The kernel keeps the peaks, so checks may be rare, but must not miss short processes."""


class Watch:
    """Use it as ``with Watch(pid) as watch``, then read ``watch.cpu`` (seconds), ``peak_mb`` and ``processes``.

    A process that ends during the measurement counts if its parent in the tree has waited for it.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch", daemon=True)
        self.cpu = 0.0
        self.peak_mb = 0.0
        self.processes = 0

    def __enter__(self) -> Self:
        self._reset_peaks()
        self._before = cpu_of_tree(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cpu = self.cpu_so_far()
        self._look()
        self._stop.set()
        self._thread.join()

    def cpu_so_far(self) -> float:
        """Return the CPU seconds since the beginning."""
        return cpu_of_tree(self._pid) - self._before

    def _look_on(self) -> None:
        while not self._stop.wait(EVERY):
            self._look()

    def _look(self) -> None:
        pids = tree(self._pid)
        self.processes = max(self.processes, len(pids))
        self.peak_mb = max([self.peak_mb, *map(peak_mb, pids)])

    def _reset_peaks(self) -> None:
        for pid in tree(self._pid):
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                continue  # It has ended, or it is not ours: then the peak of its whole life counts.


def tree(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants, without reading every process of the machine."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def cpu_of_tree(pid: int) -> float:
    """Return the CPU seconds of ``pid``, of its descendants, and of ended descendants that were waited for."""
    total = 0.0
    for one in tree(pid):
        try:
            times = psutil.Process(one).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_mb(pid: int) -> float:
    """Return the largest resident memory of a process since its peak was reset, in MB; 0 if it has ended."""
    return _status_mb(pid, "VmHWM:")


def resident_mb(pid: int) -> float:
    """Return the present resident memory of a process, in MB; 0 if it has ended."""
    return _status_mb(pid, "VmRSS:")


def _status_mb(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)
