"""The equivalent ANN with trained weights: what a run of `python -m train.hkd --ann` learnt, as an `Ann`.

PyTorch and an `Ann` differ in two things, and neither changes a number:

  bias of a ReLU    a neuron's bias is added before its ReLU, and its input may be a sum that others read as well. The
                    ops have no such bias, so whatever leads to that ReLU carries it from the start: the convolutions
                    that a sum adds take up the difference between what the sum has to carry and what its other inputs
                    carry already. It costs nothing at run time, as folding a normalisation costs nothing.
  order of pixels   channels of space_to_depth and depth_to_space are (c, dy, dx) in PyTorch and (dy, dx, c) here; the
                    weights on their other side change places.

The clips of `requantise`, which such a network was trained with and seldom meets, fall away as in `build_ann`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.bench.ann import Ann, Array, Op, build_ann
from export.files import ExportError
from simulator.graph import Graph
from train.checkpoint import read_checkpoint, trained_student
from train.student import Student

MOVES = ("nearest",)  # ops through which an offset per channel passes as it is


def trained_ann(path: Path) -> Ann:
    """The ANN of a run of `train.hkd --ann` (its folder or checkpoint), float32.

    Raises TrainingError for what is no checkpoint, and ExportError for a run of a spiking network, or for an ANN whose
    biases have no convolution to go into (attention over a stream, say).
    """
    checkpoint = read_checkpoint(path)
    if not checkpoint.settings.ann:
        raise ExportError(f"{path} is a run of a spiking network; give runs of train.hkd --ann, bundles as bundles.")
    student = trained_student(checkpoint)
    return with_weights(build_ann(student.analysis), student)


def with_weights(ann: Ann, student: Student) -> Ann:
    """The same ops with the weights and biases of the PyTorch ANN of the same graph; ExportError as above."""
    if any(op.kind in ("gate", "pool", "channel_mean") for op in ann.ops):
        raise ExportError("A trained ANN with attention is not carried over; train one without (attention=0).")
    graph = student.graph
    weights = {name: _numbers(student, graph, name) for name in ann.weights}
    biases = _relu_biases(student, graph)
    changed = _Folding(ann, weights, biases).fold()
    return Ann(ann.ops, _reordered(ann, changed), ann.channels, ann.scales, ann.stride)


def _numbers(student: Student, graph: Graph, name: str) -> Array:
    """A convolution's tensor as trained; a bias that it does not have is zero."""
    layer, _, part = name.rpartition(".")
    node = graph.node(layer)
    if part not in student.analysis.tensors[layer]:
        return np.zeros(student.analysis.values[layer].channels, np.float32)
    return np.ascontiguousarray(student.tensor(node, part).detach().numpy(), np.float32)


def _relu_biases(student: Student, graph: Graph) -> dict[str, Array]:
    """What is added before each ReLU, [C], by its name."""
    neurons = [node for node in graph.nodes if "threshold" in student.analysis.tensors[node.name]]
    return {node.name: student.tensor(node, "bias").detach().numpy().astype(np.float32) for node in neurons}


class _Folding:
    """Moves the ReLUs' biases into convolutions. offsets: what each op's value carries beyond PyTorch's, [C]."""

    def __init__(self, ann: Ann, weights: Mapping[str, Array], biases: Mapping[str, Array]):
        self.ann, self.biases = ann, biases
        self.weights = dict(weights)
        self.ops = {op.name: op for op in ann.ops}
        self.offsets: dict[str, Array] = {op.name: np.zeros(ann.channels[op.name], np.float32) for op in ann.ops}

    def fold(self) -> dict[str, Array]:
        for op in self.ann.ops:
            wanted = self.wanted(op)
            if op.kind == "conv":
                self.give(op, wanted - self.carried(op))
                self.offsets[op.name] = wanted
            elif op.kind == "add":
                self.add(op, wanted)
            elif op.kind in MOVES:
                self.offsets[op.name] = self.offsets[op.inputs[0]]
            if not np.array_equal(self.offsets[op.name], wanted):
                raise ExportError(f"The bias before a ReLU that reads {op.name!r} has no convolution to go into.")
        return self.weights

    def wanted(self, op: Op) -> Array:
        """The offset that the readers of a value need: the bias of a ReLU, none for what cannot take one away."""
        readers = [reader for reader in self.ann.readers(op.name) if not _takes_any(reader)]
        found = [self.biases.get(reader.name, np.zeros_like(self.offsets[op.name])) for reader in readers]
        if not found:
            return self.offsets[op.name]
        if any(not np.array_equal(found[0], other) for other in found[1:]):
            raise ExportError(
                f"Layers with different biases read {op.name!r}, which a folded ANN cannot serve at once."
            )
        return found[0]

    def add(self, op: Op, wanted: Array) -> None:
        """Have a convolution that only this sum reads, or that is enlarged for it, take up what is missing."""
        missing = wanted - np.sum([self.offsets[name] for name in op.inputs], 0, dtype=np.float32)
        for name in reversed(op.inputs):
            path = [self.ops[name]]
            while path[-1].kind in MOVES:
                path.append(self.ops[path[-1].inputs[0]])
            if path[-1].kind == "conv" and all(len(self.ann.readers(one.name)) == 1 for one in path):
                self.give(path[-1], missing)
                for one in path:
                    self.offsets[one.name] = missing
                self.offsets[op.name] = wanted
                return
        self.offsets[op.name] = wanted - missing

    def give(self, conv: Op, offset: Array) -> None:
        self.weights[f"{conv.name}.bias"] = self.weights[f"{conv.name}.bias"] + offset

    def carried(self, conv: Op) -> Array:
        """What its input's offset adds to a convolution's output; only one without a border has the same everywhere."""
        offset, weight = self.offsets[conv.inputs[0]], self.weights[f"{conv.name}.weight"]
        groups = conv["groups"]
        per_group = np.split(weight.sum((2, 3)), groups), np.split(offset, groups)
        return np.concatenate([w @ part for w, part in zip(*per_group, strict=True)])


def _takes_any(op: Op) -> bool:
    """Whether an op can read a value with an offset and nothing goes wrong."""
    return op.kind in ("add", *MOVES) or (op.kind == "conv" and op["padding"] == 0)


def _reordered(ann: Ann, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Weights for channels (dy, dx, c) where PyTorch has (c, dy, dx)."""
    changed, ops = dict(weights), {op.name: op for op in ann.ops}
    for op in ann.ops:
        if op.kind == "space_to_depth":
            order = _pixel_order(ann.channels[op.name], op["factor"])
            for reader in ann.readers(op.name):
                if reader.kind != "conv" or reader["groups"] != 1:
                    raise ExportError(f"Layer {reader.name!r} reads pixels in another order than it was trained with.")
                changed[f"{reader.name}.weight"] = changed[f"{reader.name}.weight"][:, order]
        if op.kind == "depth_to_space":
            order = _pixel_order(ann.channels[op.inputs[0]], op["factor"])
            for conv in _sources(ops, op.inputs[0]):
                for part in ("weight", "bias"):
                    changed[f"{conv}.{part}"] = changed[f"{conv}.{part}"][order]
    return {name: np.ascontiguousarray(array) for name, array in changed.items()}


def _pixel_order(channels: int, factor: int) -> npt.NDArray[np.int64]:
    """For each channel in the order (dy, dx, c), its place in the order (c, dy, dx)."""
    return np.arange(channels).reshape(-1, factor**2).T.reshape(-1)


def _sources(ops: Mapping[str, Op], name: str) -> list[str]:
    """The convolutions whose outputs, added up, are that value; ExportError if something else is among them."""
    op = ops[name]
    if op.kind == "conv":
        return [name]
    if op.kind != "add":
        raise ExportError(f"Layer {name!r} holds pixels in another order than it was trained with.")
    return [conv for source in op.inputs for conv in _sources(ops, source)]
