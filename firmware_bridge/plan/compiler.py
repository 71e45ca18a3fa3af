"""Compiles a network into the operations that the C core runs, one after the other.

Nodes are fused into operations that work position by position (convolution, sum, sum over time, rounding and neuron in
one pass), so that most currents are never stored. `_RULES` says what becomes of each kind of node; a kind without a
rule is refused. A new kind of node is one more method and its entry there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from firmware_bridge.plan import records
from firmware_bridge.plan.memory import place, place_rows
from firmware_bridge.plan.program import Operation, Plan, StoredValue, Term
from firmware_bridge.plan.records import (
    DEPTH_TO_SPACE,
    FIELDS,
    HEADS,
    MAGIC,
    NEAREST,
    NEURONS,
    NONE,
    OPERATION,
    OPERATIONS,
    OVER,
    SPACE_TO_DEPTH,
    STORAGE,
    VERSION,
)  # fmt: skip
from simulator.analysis import INT16_LIMIT, Analysis, Tensors
from simulator.bundle import SEMANTICS_VERSION, Bundle
from simulator.graph import IMAGE_GRID, Node
from simulator.kinds import KnownAttributes, unknown_attribute
from simulator.kinds.attend import attend_pool_shift
from simulator.statistics import spike_sources

# Kinds that read their inputs position by position, so that an input may be a view of another value.
_READS_VIEWS = ("sum", "concat", "lif", "window", "requantise", "time_sum", "readout")
# Kinds whose inputs may be computed as part of their own operation, and which those are.
_ABSORBS = {
    "sum": ("conv", "dense_conv"),
    "time_sum": ("conv", "dense_conv", "sum", "concat"),
    "requantise": ("conv", "dense_conv", "sum", "concat", "time_sum"),
    "readout": ("conv", "dense_conv", "sum", "concat", "time_sum", "requantise"),
}
_CONVOLUTIONS = ("conv", "dense_conv")
_LARGEST_BLOCK = 8  # pixels a side, of what an operation restores at once


class PlanError(ValueError):
    """A network that has no device plan. str() names the layer and its kind."""


def compile_bundle(bundle: Bundle, fuse: bool = True) -> Plan:
    """The plan of a bundle; see `compile_plan`."""
    return compile_plan(bundle.analysis, bundle.tensors, bytes.fromhex(bundle.content_hash), fuse)


def compile_plan(analysis: Analysis, tensors: Tensors, bundle_hash: bytes = bytes(32), fuse: bool = True) -> Plan:
    """The plan of an analysed network and its int32 tensors; the same network always gives the same bytes.

    fuse: False stores the output of every node, which a trace needs: the same results in more memory.
    """
    return _Compiler(analysis, tensors, fuse).compile(bundle_hash)


@dataclass
class _Pixels:
    """What one operation computes at each position: head + terms, summed over time, rounded."""

    head: Node | None = None
    head_shift: int = 0
    terms: list[Term] = field(default_factory=list)
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
        image_users = self.users[self.graph.nodes[0].name]
        # The first space_to_depth reads the picture itself, if nothing else needs the image.
        blocks = fuse and len(image_users) == 1 and image_users[0].kind == "space_to_depth"
        self.blocks = image_users[0] if blocks else None
        self.pictures = self._pictures()  # nodes that are never stored -> pixels a side of their blocks
        self.absorbed = self._absorbed()
        self.done = set(self.absorbed)  # nodes that need no operation of their own any more
        self.operations: list[Operation] = []
        self.heirs: dict[int, list[int]] = {}  # value -> values whose memory it could take over
        self.terms: list[Term] = []
        self.projections: list[tuple[int, ...]] = []
        self.constants = bytearray()

    def compile(self, bundle_hash: bytes) -> Plan:
        for node in self.graph.nodes:
            if node.kind not in _RULES:
                _refuse(node)
            unknown = unknown_attribute(node, _KNOWN)
            if unknown:
                raise PlanError(f"layer {node.name!r} ({node.kind}) has {unknown}, which the device plan does not have")
        for node in self.graph.nodes:
            if node.name not in self.done:
                _RULES[node.kind](self, node)
        analysis = self.analysis
        values, unit = place(self.values, self.operations, self.heirs)
        for index, operation in enumerate(self.operations):
            live = [value for value in values if value.first <= index <= value.last]
            operation.fields["used"] = max((value.offset + value.unit_bytes for value in live), default=0)
        values, row_unit = place_rows(values, self.operations, self.terms, analysis.stride, analysis.align)
        return Plan(
            self._assemble(values, bundle_hash, unit, row_unit),
            tuple(self.number),
            tuple(values),
            tuple(operation.node for operation in self.operations),
            unit,
            row_unit,
            analysis.stride,
            analysis.align,
            analysis.halo,
        )

    # --- what becomes of each node -----------------------------------------------------------------------------------

    def _steps(self, name: str) -> int:
        return 1 if self.analysis.values[name].static else self.graph.time_steps

    def _planes(self, name: str) -> int:
        """Of a stored value: its steps; of a window's spikes the binary digits of their number, 0 to T."""
        return self.graph.time_steps.bit_length() if self.analysis.values[name].window else self._steps(name)

    def _absorbed(self) -> dict[str, str]:
        """Nodes that are computed as part of their only consumer's operation."""
        found: dict[str, str] = {}
        for node in self.graph.nodes if self.fuse else ():
            able, inputs = _ABSORBS.get(node.kind, ()), node.inputs
            if node.kind == "readout" and self._shuffles(inputs[0]):
                inputs = self.graph.node(inputs[0]).inputs  # its channels become pixels as these are written
            names = [name for name in inputs if self.graph.node(name).kind in able]
            names = [name for name in names if len(self.users[name]) == 1 and inputs.count(name) == 1]
            if node.kind == "sum":
                # One convolution, rather a spiking one, and never a static one that would be repeated at every step.
                names = [name for name in names if self._steps(name) == self._steps(node.name)]
                names = sorted(names, key=lambda name: self.graph.node(name).kind == "conv")[-1:]
            if node.kind == "readout":
                # An operation must not change the picture that it still reads.
                names = [name for name in names if not self._sees_picture(name, found)]
            found.update(dict.fromkeys(names, node.name))
            if names and inputs != node.inputs:
                found[node.inputs[0]] = node.name
        return found

    def _sees_picture(self, name: str, absorbed: Mapping[str, str]) -> bool:
        """Whether the operation that a node would be part of takes pixels from the picture."""
        inputs = self.graph.node(name).inputs
        return any(
            source in self.pictures or (absorbed.get(source) == name and self._sees_picture(source, absorbed))
            for source in inputs
        )

    def _shuffles(self, name: str) -> bool:
        """Whether a node turns channels into pixels, few enough, for a readout alone."""
        node = self.graph.node(name)
        small = node.kind == "upsample" and node["mode"] == "depth_to_space" and node["factor"] <= _LARGEST_BLOCK
        return small and len(self.users[name]) == 1

    def _pictures(self) -> dict[str, int]:
        """The image and its first blocks, if only convolutions read them: these take their input from the picture."""
        found, last = {self.graph.nodes[0].name: 1}, self.graph.nodes[0]
        if self.blocks:
            found[self.blocks.name], last = self.blocks["factor"], self.blocks
        return found if self.fuse and all(user.kind == "dense_conv" for user in self.users[last.name]) else {}

    def _is_view(self, node: Node) -> bool:
        return (
            self.fuse
            and _moves(node)
            and not self.analysis.values[node.name].spikes
            and node.inputs[0] not in self.views
            and all(user.kind in _READS_VIEWS for user in self.users[node.name])
        )

    # --- operations --------------------------------------------------------------------------------------------------

    def _image(self, node: Node) -> None:
        if not self.blocks and node.name not in self.pictures:
            self._emit("image", node, [], output=self._store(node), factor=1)

    def _moved(self, node: Node) -> None:
        """Values enlarged or rearranged. Spikes are copied; other values are read where they lie, if all users can."""
        if node.name in self.pictures:
            return
        if node is self.blocks:
            self._emit("image", node, [], output=self._store(node), factor=node["factor"])
        elif self._is_view(node):
            self.views[node.name] = _movement(node)
        else:
            self._copied(node)

    def _copied(self, node: Node) -> None:
        if self.analysis.values[node.name].spikes:
            self._spikes(node)
        else:
            self._pixels(node)

    def _emit(self, kind: str, node: Node, reads: list[int], **fields: int) -> None:
        names = (*OPERATION, *FIELDS[kind])
        given = {"kind": OPERATIONS[kind], "layer": self.number[node.name], "channels": self._channels(node)} | fields
        defaults = dict.fromkeys(("input", "output", "spikes"), NONE)
        assert set(given) <= set(names)
        in_order = {name: given.get(name, defaults.get(name, 0)) for name in names}
        self.operations.append(Operation(kind, node.name, in_order, reads))

    def _channels(self, node: Node) -> int:
        return self.analysis.values[node.name].channels

    def _store(self, node: Node) -> int:
        """A new stored value: the output of `node`, written by the operation that comes next."""
        value, planes = self.analysis.values[node.name], self._planes(node.name)
        if value.spikes:
            storage = "counts" if value.window else "bits"
        elif value.magnitude < 1 << 15:
            storage = "int16"
        else:
            storage = "int24" if value.magnitude < 1 << 23 and value.channels % 2 == 0 else "int32"
        size = (self.analysis.stride // value.scale) ** 2 * planes * records.position_bytes(storage, value.channels)
        now = len(self.operations)
        self.place[node.name] = len(self.values)
        self.values.append(
            StoredValue(node.name, value.channels, value.scale, planes, storage, -(-size // 4) * 4, now, now)
        )
        return self.place[node.name]

    def _term(self, name: str, offset: int = 0, shift: int = 0) -> Term:
        if name in self.views:
            return Term(self.place[self.graph.node(name).inputs[0]], *self.views[name], offset, shift)
        return Term(self.place[name], offset=offset, shift=shift)

    def _add_terms(self, terms: Sequence[Term]) -> dict[str, int]:
        self.terms += terms
        return {"first_term": len(self.terms) - len(terms), "terms": len(terms)}

    def _gather(self, node: Node, op: _Pixels, shift: int = 0) -> None:
        """Adds to `op` what computes `node`."""
        if node.kind in _CONVOLUTIONS:
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

    def _pixels(self, node: Node) -> None:
        """One operation that ends with `node`, or with the first neurons that read it."""
        op = _Pixels()
        users = self.users[node.name]
        if node.kind in NEURONS:
            neuron: Node | None = node
            op.terms.append(self._term(node.inputs[0]))
            op.time_sum = node.kind == "window" and self._steps(node.inputs[0]) > 1
        else:
            self._gather(node, op)
            neuron = next((user for user in users if user.kind in NEURONS), None) if self.fuse else None
            if neuron and neuron.kind == "window" and self._steps(node.name) > 1:
                # The window's sum would have to be taken before what is stored, or after what is rounded.
                if len(users) > 1 or op.requantise:
                    neuron = None
                else:
                    op.time_sum = True
        fields, reads = self._computed(op)
        if node.kind not in NEURONS and not (neuron and len(users) == 1):
            fields["output"] = self._store(node)
            self.heirs[fields["output"]] = [term.value for term in op.terms if term.plain]
        if neuron:
            fields |= {"spikes": self._store(neuron)} | self._neuron(neuron)
            self.done.add(neuron.name)
        self._emit("pixels", node, reads, **fields)

    def _computed(self, op: _Pixels) -> tuple[dict[str, int], list[int]]:
        """The fields that say what an operation computes at each position, and the values that it reads."""
        reads = [term.value for term in op.terms]
        steps = [self.values[value].steps for value in reads]
        fields = self._add_terms(op.terms) | {"time_sum": int(op.time_sum), "head_shift": op.head_shift}
        if op.head:
            fields |= self._head(op.head)
            reads += [fields["input"]] if "input" in fields else []
            steps.append(self._steps(op.head.name))
        if op.requantise:
            fields |= {"rounds": 1} | {key: op.requantise[key] for key in ("shift", "lo", "hi")}
        return fields | {"steps": max(steps)}, reads

    def _head(self, node: Node) -> dict[str, int]:
        weight, groups, source = self.tensors[f"{node.name}.weight"], node["groups"], node.inputs[0]
        c_out, per_group, kernel, _ = weight.shape
        if node.kind == "conv":
            # [dy][dx][input channel][output channel of its group]: one spike adds one run of weights.
            rows = weight.reshape(groups, c_out // groups, per_group, kernel, kernel).transpose(3, 4, 0, 2, 1)
            rows = rows.reshape(kernel, kernel, groups * per_group, c_out // groups)
            if groups == 1 and c_out % 2:
                rows = np.pad(rows, ((0, 0), (0, 0), (0, 0), (0, 1)))  # every run starts at a word
            times = self.graph.time_steps if self.analysis.values[source].window else 1
            fields = {"head": HEADS["conv"], "input": self.place[source], "narrow": most_in_int16(weight, times)}
        else:
            # [output channel][dy][dx][input channel of its group]: products of what lies side by side.
            rows = weight.transpose(0, 2, 3, 1)
            fields = {"head": HEADS["dense_conv"], "narrow": NONE}
            if source in self.pictures:
                fields |= {"head": HEADS["picture_conv"], "factor": self.pictures[source]}
            else:
                fields["input"] = self.place[source]
        return fields | {
            "head_layer": self.number[node.name],
            "kernel": kernel,
            "stride": node["stride"],
            "padding": node["padding"],
            "dilation": node["dilation"] if node.kind == "conv" else 1,
            "groups": groups,
            "weight": self._constant(rows.astype("<i2")),
            "bias": self._constant(self.tensors[f"{node.name}.bias"].astype("<i4")) if node["bias"] else NONE,
        }

    def _neuron(self, node: Node) -> dict[str, int]:
        first = len(self.projections)
        for target in self.graph.nodes:
            for source, factor in spike_sources(self.analysis, target.inputs[0]) if target.kind == "conv" else ():
                if source == node.name:
                    scale = self.analysis.values[target.name].scale
                    window = (target["kernel"], target["stride"], target["padding"], target["dilation"])
                    fan_out = target["channels"] // target["groups"]
                    self.projections.append((self.number[target.name], scale, factor, *window, fan_out))
        own = {part: self.tensors[f"{node.name}.{part}"] for part in self.analysis.tensors[node.name]}
        if node.kind == "lif":  # the bounds say that these fit int32
            own = {part: np.broadcast_to(tensor, own["bias"].shape) for part, tensor in own.items()}
            own["threshold"] = (own["threshold"] << node["fine"]) + node["above"]
            own["bias"] = own["bias"] << node["fine"]
        fields = {
            "neurons": NEURONS[node.kind],
            "neuron_layer": self.number[node.name],
            "threshold": self._constant(own["threshold"].astype("<i4")),
            "first_projection": first,
            "projections": len(self.projections) - first,
        }
        if node.kind == "window":
            return fields | {"level": self._constant(self._level(node, own).astype("<i4"))}
        return fields | {
            "decay": int(node["leak"] == "decay"),
            "subtract": int(node["reset"] == "subtract"),
            "fine": node["fine"],
            "lif_bias": self._constant(own["bias"].astype("<i4")),
            "leak": self._constant(own["leak"].astype(np.uint8)),
        }

    def _level(self, node: Node, own: Tensors) -> npt.NDArray[np.int64]:
        """What the window's input alone has to reach for a first spike: threshold - bias, int64 [C], within int32."""
        level = own["threshold"].astype(np.int64) - own["bias"]
        far = np.abs(level) >= 1 << 31
        if far.any():
            channel = int(far.argmax())
            raise PlanError(
                f"layer {node.name!r}, channel {channel}: threshold - bias is {level[channel]}, which does not fit "
                "int32, so that no board with the C core can run it; use a coarser grid"
            )
        return level

    def _spikes(self, node: Node) -> None:
        """Spikes enlarged, or side by side."""
        factor, offset, terms = (node["factor"] if node.kind == "upsample" else 1), 0, []
        for name in node.inputs:
            terms.append(Term(self.place[name], NEAREST, factor, offset))
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
            over=OVER[node["over"]],
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
        op, source, block = _Pixels(), self.graph.node(node.inputs[0]), 1
        shift = self.analysis.values[source.name].q - IMAGE_GRID
        if self.absorbed.get(source.name) == node.name:
            if source.kind == "upsample":
                source, block = self.graph.node(source.inputs[0]), source["factor"]
            self._gather(source, op)
        else:
            op.terms.append(self._term(source.name))
        fields, reads = self._computed(op)
        channels = self._channels(source)
        self._emit("pixels", node, reads, channels=channels, restores=block, restore_shift=shift, **fields)

    def _constant(self, array: npt.NDArray[Any]) -> int:
        """Offset of a new constant from the start of the constants; aligned to words."""
        at = len(self.constants)
        self.constants += np.ascontiguousarray(array).tobytes()
        self.constants += bytes(-len(self.constants) % 4)
        return at

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _assemble(self, values: Sequence[StoredValue], bundle_hash: bytes, unit: int, row_unit: int) -> bytes:
        body = bytearray()
        for value in values:
            body += records.words(
                self.number[value.node], value.channels, value.scale, value.steps, STORAGE[value.storage],
                value.offset, value.rows, value.row_offset,
            )  # fmt: skip
        for operation in self.operations:
            body += records.operation(operation.fields)
        for term in self.terms:
            body += records.words(term.value, term.mode, term.factor, term.offset, term.shift)
        for projection in self.projections:
            body += records.words(*projection)
        body += self.constants
        fields = {
            "magic": MAGIC,
            "version": VERSION,
            "semantics": SEMANTICS_VERSION,
            "bytes": records.HEADER_BYTES + len(body),
            "time_steps": self.graph.time_steps,
            "stride": self.analysis.stride,
            "align": self.analysis.align,
            "halo": self.analysis.halo,
            "layers": len(self.graph.nodes),
            "values": len(values),
            "operations": len(self.operations),
            "terms": len(self.terms),
            "projections": len(self.projections),
            "unit": unit,
            "row_unit": row_unit,
            "zero": 0,
        }
        return records.sealed(records.header(fields, bundle_hash) + bytes(body))


# What becomes of a node of each kind that no other operation has computed already.
_RULES: Mapping[str, Callable[[_Compiler, Node], None]] = {
    "image": _Compiler._image,
    "space_to_depth": _Compiler._moved,
    "conv": _Compiler._pixels,
    "dense_conv": _Compiler._pixels,
    "requantise": _Compiler._pixels,
    "lif": _Compiler._pixels,
    "window": _Compiler._pixels,
    "sum": _Compiler._pixels,
    "concat": _Compiler._copied,
    "upsample": _Compiler._moved,
    "attend": _Compiler._attend,
    "time_sum": _Compiler._pixels,
    "readout": _Compiler._readout,
}


_KNOWN: KnownAttributes = {
    "conv": {"dilation": (), "limit": ()},
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract"), "fine": (), "shared": (), "above": ()},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": tuple(OVER)},
}


def most_in_int16(weight: npt.NDArray[np.int32], times: int) -> int:
    """How many spikes may arrive at once, each neuron's up to `times`, so that int16 holds the sum of their weights
    [C_out, C_in/groups, k, k], in any order, whichever they are; NONE where it holds all."""
    rows = weight.reshape(len(weight), -1).astype(np.int64)
    most = NONE
    for signed in (np.maximum(rows, 0), np.maximum(-rows, 0)):
        sums = np.sort(signed, 1)[:, ::-1].repeat(times, 1).cumsum(1)
        if sums.size and sums[:, -1].max() > INT16_LIMIT:
            most = min(most, int((sums <= INT16_LIMIT).sum(1).min()))
    return most


def _refuse(node: Node) -> NoReturn:
    raise PlanError(
        f"layer {node.name!r} is of the kind {node.kind!r}, which the device plan does not have, so that no board with "
        f"the C core can run it; it has {', '.join(_RULES)}"
    )


def _moves(node: Node) -> bool:
    return node.kind in ("upsample", "space_to_depth")


def _movement(node: Node) -> tuple[int, int]:
    """(mode, factor) of a node that only moves values."""
    if node.kind == "space_to_depth":
        return SPACE_TO_DEPTH, node["factor"]
    return NEAREST if node["mode"] == "nearest" else DEPTH_TO_SPACE, node["factor"]
