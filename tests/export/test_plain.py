"""`python -m export.onnx --plain`: the device's bytes in every runtime that reads the dialect, and nothing but the
dialect."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from export import forms
from export.checks import differing_pixels
from export.onnx import main
from export.onnx_plain import OPERATORS, OPSET, body_restorer, build_body, build_whole, plain_restorer
from export.runners import OPENVINO_EXACT, ncnn_runner, onnx_runner, openvino_runner
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import read_bundle, write_bundle
from simulator.cut import cut
from simulator.random_networks import random_network, random_tensors
from tests.export.conftest import META

onnx = pytest.importorskip("onnx")  # exists for Python 3.11 and newer, as the runtimes
for package in ("onnxruntime", "openvino", "ncnn", "pnnx"):
    pytest.importorskip(package)
BUNDLES = Path(__file__).parents[2] / "edge" / "bundles"
SHIPPED = sorted(BUNDLES.glob("*.safetensors"))
RUNTIMES = {"onnxruntime": onnx_runner, "ncnn": ncnn_runner}
if OPENVINO_EXACT:
    RUNTIMES["openvino"] = openvino_runner
# Every kind but attention, which has no plain form.
KINDS = ("lif", "window", "conv", "dense_conv", "requantise", "sum", "concat", "upsample", "space_to_depth")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_network_gives_the_devices_bytes_in_every_runtime(path):
    bundle = read_bundle(path)
    assert not forms.inexact_nodes(bundle.analysis)
    size = (32, 48)
    model = build_whole(bundle.analysis, bundle.tensors, bundle.meta, *size)
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    for name, make in RUNTIMES.items():
        restore = plain_restorer(model, make)
        assert differing_pixels(restore, bundle.analysis, bundle.tensors, size) == 0, name


@pytest.mark.parametrize("kind", [None, "lif", "conv"])  # these two with all of their attributes
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_give_the_references_bytes_in_every_runtime(seed, kind):
    graph, tensors = random_network(seed, kind, KINDS)
    analysis = analyse(graph, tensors)
    size = analysis.padded(20, 28)
    model = build_whole(analysis, tensors, {}, *size)
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    for name, make in RUNTIMES.items():
        assert differing_pixels(plain_restorer(model, make), analysis, tensors, size) == 0, name


@pytest.mark.parametrize("task", ["denoise-camera", "dejpeg", "deblur-fine"])
def test_a_body_between_ends_on_the_host_gives_the_devices_bytes(task):
    bundle = read_bundle(BUNDLES / f"{task}.safetensors")
    parts, size = cut(bundle.analysis), (32, 48)
    model = build_body(parts, bundle.tensors, bundle.meta, *size)
    assert {node.op_type for node in model.graph.node} <= OPERATORS - {"DepthToSpace"}
    for name, make in RUNTIMES.items():
        restore = body_restorer(parts, bundle.tensors, model, make)
        assert differing_pixels(restore, bundle.analysis, bundle.tensors, size) == 0, name


def test_the_default_of_ncnn_is_not_exact():
    """Why its exact runner asks for something; OpenVINO's default is exact on processors without bfloat16."""
    bundle = read_bundle(BUNDLES / "deblur-fine.safetensors")
    model = build_whole(bundle.analysis, bundle.tensors, {}, 64, 64)
    restore = plain_restorer(model, partial(ncnn_runner, exact=False))
    assert differing_pixels(restore, bundle.analysis, bundle.tensors, (64, 64)) > 0


def test_the_file_says_what_it_is(tmp_path, capsys):
    out = tmp_path / "plain.onnx"
    assert main([str(SHIPPED[0]), "--plain", "--size", "32x48", "--out", str(out)]) == 0
    assert "0 pixels differ" in capsys.readouterr().out
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    for value, name in ((model.graph.input[0], "image"), (model.graph.output[0], "restored")):
        kind = value.type.tensor_type
        assert value.name == name and kind.elem_type == onnx.TensorProto.FLOAT
        assert [d.dim_value for d in kind.shape.dim] == [1, 3, 32, 48]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT}


def test_a_body_says_what_crosses(tmp_path):
    out = tmp_path / "body.onnx"
    path = BUNDLES / "denoise-camera.safetensors"
    assert main([str(path), "--plain", "--body", "--size", "32x48", "--out", str(out)]) == 0
    model = onnx.load(out)
    assert [one.name for one in model.graph.input] == ["encode.round"]
    assert [one.name for one in model.graph.output] == [f"decoder1.2.add@{t}" for t in range(4)]
    crossing = json.loads({entry.key: entry.value for entry in model.metadata_props}["body.crossing"])
    assert crossing["entering"] == [
        {"name": "encode.round", "steps": 1, "q": 9, "magnitude": 8192, "shape": [1, 32, 16, 24]}
    ]
    assert crossing["leaving"][0] == {
        "name": "decoder1.2.add", "steps": 4, "q": 9, "magnitude": 12585, "shape": [1, 32, 16, 24]
    }  # fmt: skip


def test_thresholds_at_which_the_count_of_spikes_could_round_are_named():
    b = Builder(4)
    x = b.requantise("round", b.dense_conv("first", b.image(), 4, q=8), 5, 1 << 20)
    y = b.conv("spiking", b.window("window", x), 4, q=8)
    graph = b.finish(b.dense_conv("last", b.requantise("last.round", b.sum("sum", x, y), 2, 1 << 10), 3, q=8))
    tensors = random_tensors(graph, np.random.default_rng(0))
    assert forms.inexact_nodes(analyse(graph, tensors)) == []
    tensors["window.threshold"][:] = forms.WINDOW_LIMIT // 4
    assert forms.inexact_nodes(analyse(graph, tensors)) == ["window"]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_spikes_are_counted_right_next_to_every_multiple_of_any_threshold(steps):
    """At multiples of the threshold and one unit below, with a product that rounds as float32 does."""
    rng = np.random.default_rng(steps)
    limit = forms.WINDOW_LIMIT // steps
    threshold = np.unique(np.concatenate([np.arange(1, 300), rng.integers(1, limit, 20_000)])).astype(np.int32)
    offset, factor = forms.window_form(threshold, np.zeros_like(threshold), 9)
    for n in range(-1, steps + 2):
        for below in (0, 1):
            v = ((n * threshold.astype(np.int64) - below) * 2.0**-9).astype(np.float32)
            count = np.clip(np.floor((v + offset.astype(np.float32)) * factor.astype(np.float32)), 0, steps)
            assert np.array_equal(count, np.full(len(threshold), np.clip(n - below, 0, steps))), (n, below)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--plain"], "give it with --size HxW"),
        (["--body"], "are for plain models"),
        (["--size", "32x32"], "are for plain models"),
        (["--plain", "--size", "32"], "'32' is not a size"),
        (["--plain", "--size", "0x32"], "'0x32' is not a size"),
        (["--plain", "--size", "99999x32"], "'99999x32' is not a size"),
        (["--plain", "--size", "33x32"], "must be multiples of 16; give 48x32"),
    ],
)
def test_what_no_plain_model_can_be_is_answered_with_one_sentence(options, sentence, tmp_path, capsys):
    path = BUNDLES / "denoise.safetensors"
    try:
        code = main([str(path), *options, "--out", str(tmp_path / "a.onnx")])
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_a_plain_form_or_a_cut_is_refused_by_its_layer(tmp_path, capsys):
    b = Builder(2)
    x = b.attend("gate", b.requantise("round", b.dense_conv("first", b.image(), 4, q=8), 5, 1 << 12), "space")
    y = b.requantise("between", b.conv("spiking", b.lif("lif", x), 4, q=8), 1, 1 << 10)
    y = b.time_sum("sum", b.conv("more", b.lif("lif2", y), 3, q=8))
    graph = b.finish(y)
    write_bundle(tmp_path / "a.safetensors", graph, random_tensors(graph, np.random.default_rng(0)), META)
    for options, sentence in (
        ([], "Layer 'gate' is of the kind 'attend', which has no plain ONNX form."),
        (["--body"], "Layer 'between', of the kind 'requantise', stands between neurons ('lif2' depends on it)"),
    ):
        given = [str(tmp_path / "a.safetensors"), "--plain", "--size", "8x8", "--out", str(tmp_path / "a.onnx")]
        assert main([*given, *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"export.onnx: {sentence}") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
