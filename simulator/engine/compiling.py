"""Compiled once, then loaded from the cache on disk (`cache.py`); without a cache where no folder is writable.

What is compiled follows from the engine's files alone: a hash of all of them is part of a kernel's key in the cache.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import config, event

from simulator.engine.cache import Kernel
from simulator.engine.kernels.loop import run_tasks

Rows = npt.NDArray[np.int64]
Runner = Callable[[Rows, Rows, int, int, int], None]

FOLDER = Path(__file__).parent
FUNCTIONS = 100  # that are compiled for `run_tasks`, about


@functools.cache
def sources(folder: Path = FOLDER) -> str:
    """A hash of the names and contents of all Python files in a folder and below it."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def compile_kernel(function: Callable[..., Any], signature: str, uncached: Callable[[], None] = lambda: None) -> Any:
    """`function`, compiled for a signature of Numba's, or loaded. uncached: told where nothing will keep it.

    Raises ValueError, a sentence, where compiling is switched off.
    """
    if getattr(config, "DISABLE_JIT"):  # noqa: B009 (Numba makes it when it starts)
        raise ValueError(
            "NUMBA_DISABLE_JIT is set, and this engine is nothing but compiled kernels: unset it, or compute with "
            "what is plain NumPy and has the same bits, slowly (backend='reference', --board reference)"
        )
    kernel = Kernel(function, sources(), uncached)
    kernel.compile(signature)
    return kernel


@functools.cache
def compiled() -> Runner:
    """`run_tasks` of `kernels/loop.py`, compiled or loaded. Raises ValueError as `compile_kernel` does."""
    announce = _Announce()
    with event.install_listener("numba:compile", announce):
        try:
            signature = "void(int64[:,::1], int64[:,::1], int64, int64, int64)"
            runner: Runner = compile_kernel(run_tasks, signature, announce.uncached)
        finally:
            announce.close()
    return runner


def cache_folder() -> str | None:
    """Where the compiled kernels came from or are kept for the next start; None if no folder is writable."""
    statistics: Any = getattr(compiled(), "stats")  # noqa: B009 (a Runner has none; what Numba makes has)
    folder: str | None = statistics.cache_path
    return folder


class _Announce(event.Listener):
    """Says that compilation began, and on a terminal how far it is: a first start that is silent looks like a hang."""

    begun = 0  # functions whose compilation has begun
    when = "once"

    def on_start(self, event: Any) -> None:
        self.begun += 1
        text = f"compiling kernels for this processor ({self.when}, about 20 s) ..."
        if sys.stderr.isatty():
            # The machine code of all comes last: it takes the last third of the time, and cannot be counted.
            print(f"\r{text} {min(self.begun / FUNCTIONS, 1) * 2 / 3:4.0%}", end="", file=sys.stderr, flush=True)
        elif self.begun == 1:
            print(text, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass

    def uncached(self) -> None:
        self.when = "at every start, for no folder can keep them: set NUMBA_CACHE_DIR to a writable one"

    def close(self) -> None:
        if self.begun and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
