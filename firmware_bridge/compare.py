"""`python -m firmware_bridge.compare --board NAME --bundle FILE SOURCE`: the simulator and a board, bit by bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.native import COUNTS
from simulator.analysis import Analysis
from simulator.network import Result

WORDS = {"spikes": "spikes", "synops": "SyOps", "macs": "MACs"}  # as COUNTS has them
MOST_LAYERS = 5  # named in one sentence


@dataclass(frozen=True)
class LayerDifference:
    """A layer that counted otherwise. what: spikes, SyOps or MACs."""

    layer: str
    what: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.layer} {self.found} {self.what} instead of {self.expected}"


@dataclass(frozen=True)
class Comparison:
    """One picture on both sides. pixels: how many differ in any channel; of: how many there are.

    first_pixel: row, column, channel, expected and found grey level of the first that differs. layers: that counted
    otherwise, in the order of the graph. spikes, synops, macs: of all layers, as the simulator counts them.
    """

    pixels: int
    of: int
    first_pixel: tuple[int, int, int, int, int] | None
    layers: tuple[LayerDifference, ...]
    spikes: int
    synops: int
    macs: int

    @property
    def equal(self) -> bool:
        return not (self.pixels or self.layers)

    def __str__(self) -> str:
        if self.equal:
            return (
                f"equal: {self.of:,} pixels, {self.spikes:,} spikes, {self.synops:,} SyOps and {self.macs:,} MACs "
                "in every layer"
            )
        parts = [f"DIFFERENT: {self.pixels:,} of {self.of:,} pixels"]
        if self.first_pixel:
            row, column, channel, expected, found = self.first_pixel
            parts[0] += f" (first at row {row}, column {column}, channel {channel}: {found} instead of {expected})"
        parts += [str(layer) for layer in self.layers[:MOST_LAYERS]]
        if len(self.layers) > MOST_LAYERS:
            parts.append(f"and {len(self.layers) - MOST_LAYERS} more counts")
        return "; ".join(parts)


def compare(
    analysis: Analysis, expected: Result, image: npt.NDArray[np.uint8], counts: npt.NDArray[np.void]
) -> Comparison:
    """The simulator's result beside what a board gave: uint8 [H, W, 3], and COUNTS [nodes of the graph]."""
    if image.shape != expected.image.shape or image.dtype != np.uint8 or counts.shape != (len(analysis.graph.nodes),):
        raise ValueError(
            f"the board gave a {image.dtype} picture {list(image.shape)} and {counts.shape} counts; expected "
            f"uint8 {list(expected.image.shape)} and {len(analysis.graph.nodes)}"
        )
    names = [node.name for node in analysis.graph.nodes]
    sound = np.zeros(len(names), COUNTS)
    for layer in expected.stats.layers:
        sound[names.index(layer.name)] = layer.spikes, layer.synops, layer.macs
    differing = [
        LayerDifference(name, WORDS[what], int(sound[what][at]), int(counts[what][at]))
        for at, name in enumerate(names)
        for what in WORDS
        if sound[what][at] != counts[what][at]
    ]
    wrong = np.argwhere(image != expected.image)
    first = None
    if len(wrong):
        row, column, channel = (int(index) for index in wrong[0])
        first = row, column, channel, int(expected.image[row, column, channel]), int(image[row, column, channel])
    return Comparison(
        int((image != expected.image).any(2).sum()),
        image.shape[0] * image.shape[1],
        first,
        tuple(differing),
        *(int(sound[what].sum()) for what in WORDS),
    )
