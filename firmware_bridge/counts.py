"""What the C core counts, layer by layer, and the statistics of a frame that come of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.statistics import Population, Statistics

COUNTS = np.dtype([("spikes", "<u8"), ("synops", "<u8"), ("macs", "<u8")])  # snn_counts in firmware/core/snn.h


def add_counts(total: npt.NDArray[np.void], part: npt.NDArray[np.void]) -> None:
    """Adds the counts of one tile; MACs are the whole image's in every tile."""
    total["spikes"] += part["spikes"]
    total["synops"] += part["synops"]
    total["macs"] = part["macs"]


def statistics(
    analysis: Analysis, height: int, width: int, counts: npt.NDArray[np.void] | None, seconds: float
) -> Statistics:
    """Statistics of a frame from what the core counted [nodes]: spikes, SyOps and MACs are the core's own.

    Of a board that does not count they have no layers.
    """
    if counts is None:
        return Statistics(seconds, height, width, analysis.graph.time_steps, analysis.parameters, ())
    names = [node.name for node in analysis.graph.nodes]
    counted: Mapping[str, npt.NDArray[np.void]] = dict(zip(names, counts, strict=True))
    spikes, synops, macs = (
        {name: int(row[what]) for name, row in counted.items()} for what in ("spikes", "synops", "macs")
    )
    layers = Population(analysis, height, width).layers(spikes, synops)
    own = tuple(layer._replace(macs=macs[layer.name]) for layer in layers)
    return Statistics(seconds, height, width, analysis.graph.time_steps, analysis.parameters, own)
