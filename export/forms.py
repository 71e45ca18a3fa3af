"""What exporters write in place of what not every runtime computes alike; as exact as float32 is.

Blocks of positions that become channels are convolutions: the contract orders the channels (c, dy, dx), as
PixelUnshuffle, ONNX and TFLite (dy, dx, c), and some converters exchange them. A convolution says it without a doubt.

A spike, v >= threshold, is clip(v - (threshold - 1), 0, 1) in units: v is a whole number of them, so nothing lies
between.

The spikes of a window neuron, clip(floor(v / threshold), 0, T), are counted without a division, in whose place runtimes
put a product with the reciprocal: clip(floor((v + half a unit) * (1 / threshold)), 0, T). The half keeps the product
away from whole numbers by more than it rounds, as long as T thresholds are below `WINDOW_LIMIT` units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import FLOAT_LIMIT, Analysis
from simulator.graph import Node

WINDOW_LIMIT = 2**21


def block_weight(channels: int, factor: int) -> npt.NDArray[np.int32]:
    """space_to_depth as a convolution with stride `factor`: weight [C r^2, C, r, r] of ones and zeros."""
    size = channels * factor**2
    return np.eye(size, dtype=np.int32).reshape(size, channels, factor, factor)


def folds(node: Node, analysis: Analysis) -> bool:
    """Whether a space_to_depth can be part of the convolutions that read it: nobody else reads it, and no group of
    theirs has a part of a block only."""
    block = node["factor"] ** 2
    readers = analysis.graph.consumers(node.name)
    channels = analysis.values[node.name].channels
    return all(one.kind == "dense_conv" and channels // one["groups"] % block == 0 for one in readers)


def folded_weight(weight: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """A convolution of blocks as one of positions: [O, C r^2, k, k] becomes [O, C, k r, k r]; its stride and padding
    are r times as large."""
    out, blocks, kernel, _ = weight.shape
    parts = weight.reshape(out, blocks // factor**2, factor, factor, kernel, kernel).transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(parts).reshape(out, -1, kernel * factor, kernel * factor)


def below_threshold(threshold: npt.NDArray[np.int32], q: int) -> npt.NDArray[np.floating[Any]]:
    """What a spike's membrane potential is above by one unit at least, per channel."""
    return (threshold - 1) * 2.0**-q


def window_form(
    threshold: npt.NDArray[np.int32], bias: npt.NDArray[np.int32], q: int
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """(what is added to a window neuron's input, what that is multiplied with), per channel."""
    return (bias + 0.5) * 2.0**-q, 2.0**q / threshold.astype(np.float64)


def inexact_nodes(analysis: Analysis) -> list[str]:
    """Layers that float32 is not guaranteed to compute exactly in these forms."""
    return [
        node.name
        for node in analysis.graph.nodes
        if analysis.bounds[node.name] >= (WINDOW_LIMIT if node.kind == "window" else FLOAT_LIMIT)
    ]
