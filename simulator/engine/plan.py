"""From a graph to passes of row operations: what is fused with what, and the tables they add up from.

Nothing here depends on the image's size: `layout.py` says where values lie and in which order rows are computed,
`writer.py` makes the records of row operations, `program.py` puts them together.

A *root* is a value that a whole pass computes: it has several readers, or one that needs all of it first (a convolution
needs its neighbour rows). Every other convolution, requantise, sum or time sum is computed inside the pass of its only
reader, row by row in scratch memory. The neurons that read a root fire in its pass; a root that nothing but neurons
reads is never stored. An upsampling by repetition that only sums read is an index, not a pass, and so are the grey
levels that the first real-valued convolution alone reads: it takes them from the picture. A node of a kind without row
operations is computed by its meaning once all of its inputs are there (`whole.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.analysis import INT16_LIMIT, INT32_LIMIT, Analysis
from simulator.engine.records import MOST_CHANGE
from simulator.engine.tables import (
    WINOGRAD_SCALE,
    DenseTable,
    NeuronTable,
    PointTable,
    SpikeTable,
    Tensors,
    dense_tables,
    neuron_table,
    padded,
    point_table,
    spike_tables,
    winograd_tables,
)
from simulator.graph import IMAGE_GRID, Graph, GraphError, Node
from simulator.kinds import kind_of, unknown_attribute

# Row operations compute these kinds, besides the picture at both ends: values in scratch memory or in place, ...
ROW_KINDS = frozenset(("conv", "dense_conv", "requantise", "sum", "time_sum"))
ROW_NEURONS = frozenset(("lif", "window"))  # ... and spikes of what they left there.
# Attributes that the engine's own ways of computing a kind know: words, or whole numbers (none listed). A node with any
# other is computed by its meaning.
_CONVOLUTION: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("channels", "kernel", "stride", "padding", "groups", "q", "bias"), ()
)
KNOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "image": {},
    "space_to_depth": {"factor": ()},
    "conv": {**_CONVOLUTION, "limit": ()},
    "dense_conv": _CONVOLUTION,
    "requantise": {"shift": (), "lo": (), "hi": ()},
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract"), "fine": (), "shared": (), "above": ()},
    "window": {},
    "sum": {},
    "concat": {},
    "upsample": {"factor": (), "mode": ("nearest", "depth_to_space")},
    "attend": {
        "over": ("time", "channel", "space"), "window": (), "hidden": (), "pool_q": (), "q": (), "gate_q": (),
    },
    "time_sum": {},
    "readout": {},
}  # fmt: skip
ROW_READERS = frozenset(("requantise", "sum", "time_sum", "readout"))  # read row y alone to compute row y


@dataclass(frozen=True)
class Form:
    """How a value lies in memory: steps (1 if static), channels padded, bytes per number (0: bits of spikes)."""

    steps: int
    channels: int
    lanes: int
    size: int
    scale: int

    @property
    def pixel_bytes(self) -> int:
        return self.lanes * self.size if self.size else self.lanes // 8


@dataclass(frozen=True)
class Pass:
    """One root and what is computed with it. by_rows: by row operations; else by `whole.form_of`."""

    by_rows: bool
    root: str
    neurons: tuple[str, ...]
    stored: bool


@dataclass(frozen=True)
class Rounding:
    """clip((sum + half) >> shift, low, high): what becomes of a real-valued convolution's sums at once, in `size` bytes
    each. It is the requantise or the readout that alone reads them; without one, nothing."""

    shift: int
    low: int
    high: int
    size: int

    @property
    def half(self) -> int:
        return (1 << self.shift) >> 1


@dataclass(frozen=True)
class Plan:
    """All of a network that does not depend on the image's size. tensors: {node: {part: int32 array}}."""

    analysis: Analysis
    tensors: Mapping[str, Mapping[str, npt.NDArray[np.int32]]]
    forms: Mapping[str, Form]
    passes: tuple[Pass, ...]
    inlined: frozenset[str]
    views: frozenset[str]
    spike_tables: Mapping[str, tuple[SpikeTable, ...]]
    point_tables: Mapping[str, PointTable]
    dense_tables: Mapping[str, tuple[DenseTable, ...]]
    winograd_tables: Mapping[str, tuple[DenseTable, ...]]
    roundings: Mapping[str, Rounding]
    neuron_tables: Mapping[str, NeuronTable]


def build_plan(analysis: Analysis, tensors: Tensors, fused: bool = True) -> Plan:
    """The plan of a network. fused: without it, every node is a pass of its own (neurons excepted) and is stored."""
    graph = analysis.graph
    for node in (graph.nodes[0], graph.nodes[-1]):
        if not known(node):
            raise GraphError(f"layer {node.name!r} ({node.kind}) has attributes that the engine does not know")
    own: dict[str, dict[str, npt.NDArray[np.int32]]] = {node.name: {} for node in graph.nodes}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        own[layer][part] = tensor
    forms = {node.name: _form(node, analysis) for node in graph.nodes}
    readers: dict[str, list[Node]] = {node.name: [] for node in graph.nodes}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name].append(node)
    inlined, views = _fused(graph, readers, forms) if fused else (frozenset[str](), frozenset[str]())
    passes = []
    for node in graph.nodes:
        name, rows, fires = node.name, computes_rows(node), fires_by_rows(node)
        if name in inlined or name in views or (fires and computes_rows(graph.node(node.inputs[0]))):
            continue
        neurons = tuple(r.name for r in readers[name] if fires_by_rows(r)) if rows else ()
        stored = node.kind != "readout" and (not (fused and rows) or len(neurons) < len(readers[name]))
        ends = node.kind in ("image", "readout") or (node.kind == "space_to_depth" and node.inputs[0] in inlined)
        passes.append(Pass(rows or fires or ends, name, neurons, stored))
    spikes: dict[str, tuple[SpikeTable, ...]] = {}
    points: dict[str, PointTable] = {}
    dense: dict[str, tuple[DenseTable, ...]] = {}
    winograd: dict[str, tuple[DenseTable, ...]] = {}
    roundings: dict[str, Rounding] = {}
    fire: dict[str, NeuronTable] = {}
    for node in graph.nodes:
        name, form = node.name, forms[node.name]
        if fires_by_rows(node):
            fire[name] = neuron_table(node, own[name], form.lanes, _wide_membrane(node, analysis, forms))
        elif not computes_rows(node):
            continue
        elif node.kind == "conv":
            planes = forms[node.inputs[0]].steps // form.steps
            point = point_table(node, own[name], form.size == 4, planes)
            if point:
                points[name] = point
            else:
                spikes[name] = spike_tables(node, own[name], form.size == 4, planes)
        elif node.kind == "dense_conv":
            rounding = roundings[name] = _rounding(node, analysis, forms, readers, inlined)
            # Four times the sums stay within int32.
            if WINOGRAD_SCALE * (analysis.bounds[name] + rounding.half) <= INT32_LIMIT:
                largest = analysis.values[node.inputs[0]].magnitude
                winograd[name] = winograd_tables(node, own[name], largest, rounding.half)
            if not winograd.get(name):
                dense[name] = dense_tables(node, own[name], forms[node.inputs[0]].size == 4, rounding.half)
    return Plan(analysis, own, forms, tuple(passes), inlined, views, spikes, points, dense, winograd, roundings, fire)


def known(node: Node) -> bool:
    """Whether the engine has its own way of computing this kind, and knows all of the node's attributes."""
    return node.kind in KNOWN and not unknown_attribute(node, KNOWN)


def computes_rows(node: Node) -> bool:
    """Whether a row operation computes this node's rows."""
    return node.kind in ROW_KINDS and known(node)


def fires_by_rows(node: Node) -> bool:
    """Whether a row operation lets these neurons fire."""
    return node.kind in ROW_NEURONS and known(node)


def neurons_of(graph: Graph) -> tuple[str, ...]:
    """The layers of neurons, whose spikes are counted."""
    return tuple(node.name for node in graph.nodes if kind_of(node).neurons)


def _fused(
    graph: Graph, readers: Mapping[str, list[Node]], forms: Mapping[str, Form]
) -> tuple[frozenset[str], frozenset[str]]:
    """Nodes that are computed inside their reader's pass, and upsamplings that are an index."""
    inlined, views = set(), set()
    for node in graph.nodes:
        own = readers[node.name]
        if computes_rows(node) and len(own) == 1 and own[0].kind in ROW_READERS:
            if computes_rows(own[0]) or own[0].kind == "readout":
                inlined.add(node.name)
        if _enlarges(node, "nearest") and forms[node.name].size != 0 and node.inputs[0] not in views:
            if own and all(reader.kind == "sum" and computes_rows(reader) for reader in own):
                views.add(node.name)
    shuffle = graph.node(graph.nodes[-1].inputs[0])
    if _enlarges(shuffle, "depth_to_space") and len(readers[shuffle.name]) == 1:
        inlined.add(shuffle.name)
        if computes_rows(graph.node(shuffle.inputs[0])) and len(readers[shuffle.inputs[0]]) == 1:
            inlined.add(shuffle.inputs[0])
    picture = graph.nodes[0].name
    pixels = graph.nodes[0]  # what its grey levels become first
    if len(readers[picture]) == 1 and readers[picture][0].kind == "space_to_depth" and known(readers[picture][0]):
        inlined.add(picture)
        pixels = readers[picture][0]
    own = readers[pixels.name]
    if len(own) == 1 and own[0].kind == "dense_conv" and computes_rows(own[0]) and own[0]["groups"] == 1:
        inlined.add(pixels.name)
    return frozenset(inlined), frozenset(views)


def _enlarges(node: Node, mode: str) -> bool:
    return node.kind == "upsample" and known(node) and node["mode"] == mode


def _rounding(
    node: Node,
    analysis: Analysis,
    forms: Mapping[str, Form],
    readers: Mapping[str, list[Node]],
    inlined: frozenset[str],
) -> Rounding:
    if node.name in inlined:
        reader = readers[node.name][0]
        if reader.kind == "upsample":
            reader = readers[reader.name][0]
        if reader.kind == "requantise":
            return Rounding(reader["shift"], reader["lo"], reader["hi"], forms[reader.name].size)
        if reader.kind == "readout":
            return Rounding(analysis.values[node.name].q - IMAGE_GRID, -MOST_CHANGE, MOST_CHANGE, 2)
    return Rounding(0, -INT32_LIMIT - 1, INT32_LIMIT, forms[node.name].size)


def _wide_membrane(node: Node, analysis: Analysis, forms: Mapping[str, Form]) -> bool:
    """Whether a neuron needs 32 bits; its input may, for partial sums larger than their total, where it does not.
    One with finer digits than its input gets them."""
    if node.kind == "lif" and node["fine"]:
        return True
    return analysis.width(node.name) == "int32" or forms[node.inputs[0]].size == 4


def _form(node: Node, analysis: Analysis) -> Form:
    value = analysis.values[node.name]
    steps = 1 if value.static else analysis.graph.time_steps
    if value.spikes:
        size = 0
    elif node.kind in ("conv", "dense_conv", "sum", "time_sum"):  # partial sums are kept there, too
        size = 2 if analysis.bounds[node.name] <= INT16_LIMIT else 4
    else:
        size = 2 if value.magnitude <= INT16_LIMIT else 4
    return Form(steps, value.channels, padded(value.channels), size, value.scale)
