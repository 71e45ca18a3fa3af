"""The plain dialect of ONNX (`python -m export.onnx --plain`): what runtimes and compilers of cards read alike.

Floats in and out, one static size, batch 1, opset 13, and these operators alone, in float32:

    Conv, Add, Sub, Mul, Floor, Clip, Concat, Resize (nearest), DepthToSpace (CRD)

There is no Cast, comparison, Div, Shape, Pad or Gather. The picture's size must be a multiple of the network's stride;
who runs the model repeats the last row and column of others (`numpy.pad` with mode "edge"). The whole network:

    image      float32 [1, 3, H, W], RGB, grey levels 0 to 255
    restored   float32 [1, 3, H, W], whole grey levels 0 to 255

The body alone (`simulator.cut`: the part for a card), unrolled over the T time steps; numbers are k * 2^-q:

    inputs     what enters, by the names of the layers, float32 [1, C, h, w]; shown at every step by the model itself
    outputs    what leaves, `observed_name(layer, t)` for each step t, float32 [1, C, h, w]

How spikes are written without comparisons and divisions stands in `export/forms.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from export.checks import check_size
from export.files import ExportError, check_attributes, missing_package, no_form
from export.forms import folds, reached, window_form
from export.onnx_network import KNOWN, PRODUCER, Network, Steps, Writer, model_entries, observed_name
from export.runners import Runner
from simulator.analysis import Analysis, Tensors
from simulator.cut import Cut, Host
from simulator.graph import IMAGE_GRID, Node
from simulator.kinds.layer import Value

if TYPE_CHECKING:  # imported only where it is used, so that a missing package is reported in a sentence
    import onnx

Pixels = npt.NDArray[np.uint8]
Restore = Callable[[Pixels], Pixels]

OPSET = 13
IR_VERSION = 7  # what opset 13 came with
OPERATORS = frozenset({"Conv", "Add", "Sub", "Mul", "Floor", "Clip", "Concat", "Resize", "DepthToSpace"})
FORM = "plain ONNX form"


class PlainNetwork(Network):
    """Writes nodes in the plain dialect."""

    def __init__(self, analysis: Analysis, tensors: Tensors):
        super().__init__(analysis.graph, tensors, analysis, Writer(half=False))
        self.folded: dict[str, int] = {}  # space_to_depth that becomes part of its readers: the factor

    def write(self, node: Node) -> Steps:
        if node.kind == "attend":
            raise no_form(node.name, node.kind, FORM)
        if node.kind == "space_to_depth" and folds(node, self.analysis):
            self.folded[node.name] = node["factor"]
            return self.values[node.inputs[0]]
        return super().write(node)

    def convolution(self, node: Node, x: Steps, value: Value, factor: int = 1) -> Steps:
        return super().convolution(node, x, value, self.folded.get(node.inputs[0], factor))

    def fired(self, node: Node, v: str, q: int) -> str:
        w = self.writer
        units, grid = reached(node, self.tensor(node, "threshold"), q)
        above = w.op("Sub", v, self.per_channel((units - 1) * 2.0**-grid))
        return w.op("Clip", w.times(above, 2.0**grid), w.constant(0), w.constant(1))

    def window(self, node: Node, current: Steps, q: int) -> str:
        w = self.writer
        offset, factor = window_form(self.tensor(node, "threshold"), self.tensor(node, "bias"), q)
        v = w.op("Add", w.add(*current), self.per_channel(offset))
        count = w.op("Floor", w.op("Mul", v, self.per_channel(factor)))
        return w.op("Clip", count, w.constant(0), w.constant(self.steps))

    def per_channel(self, values: npt.NDArray[Any]) -> str:
        """[1, C, 1, 1]: not every compiler broadcasts fewer dimensions."""
        return self.writer.constant(values[None, :, None, None])


class HalfNetwork(PlainNetwork):
    """The same for cards that compute in float16, which has no room for half a unit, nor for a quotient: the spikes of
    a window neuron are those of 1, 2, ..., T times its threshold, added up."""

    def window(self, node: Node, current: Steps, q: int) -> str:
        w, threshold = self.writer, self.tensor(node, "threshold").astype(np.int64)
        v = w.add(*current)
        bias = self.tensor(node, "bias")
        if bias.any():
            v = w.op("Add", v, self.per_channel(bias * 2.0**-q))
        reached = []
        for times in range(1, self.steps + 1):
            below = self.per_channel((times * threshold - 1) * 2.0**-q)
            reached.append(w.op("Clip", w.times(w.op("Sub", v, below), 2.0**q), w.constant(0), w.constant(1)))
        return w.add(*reached)


def build_whole(
    analysis: Analysis, tensors: Tensors, meta: Mapping[str, str], height: int, width: int
) -> onnx.ModelProto:
    """The whole network as a plain model for pictures of that size.

    tensors (int32 units), meta: as a bundle holds them. Raises ExportError for a size that is no multiple of the
    stride, for a kind of node or an attribute without a plain form, and if the package onnx is missing.
    """
    check_size(analysis, height, width)
    network = _started(analysis, tensors)
    w, needed = network.writer, analysis.graph.needed()
    for node in analysis.graph.nodes:
        check_attributes(node, KNOWN, FORM)
        w.scope = node.name
        if node.kind == "image":
            network.values[node.name] = (w.times(w.op("Sub", "image", w.constant(128)), 2.0**-IMAGE_GRID),)
        elif node.kind == "readout":
            q = analysis.values[node.inputs[0]].q
            change = w.requantise(network.values[node.inputs[0]][0], q, q - IMAGE_GRID, None, 0)
            w.op("Clip", w.op("Add", "image", change), w.constant(0), w.constant(255), output="restored")
        elif node.name in needed:
            network.values[node.name] = network.write(node)
    shape = (1, 3, height, width)
    text = "image: float32 RGB [1, 3, H, W], 0..255; restored: the same. Plain dialect, exact in float32."
    return _model(w, {"image": shape}, {"restored": shape}, text, model_entries(meta))


def build_body(
    parts: Cut, tensors: Tensors, meta: Mapping[str, str], height: int, width: int,
    form: type[PlainNetwork] = PlainNetwork, shown: Sequence[str] = (),
) -> onnx.ModelProto:  # fmt: skip
    """The body of a network as a plain model, for pictures of that size; ExportError as `build_whole`.

    form: how neurons are written. shown: layers whose values are outputs besides, behind the others. The model's entry
    `body.crossing` says of each value that crosses what `simulator.cut.Crossing` does: name, steps, shape of a step,
    grid q, and the largest magnitude in units.
    """
    analysis = parts.analysis
    check_size(analysis, height, width)
    network = _started(analysis, tensors, form)
    for one in parts.entering:
        network.values[one.name] = (one.name,)
    for node in parts.body:
        check_attributes(node, KNOWN, FORM)
        network.values[node.name] = network.write(node)
    outputs = {}
    for one in parts.leaving:
        for t, name in enumerate(network.values[one.name]):
            network.writer.rename(name, observed_name(one.name, t))
            outputs[observed_name(one.name, t)] = (1, *one.shape(height, width)[1:])
    for layer in shown:
        value = analysis.values[layer]
        for t, name in enumerate(network.values[layer]):
            network.writer.rename(name, observed_name(layer, t))
            outputs[observed_name(layer, t)] = (1, value.channels, height // value.scale, width // value.scale)
    crossing = {
        way: [
            {"name": one.name, "steps": one.steps, "q": one.q, "magnitude": one.magnitude}
            | {"shape": [1, *one.shape(height, width)[1:]]}
            for one in values
        ]
        for way, values in (("entering", parts.entering), ("leaving", parts.leaving))
    }
    inputs = {one.name: (1, *one.shape(height, width)[1:]) for one in parts.entering}
    text = "The body of a spiking network: real numbers k * 2^-q in and out, see body.crossing. Plain dialect."
    return _model(network.writer, inputs, outputs, text, {**model_entries(meta), "body.crossing": json.dumps(crossing)})


def plain_restorer(model: onnx.ModelProto, make: Callable[[onnx.ModelProto, int], Runner], threads: int = 1) -> Restore:
    """Pixels to restored pixels, uint8 [3, H, W], by a whole plain model in a runtime (`export/runners.py`)."""
    run = make(model, threads)

    def restore(pixels: Pixels) -> Pixels:
        restored: Pixels = run({"image": pixels[None].astype(np.float32)})["restored"][0].astype(np.uint8)
        return restored

    return restore


def body_restorer(
    parts: Cut, tensors: Tensors, model: onnx.ModelProto, make: Callable[[onnx.ModelProto, int], Runner],
    threads: int = 1,
) -> Restore:  # fmt: skip
    """The same by a plain body, with the ends on the host."""
    run, host = make(model, threads), Host(parts, tensors)

    def restore(pixels: Pixels) -> Pixels:
        signed = pixels.astype(np.int16) - np.int16(128)
        entering = host.head(signed)
        found = run({one.name: (entering[one.name] * 2.0**-one.q).astype(np.float32) for one in parts.entering})
        leaving = {}
        for one in parts.leaving:
            real = np.concatenate([found[observed_name(one.name, t)] for t in range(one.steps)])
            leaving[one.name] = np.rint(real.astype(np.float64) * 2.0**one.q).astype(np.int64)
        return host.tail(signed, entering, leaving)

    return restore


def _started(analysis: Analysis, tensors: Tensors, form: type[PlainNetwork] = PlainNetwork) -> PlainNetwork:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ExportError(missing_package("onnx")) from error
    return form(analysis, tensors)


def _model(
    w: Writer, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]], text: str,
    entries: Mapping[str, str],
) -> onnx.ModelProto:  # fmt: skip
    import onnx
    from onnx import TensorProto, helper

    def described(values: Mapping[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]

    model = helper.make_model(
        helper.make_graph(
            w.nodes, "spiking_restoration", described(inputs), described(outputs), w.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        doc_string=text,
    )  # fmt: skip
    helper.set_model_props(model, dict(entries))
    onnx.checker.check_model(model, full_check=True)
    return model
