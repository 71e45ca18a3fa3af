"""Memory and start-up times, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from export.bench import dense, spiking
from simulator.bundle import read_bundle
from simulator.network import Network
from simulator.pictures import noisy_picture

ROOT = Path(__file__).parents[2]
PICTURE = (321, 481)  # height and width for start-up times: a photograph of BSDS500
LARGE = (1080, 1920)
PATIENCE = 600  # seconds for a child process

# Prints the time at which the first picture is restored.
FIRST_PICTURE = """
import sys, time
import cv2
import simulator
network = simulator.load(sys.argv[1], threads=int(sys.argv[3]))
image = cv2.imread(sys.argv[2])[:, :, ::-1]
network.run(image)
print(time.time())
"""

# Prints the process's peak memory in bytes, after the packages are there and after the picture is restored.
PEAK = """
import sys
from pathlib import Path
from export.bench.processes import peak_bytes, prepared
before = peak_bytes()
prepared(*sys.argv[1:])()
print(before, peak_bytes())
"""


class ChildError(RuntimeError):
    """A child process failed; the text is its last line."""


def _run(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"it was not done within {PATIENCE} s") from error
    if done.returncode:
        raise ChildError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return done.stdout.strip().splitlines()[-1]


def start_up(bundle: Path, threads: int, cold: bool = False, repeats: int = 3) -> dict[str, Any]:
    """Seconds from the start of a process to its first restored 481x321 picture, read from a file.

    With cached kernels the median of `repeats` after one that fills the cache; `cold`: with an empty cache, once.
    """
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        _, pixels = noisy_picture(*PICTURE)
        cv2.imwrite(str(picture), pixels.transpose(1, 2, 0)[:, :, ::-1])
        if cold:
            cache = str(Path(folder) / "cache")
            return {"first_ever_s": _seconds(bundle, picture, threads, {"NUMBA_CACHE_DIR": cache})}
        times = sorted(_seconds(bundle, picture, threads) for _ in range(repeats + 1))[:repeats]
        return {"cached_s": times[len(times) // 2], "cached_times_s": times}


def _seconds(bundle: Path, picture: Path, threads: int, environment: dict[str, str] | None = None) -> float:
    start = time.time()
    return float(_run(FIRST_PICTURE, str(bundle), str(picture), str(threads), environment=environment)) - start


def peak_memory(bundle: Path, key: str, height: int, width: int, threads: int) -> dict[str, Any]:
    """Peak resident memory of a process that restores one picture of that size; ChildError with its last words.

    `baseline_mb` is what Python and the bench itself take before the contender's packages are loaded.
    """
    before, peak = _run(PEAK, str(bundle), key, str(height), str(width), str(threads)).split()
    return {
        "key": key, "height": height, "width": width, "peak_mb": int(peak) / 2**20,
        "baseline_mb": int(before) / 2**20,
    }  # fmt: skip


def prepared(bundle: str, key: str, height: str, width: str, threads: str) -> Any:
    """In the child process: the contender's call for a picture of that size; the engine's as `Network.run` does it,
    which cuts large pictures into tiles."""
    one = read_bundle(bundle)
    rows, columns = one.analysis.padded(int(height), int(width))
    if key == "engine":
        image = np.ascontiguousarray(noisy_picture(rows, columns)[1].transpose(1, 2, 0))[: int(height), : int(width)]
        network = Network(one, threads=int(threads))
        return lambda: network.run(image)
    (contender,) = [c for c in (*spiking.contenders(one), *dense.contenders(one)) if c.key == key]
    return contender.prepare(noisy_picture(rows, columns)[1], int(threads))


def peak_bytes() -> int:
    """This process's peak resident memory. (getrusage would count that of the process that started it, too.)"""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    except OSError:
        pass  # not Linux
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
