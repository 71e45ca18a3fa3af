"""A larger picture: spikes or values repeated, or channels turned into positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.graph import Node
from simulator.kinds.base import Kind
from simulator.kinds.layer import Array, Bounds, Extent, Integers, Layer, TensorSpec, Value, Whole, Word, bounds_alone
from simulator.kinds.sketch import Draw, Sketch


def depth_to_space(x: Array, factor: int) -> Array:
    """[T, C, H, W] -> [T, C / factor^2, H factor, W factor], channels in the order (c, dy, dx), as PixelShuffle."""
    steps, c, h, w = x.shape
    x = x.reshape(steps, c // factor**2, factor, factor, h, w)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(steps, c // factor**2, h * factor, w * factor)


class Upsample(Kind):
    name = "upsample"
    equation = "nearest: each value repeated factor x factor times; depth_to_space: PixelShuffle"
    attributes = {"factor": Whole(2, 8), "mode": Word(("nearest", "depth_to_space"))}
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        x, factor, shuffles = layer.inputs[0], layer["factor"], layer["mode"] == "depth_to_space"
        if shuffles:
            layer.need_real_values()
        if x.scale % factor:
            layer.refuse(f"a value at scale {x.scale} cannot be enlarged {factor} times")
        if shuffles and x.channels % factor**2:
            layer.refuse(f"{x.channels} channels do not divide into {factor}x{factor} pixels")

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x, factor = layer.inputs[0], layer["factor"]
        channels = x.channels // factor**2 if layer["mode"] == "depth_to_space" else x.channels
        return Value(channels, x.scale // factor, x.static, x.spikes, x.q, window=x.window)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        x = layer.inputs[0]
        if layer["mode"] == "nearest":
            return bounds_alone(x.lo, x.hi)
        block = layer["factor"] ** 2
        return bounds_alone(x.lo.reshape(-1, block).min(1), x.hi.reshape(-1, block).max(1))

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        x, factor = inputs[0], layer["factor"]
        if layer["mode"] == "nearest":
            return x.repeat(factor, -2).repeat(factor, -1)
        return depth_to_space(x, factor)

    def span(self, node: Node, first: int, last: int) -> tuple[int, int]:
        return first // node["factor"], -(-last // node["factor"])

    def alignment(self, node: Node) -> int:
        return 1

    def copies(self, node: Node) -> int:
        return int(node["factor"]) if node["mode"] == "nearest" else 0

    def synapses(self, layer: Layer) -> None:
        return None

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        return 0, 0

    def draws(self) -> Sequence[Draw]:
        return _draw_nearest, _draw_depth_to_space


def _draw_nearest(sketch: Sketch) -> None:
    x = sketch.choose(spikes=sketch.chance(0.5))
    if x and x.value.scale > 1:
        factor = int(sketch.rng.choice([f for f in range(2, 9) if x.value.scale % f == 0]))
        sketch.keep(sketch.add(sketch.name("nearest"), "upsample", (x,), x.limit, factor=factor, mode="nearest"))


def _draw_depth_to_space(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x:
        factors = [f for f in (2, 3, 4) if x.value.scale % f == 0 and x.value.channels % f**2 == 0]
        if factors:
            factor, name = int(sketch.rng.choice(factors)), sketch.name("shuffle")
            sketch.keep(sketch.add(name, "upsample", (x,), x.limit, factor=factor, mode="depth_to_space"))
