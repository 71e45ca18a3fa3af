"""Compiles a network into the flat integer plan that the C core runs; `PLAN.md` beside this file is the format.

`python -m firmware_bridge.plan BUNDLE [--out FILE] [--size HxW]` says what the plan needs, and writes it.

Two things happen here so that the device need not do them. Nodes are fused into operations that work position by
position (convolution, sum, sum over time, rounding and neuron in one pass), so that most currents are never stored.
And the values that are stored get their place in one arena, shared by those that are never needed at the same time.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis, Tensors
from simulator.bundle import SEMANTICS_VERSION, Bundle, BundleError, read_bundle
from simulator.files import reason, write_atomically
from simulator.graph import IMAGE_GRID, GraphError, Node
from simulator.kinds.attend import attend_pool_shift
from simulator.statistics import spike_sources

MAGIC = int.from_bytes(b"SNNP", "little")
VERSION = 1
NONE = 0xFFFFFFFF
HASH_AT, HASH_BYTES = 16, 32
HEADER_WORDS, OPERATION_WORDS = 32, 33

# The records of the plan: every field is one 32-bit word. firmware/core/plan.h holds the same in C.
KINDS = {"image": 1, "pixels": 2, "spikes": 3, "attend": 4, "readout": 5}
_COMMON = ("kind", "layer", "input", "output", "spikes", "first_term", "terms", "channels", "lead")
_FIELDS = {
    "image": ("factor",),
    "pixels": (
        "head", "head_layer", "kernel", "stride", "padding", "groups", "head_shift", "wide", "weight", "bias",
        "steps", "time_sum", "rounds", "shift", "lo", "hi",
        "lif_layer", "decay", "subtract", "threshold", "lif_bias", "leak", "first_projection", "projections",
    ),
    "spikes": (),
    "attend": (
        "over", "window", "hidden", "pool_shift", "hidden_shift", "gate_offset", "gate_shift", "gate_q",
        "squeeze", "squeeze_bias", "excite", "excite_bias",
    ),
    "readout": ("shift",),
}  # fmt: skip
HEADS = {"conv": 1, "dense_conv": 2}
STORAGE = {"bits": 1, "int16": 2, "int32": 4}
NEAREST, DEPTH_TO_SPACE, SPACE_TO_DEPTH = range(3)  # how a term maps positions

# Which nodes the operations "spikes" and "pixels" compute, alone or as a part.
_MOVES_SPIKES = ("concat", "upsample")
_BY_PIXELS = (
    "conv", "dense_conv", "sum", "concat", "time_sum", "requantise", "lif", "upsample", "space_to_depth",
)  # fmt: skip
# Kinds that read their inputs position by position, so that an input may be a view of another value.
_READS_VIEWS = ("sum", "concat", "lif", "requantise", "time_sum", "readout")
_ABSORBS = {
    "sum": ("conv", "dense_conv"),
    "time_sum": ("conv", "dense_conv", "sum", "concat"),
    "requantise": ("conv", "dense_conv", "sum", "concat", "time_sum"),
}


@dataclass(frozen=True)
class StoredValue:
    """A node's output as it lies in the arena: [row][step][column][channel]; spikes as bits, 32 to a word.

    storage: "bits", "int16" or "int32". unit_bytes: per block of stride x stride pixels of the padded image; offset:
    from the arena's start, likewise. first, last: the operations that write it and read it last.

    rows: how many rows are kept at a time when the image is worked on from top to bottom; row_offset: of those, bytes
    per stride pixels of the padded image's width.
    """

    node: str
    channels: int
    scale: int
    steps: int
    storage: str
    unit_bytes: int
    first: int
    last: int
    offset: int = 0
    rows: int = 1
    row_offset: int = 0


@dataclass(frozen=True)
class Plan:
    """A compiled network. data: what the core reads. layers: the nodes' names, as the core numbers them.

    values: what is stored. operations: the node after which each is named. unit: bytes of the arena per block of
    stride x stride pixels of the padded image; row_unit: per stride pixels of its width, if it is worked on by rows.
    """

    data: bytes
    layers: tuple[str, ...]
    values: tuple[StoredValue, ...]
    operations: tuple[str, ...]
    unit: int
    row_unit: int
    stride: int
    align: int
    halo: int

    @property
    def hash(self) -> str:
        """64 hex digits; two plans with one hash are the same plan."""
        return self.data[HASH_AT : HASH_AT + HASH_BYTES].hex()

    def units(self, height: int, width: int) -> int:
        """Blocks of stride x stride pixels in an image of that size."""
        return -(-height // self.stride) * -(-width // self.stride)

    def arena_bytes(self, height: int, width: int, by_rows: bool = False) -> int:
        """Bytes of all stored values for an image of that size; the core needs a few kilobytes more."""
        return -(-width // self.stride) * self.row_unit if by_rows else self.units(height, width) * self.unit

    def tiled(self, height: int, width: int, side: int) -> tuple[int, int, float]:
        """Tiles of `side` pixels: height and width of the largest with its halo, and how many times more pixels are
        computed than the image has."""
        down, across = (
            [min(at + side + self.halo, extent) - max(at - self.halo, 0) for at in range(0, extent, side)]
            for extent in (height, width)
        )
        return max(down), max(across), sum(down) * sum(across) / (height * width)

    def peak(self) -> tuple[str, list[StoredValue]]:
        """The operation during which most is stored, and what that is (memory that is handed over, once)."""
        best: list[StoredValue] = []
        worst, most = "", -1
        for i, name in enumerate(self.operations):
            live = {v.offset: v for v in self.values if v.first <= i <= v.last}
            size = sum(v.unit_bytes for v in live.values())
            if size > most:
                worst, most, best = name, size, list(live.values())
        return worst, best


def compile_bundle(bundle: Bundle, fuse: bool = True) -> Plan:
    """The plan of a bundle; see `compile_plan`."""
    return compile_plan(bundle.analysis, bundle.tensors, bytes.fromhex(bundle.content_hash), fuse)


def compile_plan(analysis: Analysis, tensors: Tensors, bundle_hash: bytes = bytes(32), fuse: bool = True) -> Plan:
    """The plan of an analysed network and its int32 tensors; the same network always gives the same bytes.

    Raises GraphError, naming the layer, for a kind of node that the core does not know.

    fuse: False stores the output of every node, which a trace needs: the same results in more memory.
    """
    return _Compiler(analysis, tensors, fuse).compile(bundle_hash)


def sealed(data: bytes) -> bytes:
    """The plan with its hash (BLAKE2b, over the plan with 32 zeros in its place) filled in."""
    blank = data[:HASH_AT] + bytes(HASH_BYTES) + data[HASH_AT + HASH_BYTES :]
    digest = hashlib.blake2b(blank, digest_size=HASH_BYTES).digest()
    return data[:HASH_AT] + digest + data[HASH_AT + HASH_BYTES :]


@dataclass(frozen=True)
class _Term:
    """A value that is read position by position and added, starting at channel `offset`, times 2^shift."""

    value: int
    mode: int = NEAREST
    factor: int = 1
    offset: int = 0
    shift: int = 0

    @property
    def plain(self) -> bool:
        return (self.mode, self.factor, self.offset) == (NEAREST, 1, 0)


@dataclass
class _Pixels:
    """What one operation computes at each position: head + terms, summed over time, rounded."""

    head: Node | None = None
    head_shift: int = 0
    terms: list[_Term] = field(default_factory=list)
    time_sum: bool = False
    requantise: Node | None = None


class _Compiler:
    def __init__(self, analysis: Analysis, tensors: Tensors, fuse: bool):
        self.analysis, self.graph, self.tensors, self.fuse = analysis, analysis.graph, tensors, fuse
        self.number = {node.name: i for i, node in enumerate(self.graph.nodes)}
        self.users = {node.name: self.graph.consumers(node.name) for node in self.graph.nodes}
        self.values: list[StoredValue] = []
        self.place: dict[str, int] = {}  # node -> index into values
        self.views: dict[str, tuple[int, int]] = {}  # node -> (mode, factor): read through its input's value
        self.absorbed = self._absorbed()
        self.operations: list[tuple[str, str, dict[str, int]]] = []  # kind, node, fields
        self.reads: list[list[int]] = []  # values that each operation reads
        self.heirs: dict[int, list[int]] = {}  # value -> values whose memory it could take over
        self.terms: list[_Term] = []
        self.projections: list[tuple[int, ...]] = []
        self.constants = bytearray()

    def compile(self, bundle_hash: bytes) -> Plan:
        nodes = self.graph.nodes
        users = self.users[nodes[0].name]
        # The first space_to_depth reads the picture itself, if nothing else needs the image.
        blocks = users[0] if self.fuse and len(users) == 1 and users[0].kind == "space_to_depth" else None
        done: set[str] = set(self.absorbed)
        for node in nodes:
            if node.name in done or (node.kind == "image" and blocks):
                continue
            if node.kind == "image" or node is blocks:
                self._emit("image", node, [], output=self._store(node), factor=node["factor"] if blocks else 1)
            elif node.kind == "readout":
                self._readout(node)
            elif node.kind == "attend":
                self._attend(node)
            elif self._is_view(node):
                self.views[node.name] = _movement(node)
            elif self.analysis.values[node.name].spikes and node.kind in _MOVES_SPIKES:
                self._spikes(node)
            elif node.kind in _BY_PIXELS:
                done |= self._pixels(node)
            else:
                raise GraphError(
                    f"layer {node.name!r} is of the kind {node.kind!r}, for which the C core has no operation yet"
                )
        unit = self._plan_memory()
        row_unit = self._plan_rows()
        return Plan(
            self._assemble(bundle_hash, unit, row_unit),
            tuple(self.number),
            tuple(self.values),
            tuple(name for _, name, _ in self.operations),
            unit,
            row_unit,
            self.analysis.stride,
            self.analysis.align,
            self.analysis.halo,
        )

    # --- what becomes of each node -----------------------------------------------------------------------------------

    def _steps(self, name: str) -> int:
        return 1 if self.analysis.values[name].static else self.graph.time_steps

    def _absorbed(self) -> dict[str, str]:
        """Nodes that are computed as part of their only consumer's operation."""
        found: dict[str, str] = {}
        for node in self.graph.nodes if self.fuse else ():
            able = _ABSORBS.get(node.kind, ())
            names = [name for name in node.inputs if self.graph.node(name).kind in able]
            names = [name for name in names if len(self.users[name]) == 1 and node.inputs.count(name) == 1]
            if node.kind == "sum":
                # One convolution, rather a spiking one, and never a static one that would be repeated at every step.
                names = [name for name in names if self._steps(name) == self._steps(node.name)]
                names = sorted(names, key=lambda name: self.graph.node(name).kind == "conv")[-1:]
            found.update(dict.fromkeys(names, node.name))
        return found

    def _is_view(self, node: Node) -> bool:
        return (
            self.fuse
            and _moves(node)
            and not self.analysis.values[node.name].spikes
            and node.inputs[0] not in self.views
            and all(user.kind in _READS_VIEWS for user in self.users[node.name])
        )

    # --- operations --------------------------------------------------------------------------------------------------

    def _emit(self, kind: str, node: Node, reads: list[int], **fields: int) -> None:
        names = (*_COMMON, *_FIELDS[kind])
        given = {"kind": KINDS[kind], "layer": self.number[node.name], "channels": self._channels(node)} | fields
        defaults = dict.fromkeys(("input", "output", "spikes"), NONE)
        assert set(given) <= set(names)
        self.operations.append((kind, node.name, {name: given.get(name, defaults.get(name, 0)) for name in names}))
        self.reads.append(reads)

    def _channels(self, node: Node) -> int:
        return self.analysis.values[node.name].channels

    def _store(self, node: Node) -> int:
        """A new stored value: the output of `node`, written by the operation that comes next."""
        value, steps = self.analysis.values[node.name], self._steps(node.name)
        storage = "bits" if value.spikes else "int16" if value.magnitude < 1 << 15 else "int32"
        size = (self.analysis.stride // value.scale) ** 2 * steps * _position_bytes(storage, value.channels)
        now = len(self.operations)
        self.place[node.name] = len(self.values)
        self.values.append(
            StoredValue(node.name, value.channels, value.scale, steps, storage, -(-size // 4) * 4, now, now)
        )
        return self.place[node.name]

    def _term(self, name: str, offset: int = 0, shift: int = 0) -> _Term:
        if name in self.views:
            return _Term(self.place[self.graph.node(name).inputs[0]], *self.views[name], offset, shift)
        return _Term(self.place[name], offset=offset, shift=shift)

    def _add_terms(self, terms: Sequence[_Term]) -> dict[str, int]:
        self.terms += terms
        return {"first_term": len(self.terms) - len(terms), "terms": len(terms)}

    def _gather(self, node: Node, op: _Pixels, shift: int = 0) -> None:
        """Adds to `op` what computes `node`."""
        if node.kind in HEADS:
            op.head, op.head_shift = node, shift
            return
        if _moves(node):
            mode, factor = _movement(node)
            op.terms.append(replace(self._term(node.inputs[0]), mode=mode, factor=factor))
            return
        op.time_sum |= node.kind == "time_sum"
        if node.kind == "requantise":
            op.requantise = node
        offset = 0
        for name in node.inputs:
            value = self.analysis.values[name]
            align = self.analysis.values[node.name].q - value.q if node.kind in ("sum", "concat") else 0
            if self.absorbed.get(name) == node.name:
                self._gather(self.graph.node(name), op, align)
            else:
                op.terms.append(self._term(name, offset, align))
            if node.kind == "concat":
                offset += value.channels

    def _pixels(self, node: Node) -> set[str]:
        """One operation that ends with `node`; returns the neurons that it computes, too."""
        op = _Pixels()
        users = self.users[node.name]
        if node.kind == "lif":
            neuron: Node | None = node
            op.terms.append(self._term(node.inputs[0]))
        else:
            self._gather(node, op)
            neuron = next((user for user in users if user.kind == "lif"), None) if self.fuse else None
        reads = [term.value for term in op.terms]
        fields = self._add_terms(op.terms) | {"time_sum": int(op.time_sum), "head_shift": op.head_shift}
        if op.head:
            fields |= self._head(op.head)
            reads.append(fields["input"])
        fields["steps"] = max(self.values[index].steps for index in reads)
        if op.requantise:
            fields |= {"rounds": 1} | {key: op.requantise[key] for key in ("shift", "lo", "hi")}
        if node.kind != "lif" and not (neuron and len(users) == 1):
            fields["output"] = self._store(node)
            self.heirs[fields["output"]] = [term.value for term in op.terms if term.plain]
        if neuron:
            fields |= {"spikes": self._store(neuron)} | self._neuron(neuron)
        self._emit("pixels", node, reads, **fields)
        return {neuron.name} if neuron else set()

    def _head(self, node: Node) -> dict[str, int]:
        weight, groups = self.tensors[f"{node.name}.weight"], node["groups"]
        c_out, per_group, kernel, _ = weight.shape
        # [dy][dx][input channel][output channel of its group]: one spike adds one run of weights.
        rows = weight.reshape(groups, c_out // groups, per_group, kernel, kernel).transpose(3, 4, 0, 2, 1)
        rows = rows.reshape(kernel, kernel, groups * per_group, c_out // groups)
        if groups == 1 and c_out % 2:
            rows = np.pad(rows, ((0, 0), (0, 0), (0, 0), (0, 1)))  # every run starts at a word
        return {
            "head": HEADS[node.kind],
            "head_layer": self.number[node.name],
            "input": self.place[node.inputs[0]],
            "kernel": kernel,
            "stride": node["stride"],
            "padding": node["padding"],
            "groups": groups,
            "wide": int(node.kind == "dense_conv" or self.analysis.width(node.name) != "int16"),
            "weight": self._constant(rows.astype("<i2")),
            "bias": self._constant(self.tensors[f"{node.name}.bias"].astype("<i4")) if node["bias"] else NONE,
        }

    def _neuron(self, node: Node) -> dict[str, int]:
        first = len(self.projections)
        for target in self.graph.nodes:
            for source, factor in spike_sources(self.analysis, target.inputs[0]) if target.kind == "conv" else ():
                if source == node.name:
                    scale = self.analysis.values[target.name].scale
                    window = (target["kernel"], target["stride"], target["padding"])
                    fan_out = target["channels"] // target["groups"]
                    self.projections.append((self.number[target.name], scale, factor, *window, fan_out))
        own = {part: self.tensors[f"{node.name}.{part}"] for part in ("threshold", "bias", "leak")}
        return {
            "lif_layer": self.number[node.name],
            "decay": int(node["leak"] == "decay"),
            "subtract": int(node["reset"] == "subtract"),
            "threshold": self._constant(own["threshold"].astype("<i4")),
            "lif_bias": self._constant(own["bias"].astype("<i4")),
            "leak": self._constant(own["leak"].astype(np.uint8)),
            "first_projection": first,
            "projections": len(self.projections) - first,
        }

    def _spikes(self, node: Node) -> None:
        """Spikes enlarged, or side by side."""
        factor, offset, terms = (node["factor"] if node.kind == "upsample" else 1), 0, []
        for name in node.inputs:
            terms.append(_Term(self.place[name], NEAREST, factor, offset))
            offset += self.analysis.values[name].channels
        fields = self._add_terms(terms)
        self._emit("spikes", node, [term.value for term in terms], spikes=self._store(node), **fields)

    def _attend(self, node: Node) -> None:
        source, fine, space = self.place[node.inputs[0]], node["pool_q"] + node["q"], node["over"] == "space"
        value = self.analysis.values[node.inputs[0]]
        names = ("weight", "bias") if space else ("squeeze", "squeeze_bias", "excite", "excite_bias")
        fields = {
            field: self._constant(self.tensors[f"{node.name}.{name}"].astype("<i4" if "bias" in name else "<i2"))
            for field, name in zip(("squeeze", "squeeze_bias", "excite", "excite_bias"), names, strict=False)
        }
        fields["output"] = self._store(node)
        before, after = self.values[source], self.values[fields["output"]]
        if before.steps == after.steps:
            self.heirs[fields["output"]] = [source]
        self._emit(
            "attend", node, [source],
            input=source,
            over=("time", "channel", "space").index(node["over"]),
            window=1 if space else node["window"],
            hidden=0 if space else node["hidden"],
            pool_shift=attend_pool_shift(node, value, self.graph.time_steps),
            hidden_shift=node["q"],
            gate_offset=2 << fine,
            gate_shift=fine + 2 - node["gate_q"],
            gate_q=node["gate_q"],
            **fields,
        )  # fmt: skip

    def _readout(self, node: Node) -> None:
        term = self._term(node.inputs[0])
        shift = self.analysis.values[node.inputs[0]].q - IMAGE_GRID
        self._emit("readout", node, [term.value], shift=shift, **self._add_terms([term]))

    def _constant(self, array: npt.NDArray[Any]) -> int:
        """Offset of a new constant from the start of the constants; aligned to words."""
        at = len(self.constants)
        self.constants += np.ascontiguousarray(array).tobytes()
        self.constants += bytes(-len(self.constants) % 4)
        return at

    # --- memory ------------------------------------------------------------------------------------------------------

    def _plan_memory(self) -> int:
        """Gives every stored value its offset; returns the size of the arena per unit."""
        for index, reads in enumerate(self.reads):
            for read in reads:
                self.values[read] = replace(self.values[read], last=index)
        owner = list(range(len(self.values)))  # the value whose memory each one has
        for heir, candidates in sorted(self.heirs.items()):
            new = self.values[heir]
            for candidate in candidates:
                old = self.values[candidate]
                alike = (old.unit_bytes, old.storage, old.channels) == (new.unit_bytes, new.storage, new.channels)
                if alike and old.last == new.first and self.reads[new.first].count(candidate) == 1:
                    owner[heir] = owner[candidate]
                    break
        spans: dict[int, tuple[int, int, int]] = {}  # owner -> first and last operation, size
        for value, first_owner in zip(self.values, owner, strict=True):
            first, last, size = spans.get(first_owner, (value.first, value.last, value.unit_bytes))
            spans[first_owner] = min(first, value.first), max(last, value.last), size
        orders = (
            lambda key: (-spans[key][2], spans[key][0]),  # the largest first
            lambda key: (spans[key][0] - spans[key][1], -spans[key][2]),  # the longest needed first
            lambda key: (spans[key][0], -spans[key][2]),  # as they come
        )
        offsets, unit = min((_arrange(spans, sorted(spans, key=order)) for order in orders), key=lambda found: found[1])
        self.values = [replace(value, offset=offsets[owner[i]]) for i, value in enumerate(self.values)]
        return unit

    def _scale(self, fields: Mapping[str, int]) -> int:
        """Of an operation's output; the readout's is the image's."""
        stored = [fields[key] for key in ("output", "spikes") if fields[key] != NONE]
        return self.values[stored[0]].scale if stored else 1

    def _spans(self, kind: str, fields: Mapping[str, int], first: int, end: int) -> list[tuple[int, int, int]]:
        """(value, first row, end) that an operation reads to give its rows [first, end), borders ignored."""
        spans = []
        if kind == "pixels" and fields["head"]:
            top = first * fields["stride"] - fields["padding"]
            bottom = (end - 1) * fields["stride"] - fields["padding"] + fields["kernel"]
            spans.append((fields["input"], top, bottom))
        if kind == "attend":
            window, beyond = fields["window"], int(fields["over"] == 2)
            spans.append((fields["input"], first // window * window - beyond, -(-end // window) * window + beyond))
        for term in self.terms[fields["first_term"] : fields["first_term"] + fields["terms"]]:
            if term.mode == SPACE_TO_DEPTH:
                spans.append((term.value, first * term.factor, end * term.factor))
            else:
                spans.append((term.value, first // term.factor, -(-end // term.factor)))
        return spans

    def _plan_rows(self) -> int:
        """How an image is worked on from top to bottom: in bands of `align` pixels, of which every operation does its
        rows and `lead` more, and of every value only the rows that are still needed are kept. Returns the row unit.

        Everything repeats with every band, so that one band far from the borders tells all.
        """
        align = self.analysis.align
        far = align << 16
        needed = [far // value.scale for value in self.values]  # rows that exist once a band is done
        ends = [0] * len(self.operations)
        for index in range(len(self.operations) - 1, -1, -1):
            kind, _, fields = self.operations[index]
            written = [fields[key] for key in ("output", "spikes") if fields[key] != NONE]
            end = max((needed[value] for value in written), default=far)
            if kind == "attend":
                end = -(-end // fields["window"]) * fields["window"]
            ends[index] = end
            fields["lead"] = end - far // self._scale(fields)
            for read, _, bottom in self._spans(kind, fields, 0, end):
                needed[read] = max(needed[read], bottom)
        rows = [1] * len(self.values)
        for index, (kind, _, fields) in enumerate(self.operations):
            before = ends[index] - align // self._scale(fields)
            for read, top, _ in self._spans(kind, fields, before, ends[index]):
                rows[read] = max(rows[read], ends[self.values[read].first] - top)
        at = 0
        for index, value in enumerate(self.values):
            self.values[index] = replace(value, rows=rows[index], row_offset=at)
            columns = self.analysis.stride // value.scale
            at += -(-rows[index] * columns * value.steps * _position_bytes(value.storage, value.channels) // 8) * 8
        return at

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _assemble(self, bundle_hash: bytes, unit: int, row_unit: int) -> bytes:
        records = bytearray()
        for value in self.values:
            storage = STORAGE[value.storage]
            layer = self.number[value.node]
            records += _words(
                layer, value.channels, value.scale, value.steps, storage, value.offset, value.rows, value.row_offset
            )
        for _, _, fields in self.operations:
            records += _words(*fields.values(), *[0] * (OPERATION_WORDS - len(fields)))
        for term in self.terms:
            records += _words(term.value, term.mode, term.factor, term.offset, term.shift)
        for projection in self.projections:
            records += _words(*projection)
        records += self.constants
        counts = (len(self.values), len(self.operations), len(self.terms), len(self.projections))
        analysis = self.analysis
        size = HEADER_WORDS * 4 + len(records)
        header = _words(MAGIC, VERSION, SEMANTICS_VERSION, size) + bytes(HASH_BYTES) + bundle_hash
        header += _words(self.graph.time_steps, analysis.stride, analysis.align, analysis.halo)
        header += _words(len(self.graph.nodes), *counts, unit, row_unit)
        return sealed(header.ljust(HEADER_WORDS * 4, b"\0") + bytes(records))


def _position_bytes(storage: str, channels: int) -> int:
    """Bytes of one position at one step."""
    return -(-channels // 32) * 4 if storage == "bits" else channels * STORAGE[storage]


def _moves(node: Node) -> bool:
    return node.kind in ("upsample", "space_to_depth")


def _movement(node: Node) -> tuple[int, int]:
    """(mode, factor) of a node that only moves values."""
    if node.kind == "space_to_depth":
        return SPACE_TO_DEPTH, node["factor"]
    return NEAREST if node["mode"] == "nearest" else DEPTH_TO_SPACE, node["factor"]


def _arrange(spans: Mapping[int, tuple[int, int, int]], order: Sequence[int]) -> tuple[dict[int, int], int]:
    """Offsets for memory needed over spans (first, last, size), placed one after another, each as low as it fits."""
    offsets: dict[int, int] = {}
    end = 0
    for key in order:
        first, last, size = spans[key]
        taken = sorted(
            (offsets[other], offsets[other] + spans[other][2])
            for other in offsets
            if spans[other][0] <= last and first <= spans[other][1]
        )
        at = 0
        for low, high in taken:
            if at + size <= low:
                break
            at = max(at, high)
        offsets[key] = at
        end = max(end, at + size)
    return offsets, end


def _words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *(number & 0xFFFFFFFF for number in numbers))


def describe(plan: Plan, height: int, width: int) -> str:
    """What the plan needs for an image of that size, in words: sizes in bytes, and what sets the peak."""
    units = plan.units(height, width)
    where, live = plan.peak()
    lines = [
        f"plan        {len(plan.data):,} bytes, {plan.hash}",
        f"operations  {len(plan.operations)} for {len(plan.layers)} nodes; {len(plan.values)} values are stored",
        f"at once     {plan.arena_bytes(height, width):,} bytes for {height}x{width} pixels",
        f"by rows     {plan.arena_bytes(height, width, True):,} bytes for any height at a width of {width} pixels",
    ]
    for side in (plan.align * 4**power for power in range(1, 4)):
        if side < max(height, width):
            tall, broad, times = plan.tiled(height, width, side)
            lines.append(
                f"in tiles    {plan.arena_bytes(tall, broad):,} bytes for tiles of {side} pixels with a halo of "
                f"{plan.halo}, {tall}x{broad}; {times:.2f} times the image's pixels are computed"
            )
    lines.append(f"Most is stored during {where}:")
    for value in sorted(live, key=lambda v: -v.unit_bytes):
        what = f"{value.channels} channels, {value.steps} steps, {value.storage}, scale 1/{value.scale}"
        lines.append(f"{units * value.unit_bytes:>18,} {value.node} ({what})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m firmware_bridge.plan", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="a .safetensors file written by `python -m export.bundle`")
    parser.add_argument("--out", type=Path, help="write the plan to this file")
    parser.add_argument("--size", default="64x64", help="image for which memory is stated, HEIGHTxWIDTH (64x64)")
    options = parser.parse_args(arguments)
    height, _, width = options.size.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        parser.error(f"--size {options.size[:40]!r}: expected HEIGHTxWIDTH in pixels, as 64x64")
    try:
        plan = compile_bundle(read_bundle(options.bundle))
        if options.out:
            write_atomically(options.out, plan.data)
    except (BundleError, GraphError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {options.out} cannot be written: {reason(error)}", file=sys.stderr)
        return 2
    print(describe(plan, int(height), int(width)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
