"""A kind of node, or an attribute of one, that the simulator knows whole and nobody else at all: every other part
refuses it by name.

What a backend lacks must never be computed by a rule meant for something else. So this adds `unheard_of` to the
table of kinds, as a file in simulator/kinds would, and looks at each part.
Then every kind gets another attribute, and another word for each attribute that is a word.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from export.bench.ann import Ann, build_ann, evaluate, ranges, to_onnx, to_tflite
from export.bench.ann.to_torch import TorchAnn
from export.bench.frameworks import FrameworkNet
from export.files import ExportError
from export.onnx import build_model
from export.onnx_plain import build_whole
from export.tflite import build_tflite
from firmware_bridge.native import Core, CoreError
from firmware_bridge.plan import PlanError, compile_bundle
from firmware_bridge.plan.records import (
    HEADER_BYTES,
    HEADS,
    OPERATION_BYTES,
    OPERATIONS,
    VALUE_BYTES,
    header_word,
    sealed,
)
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import Bundle, BundleError, parse, serialise
from simulator.cut import CutError, cut
from simulator.engine.plan import build_plan
from simulator.graph import Graph, GraphError, Node
from simulator.kinds import KINDS, kind_in
from simulator.kinds.base import ByPosition, Kind
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value, Whole, Word
from simulator.kinds.sketch import Draw, Sketch
from simulator.network import Network
from simulator.random_networks import USUAL, random_network, random_tensors
from simulator.trace import first_difference
from tests.conformance.agreement import META, bundled
from tests.simulator.networks import observed, random_image, small_network
from train.student import Student

PIXELS = np.zeros((3, 8, 8), np.uint8)


class Maximum(ByPosition):
    """The larger of two values."""

    name = "unheard_of"
    equation = "max(x, y) on the finer grid of the two"
    attributes: Mapping[str, Attribute] = {}
    inputs = (2, 2)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        layer.need_equal_scales()

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x, y = layer.inputs
        return Value(x.channels, x.scale, x.static and y.static, spikes=False, q=layer.finest)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        los, his = layer.aligned_bounds()
        most = np.maximum(*(np.maximum(np.abs(lo), np.abs(hi)) for lo, hi in zip(los, his, strict=True)))
        return Bounds(np.maximum(*los), np.maximum(*his), most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        x, y = layer.aligned(inputs)
        return np.maximum(x, y)

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,)


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x:
        inputs = (x, sketch.alike(x, channels=True))
        sketch.keep(sketch.add(sketch.name("unheard_of"), "unheard_of", inputs, max(sketch.reach(inputs))))


@pytest.fixture(autouse=True)
def maximum(monkeypatch) -> Maximum:
    kind = Maximum()
    monkeypatch.setitem(KINDS, "unheard_of", kind)
    return kind


@pytest.fixture
def bundle(maximum) -> Bundle:
    return bundled(*network())


def network() -> tuple[Graph, dict[str, np.ndarray]]:
    """The larger of a stream and of what neurons make of it: mixed, on different grids."""
    b = Builder(4)
    x = b.dense_conv("head", b.space_to_depth("pixels", b.image(), 2), 8, 3, q=8)
    x = b.requantise("round", x, 5, 1 << 12)
    y = b.conv("conv", b.lif("lif", x), 8, 3, q=8)
    x = b.sum("add", x, b.add("larger", "unheard_of", (x, y)))
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 4, 1 << 12)
    x = b.dense_conv("readout.conv", x, 12, 1, q=9, bias=True)
    graph = b.finish(b.upsample("readout.pixels", x, 2, "depth_to_space"))
    return graph, random_tensors(graph, np.random.default_rng(0))


def refused(error: type[Exception]):
    """The sentence names the layer and the kind."""
    return pytest.raises(error, match=r"(?i)layer 'larger'.*'unheard_of'")


# ---- what comes by itself


def test_the_simulator_computes_bounds_and_counts_it(bundle):
    graph, tensors = bundle.graph, bundle.tensors
    pixels = random_image(np.random.default_rng(1), 3, 18, 22).astype(np.int16) - 128
    seen, values = observed(graph, tensors, pixels), bundle.analysis.values
    x, y = seen["round"], seen["conv"]
    q = values["larger"].q
    assert q == max(values["round"].q, values["conv"].q)
    larger = np.maximum(x << (q - values["round"].q), y << (q - values["conv"].q))
    assert np.array_equal(seen["larger"], larger) and larger.shape[0] == 4
    assert np.abs(larger).max() <= bundle.analysis.bounds["larger"]
    assert "larger" not in {
        layer.name for layer in Network(bundle, "reference").run(np.zeros((9, 9, 3), np.uint8)).stats.layers
    }


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_have_it_and_the_engine_gives_the_references_bits(seed):
    graph, tensors = random_network(seed, "unheard_of")
    assert "unheard_of" in {node.kind for node in graph.nodes}
    bundle = bundled(graph, tensors)
    image = random_image(np.random.default_rng(seed), 21, 26, 3)
    reference, engine = Network(bundle, "reference"), Network(bundle, "numba")
    assert first_difference(reference.trace(image), engine.trace(image)) is None
    expected, found = reference.run(image), engine.run(image)
    assert np.array_equal(found.image, expected.image) and found.stats.layers == expected.stats.layers


def test_a_bundle_with_it_is_refused_where_nobody_knows_it(monkeypatch):
    content = serialise(*network(), META)[0]
    monkeypatch.delitem(KINDS, "unheard_of")
    with pytest.raises(BundleError, match="layer 'larger' is of the unknown kind 'unheard_of'; known: attend, concat,"):
        parse(content)


# ---- what each part must be taught


def test_the_compiler_of_device_plans_refuses_it(bundle):
    for fuse in (True, False):
        with refused(PlanError):
            compile_bundle(bundle, fuse)


def test_the_onnx_exporter_refuses_it(bundle):
    pytest.importorskip("onnx")
    with refused(ExportError):
        build_model(bundle.graph, bundle.tensors, bundle.analysis, bundle.meta)


def test_the_exporters_of_plain_onnx_and_tflite_refuse_it(bundle):
    pytest.importorskip("onnx")
    with refused(ExportError):
        build_whole(bundle.analysis, bundle.tensors, bundle.meta, 8, 8)
    with refused(ExportError):
        build_tflite(bundle.analysis, bundle.tensors)


def test_the_cut_for_cards_leaves_it_on_the_host_and_refuses_it_between_neurons(bundle):
    assert "larger" in {node.name for node in cut(bundle.analysis).tail}
    b = Builder(2)
    x = b.requantise("round", b.dense_conv("head", b.image(), 8, 3, q=8), 5, 1 << 12)
    y = b.conv("conv", b.lif("lif", x), 8, 3, q=8)
    y = b.conv("last", b.lif("between", b.add("larger", "unheard_of", (x, y))), 3, q=8)
    graph = b.finish(b.time_sum("sum", y))
    with refused(CutError):
        cut(analyse(graph, random_tensors(graph, np.random.default_rng(0))))


def test_the_equivalent_ann_refuses_it(bundle):
    with refused(ExportError):
        build_ann(bundle.analysis)


WRITERS: dict[str, Callable[[Ann], Any]] = {
    "NumPy": lambda ann: evaluate(ann, PIXELS),
    "ONNX float32": lambda ann: to_onnx.float_model(ann, 8, 8),
    "ONNX int8": lambda ann: to_onnx.integer_model(ann, 8, 8, ranges(ann, PIXELS)),
    "TFLite float32": lambda ann: to_tflite.float_model(ann, 8, 8),
    "TFLite int8": lambda ann: to_tflite.integer_model(ann, 8, 8, ranges(ann, PIXELS)),
    "PyTorch": lambda ann: TorchAnn(ann)(torch.from_numpy(PIXELS)[None]),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_form_of_the_equivalent_ann_refuses_an_op_that_it_does_not_know(writer):
    pytest.importorskip("onnx")
    ann = build_ann(analyse(small_network()[0]))
    ops = tuple(replace(op, kind="unheard_of") if op.kind == "add" else op for op in ann.ops)
    with pytest.raises(ExportError, match="Layer 'add' is of the kind 'unheard_of', which has no "):
        WRITERS[writer](replace(ann, ops=ops))


def test_the_student_refuses_it():
    graph, _ = network()
    with refused(GraphError):
        Student(graph)(torch.zeros((1, 3, 8, 8)))


def test_networks_with_the_neurons_of_a_framework_refuse_it(bundle):
    with refused(GraphError):
        FrameworkNet(bundle.graph, bundle.tensors, "PyTorch").restore(torch.zeros((1, 3, 8, 8)))


def test_the_c_core_refuses_an_operation_that_it_does_not_know(monkeypatch):
    plan = compile_bundle(bundled(*random_network(0)))
    values = header_word(plan.data, "values")
    kind_at = HEADER_BYTES + VALUE_BYTES * values + OPERATION_BYTES  # of operation 1
    head_at = kind_at + 9 * 4  # the convolution with which its pixels begin
    assert struct.unpack_from("<I", plan.data, kind_at)[0] == 2
    for at, unknown in ((kind_at, max(OPERATIONS.values()) + 1), (kind_at, 0), (head_at, max(HEADS.values()) + 1)):
        changed = bytearray(plan.data)
        struct.pack_into("<I", changed, at, unknown)
        with pytest.raises(CoreError, match=r"SNN_OPERATION .*\(record 1\)"):
            Core(sealed(bytes(changed)))


# ---- attributes


def with_attribute(kind: str, name: str, value: object, attention: bool = True) -> Bundle:
    """A random network, without taps apart, in which one node of that kind has an attribute that no check has seen."""
    usual = tuple(kind for kind in USUAL if KINDS[kind].draws() and (attention or kind != "attend"))
    graph, tensors = random_network(2, kind) if attention else random_network(2, kind, usual)
    bundle = bundled(graph, tensors)
    odd = next(node for node in graph.nodes if node.kind == kind)
    other = replace(odd, attrs={**odd.attrs, name: value})
    nodes = tuple(other if node is odd else node for node in graph.nodes)
    changed = replace(graph, nodes=nodes)
    return replace(bundle, graph=changed, analysis=replace(bundle.analysis, graph=changed))


def add_novelty(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind gets another attribute, as its file would give it one; networks without it mean 0."""
    more = {**KINDS[kind].attributes, "novelty": Whole(0, 4, default=0)}
    monkeypatch.setattr(KINDS[kind], "attributes", more, raising=False)


def size_of(bundle: Bundle) -> tuple[int, int]:
    return bundle.analysis.padded(8, 8)


def student(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.student.analyse", lambda graph: bundle.analysis)  # it has been analysed without
    Student(bundle.graph)(torch.zeros((1, 3, *[bundle.analysis.align] * 2)))


BACKENDS: dict[str, Callable[[Bundle, pytest.MonkeyPatch], Any]] = {
    "device plan": lambda bundle, _: compile_bundle(bundle),
    "ONNX": lambda bundle, _: build_model(bundle.graph, bundle.tensors, bundle.analysis, bundle.meta),
    "plain ONNX": lambda bundle, _: build_whole(bundle.analysis, bundle.tensors, bundle.meta, *size_of(bundle)),
    "TFLite": lambda bundle, _: build_tflite(bundle.analysis, bundle.tensors),
    "equivalent ANN": lambda bundle, _: build_ann(bundle.analysis),
    "PyTorch": student,
}
NO_ATTENTION = ("plain ONNX", "TFLite")  # these refuse every network that has it
WORDS = [(kind, name) for kind in USUAL for name, what in KINDS[kind].attributes.items() if isinstance(what, Word)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "unheard_of"])
def test_an_attribute_that_a_backend_does_not_know_is_refused_unless_it_has_its_default(kind, backend, monkeypatch):
    pytest.importorskip("onnx")
    attention = backend not in NO_ATTENTION
    used, at_its_default = (with_attribute(kind, "novelty", value, attention) for value in (3, 0))
    add_novelty(kind, monkeypatch)
    with pytest.raises((PlanError, ExportError, GraphError), match=f"(?i)layer '.*'.*({kind}).*novelty = 3|'{kind}'"):
        BACKENDS[backend](used, monkeypatch)
    if kind in USUAL and (attention or kind != "attend"):
        BACKENDS[backend](at_its_default, monkeypatch)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kind", "name"), WORDS)
def test_a_word_that_a_backend_does_not_know_is_refused(kind, name, backend, monkeypatch):
    pytest.importorskip("onnx")
    bundle = with_attribute(kind, name, "other", backend not in NO_ATTENTION)
    if backend == "equivalent ANN" and kind == "lif":
        build_ann(bundle.analysis)  # ReLU, whatever the neurons are
        return
    named = f"(?i)layer '.*' \\({kind}\\) has {name} = 'other'|'attend', which has no"
    with pytest.raises((PlanError, ExportError, GraphError), match=named):
        BACKENDS[backend](bundle, monkeypatch)


@pytest.mark.parametrize("kind", USUAL)
def test_the_engine_is_as_fast_as_before_where_a_new_attribute_has_its_default(kind, monkeypatch):
    """It computes by its meaning, slowly, only a node that uses the attribute."""
    bundle = bundled(*random_network(2, kind))
    expected = build_plan(bundle.analysis, bundle.tensors).passes
    bundle = with_attribute(kind, "novelty", 0)
    add_novelty(kind, monkeypatch)
    assert build_plan(bundle.analysis, bundle.tensors).passes == expected


def test_the_neurons_of_other_frameworks_refuse_a_leak_that_they_do_not_know(monkeypatch):
    bundle = with_attribute("lif", "leak", "other")
    monkeypatch.setattr("train.student.analyse", lambda graph: bundle.analysis)
    with pytest.raises((ExportError, GraphError), match=r"(?i)layer '.*' \(lif\) has leak = 'other'"):
        FrameworkNet(bundle.graph, bundle.tensors, "PyTorch")


# ---- what a kind must have


def test_a_kind_that_lacks_a_rule_cannot_be_made_and_the_sentence_names_the_rule():
    module = ModuleType("simulator.kinds.minimum")
    module.Minimum = type(
        "Minimum", (Maximum,), {"__module__": module.__name__, "bounds": Kind.bounds, "copies": Kind.copies}
    )
    with pytest.raises(TypeError, match=re.escape("simulator/kinds/minimum.py: the kind Minimum lacks bounds, copies")):
        kind_in(module)


def test_a_file_without_a_kind_is_named():
    with pytest.raises(TypeError, match=re.escape("simulator/kinds/empty.py defines 0 kinds of node")):
        kind_in(ModuleType("simulator.kinds.empty"))


def test_spikes_that_nobody_accounts_for_are_refused(maximum, monkeypatch):
    """A kind that gives spikes is a layer of neurons or says how often it passes on those that it gets."""
    spiking = type("Spiking", (Maximum,), {"output": lambda self, layer: Value(8, 2, False, True, 0)})()
    monkeypatch.setitem(KINDS, "unheard_of", spiking)
    with pytest.raises(
        GraphError, match=r"layer 'larger' \(unheard_of\): its output is spikes, but its kind does not say"
    ):
        analyse(network()[0])
