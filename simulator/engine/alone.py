"""One node of a network, run by itself on values that are put before it: for measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.engine.layout import Layout, arena_bytes
from simulator.engine.plan import build_plan
from simulator.engine.program import Program
from simulator.engine.records import OPERATION, STORE, TASK
from simulator.engine.workers import Workers, available_threads


class NodeAlone:
    """The pass of node `name`, with nothing fused into it, over height x width pixels (multiples of the stride).

    stored: whether the node's value is written to memory. If not, its sums stay where a fused pass has them, in scratch
    memory, and `value` is not to be asked for it. plan: the network's.
    """

    def __init__(
        self,
        analysis: Analysis,
        tensors: Mapping[str, npt.NDArray[np.int32]],
        name: str,
        height: int,
        width: int,
        threads: int = 1,
        stored: bool = True,
    ):
        threads = max(1, min(threads, available_threads()))
        self.plan = build_plan(analysis, tensors, fused=False)
        layout = Layout(self.plan, height, width, threads, banded=False)
        arena = np.zeros(arena_bytes(layout), np.uint8)
        arena[:] = 0  # so that all of it is in place
        self._program, self._workers = Program(layout, arena), Workers(threads)
        number = [step.root for step in self.plan.passes].index(name)
        self._step = self.plan.passes[number]
        self._task = np.array([self._program.task(number)], np.int64)
        last = self._program.records[0, self._task[0, TASK.end_record] - 1]
        if not stored and last[OPERATION] == STORE.operation:
            self._task[0, TASK.end_record] -= 1

    def stored(self, name: str) -> npt.NDArray[Any]:
        """A value as it lies in memory, to be filled: numbers [T or 1, h, w, Cp], or bits of spikes as bytes
        [T or 1, h, w, Cp / 8], first channel lowest; Cp: channels rounded up to 16, those beyond C zero."""
        return self._program.memory.stored(name)

    def run(self) -> None:
        """Compute the node once from what lies in memory."""
        if self._step.by_rows:
            self._workers.run_together(self._program.records, self._task)
        else:
            self._program.evaluate(self._step)

    def value(self, name: str) -> npt.NDArray[np.int64]:
        """A value, [T or 1, C, h, w]."""
        return self._program.memory.channels_first(name)
