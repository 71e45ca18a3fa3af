"""Blocks of positions that become channels, written as convolutions: what every runtime computes alike.

The contract orders the channels (c, dy, dx), as PixelUnshuffle; ONNX and TFLite (dy, dx, c), and some converters
exchange them. A convolution with stride says it without a doubt.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.graph import Node


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
