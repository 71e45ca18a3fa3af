"""The picture as it enters the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import IMAGE_GRID, INPUT_CHANNELS, Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value, bounds_alone
from simulator.kinds.sketch import Draw


class Image(ByPosition):
    """The first node of every graph."""

    name = "image"
    equation = "u8 - 128 on grid 7: the picture, 3 channels, static"
    attributes: Mapping[str, Attribute] = {}
    inputs = (0, 0)
    neurons = False

    def check(self, layer: Layer) -> None:
        """There is nothing that could not go together."""

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        return Value(INPUT_CHANNELS, scale=1, static=True, spikes=False, q=IMAGE_GRID)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        least, most = layer.pixels
        return bounds_alone(np.full(INPUT_CHANNELS, least, np.int64), np.full(INPUT_CHANNELS, most, np.int64))

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return inputs[0]

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return ()
