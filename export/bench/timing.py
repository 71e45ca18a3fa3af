"""Contenders, and how they are timed: in turn, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from simulator.pictures import Pixels

Call = Callable[[], Pixels]

LONGEST_SIDE = 4096  # pixels
LEAST_ROUNDS = 3  # that even the slowest takes part in
PAUSE = 0.02  # seconds for which idle threads may go on spinning after a call
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
PACKAGES = (
    "numpy", "numba", "onnxruntime", "ai-edge-litert", "openvino", "ncnn", "torch", "spikingjelly", "snntorch", "norse",
    "sinabs",
)  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One of the programs that are compared; each restores a picture.

    key: for --only. name: for the table. network: "spiking" (the bundle's, T steps) or "ann" (the equivalent ANN).
    prepare: from pixels (uint8 [3, H, W], sides multiples of the stride) and a number of threads to a call that
    restores them; what is only done once, like loading or compiling, it does here. It raises ImportError or
    ValueError, a sentence, if a package is missing. exact: the result must equal the engine's where float32 is exact.
    limit: largest side in pixels.
    """

    key: str
    name: str
    network: str
    prepare: Callable[[Pixels, int], Call]
    exact: bool = False
    limit: int = LONGEST_SIDE


@dataclass(frozen=True)
class Timing:
    """times_ms: one per repetition. differing: pixels that are not the engine's; distance: the mean difference in grey
    levels; both None for another network."""

    key: str
    name: str
    network: str
    times_ms: tuple[float, ...]
    differing: int | None
    distance: float | None

    @property
    def median_ms(self) -> float:
        return median(self.times_ms)

    @property
    def p95_ms(self) -> float:
        return float(np.percentile(self.times_ms, 95))


def interleaved(
    calls: Mapping[str, Callable[[], Any]], repeats: int, budget: float, pause: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[float]], dict[str, Any]]:  # fmt: skip
    """(milliseconds of each repetition, a result) of every call. Each was called at least once before.

    repeats: rounds. A call that would take longer than `budget` seconds in all takes part in fewer of them, evenly
    spread, but in LEAST_ROUNDS at least.
    """
    rounds, results = {}, {}
    for name, call in calls.items():
        start = time.perf_counter()
        results[name] = call()
        spent = time.perf_counter() - start
        rounds[name] = max(min(repeats, LEAST_ROUNDS), min(repeats, int(budget / max(spent, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name, call in calls.items():
            if (turn + 1) * rounds[name] // repeats > turn * rounds[name] // repeats:
                time.sleep(pause)
                start = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - start) * 1e3)
        progress()
    return times, results


def measure(
    able: list[tuple[Contender, Call]], repeats: int, budget: float, threads: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Timing]:  # fmt: skip
    """Time every contender; the first one is the engine, whose pixels are the measure."""
    calls = {one.key: call for one, call in able}
    times, results = interleaved(calls, repeats, budget, PAUSE if threads > 1 else 0.0, progress)
    first = results[able[0][0].key]
    timings = []
    for one, _ in able:
        differing = distance = None
        if one.network == "spiking":
            differing = int((results[one.key] != first).any(0).sum())
            distance = float(np.abs(results[one.key].astype(np.int16) - first).mean())
        timings.append(Timing(one.key, one.name, one.network, tuple(times[one.key]), differing, distance))
    return timings


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, as most servers' allocators do; True if it can (glibc).

    Otherwise every tensor of more than 32 MB is fetched from the system anew, page by page: PyTorch at 1024x1024 then
    spends three quarters of its time in page faults, which would say nothing about its arithmetic.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, load, versions."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"cpu": model, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), **versions}
