"""The cut of a network for a neuromorphic card: its ends on the host, its neurons on the card.

    head    what stands before the first neuron: the picture, the first convolution, the first rounding; static
    body    neurons, and linear sums of the convolutions of their spikes: all that a card needs to know
    tail    from the readout's sum over time to the picture

Head and tail are computed on the host in integers, exactly; every card gets the same body. A network in which something
else (a rounding, attention, a convolution of real values) stands between two neurons has no such cut and is refused.

>>> parts = cut(bundle.analysis)                     # which layer is where, and what crosses; CutError
>>> host = Host(parts, bundle.tensors)
>>> entering = host.head(pixels)                     # {name: int64 [steps, C, h, w]}, for each of parts.entering
>>> leaving = host.body(entering)                    # what a card must return, for each of parts.leaving
>>> picture = host.tail(pixels, entering, leaving)   # uint8 [3, H, W], to the bit what the whole network gives
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis, Tensors
from simulator.graph import Node
from simulator.kinds import kind_of, unknown_attribute
from simulator.kinds.layer import Array, Integers
from simulator.reference import Observer, evaluate_node

# Beside neurons: convolutions of spikes, and what only adds, repeats or rearranges.
LINEAR = ("conv", "sum", "concat", "upsample", "space_to_depth")

Values = Mapping[str, Array]


class CutError(ValueError):
    """A network that cannot be divided. str() is one sentence that names the layer."""


@dataclass(frozen=True)
class Crossing:
    """One value that crosses between host and card: integers k that stand for k * 2^-q, lo[c] <= k <= hi[c].

    name: of the layer that computes it. steps: T, or 1 for what is static: presented at every step to neurons that fire
    step by step, once to window neurons. scale: the image's height and width divided by the value's.
    """

    name: str
    steps: int
    channels: int
    scale: int
    q: int
    lo: Integers
    hi: Integers

    def shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """[steps, C, h, w] for a padded image of that size."""
        return self.steps, self.channels, height // self.scale, width // self.scale

    @property
    def magnitude(self) -> int:
        """The largest |k| that can occur."""
        return int(np.maximum(np.abs(self.lo), np.abs(self.hi)).max())


@dataclass(frozen=True)
class Cut:
    """Which layers are on the host and which on the card, each part in the graph's order, and what crosses.

    entering: from head to body. leaving: from body to tail. What the head gives to the tail stays on the host. Layers
    on which the picture does not depend are in no part.
    """

    analysis: Analysis
    head: tuple[Node, ...]
    body: tuple[Node, ...]
    tail: tuple[Node, ...]
    entering: tuple[Crossing, ...]
    leaving: tuple[Crossing, ...]


def cut(analysis: Analysis) -> Cut:
    """The one cut of a network, from the analysis of its graph with tensors.

    Raises CutError, naming the layer, where something else than neurons and linear sums stands between two neurons, and
    for a network without neurons.
    """
    graph = analysis.graph
    needed = graph.needed()
    parts: dict[str, str] = {}
    for node in graph.nodes:
        if node.name not in needed:
            continue
        above = {parts[name] for name in node.inputs}
        if kind_of(node).neurons and "tail" in above:
            raise CutError(_refusal(analysis, node))
        if kind_of(node).neurons:
            parts[node.name] = "body"
        elif "tail" in above or ("body" in above and node.kind not in LINEAR):
            parts[node.name] = "tail"
        else:
            parts[node.name] = "body" if "body" in above else "head"
    if "body" not in parts.values():
        raise CutError("The network has no neurons: there is nothing to compute on a card.")
    head, body, tail = (
        tuple(node for node in graph.nodes if parts.get(node.name) == part) for part in ("head", "body", "tail")
    )
    return Cut(analysis, head, body, tail, _crossings(analysis, head, body), _crossings(analysis, body, tail))


def _refusal(analysis: Analysis, neuron: Node) -> str:
    """What stands between this layer of neurons and those before it: the last layer that is neither one nor linear."""
    behind = {neuron.name}
    for node in reversed(analysis.graph.nodes):
        if node.name not in behind:
            continue
        if not kind_of(node).neurons and node.kind not in LINEAR:
            return (
                f"Layer {node.name!r}, of the kind {node.kind!r}, stands between neurons ({neuron.name!r} depends on "
                "it): a card computes neurons and sums of convolutions of their spikes, and nothing else between them."
            )
        behind.update(node.inputs)
    raise AssertionError("a tail starts with a layer that is not linear")


def _crossings(analysis: Analysis, source: Iterable[Node], target: Iterable[Node]) -> tuple[Crossing, ...]:
    read = {name for node in target for name in node.inputs}
    found = []
    for node in source:
        if node.name in read:
            value = analysis.values[node.name]
            steps = 1 if value.static else analysis.graph.time_steps
            found.append(Crossing(node.name, steps, value.channels, value.scale, value.q, value.lo, value.hi))
    return tuple(found)


class Host:
    """Computes the parts of a network on this machine. Values are int64 [steps, C, h, w], by the names of their layers;
    pixels are int16 [3, H, W], u8 - 128, H and W multiples of `analysis.stride`."""

    def __init__(self, parts: Cut, tensors: Tensors):
        self.parts = parts
        self._own: dict[str, dict[str, Array]] = {node.name: {} for node in parts.analysis.graph.nodes}
        for key, tensor in tensors.items():
            layer, _, part = key.rpartition(".")
            self._own[layer][part] = tensor.astype(np.int64)

    def own(self, node: Node) -> dict[str, Array]:
        """A layer's tensors, int64."""
        return self._own[node.name]

    def head(self, pixels: npt.NDArray[np.int16]) -> dict[str, Array]:
        """What enters the body, and what the tail reads of the head."""
        values = self._run(self.parts.head, {}, pixels, None)
        read = {name for node in (*self.parts.body, *self.parts.tail) for name in node.inputs}
        return {name: value for name, value in values.items() if name in read}

    def body(self, entering: Values, observe: Observer | None = None) -> dict[str, Array]:
        """What leaves the body, by the kinds' own meaning: the reference, slow. `observe(name, value)` sees the output
        of each of its layers."""
        values = self._run(self.parts.body, entering, None, observe)
        return {one.name: values[one.name] for one in self.parts.leaving}

    def tail(self, pixels: npt.NDArray[np.int16], entering: Values, leaving: Values) -> npt.NDArray[np.uint8]:
        """The restored picture, uint8 [3, H, W]. entering: what `head` returned for these pixels."""
        values = self._run(self.parts.tail, {**entering, **leaving}, pixels, None)
        restored: npt.NDArray[np.uint8] = values[self.parts.tail[-1].name][0].astype(np.uint8)
        return restored

    def _run(
        self, nodes: Iterable[Node], given: Values, pixels: npt.NDArray[np.int16] | None, observe: Observer | None
    ) -> dict[str, Array]:
        graph = self.parts.analysis.graph
        ends = graph.nodes[0].name, graph.nodes[-1].name
        values = dict(given)
        for node in nodes:
            inputs = [values[name] for name in node.inputs]
            if node.name in ends and pixels is not None:
                inputs.append(pixels.astype(np.int64)[None])
            own = self._own[node.name]
            if node.kind == "dense_conv" and not unknown_attribute(node, {}):
                values[node.name] = _convolved(node, inputs[0], own)
            else:
                values[node.name] = evaluate_node(node, inputs, own, self.parts.analysis)
            if observe:
                observe(node.name, values[node.name])
        return values


def _convolved(node: Node, x: Array, own: Mapping[str, Array]) -> Array:
    """`kinds.convolution.convolve` by matrix products in float64, which holds sums of up to 2^31 exactly: some
    ten times as fast as integers in NumPy."""
    stride, padding, groups = node["stride"], node["padding"], node["groups"]
    weight, kernel = own["weight"].astype(np.float64), node["kernel"]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    steps, channels, height, width = padded.shape
    height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    weight = weight.reshape(groups, len(weight) // groups, channels // groups, kernel, kernel)
    out = np.zeros((steps, groups, weight.shape[1], height * width))
    for dy in range(kernel):
        for dx in range(kernel):
            tap = padded[:, :, dy : dy + stride * height : stride, dx : dx + stride * width : stride]
            out += weight[..., dy, dx] @ tap.reshape(steps, groups, channels // groups, height * width)
    result = out.reshape(steps, -1, height, width).astype(np.int64)
    return result + own["bias"][:, None, None] if "bias" in own else result
