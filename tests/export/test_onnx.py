"""`python -m export.onnx`: any size in, the device's pixels out; the same file each time; sentences for bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.onnx import OPSET, OnnxBackend, build_model, inexact_nodes, main
from export.onnx_network import observed_name
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import read_bundle, write_bundle
from simulator.network import Network
from simulator.random_networks import random_tensors
from tests.export.conftest import META
from tests.simulator.networks import random_image
from train.architectures import paper
from train.student import Student

onnx = pytest.importorskip("onnx")  # both exist for Python 3.11 and newer
onnxruntime = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model_file(bundle_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "denoise.onnx"
    assert main([str(bundle_file), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def session(model_file) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model_file, options, ["CPUExecutionProvider"])


def restore(session: onnxruntime.InferenceSession, *images: np.ndarray) -> np.ndarray:
    """[N, H, W, 3] of images of one size."""
    batch = np.stack(images).transpose(0, 3, 1, 2)
    return session.run(["restored"], {"image": np.ascontiguousarray(batch)})[0].transpose(0, 2, 3, 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (16, 16), (17, 31), (33, 15), (64, 50)])
def test_one_model_restores_every_size_as_the_device_does(session, bundle_file, size):
    image = random_image(np.random.default_rng(size), *size, 3)
    expected = Network(read_bundle(bundle_file), "reference").run(image).image
    assert np.array_equal(restore(session, image)[0], expected)


def test_images_of_a_batch_do_not_touch_each_other(session):
    rng = np.random.default_rng(0)
    images = [random_image(rng, 21, 18, 3) for _ in range(3)]
    together = restore(session, *images)
    assert all(np.array_equal(restore(session, one)[0], both) for one, both in zip(images, together, strict=True))


def test_the_file_is_valid_and_says_what_it_is(model_file, bundle_file):
    model = onnx.load(model_file)
    onnx.checker.check_model(model, full_check=True)
    bundle = read_bundle(bundle_file)
    for value, name in ((model.graph.input[0], "image"), (model.graph.output[0], "restored")):
        kind = value.type.tensor_type
        assert value.name == name and kind.elem_type == onnx.TensorProto.UINT8
        assert [d.dim_param or d.dim_value for d in kind.shape.dim] == ["N", 3, "H", "W"]
    assert len(model.graph.input) == len(model.graph.output) == 1
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries["network.task"] == "denoise" and entries["bundle.content_hash"] == bundle.content_hash
    assert entries["training.terms"] == bundle.meta["training.terms"] and "network.graph" not in entries


def test_weights_are_the_float16_numbers_of_the_bundle(model_file, bundle_file):
    stored = {tensor.name: tensor for tensor in onnx.load(model_file).graph.initializer}
    bundle = read_bundle(bundle_file)
    weights = [name for name in bundle.tensors if name.endswith(".weight")]
    for name in weights:
        assert stored[name].data_type == onnx.TensorProto.FLOAT16
        units = onnx.numpy_helper.to_array(stored[name]).astype(np.float64) * 2.0 ** bundle.graph.node(name[:-7])["q"]
        assert np.array_equal(units, bundle.tensors[name])
    blocks = f"{next(node.name for node in bundle.graph.nodes if node.kind == 'space_to_depth')}.weight"
    assert set(onnx.numpy_helper.to_array(stored[blocks]).ravel()) == {0, 1}
    others = {tensor.data_type for name, tensor in stored.items() if name not in (*weights, blocks)}
    assert others <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_no_channels_are_gathered(model_file):
    """A converter was seen to misread Gather in front of a convolution, others exchange SpaceToDepth's channels."""
    assert not {"Gather", "SpaceToDepth"} & {node.op_type for node in onnx.load(model_file).graph.node}


def test_shapes_are_inferred_for_every_value_but_where_the_size_is_computed(bundle_file):
    bundle = read_bundle(bundle_file)
    model = build_model(bundle.graph, bundle.tensors, bundle.analysis, bundle.meta)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    convolutions = {node.output[0]: node for node in model.graph.node if node.op_type == "Conv"}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    assert all(shapes[name][1].dim_value > 0 and len(shapes[name]) == 4 for name in convolutions)


def test_the_same_bundle_gives_the_same_bytes_whatever_the_hash_seed(model_file, bundle_file, tmp_path):
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.onnx"
        command = [sys.executable, "-m", "export.onnx", str(bundle_file), "--out", str(out)]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True)
        assert out.read_bytes() == model_file.read_bytes()


def test_neither_pytorch_nor_numba_is_needed():
    code = "import sys, export.onnx as e; assert not {'torch', 'numba', 'onnxruntime'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_file_goes_where_the_command_runs_if_no_place_is_given(bundle_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(bundle_file)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["denoise.onnx"]
    printed = capsys.readouterr().out
    assert "0 pixels differ" in printed and "2^24" not in printed


@pytest.mark.parametrize("name, said", [("dehaze", True), ("denoise", False)])
def test_that_the_coarse_path_stays_outside_is_said(name, said, tmp_path, capsys):
    assert main([str(ROOT / f"edge/bundles/{name}.safetensors"), "--out", str(tmp_path / "a.onnx")]) == 0
    assert ("shrinks pictures to 256 pixels at most" in capsys.readouterr().out) == said


def test_nodes_whose_bounds_reach_two_to_the_24_are_named_in_one_sentence(tmp_path, capsys):
    student = Student(paper((4, 6, 8, 10), blocks=1), leak=1, threshold=0.15)
    tensors = student.freeze()
    write_bundle(tmp_path / "paper.safetensors", student.graph, tensors, META)
    assert main([str(tmp_path / "paper.safetensors"), "--out", str(tmp_path / "paper.onnx")]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    inexact = inexact_nodes(analyse(student.graph, tensors))
    assert "encoder1.1.channel" in inexact
    assert line == f"float32 is not guaranteed to be exact in {', '.join(inexact)}: their bounds reach 2^24."


def test_what_is_static_is_computed_once():
    """An image that goes through convolutions and attention before the first neuron, at T = 4."""
    b = Builder(4)
    x = b.requantise("round", b.dense_conv("head", b.image(), 4, q=8), 5, 1 << 12)
    x = b.attend("gate", x, "channel", 2, 2)
    y = b.conv("spiking", b.lif("lif", x), 4, q=8)
    total = b.time_sum("total", b.sum("add", x, y))
    graph = b.finish(b.dense_conv("tail", b.requantise("tail.round", total, 2, 1 << 12), 3, q=8))
    tensors = random_tensors(graph, np.random.default_rng(0))
    model = build_model(graph, tensors, analyse(graph, tensors), {})
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert sum(name.startswith("head:") for name in convolutions) == 1
    assert sum(name.startswith("gate:") for name in convolutions) == 2  # its two layers
    assert sum(name.startswith("spiking/t") for name in convolutions) == 4
    assert sum(name.startswith("tail:") for name in convolutions) == 1


def test_inner_values_can_be_observed_as_outputs(bundle_file):
    bundle = read_bundle(bundle_file)
    model = build_model(bundle.graph, bundle.tensors, bundle.analysis, {}, observe=["encode.round", "encoder1.1.lif1"])
    steps = [observed_name("encoder1.1.lif1", t) for t in range(4)]
    assert [o.name for o in model.graph.output] == ["restored", observed_name("encode.round", 0), *steps]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04\x95pickle", os.urandom(4096)])
def test_garbage_is_answered_with_one_sentence(content, tmp_path, capsys):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    for bad in (path, tmp_path / "missing.safetensors", tmp_path):
        assert main([str(bad), "--out", str(tmp_path / "out.onnx")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"export.onnx: {bad}") and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_place_that_cannot_be_written_to_is_named(bundle_file, tmp_path, capsys):
    for out in (tmp_path / "nowhere" / "a.onnx", tmp_path):
        assert main([str(bundle_file), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert str(out) in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(bundle_file, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a.onnx"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        assert main([str(bundle_file), "--out", str(out)]) == 0  # written, but not compared
    assert "Not compared with the reference: The package onnxruntime is not installed" in capsys.readouterr().out
    out.unlink()
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main([str(bundle_file), "--out", str(out)]) == 2
    assert "The package onnx is not installed" in capsys.readouterr().err and not out.exists()


def test_a_model_that_would_not_equal_the_reference_is_not_written(bundle_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(OnnxBackend, "run", lambda self, images: images)
    assert main([str(bundle_file), "--out", str(tmp_path / "a.onnx")]) == 1
    assert "was not written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
