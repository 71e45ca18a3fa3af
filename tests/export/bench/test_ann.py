"""The equivalent ANN: the same layers, counts and shapes as the spiking network; every runtime computes the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from export.bench.ann import Ann, build_ann, evaluate, ranges
from export.bench.ann.to_torch import TorchAnn
from export.files import ExportError
from simulator.analysis import Analysis, analyse
from simulator.builder import Builder
from simulator.random_networks import narrow_paper_network
from simulator.statistics import count
from tests.simulator.networks import random_image, random_network
from train.architectures import build_graph

onnx = pytest.importorskip("onnx")  # both exist for Python 3.11 and newer
onnxruntime = pytest.importorskip("onnxruntime")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from export.bench.ann import to_onnx, to_tflite  # noqa: E402


def networks() -> dict[str, Analysis]:
    """Random ones (strides, groups, concatenation, enlargements, attention), the paper's in narrow, the default."""
    found = {f"random{seed}": analyse(random_network(seed)[0]) for seed in range(8)}
    found["paper"] = analyse(narrow_paper_network()[0])
    found["edge"] = analyse(build_graph("edge", (8, 8, 8, 8)))
    return found | {"depthwise": analyse(_depthwise())}


def _depthwise():
    b = Builder(4)
    x = b.requantise("round", b.dense_conv("head", b.image(), 6, 3, q=8), 5, 1 << 14)
    x = b.conv("depthwise", b.lif("lif1", x), 6, 3, groups=6)
    x = b.conv("strided", b.lif("lif2", x), 12, 3, stride=2, groups=3)
    x = b.upsample("up", b.conv("wide", b.lif("lif3", x), 12, 1), 2, "depth_to_space")
    x = b.requantise("out.round", b.time_sum("sum", x), 4, 1 << 12)
    return b.finish(b.dense_conv("out", x, 3, 5, q=9))


NETWORKS = networks()
each_network = pytest.mark.parametrize("analysis", NETWORKS.values(), ids=NETWORKS)


def picture(analysis: Analysis, rows: int = 3, columns: int = 4) -> np.ndarray:
    """uint8 [3, H, W] with so many multiples of the stride per side, at least 24 pixels of width."""
    rows, columns = (n * analysis.stride * max(1, 8 // analysis.stride) for n in (rows, columns))
    return np.ascontiguousarray(random_image(np.random.default_rng(5), rows, columns, 3).transpose(2, 0, 1))


@each_network
def test_it_has_the_spiking_networks_layers_and_as_many_macs_as_that_has_synapses_and_macs(analysis):
    ann, pixels = build_ann(analysis), picture(analysis)
    height, width = pixels.shape[1:]
    maps = {
        node.name: np.zeros([-(-n // analysis.values[node.name].scale) for n in (height, width)], np.int32)
        for node in analysis.graph.nodes
        if node.kind == "lif"
    }
    counted = count(analysis, height, width, maps, 0.0)
    layers = {layer.name: layer for layer in counted.layers}
    values, steps, ops = evaluate(ann, pixels), analysis.graph.time_steps, {op.name: op for op in ann.ops}
    for node in analysis.graph.nodes:
        value = analysis.values[node.name]
        if node.kind in ("requantise", "time_sum") or (node.kind == "attend" and node["over"] == "time"):
            assert node.name not in ops
            continue
        assert values[node.name].shape == (value.channels, height // value.scale, width // value.scale)
        if node.kind in ("conv", "dense_conv"):
            assert ann.weights[f"{node.name}.weight"].shape == analysis.shapes[f"{node.name}.weight"]
            assert all(ops[node.name][key] == node[key] for key in ("kernel", "stride", "padding", "groups"))
        if node.kind in ("conv", "dense_conv", "attend"):
            layer, parts = layers[node.name], [op for op in ann.ops if op.name.startswith(f"{node.name}.")]
            executed = layer.synops_max // steps if node.kind == "conv" else layer.macs_printed // steps
            own = [ops[node.name], *(parts if node.kind == "attend" else ())]
            assert sum(ann.op_macs(op, height, width) for op in own) == executed
    assert [op.name for op in ann.ops if op.kind == "relu" and not op.gating] == list(maps)
    if not any(node.kind == "attend" and node["over"] == "time" for node in analysis.graph.nodes):
        assert ann.macs(height, width) == counted.ann_macs


def test_every_activation_is_an_ordinary_number_and_depends_on_the_picture():
    analysis = analyse(build_graph("edge"))
    first, second = (picture(analysis, 4, n)[:, :64, :64] for n in (4, 6))
    ann = build_ann(analysis)
    for op in ann.ops:
        a, b = (evaluate(ann, pixels)[op.name] for pixels in (first, second[:, ::-1].copy()))
        assert np.isfinite(a).all() and not np.array_equal(a, b), op.name
        if op.kind != "output":
            tiny = (a != 0) & (np.abs(a) < np.finfo(np.float32).tiny)
            assert 1e-3 < a.std() < 1e3 and not tiny.any(), op.name


def onnx_result(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {"picture": pixels[None]})[0][0]


def tflite_result(model: bytes, pixels: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels.transpose(1, 2, 0)[None].copy())
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].transpose(2, 0, 1)


def loud(ann: Ann) -> Ann:
    """With a readout that changes the picture a lot, so that a wrong layer shows."""
    last = [op.name for op in ann.ops if op.kind == "conv"][-1]
    weights = {name: array * (30 if name.startswith(f"{last}.") else 1) for name, array in ann.weights.items()}
    return Ann(ann.ops, weights, ann.channels, ann.scales, ann.stride)


@each_network
def test_every_runtime_computes_what_numpy_does(analysis):
    ann, pixels = loud(build_ann(analysis)), picture(analysis)
    size = pixels.shape[1:]
    expected = evaluate(ann, pixels)[ann.ops[-1].name].astype(int)
    assert np.abs(expected - pixels).mean() > 3
    with torch.inference_mode():
        torch_picture = TorchAnn(ann)(torch.from_numpy(pixels)[None])[0].numpy()
    found = {
        "PyTorch": torch_picture,
        "ONNX Runtime": onnx_result(to_onnx.float_model(ann, *size), pixels),
        "LiteRT": tflite_result(to_tflite.float_model(ann, *size), pixels),
    }
    for name, restored in found.items():
        assert np.abs(restored - expected).max() <= 1, name  # a sum in another order may round the other way


@each_network
def test_the_int8_models_stay_close_to_the_float_ones(analysis):
    ann, pixels = loud(build_ann(analysis)), picture(analysis)
    size = pixels.shape[1:]
    expected = evaluate(ann, pixels)[ann.ops[-1].name].astype(int)
    change = np.abs(expected - pixels).mean()
    for restored in (
        onnx_result(to_onnx.integer_model(ann, *size, ranges(ann, pixels)), pixels),
        tflite_result(to_tflite.integer_model(ann, *size, ranges(ann, pixels)), pixels),
    ):
        assert np.abs(restored - expected).mean() < 0.15 * change + 0.5


def test_the_int8_models_compute_every_convolution_in_integers():
    analysis = analyse(build_graph("edge", (8, 8, 8, 8)))
    ann, pixels = build_ann(analysis), picture(analysis)
    convolutions = sum(op.kind == "conv" for op in ann.ops)
    kinds = [node.op_type for node in to_onnx.integer_model(ann, *pixels.shape[1:], ranges(ann, pixels)).graph.node]
    assert kinds.count("QLinearConv") == convolutions and not {"Conv", "DequantizeLinear"} & set(kinds)
    interpreter = Interpreter(model_content=to_tflite.integer_model(ann, *pixels.shape[1:], ranges(ann, pixels)))
    types = {detail["dtype"] for detail in interpreter.get_tensor_details()}
    assert np.float32 not in types and np.int8 in types


def test_the_same_graph_gives_the_same_network():
    analysis = NETWORKS["paper"]
    pixels = picture(analysis)
    assert to_tflite.float_model(build_ann(analysis), *pixels.shape[1:]) == to_tflite.float_model(
        build_ann(analysis), *pixels.shape[1:]
    )


@pytest.mark.parametrize(
    ("package", "build"),
    [("onnx", to_onnx.float_model), ("flatbuffers", to_tflite.float_model), ("ai_edge_litert", to_tflite.float_model)],
)
def test_a_missing_package_is_named(package, build, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "ai_edge_litert.schema_py_generated", raising=False)
    with pytest.raises(ExportError, match=r"is not installed; `pip install 'spikerir-edge\[export\]'`"):
        build(build_ann(NETWORKS["edge"]), 16, 16)
