"""Boards that run the C core: what fits their memory at once, by rows or in halo tiles, always with the same bits."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards.base import Board, BoardError, BoardResult, assemble
from firmware_bridge.counts import COUNTS
from firmware_bridge.first_difference import CoreTracer, Looking, Tracer
from firmware_bridge.link import LinkError
from firmware_bridge.native import Core, CoreError, Restored
from firmware_bridge.plan import PlanError, compile_bundle
from firmware_bridge.runner import RunnerError
from firmware_bridge.tiles import Tile, cut, tiles
from firmware_bridge.toolchain import BuildError
from simulator.bundle import Bundle

FAULTS = (BuildError, CoreError, PlanError, RunnerError, LinkError)
COUNTERS = COUNTS.itemsize + 64  # bytes per node beside the working memory, and the allocator's share


class Running(Protocol):
    """A C core that has opened a plan, wherever it is; see `native.Core`."""

    def run(self, picture: npt.NDArray[np.uint8], tile: Tile | None = None, *, by_rows: bool = False) -> Restored: ...


class CoreBoard(Board):
    """memory_bytes: for plan, picture and working memory together. most_columns: of a picture, pixels. unit_ns: what
    its core calls the time of one `unit`, nanoseconds."""

    takes_parts = True
    memory_bytes = 1 << 30
    most_columns = 1 << 16
    unit_ns = 0.0

    @abstractmethod
    def _open(self, plan: bytes) -> Running:
        """A core that has opened a plan; raises one of `FAULTS`."""

    def load(self, bundle: Bundle) -> None:
        try:
            self._bundle, self._plan = bundle, compile_bundle(bundle)
            self._sizes = Core(self._plan.data)  # tells what a picture needs, whatever machine it is for
            self._core = self._open(self._plan.data)
        except FAULTS as error:
            raise BoardError(str(error)) from error

    def run(self, image: npt.NDArray[np.uint8]) -> BoardResult:
        begin = time.perf_counter()
        height, width = image.shape[:2]
        parts, by_rows = self._parts(height, width)
        found = [(part, self._run_part(cut(image, part), part, by_rows)) for part in parts]
        return assemble(found, time.perf_counter() - begin)

    def parts(self, height: int, width: int) -> Sequence[Tile]:
        return self._parts(height, width)[0]

    def run_part(self, given: npt.NDArray[np.uint8], part: Tile) -> BoardResult:
        return self._run_part(given, part, by_rows=not self._fits([part], by_rows=False))

    def _run_part(self, given: npt.NDArray[np.uint8], part: Tile, by_rows: bool) -> BoardResult:
        begin = time.perf_counter()
        try:
            found: Restored = self._core.run(given, part, by_rows=by_rows)
        except FAULTS as error:
            raise BoardError(f"{self.name}: {error}") from error
        ticks = round(found.seconds * 1e9 / self.unit_ns) if self.unit else None
        memory = self._sizes.memory_size(part, by_rows)
        return BoardResult(found.image, found.counts, found.seconds, ticks, time.perf_counter() - begin, memory)

    def tracer(self) -> Tracer | None:
        plan = compile_bundle(self._bundle, fuse=False)
        try:
            core = self._look(plan.data)
        except FAULTS as error:
            raise BoardError(str(error)) from error
        return None if core is None else CoreTracer(self._bundle, plan, core)

    def _look(self, plan: bytes) -> Looking | None:
        """A core that has opened a plan and gives access to its layers, or None; raises one of `FAULTS`."""
        return None

    def _parts(self, height: int, width: int) -> tuple[Sequence[Tile], bool]:
        """The tiles of a picture and whether they go by rows: the first way that fits the board's memory."""
        analysis = self._bundle.analysis
        for by_rows in (False, True):
            whole = [Tile.whole(height, width)]
            if self._fits(whole, by_rows):
                return whole, by_rows
        side = max(height, width)
        while side > analysis.align:
            side = -(-side // (2 * analysis.align)) * analysis.align
            parts = tiles(analysis, height, width, side)
            for by_rows in (False, True):
                if self._fits(parts, by_rows):
                    return parts, by_rows
        raise BoardError(f"{self.name} has too little memory for the smallest tile of this network")

    def _fits(self, parts: Sequence[Tile], by_rows: bool) -> bool:
        beside = len(self._plan.data) + COUNTERS * len(self._plan.layers)
        largest = max(parts, key=lambda part: part.height * part.width)
        try:
            needed = self._sizes.memory_size(largest, by_rows)
        except CoreError:
            return False
        broad = max(part.width for part in parts)
        return broad <= self.most_columns and needed + 3 * largest.height * largest.width + beside <= self.memory_bytes
