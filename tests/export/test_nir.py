"""NIR files: every spike of every layer and step, in every reader, is the reference's; other networks are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest

import export.nir
import export.nir_readers
from export.files import ExportError
from export.nir import build_graph, main, node_names, serialise
from export.nir_readers import READERS, Spikes, compare
from simulator.builder import Builder
from simulator.bundle import Bundle, read_bundle, write_bundle
from simulator.cut import Host
from simulator.kinds import KINDS
from simulator.kinds.layer import Whole
from simulator.random_networks import random_tensors
from tests.conformance.agreement import META, bundled
from tests.export.nir_networks import random_body, untrained
from train.architectures import edge
from train.student import Student

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*.safetensors"))
# SpikingJelly exists for Python 3.11 and newer.
INSTALLED = [reader for reader in READERS if reader != "SpikingJelly" or sys.version_info >= (3, 11)]
FOR_NIR = [path for path in SHIPPED if path.stem.endswith("-nir")]


@pytest.fixture(scope="module")
def student() -> Bundle:
    return untrained(width=8, dilations=(1, 3))


def file_of(bundle: Bundle, size: tuple[int, int]) -> bytes:
    return serialise(build_graph(bundle, size))


@pytest.mark.parametrize("reader", INSTALLED)
def test_every_spike_of_an_untrained_student_is_the_references(student, reader):
    size = (37, 50)
    found = compare(student, file_of(student, size), reader, size)
    assert found == Spikes(4 * 4 * 8 * 19 * 25, 0, "", 0)


@pytest.mark.parametrize("reader", INSTALLED)
@pytest.mark.parametrize("seed", range(6))
def test_every_spike_of_a_random_body_is_the_references(seed, reader):
    bundle, size = random_body(seed), (14, 20)
    found = compare(bundle, file_of(bundle, size), reader, size)
    assert found.compared and not found.differing and not found.output


@pytest.mark.parametrize("reader", INSTALLED)
@pytest.mark.parametrize("path", FOR_NIR, ids=lambda path: path.stem)
def test_every_spike_of_a_shipped_network_is_the_references(path, reader):
    bundle, size = read_bundle(path), (48, 64)
    found = compare(bundle, file_of(bundle, size), reader, size)
    assert found.compared and not found.differing and not found.output


def test_random_bodies_have_what_could_go_wrong():
    """Neurons that read several streams, the same ones with other biases, taps apart, and both rules of firing."""
    nodes = [node for seed in range(6) for node in random_body(seed).graph.nodes]
    assert {node["above"] for node in nodes if node.kind == "lif"} == {0, 1}
    assert {node["dilation"] for node in nodes if node.kind == "conv"} >= {1, 2, 3}
    assert any(node.kind == "sum" and len(node.inputs) > 2 for node in nodes)
    graphs = [build_graph(random_body(seed), (8, 8)) for seed in range(6)]
    assert any(name.endswith("_enter") for graph in graphs for name in graph.nodes)


def test_another_weight_is_noticed(student):
    size = (16, 16)
    other = {**student.tensors, "body.2.conv1.weight": -student.tensors["body.2.conv1.weight"]}
    found = compare(student, file_of(bundled(student.graph, other), size), "NIRTorch", size)
    assert found.differing and found.place.startswith("layer 'body.2.lif2', step ")


def test_the_file_passes_nirs_own_checks_and_says_what_it_is(student, tmp_path):
    path = tmp_path / "a.nir"
    path.write_bytes(file_of(student, (31, 33)))
    graph = nir.read(path)  # with its type checks
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds.count("LIF") == 4 and set(kinds) == {"Input", "Output", "Conv2d", "LIF"}
    assert graph.metadata["time_steps"] == 4 and graph.metadata["dt"] == 1e-4
    assert graph.metadata["bundle"] == student.content_hash
    assert tuple(graph.nodes["input"].input_type["input"]) == (8, 16, 17)
    assert path.read_bytes() == file_of(student, (31, 33))


def variant(**options: object) -> Bundle:
    graph = edge((8, 8, 8, 8), **options)
    return bundled(graph, Student(graph, threshold=0.4).freeze())


def neurons_that(k: int = 2, leak: str = "decay", shared: int = 1, groups: int = 1, scale: int = 1) -> Bundle:
    """A network whose only fault is what is said of its neurons or of their convolution."""
    b = Builder(4, 7)
    x = b.requantise("round", b.dense_conv("head", b.space_to_depth("pixels", b.image(), 2), 4, 3, q=8), 8, 1 << 10)
    y = b.conv("conv", b.lif("neurons", x, leak, "zero", fine=6, shared=shared), 4, scale, stride=scale, groups=groups)
    y = b.conv("next", b.lif("others", y, "decay", "zero", fine=6, shared=1), 4, 1)
    x = b.sum("add", x, b.upsample("larger", y, scale) if scale > 1 else y)
    x = b.conv("last", b.lif("readers", x, "decay", "zero", fine=6, shared=1), 12, 1)
    x = b.requantise("tail.round", b.time_sum("tail.sum", x), 0, 1 << 10)
    graph = b.finish(b.upsample("tail.pixels", b.dense_conv("tail", x, 12, 1, q=9), 2, "depth_to_space"))
    tensors = random_tensors(graph, np.random.default_rng(0))
    for name in ("others", "readers", "neurons"):
        tensors[f"{name}.leak"][:] = k if name == "neurons" else 2
    return bundled(graph, tensors)


REFUSED: dict[str, Callable[[], Bundle]] = {
    "subtracts its threshold .*reset=zero": lambda: variant(),
    "integrate before they fire; train with --architecture neuron=lif": lambda: variant(neuron="window"),
    "has 2 groups, .*groups=1,1,1,1": lambda: neurons_that(groups=2),
    "NIR has no node for an enlargement": lambda: neurons_that(scale=2),
    "a threshold for each channel": lambda: neurons_that(shared=0),
    r"leaks by v - \(v >> k\) with k = 0": lambda: neurons_that(k=0),
    "leaks by v >> k with k = 2": lambda: neurons_that(leak="shift"),
    "rounds its leak down; .* 9 more binary digits": lambda: neurons_that(k=3),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_nir_cannot_express_is_refused_with_the_option_that_would_change_it(sentence):
    with pytest.raises(ExportError, match=f"(?s){sentence}") as refusal:
        build_graph(REFUSED[sentence](), (16, 16))
    assert "train" in str(refusal.value)


@pytest.mark.parametrize("path", [path for path in SHIPPED if path not in FOR_NIR], ids=lambda path: path.stem)
def test_shipped_networks_that_were_not_trained_for_it_are_refused(path):
    with pytest.raises(ExportError, match="Layer '.*train"):
        build_graph(read_bundle(path), (16, 16))


@pytest.mark.parametrize("kind", ["conv", "lif", "sum"])
def test_an_attribute_that_is_not_known_is_refused(kind, student, monkeypatch):
    odd = next(node for node in student.graph.nodes if node.kind == kind)
    other = replace(odd, attrs={**odd.attrs, "novelty": 3})
    nodes = tuple(other if node is odd else node for node in student.graph.nodes)
    graph = replace(student.graph, nodes=nodes)
    changed = replace(student, graph=graph, analysis=replace(student.analysis, graph=graph))
    more = {**KINDS[kind].attributes, "novelty": Whole(0, 4, default=0)}
    monkeypatch.setattr(KINDS[kind], "attributes", more, raising=False)
    with pytest.raises(ExportError, match=f"Layer '.*' \\({kind}\\) has novelty = 3, which has no form in NIR"):
        build_graph(changed, (8, 8))


def test_the_command_compares_on_pictures_of_a_folder(bundle_file, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export.nir_readers, "READERS", {"NIRTorch": READERS["NIRTorch"]})
    arguments = [str(bundle_file), "--size", "16x16", "--out", str(tmp_path / "a.nir"), "--data"]
    assert main([*arguments, str(photos)]) == 0
    assert f"NIRTorch: 0 of {3 * 8192} spikes differ" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_names_in_a_file_are_unique_and_names_in_python():
    names = ["a.b", "a_b", "a/b", "1", "input", "exit", "é", "body.1"]
    safe = node_names(names)
    assert len(set(safe.values())) == len(names) and all(name.isidentifier() for name in safe.values())
    assert not {"input", "output", "enter", "exit"} & set(safe.values())


@pytest.fixture(scope="module")
def bundle_file(student, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nir") / "denoise.safetensors"
    write_bundle(path, student.graph, student.tensors, META)
    return path


def test_the_command_writes_the_file_and_says_what_each_reader_gives(bundle_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(bundle_file), "--size", "16x24"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["denoise.nir"]
    printed = capsys.readouterr().out
    for reader in INSTALLED:
        assert f"{reader}: 0 of 12288 spikes differ; of what leaves the body, 0 numbers\n" in printed


def test_a_file_that_would_not_be_the_same_network_is_not_written(bundle_file, tmp_path, monkeypatch, capsys):
    body = Host.body

    def silent(self, entering, observe=None):
        return body(self, entering, lambda name, value: observe(name, 0 * value))

    monkeypatch.setattr(export.nir_readers.Host, "body", silent)
    monkeypatch.setattr(export.nir_readers, "READERS", {"NIRTorch": READERS["NIRTorch"]})
    assert main([str(bundle_file), "--size", "8x8", "--out", str(tmp_path / "a.nir")]) == 1
    assert "was not written" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_is_missing_or_wrong_is_one_sentence(bundle_file, tmp_path, monkeypatch, capsys):
    for size in ("0x8", "8", "8x99999", "axb"):
        with pytest.raises(SystemExit):
            main([str(bundle_file), "--size", size])
        assert "is not a size: give height and width in pixels" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "snntorch.import_nir", None)
    monkeypatch.setattr(export.nir_readers, "READERS", {"snnTorch": READERS["snnTorch"]})
    assert main([str(bundle_file), "--size", "8x8", "--out", str(tmp_path / "a.nir")]) == 0
    assert "Not compared in snnTorch: The package snntorch" in capsys.readouterr().out
    assert main([str(bundle_file), "--size", "8x8", "--out", str(tmp_path)]) == 2
    assert main([str(tmp_path / "none.safetensors")]) == 2
    monkeypatch.setitem(sys.modules, "nir", None)
    assert main([str(bundle_file), "--size", "8x8"]) == 2
    assert "The package nir is not installed; `pip install 'spikerir-edge[nir]'`" in capsys.readouterr().err


def test_importing_the_exporter_needs_neither_nir_nor_pytorch():
    code = "import sys, export.nir; assert not {'nir', 'torch', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
