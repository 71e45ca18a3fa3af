"""Boards in the place of the simulator's network: pictures in, restored pictures and statistics out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge import terminal
from edge.errors import UserError, sentence
from edge.images import Pixels
from firmware_bridge.boards import Board, BoardError, BoardResult, open_board
from firmware_bridge.counts import statistics
from firmware_bridge.pool import Pool
from firmware_bridge.power.recording import Recording
from simulator import coarse
from simulator.bundle import read_bundle
from simulator.network import Result, as_given, as_rgb


class BoardNetwork(ABC):
    """A bundle on one board or several; close it when done. task, bundle_hash, meta: of the bundle; backend: the names.

    here: some of them compute on this machine. ahead: pictures that may be under way at once, in a thread each.
    """

    here: bool
    ahead = 1

    def __init__(self, bundle: Path, backend: str):
        """Raises UserError for an unusable bundle."""
        try:
            self._bundle = read_bundle(bundle)
        except (ValueError, OSError) as error:
            raise UserError(sentence(error)) from error
        self.task, self.bundle_hash, self.backend = self._bundle.task, self._bundle.content_hash, backend
        self.meta = self._bundle.meta
        self._lock = threading.Lock()
        self._end_to_end_ms = array("d")
        self._ticks = self._synops = self._pixels = 0
        self._computed = 0.0

    @abstractmethod
    def _restored(self, colour: npt.NDArray[np.uint8]) -> BoardResult:
        """Of uint8 RGB [H, W, 3]; raises BoardError."""

    @abstractmethod
    def recording(self) -> Recording:
        """Measures the power of the run, or says why there is no figure."""

    @abstractmethod
    def close(self) -> None: ...

    def hear(self, say: Callable[[str], None]) -> None:  # noqa: B027  one board alone ends the run instead
        """From now on sentences about single boards go to `say`."""

    def run(self, image: Pixels, tile: int | None = None) -> Result:
        """As `simulator.network.Network.run`; a board cuts pictures as its memory needs. Raises UserError."""
        whole, alpha = as_rgb(image)
        colour, by = coarse.seen(self.meta, whole)
        height, width = colour.shape[:2]
        try:
            found = self._restored(np.ascontiguousarray(colour))
        except BoardError as error:
            raise UserError(sentence(error)) from error
        with self._lock:
            self._end_to_end_ms.append(found.end_to_end_s * 1e3)
            self._ticks += found.ticks or 0
            self._pixels += height * width
            self._computed += height * width * found.overhead
            self._synops += 0 if found.counts is None else int(found.counts["synops"].sum())
        stats = statistics(self._bundle.analysis, height, width, found.counts, found.seconds)
        restored = coarse.carried_over(whole, colour, found.image, by)
        return Result(as_given(image, restored, alpha), stats)

    def report(self) -> dict[str, Any]:
        """What a `--stats` file has of boards besides: latency end to end, and what was computed for the halos."""
        latency = {name: float(np.percentile(self._end_to_end_ms, q)) for name, q in (("median", 50), ("p95", 95))}
        figures: dict[str, Any] = {"end_to_end_ms": latency}
        if self._computed > self._pixels:
            figures["computed_pixels_per_pixel"] = self._computed / self._pixels
        return figures


class OneBoard(BoardNetwork):
    """A bundle on an open board; raises UserError where that is impossible."""

    def __init__(self, bundle: Path, name: str):
        super().__init__(bundle, name)
        try:
            self._board: Board = open_board(name)
        except BoardError as error:
            raise UserError(sentence(error)) from error
        try:
            self._board.load(self._bundle)
        except BoardError as error:
            self._board.close()
            raise UserError(sentence(error)) from error
        self.here = self._board.here

    def _restored(self, colour: npt.NDArray[np.uint8]) -> BoardResult:
        return self._board.run(colour)

    def recording(self) -> Recording:
        return self._board.recording()

    def report(self) -> dict[str, Any]:
        figures = {"latency_clock": self._board.clock, **super().report()}
        if self._board.unit and self._synops:
            figures[f"{self._board.unit}_per_synop"] = self._ticks / self._synops
        return figures

    def close(self) -> None:
        self._board.close()


class ManyBoards(BoardNetwork):
    """A bundle on several boards, of which some may fail; raises UserError where none is there.

    alone: there is one picture only, so they share it. measuring: the power of boards that measure their own.
    """

    def __init__(self, bundle: Path, names: Sequence[str], *, alone: bool, measuring: bool):
        super().__init__(bundle, " + ".join(names))
        try:
            self.pool = Pool(names, self._bundle, open_board, sharing=alone, measuring=measuring, say=terminal.say)
        except BoardError as error:
            raise UserError(sentence(error)) from error
        self.here = any(board.here for board in self.pool.boards)
        self.ahead = 1 if alone else 2 * len(names)  # so that none waits for the slowest one's picture

    def hear(self, say: Callable[[str], None]) -> None:
        self.pool.say = say

    def _restored(self, colour: npt.NDArray[np.uint8]) -> BoardResult:
        return self.pool.run(colour)

    def recording(self) -> Recording:
        return Recording(missing="each board that measures its own power has it in the list of boards")

    def report(self) -> dict[str, Any]:
        return {"latency_clock": "that of each board", **super().report(), "boards": self.pool.report()}

    def close(self) -> None:
        self.pool.close()
