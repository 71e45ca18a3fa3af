"""A whole network on the C core of this process, run as `simulator.network.Network` runs one."""

from __future__ import annotations

import numpy as np

from firmware_bridge.counts import COUNTS, add_counts, statistics
from firmware_bridge.first_difference import CoreTracer
from firmware_bridge.native import Core
from firmware_bridge.plan import compile_bundle
from firmware_bridge.tiles import inner_slices, tiles
from simulator.bundle import Bundle
from simulator.network import Result, as_given, as_rgb
from simulator.trace import Trace


class NativeNetwork:
    def __init__(self, bundle: Bundle):
        self._bundle, self.analysis = bundle, bundle.analysis
        self._plan = compile_bundle(bundle)
        self._core = Core(self._plan.data)

    def run(self, image: np.ndarray, tile: int | None = None, by_rows: bool = False) -> Result:
        """tile: side of halo tiles in pixels; None: the image whole. by_rows: see snn_mode in firmware/core/snn.h."""
        colour, alpha = as_rgb(image)
        height, width = colour.shape[:2]
        restored = np.empty((height, width, 3), np.uint8)
        counts, seconds = np.zeros(len(self._plan.layers), COUNTS), 0.0
        for part in tiles(self.analysis, height, width, tile):
            rows = slice(part.top, part.top + part.height)
            found = self._core.run(colour[rows, part.left : part.left + part.width], part, by_rows=by_rows)
            place, source = inner_slices(part)
            restored[place] = found.image[source]
            add_counts(counts, found.counts)
            seconds += found.seconds
        stats = statistics(self.analysis, height, width, counts, seconds)
        return Result(as_given(image, restored, alpha), stats)

    def trace(self, image: np.ndarray) -> Trace:
        """From a plan that stores every node."""
        plan = compile_bundle(self._bundle, fuse=False)
        return CoreTracer(self._bundle, plan, Core(plan.data)).trace(as_rgb(image)[0])
