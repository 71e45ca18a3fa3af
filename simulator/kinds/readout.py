"""The restored picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import IMAGE_GRID, INPUT_CHANNELS, Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value
from simulator.kinds.sketch import Draw

GREY_LEVELS = 1023  # no picture has more, unclipped noise included; the readout adds to it


def readout(pixels: Array, x: Array, q: int) -> Array:
    """clip(u8 + ((x + 2^(n-1)) >> n), 0, 255) with n = q - 7; `pixels` holds u8 - 128, x lies on grid q."""
    shift = q - IMAGE_GRID
    change = (x + ((1 << shift) >> 1)) >> shift
    restored: Array = np.clip(pixels + 128 + change, 0, 255)
    return restored


class Readout(ByPosition):
    """The last node of every graph."""

    name = "readout"
    equation = "clip(u8 + ((x + 2^(n-1)) >> n), 0, 255) with n = x's grid - 7: the restored picture"
    attributes: Mapping[str, Attribute] = {}
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        x = layer.inputs[0]
        if x.channels != INPUT_CHANNELS or x.scale != 1 or not x.static:
            layer.refuse("its input must be 3 static channels at the image's scale")
        if x.q < IMAGE_GRID:
            layer.refuse(f"its input's grid {x.q} is coarser than a pixel's ({IMAGE_GRID})")

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        return Value(INPUT_CHANNELS, scale=1, static=True, spikes=False, q=0)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        shift = layer.inputs[0].q - IMAGE_GRID
        most = layer.inputs[0].magnitudes + ((1 << shift) >> 1)
        most = np.maximum(most, (most >> shift) + GREY_LEVELS)
        return Bounds(np.zeros(INPUT_CHANNELS, np.int64), np.full(INPUT_CHANNELS, 255, np.int64), most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        x, pixels = inputs
        return readout(pixels, x, layer.inputs[0].q)

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return ()
