"""The event-driven engine as a board; the default."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards.base import Board, BoardError, BoardResult
from firmware_bridge.counts import COUNTS
from firmware_bridge.first_difference import NetworkTracer, Tracer
from simulator.bundle import Bundle
from simulator.network import Network


class Simulator(Board):
    name = "sim"
    about = "the event-driven engine on this machine"
    backend = "numba"

    def load(self, bundle: Bundle) -> None:
        try:
            self._network = Network(bundle, self.backend)
        except ValueError as error:
            raise BoardError(str(error)) from error

    def run(self, image: npt.NDArray[np.uint8]) -> BoardResult:
        begin = time.perf_counter()
        try:
            found = self._network.run(image)
        except ValueError as error:
            raise BoardError(str(error)) from error
        names = [node.name for node in self._network.analysis.graph.nodes]
        counts = np.zeros(len(names), COUNTS)
        for layer in found.stats.layers:
            counts[names.index(layer.name)] = layer.spikes, layer.synops, layer.macs
        return BoardResult(found.image, counts, found.stats.latency_s, None, time.perf_counter() - begin)

    def tracer(self) -> Tracer:
        return NetworkTracer(self._network)
