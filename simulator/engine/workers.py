"""Threads that run tasks of row operations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.engine.compiling import Rows, compiled
from simulator.engine.records import COUNTERS

CGROUP = Path("/sys/fs/cgroup")


def available_threads() -> int:
    """Processors this process may use: the affinity mask, limited by the cgroup's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    for folder, files in ((CGROUP, ("cpu.max",)), (CGROUP / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"))):
        try:
            quota, period = map(int, " ".join((folder / name).read_text() for name in files).split())
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        if quota > 0 and period > 0:
            count = min(count, max(1, quota // period))
    return max(1, count)


class Workers:
    """`count` threads, of which the one that calls is the first. records: int64 [threads, n, FIELDS]."""

    def __init__(self, count: int):
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1) if count > 1 else None
        self._helping: list[Future[None]] = []
        self._run = compiled()

    def wait(self) -> None:
        """Wait for the others: after an interrupted call they may still be writing."""
        wait(self._helping)
        self._helping.clear()

    def run_together(self, records: Rows, tasks: Rows, held: tuple[npt.NDArray[Any], ...] = ()) -> None:
        """Run tasks in order, all threads on each. Who computes which rows varies from run to run, the bits do not.

        The other threads are not waited for: one that comes late finds nothing left to begin. Each holds the arrays
        that it writes to, because Ctrl-C may take this thread away from here while others compute.
        """
        counters = np.zeros(COUNTERS + len(tasks), np.int64)
        for i in range(1, self.count):
            self._helping.append(self._submit(records[i], tasks, i, self.count, counters, held))
        self._run(records[0], tasks, 0, self.count, counters.ctypes.data)

    def run_alone(self, records: Rows, tasks: Rows) -> None:
        """Run tasks in order on the calling thread."""
        self._run(records[0], tasks, 0, 1, 0)

    def run_apart(self, records: Rows, parts: Sequence[Rows]) -> None:
        """Run lists of tasks that do not depend on one another, at most one for each thread, and wait for all."""
        no_counters = np.zeros(0, np.int64)
        helping: list[Future[None]] = []
        try:
            for i in range(1, len(parts)):
                helping.append(self._submit(records[i], parts[i], 0, 1, no_counters, ()))
            self._run(records[0], parts[0], 0, 1, 0)
        finally:
            self._helping += helping
            self.wait()
        for done in helping:
            done.result()

    def _submit(
        self, records: Rows, tasks: Rows, thread: int, threads: int, counters: Rows, held: tuple[npt.NDArray[Any], ...]
    ) -> Future[None]:
        assert self._pool is not None
        return self._pool.submit(self._help, records, tasks, thread, threads, counters, held)

    def _help(
        self, records: Rows, tasks: Rows, thread: int, threads: int, counters: Rows, held: tuple[npt.NDArray[Any], ...]
    ) -> None:
        self._run(records, tasks, thread, threads, counters.ctypes.data)
