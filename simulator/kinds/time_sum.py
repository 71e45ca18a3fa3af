"""The sum over the T time steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.graph import Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value, bounds_alone
from simulator.kinds.sketch import Draw


class TimeSum(ByPosition):
    name = "time_sum"
    equation = "the sum of x over the T steps, static; T times an x that is static"
    attributes: Mapping[str, Attribute] = {}
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(x.channels, x.scale, static=True, spikes=False, q=x.q)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        x = layer.inputs[0]
        return bounds_alone(x.lo * layer.time_steps, x.hi * layer.time_steps)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        x = inputs[0]
        total: Array = x.sum(0, keepdims=True)
        return total * layer.time_steps if len(x) == 1 else total

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        """Every random network has one before its readout."""
        return ()
