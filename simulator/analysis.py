"""The one analysis of a graph: shapes, grids, bounds, accumulator widths, halo, memory and operation counts.

Engine, exporters, the C core's plan, inspect and statistics all read this and nothing else. It walks over the graph;
the rules themselves stand with the kinds, in `simulator/kinds`. Bounds are exact integers per channel, computed from
the frozen tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from simulator.graph import MAX_ALIGN, MAX_CHANNELS, MAX_SCALE, MAX_VALUE_GRID, Graph, GraphError, Node
from simulator.kinds import kind_of
from simulator.kinds.layer import Integers, Layer, TensorSpec, Value
from simulator.structure import check_structure

Tensors = Mapping[str, npt.NDArray[np.int32]]

INT16_LIMIT = 2**15 - 1
FLOAT_LIMIT = 2**24  # below it float32 holds every integer of the grid
INT32_LIMIT = 2**31 - 1
PIXEL_RANGE = (-128, 127)


@dataclass(frozen=True)
class Analysis:
    """Everything derived from a graph (and its tensors).

    values      output of each node
    bounds      largest magnitude any intermediate of the node can reach, in units of its finest grid; 0 without tensors
    channel     the channel at which that bound is reached
    stride      the image is padded to a multiple of this (deepest scale)
    align       tile origins are multiples of this (strides and attention windows)
    halo        pixels of real image around a tile that make its result equal to the whole image's; multiple of align
    parameters  number of elements of all tensors the deployed network needs
    shapes      of all tensors, by `<node>.<part>`
    layers      each node in its place, for the rules of its kind
    tensors     each node's tensors: part -> shape, grid, and whether it is a weight
    """

    graph: Graph
    values: Mapping[str, Value]
    bounds: Mapping[str, int]
    channel: Mapping[str, int]
    stride: int
    align: int
    halo: int
    parameters: int
    shapes: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, Layer]
    tensors: Mapping[str, Mapping[str, TensorSpec]]

    def width(self, name: str) -> str:
        """Narrowest accumulator that the bound proves safe: "int16" or "int32"."""
        return "int16" if self.bounds[name] <= INT16_LIMIT else "int32"

    def float_exact(self, name: str) -> bool:
        """Whether float32 backends compute this node exactly."""
        return self.bounds[name] < FLOAT_LIMIT

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Image size after replicate padding right and bottom."""
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def bytes_per_pixel(self) -> float:
        """Bytes of working memory per image pixel if each value is held as int32 (spikes: int8) while it is needed."""
        last_use = {name: i for i, node in enumerate(self.graph.nodes) for name in node.inputs}
        live: dict[str, float] = {}
        peak = 0.0
        for i, node in enumerate(self.graph.nodes):
            value = self.values[node.name]
            steps = 1 if value.static else self.graph.time_steps
            live[node.name] = value.channels * steps * (1 if value.spikes else 4) / value.scale**2
            peak = max(peak, sum(live.values()))
            live = {name: size for name, size in live.items() if last_use.get(name, i) > i}
        return peak


def analyse(graph: Graph, tensors: Tensors | None = None, pixels: tuple[int, int] = PIXEL_RANGE) -> Analysis:
    """Check every rule of the contract and return what follows from the graph; `GraphError` names the fault.

    Without `tensors` only structure, shapes, grids, halo and parameter count are computed. `pixels`: the least and
    largest value of the image node, grey level - 128; only evaluation with unclipped noise needs another than u8's.
    """
    check_structure(graph)
    values: dict[str, Value] = {}
    bounds: dict[str, int] = {}
    worst: dict[str, int] = {}
    layers: dict[str, Layer] = {}
    specs: dict[str, dict[str, TensorSpec]] = {}
    for node in graph.nodes:
        kind, layer = kind_of(node), Layer(node, tuple(values[name] for name in node.inputs), graph.time_steps, pixels)
        kind.check(layer)
        layers[node.name], specs[node.name] = layer, kind.tensors(layer)
        value = kind.output(layer)
        _check_output(layer, value)
        if tensors is None:
            values[node.name] = value
            bounds[node.name] = worst[node.name] = 0
            continue
        own = {part: _checked_tensor(node, part, spec, tensors) for part, spec in specs[node.name].items()}
        lo, hi, most = kind.bounds(layer, own)
        values[node.name] = replace(value, lo=lo.astype(np.int64), hi=hi.astype(np.int64))
        worst[node.name] = int(np.argmax(most))
        bounds[node.name] = int(most.max())
        if bounds[node.name] > INT32_LIMIT:
            raise GraphError(
                f"layer {node.name!r}, channel {worst[node.name]}: a value can reach {bounds[node.name]}, "
                f"which does not fit int32 (2^31 - 1); use a coarser grid or add a requantise before it"
            )
    shapes = {f"{name}.{part}": spec.shape for name, own in specs.items() for part, spec in own.items()}
    if tensors is not None and set(tensors) != set(shapes):
        extra, missing = sorted(set(tensors) - set(shapes)), sorted(set(shapes) - set(tensors))
        raise GraphError(f"the graph and its tensors differ: missing {missing[:3]}, not used {extra[:3]}")
    stride = math.lcm(*(v.scale for v in values.values()))
    windows = [values[n.inputs[0]].scale * kind_of(n).alignment(n) for n in graph.nodes if n.inputs]
    align = math.lcm(stride, *windows)
    if align > MAX_ALIGN:
        raise GraphError(f"tiles would be multiples of {align} pixels; at most {MAX_ALIGN} is supported")
    return Analysis(
        graph,
        values,
        bounds,
        worst,
        stride,
        align,
        _halo(graph, values, align),
        sum(math.prod(s) for s in shapes.values()),
        shapes,
        layers,
        specs,
    )


def _check_output(layer: Layer, value: Value) -> None:
    limits = (
        ("channels", value.channels, MAX_CHANNELS),
        ("a scale of", value.scale, MAX_SCALE),
        ("grid", value.q, MAX_VALUE_GRID),
    )
    for what, found, most in limits:
        if found > most:
            raise GraphError(f"layer {layer.node.name!r}: {what} {found}; at most {most} is supported")
    kind = kind_of(layer.node)
    if value.spikes and not kind.neurons and not kind.copies(layer.node):
        layer.refuse("its output is spikes, but its kind does not say how it passes those of its input on")


def _checked_tensor(node: Node, part: str, spec: TensorSpec, tensors: Tensors) -> Integers:
    name = f"{node.name}.{part}"
    if name not in tensors:
        raise GraphError(f"layer {node.name!r}: its tensor {name!r} is missing")
    array = tensors[name]
    if array.shape != spec.shape or array.dtype != np.int32:
        raise GraphError(f"layer {node.name!r}: {part} is {array.dtype} {array.shape}; expected int32 {spec.shape}")
    wide = array.astype(np.int64)
    spec.check(node.name, part, wide)
    return wide


def _halo(graph: Graph, values: Mapping[str, Value], align: int) -> int:
    """How far, in image pixels, the outputs of all nodes over an aligned tile look beyond it; rounded up to `align`.

    Of all nodes and not of the readout alone, because the spikes of a tile are counted, too.
    """
    start = align << 20  # far from 0, so that every span is an interior one
    need = {name: (start // value.scale, (start + align) // value.scale) for name, value in values.items()}
    for node in reversed(graph.nodes):
        first, last = kind_of(node).span(node, *need[node.name])
        for name in node.inputs:
            low, high = need[name]
            need[name] = (min(low, first), max(high, last))
    low, high = need[graph.nodes[0].name]
    reach = max(start - low, high - (start + align), 0)
    return -(-reach // align) * align
