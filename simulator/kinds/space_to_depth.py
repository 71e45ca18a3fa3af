"""Blocks of positions become channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import Node
from simulator.kinds.base import Kind
from simulator.kinds.layer import Array, Bounds, Extent, Integers, Layer, TensorSpec, Value, Whole, bounds_alone
from simulator.kinds.sketch import SCALES, Draw, Sketch


def space_to_depth(x: Array, factor: int) -> Array:
    """[T, C, H, W] -> [T, C factor^2, H / factor, W / factor], channels in the order (c, dy, dx)."""
    steps, c, h, w = x.shape
    x = x.reshape(steps, c, h // factor, factor, w // factor, factor)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(steps, c * factor**2, h // factor, w // factor)


class SpaceToDepth(Kind):
    name = "space_to_depth"
    equation = "y[(c, dy, dx), i, j] = x[c, i r + dy, j r + dx] with r = factor, as PixelUnshuffle"
    attributes = {"factor": Whole(2, 8)}
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x, factor = layer.inputs[0], layer["factor"]
        return Value(x.channels * factor**2, x.scale * factor, x.static, spikes=False, q=x.q)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        x, block = layer.inputs[0], layer["factor"] ** 2
        return bounds_alone(np.repeat(x.lo, block), np.repeat(x.hi, block))

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return space_to_depth(inputs[0], layer["factor"])

    def span(self, node: Node, first: int, last: int) -> tuple[int, int]:
        return first * node["factor"], last * node["factor"]

    def alignment(self, node: Node) -> int:
        return 1

    def copies(self, node: Node) -> int:
        return 0

    def synapses(self, layer: Layer) -> None:
        return None

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        return 0, 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,)


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x and x.value.scale * 2 in SCALES and x.value.channels <= 16:
        sketch.keep(sketch.add(sketch.name("depth"), "space_to_depth", (x,), x.limit, factor=2))
