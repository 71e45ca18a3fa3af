"""`python -m export.tflite`: one model for every size, the device's bytes with every one of LiteRT's kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import tflite
from export.checks import differing_pixels
from export.runners import RESOLVERS
from export.tflite import build_tflite, main, tflite_restorer
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import read_bundle, write_bundle
from simulator.network import Network
from simulator.random_networks import random_network, random_tensors
from tests.export.conftest import META
from tests.export.test_plain import KINDS
from tests.simulator.networks import random_image

pytest.importorskip("ai_edge_litert")
ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "edge" / "bundles"
SHIPPED = sorted(BUNDLES.glob("*.safetensors"))
OPERATORS = {
    "CAST", "CONV_2D", "PAD", "ADD", "SUB", "MUL", "FLOOR", "MAXIMUM", "MINIMUM", "RELU_0_TO_1", "CONCATENATION",
    "DEPTH_TO_SPACE",
}  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_network_gives_the_devices_bytes_with_all_kernels(path):
    bundle, size = read_bundle(path), (32, 48)
    for what in (None, size):
        model = build_tflite(bundle.analysis, bundle.tensors, what)
        for resolver in RESOLVERS:
            restore = tflite_restorer(model, resolver=resolver)
            assert differing_pixels(restore, bundle.analysis, bundle.tensors, size) == 0, (what, resolver)


@pytest.mark.parametrize("kind", [None, "lif", "conv"])  # these two with all of their attributes
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_give_the_references_bytes_with_all_kernels(seed, kind):
    graph, tensors = random_network(seed, kind, KINDS)
    analysis = analyse(graph, tensors)
    size = analysis.padded(20, 28)
    for what in (None, size):
        model = build_tflite(analysis, tensors, what)
        for resolver in RESOLVERS:
            restore = tflite_restorer(model, resolver=resolver)
            assert differing_pixels(restore, analysis, tensors, size) == 0, (what, resolver)


def test_one_model_restores_pictures_of_many_sizes_one_after_another():
    bundle = read_bundle(BUNDLES / "dejpeg.safetensors")
    network, restore = Network(bundle, "reference"), tflite_restorer(build_tflite(bundle.analysis, bundle.tensors))
    for size in ((16, 16), (48, 32), (32, 64), (16, 16)):
        image = random_image(np.random.default_rng(size), *size, 3)
        restored = restore(np.ascontiguousarray(image.transpose(2, 0, 1)))
        assert np.array_equal(restored.transpose(1, 2, 0), network.run(image).image)


def test_that_the_coarse_path_stays_outside_is_said(tmp_path, capsys):
    assert main([str(BUNDLES / "dehaze.safetensors"), "--size", "32x48", "--out", str(tmp_path / "a.tflite")]) == 0
    assert "shrinks pictures to 256 pixels at most" in capsys.readouterr().out


def test_the_file_has_uint8_ends_and_operators_of_version_1(tmp_path, capsys):
    from ai_edge_litert import schema_py_generated as schema

    out = tmp_path / "a.tflite"
    assert main([str(BUNDLES / "denoise.safetensors"), "--size", "32x48", "--out", str(out)]) == 0
    assert "0 pixels differ" in capsys.readouterr().out
    model = schema.ModelT.InitFromPackedBuf(out.read_bytes(), 0)
    (graph,) = model.subgraphs
    for ends, name in ((graph.inputs, b"image"), (graph.outputs, b"restored")):
        (one,) = (graph.tensors[i] for i in ends)
        assert one.name == name and one.type == schema.TensorType.UINT8 and list(one.shape) == [1, 32, 48, 3]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    assert {names[one.builtinCode] for one in model.operatorCodes} <= OPERATORS
    assert {one.version for one in model.operatorCodes} == {1}


def test_the_file_goes_where_the_command_runs_and_is_the_same_each_time(tmp_path):
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-m", "export.tflite", str(BUNDLES / "denoise.safetensors")]
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=tmp_path / seed, env=environment, check=True, capture_output=True)
    assert (tmp_path / "1" / "denoise.tflite").read_bytes() == (tmp_path / "2" / "denoise.tflite").read_bytes()


def test_a_network_without_a_form_is_refused_by_its_layer(tmp_path, capsys):
    b = Builder(2)
    x = b.attend("gate", b.requantise("round", b.dense_conv("first", b.image(), 4, q=8), 5, 1 << 12), "space")
    graph = b.finish(b.time_sum("sum", b.conv("spiking", b.lif("lif", x), 3, q=8)))
    write_bundle(tmp_path / "a.safetensors", graph, random_tensors(graph, np.random.default_rng(0)), META)
    assert main([str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "a.tflite")]) == 2
    assert capsys.readouterr().err == (
        "export.tflite: Layer 'gate' is of the kind 'attend', which has no TFLite form.\n"
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_bad_input_is_answered_with_one_sentence_and_no_file(tmp_path, capsys, monkeypatch):
    good, garbage, out = SHIPPED[0], tmp_path / "bad.safetensors", tmp_path / "a.tflite"
    garbage.write_bytes(b"garbage")
    for given, named in (
        ([garbage, "--out", out], str(garbage)),
        ([tmp_path / "missing", "--out", out], "missing"),
        ([good, "--size", "20x32", "--out", out], "must be multiples of"),
        ([good, "--out", tmp_path / "nowhere" / "a.tflite"], "nowhere/a.tflite cannot be written"),
    ):
        assert main([str(one) for one in given]) == 2
        error = capsys.readouterr().err
        assert error.startswith("export.tflite: ") and named in error and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert main([str(good), "--out", str(out)]) == 2
    assert "The package ai-edge-litert is not installed; `pip install" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [garbage.name]


def test_a_model_that_would_not_equal_the_reference_is_not_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tflite, "tflite_restorer", lambda model: lambda pixels: 255 - pixels)
    assert main([str(SHIPPED[0]), "--out", str(tmp_path / "a.tflite")]) == 1
    assert "was not written" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
