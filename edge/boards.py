"""A board in the place of the simulator's network: pictures in, restored pictures and statistics out."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import UserError, sentence
from edge.images import Pixels
from firmware_bridge.boards import Board, BoardError, open_board
from firmware_bridge.counts import statistics
from simulator import coarse
from simulator.bundle import read_bundle
from simulator.network import Result, as_given, as_rgb


class BoardNetwork:
    """A bundle on an open board; close it when done. task, bundle_hash, meta: of the bundle; backend: the board."""

    def __init__(self, bundle: Path, name: str):
        """Raises UserError for an unusable bundle or board."""
        try:
            self._bundle = read_bundle(bundle)
            self.board: Board = open_board(name)
        except (ValueError, OSError, BoardError) as error:
            raise UserError(sentence(error)) from error
        try:
            self.board.load(self._bundle)
        except BoardError as error:
            self.board.close()
            raise UserError(sentence(error)) from error
        self.task, self.bundle_hash, self.backend = self._bundle.task, self._bundle.content_hash, name
        self.meta = self._bundle.meta
        self._end_to_end_ms = array("d")
        self._ticks = self._synops = self._pixels = 0
        self._computed = 0.0

    def run(self, image: Pixels, tile: int | None = None) -> Result:
        """As `simulator.network.Network.run`; the board cuts pictures as its memory needs. Raises UserError."""
        whole, alpha = as_rgb(image)
        colour, by = coarse.seen(self.meta, whole)
        height, width = colour.shape[:2]
        try:
            found = self.board.run(np.ascontiguousarray(colour))
        except BoardError as error:
            raise UserError(sentence(error)) from error
        self._end_to_end_ms.append(found.end_to_end_s * 1e3)
        self._ticks += found.ticks or 0
        self._pixels += height * width
        self._computed += height * width * found.overhead
        self._synops += 0 if found.counts is None else int(found.counts["synops"].sum())
        stats = statistics(self._bundle.analysis, height, width, found.counts, found.seconds)
        restored = coarse.carried_over(whole, colour, found.image, by)
        return Result(as_given(image, restored, alpha), stats)

    def report(self) -> dict[str, Any]:
        """What a `--stats` file has of a board besides: what its clock counts, and latency end to end."""
        latency = {name: float(np.percentile(self._end_to_end_ms, q)) for name, q in (("median", 50), ("p95", 95))}
        figures: dict[str, Any] = {"latency_clock": self.board.clock, "end_to_end_ms": latency}
        if self._computed > self._pixels:
            figures["computed_pixels_per_pixel"] = self._computed / self._pixels
        if self.board.unit and self._synops:
            figures[f"{self.board.unit}_per_synop"] = self._ticks / self._synops
        return figures

    def close(self) -> None:
        self.board.close()
