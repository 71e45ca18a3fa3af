"""NIR files from elsewhere as bundles: the same spikes; hostile and odd files are answered with one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
import torch

from export.files import ExportError
from export.from_nir import Reading, convert, main
from export.nir import build_graph, serialise
from export.nir_file import MOST_NUMBERS, read_file
from export.nir_readers import run
from simulator.bundle import Bundle, read_bundle, write_bundle
from simulator.network import Network
from tests.conformance.agreement import META, check
from tests.export.nir_networks import random_body, untrained
from tests.simulator.networks import observed, random_image

DT = 1e-4


def written(bundle: Bundle, path: Path, size: tuple[int, int] = (16, 16)) -> Path:
    path.write_bytes(serialise(build_graph(bundle, size)))
    return path


def lif(shape: tuple[int, ...], threshold: float = 0.5, steps: float = 4.0, gain: float = 1.0) -> nir.LIF:
    """tau in steps; gain: what a current of 1 adds to the membrane."""
    number = np.ones(shape)
    return nir.LIF(
        number * steps * DT, number * steps * gain, 0 * number, number * threshold, 0 * number
    )  # fmt: skip


def conv(weight: np.ndarray, side: tuple[int, int], bias: float = 0.0, dilation: int = 1) -> nir.Conv2d:
    padding = dilation * (weight.shape[2] // 2)
    return nir.Conv2d(side, weight.astype(np.float32), 1, padding, dilation, 1, np.full(len(weight), bias, np.float32))


def by_hand(gain: float = 1.0, threshold: float = 0.5) -> nir.NIRGraph:
    """Pixels -> convolution -> neurons -> convolution with taps apart -> neurons -> convolution, and a skip."""
    rng, side = np.random.default_rng(0), (8, 10)
    nodes = {
        "input": nir.Input({"input": np.array([3, *side])}),
        "head": conv(rng.integers(-60, 61, (6, 3, 3, 3)) / 64, side, 0.25),
        "a": lif((6, *side), threshold, gain=gain),
        "b": conv(rng.integers(-60, 61, (6, 6, 3, 3)) / 128, side, 0.125, dilation=2),
        "c": lif((6, *side), threshold, steps=2.0, gain=gain),
        "d": conv(rng.integers(-60, 61, (3, 6, 1, 1)) / 512, side, 0.03125),
        "output": nir.Output({"output": np.array([3, *side])}),
    }
    edges = [("input", "head"), ("head", "a"), ("a", "b"), ("b", "c"), ("head", "c"), ("c", "d"), ("d", "output")]
    layers = json.dumps({name: name for name in ("a", "c")})
    return nir.NIRGraph(nodes, edges, metadata={"layers": layers})


def saved(graph: nir.NIRGraph, path: Path) -> Path:
    path.write_bytes(serialise(graph))
    return path


@pytest.mark.parametrize("seed", ["student", 0, 1, 2, 3])
def test_what_the_exporter_wrote_comes_back_to_the_bit(seed, tmp_path):
    bundle = untrained(width=6, dilations=(2, 1)) if seed == "student" else random_body(seed)
    write_bundle(tmp_path / "before.safetensors", bundle.graph, bundle.tensors, META)
    written(bundle, tmp_path / "a.nir")
    out = tmp_path / "after.safetensors"
    assert main([str(tmp_path / "a.nir"), "--ends", str(tmp_path / "before.safetensors"), "--out", str(out)]) == 0
    after = read_bundle(out)
    image = random_image(np.random.default_rng(1), 15, 22, 3)
    one, other = Network(bundle, "reference"), Network(after, "reference")
    assert np.array_equal(one.run(image).image, other.run(image).image)
    traces = one.trace(image), other.trace(image)
    neurons = [node.name for node in bundle.graph.nodes if node.kind == "lif"]
    assert all(traces[0][name] == traces[1][name] for name in neurons)
    if seed == "student":
        assert all(np.array_equal(after.tensors[name], tensor) for name, tensor in bundle.tensors.items())


@pytest.mark.parametrize(("gain", "threshold"), [(1.0, 0.5), (0.25, 0.75), (1.0, 0.5 + 2.0**-14)])
def test_a_graph_made_by_hand_gives_the_spikes_and_the_pixels_of_nirs_equation(gain, threshold, tmp_path):
    path = saved(by_hand(gain, threshold), tmp_path / "hand.nir")
    graph, tensors, rounding = convert(read_file(path), Reading(4, DT, grid=9))
    assert rounding == 0
    pixels = random_image(np.random.default_rng(2), 8, 10, 3).transpose(2, 0, 1)
    spikes, leaving = run(path.read_bytes(), "NIRTorch", (pixels[None].astype(np.float32) - 128) / 128, 4)
    seen = observed(graph, tensors, pixels.astype(np.int16) - 128)
    for layer in ("a", "c"):
        assert 0.02 < spikes[layer].mean() < 0.98
        assert np.array_equal(seen[layer], spikes[layer])
    change = np.floor(128 * leaving.astype(np.float64).mean(0) + 0.5)
    assert np.array_equal(seen["readout"][0], np.clip(pixels + change, 0, 255))


def test_a_bundle_made_of_a_file_runs_on_every_backend(tmp_path):
    saved(by_hand(), tmp_path / "hand.nir")
    out = tmp_path / "hand.safetensors"
    assert main([str(tmp_path / "hand.nir"), "--time-steps", "4", "--out", str(out)]) == 0
    check(read_bundle(out), random_image(np.random.default_rng(3), 13, 18, 3))


def test_a_network_that_snntorch_wrote_gives_its_spikes(tmp_path):
    import snntorch
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3, padding=1),
        # With one number for all neurons, snnTorch writes files that NIR's own check refuses.
        snntorch.Leaky(
            torch.full((5, 9, 11), 0.75), threshold=torch.full((5, 9, 11), 0.25), init_hidden=True,
            reset_mechanism="zero", reset_delay=False,
        ),
        torch.nn.Conv2d(5, 3, 1),
    )  # fmt: skip
    for layer in (network[0], network[2]):
        for parameter in layer.parameters():
            parameter.data = torch.round(parameter.data * 256) / 256
    pixels = random_image(np.random.default_rng(4), 9, 11, 3).transpose(2, 0, 1)
    x = (torch.from_numpy(pixels.astype(np.float32)) - 128)[None] / 128
    graph = export_to_nir(network, x, model_name="snn", ignore_dims=[0])
    path = saved(graph, tmp_path / "snn.nir")
    bundle_graph, tensors, rounding = convert(read_file(path), Reading(4, DT, grid=9, readout="sum"))
    assert rounding == 0
    utils.reset(network)
    seen = observed(bundle_graph, tensors, pixels.astype(np.int16) - 128)
    neurons = next(node.name for node in bundle_graph.nodes if node.kind == "lif")
    with torch.no_grad():
        total = 0
        for t in range(4):
            spikes = network[1](network[0](x))
            assert np.array_equal(seen[neurons][t], spikes[0].numpy())
            total = total + network[2](spikes)[0].double().numpy()
    assert np.array_equal(seen["readout"][0], np.clip(pixels + np.floor(128 * total + 0.5), 0, 255))


def test_weights_off_every_grid_are_rounded_and_it_is_said(tmp_path, capsys):
    graph = by_hand()
    graph.nodes["b"].weight = graph.nodes["b"].weight + np.float32(0.3) * 2**-9
    saved(graph, tmp_path / "a.nir")
    arguments = [str(tmp_path / "a.nir"), "--time-steps", "4", "--out", str(tmp_path / "a.safetensors")]
    assert main(arguments) == 0
    assert "Numbers were rounded, by 0.0005" in capsys.readouterr().out


# ---- files that are no good


def changed(change: Callable[[nir.NIRGraph], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        graph = by_hand()
        change(graph)
        saved(graph, path)

    return write


def edited(edit: Callable[[h5py.Group], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        saved(by_hand(), path)
        with h5py.File(path, "r+") as file:
            edit(file["node"])

    return write


def put(name: str, part: str, value: object) -> Callable[[h5py.Group], None]:
    def edit(group: h5py.Group) -> None:
        own = group["nodes"][name]
        del own[part]
        own[part] = value

    return edit


def outside(group: h5py.Group) -> None:
    del group["nodes"]["a"]["r"]
    group["nodes"]["a"].create_dataset("r", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def elsewhere(link: object) -> Callable[[h5py.Group], None]:
    def edit(group: h5py.Group) -> None:
        del group["nodes"]["a"]["r"]
        group["nodes"]["a"]["r"] = link

    return edit


def enormous(group: h5py.Group) -> None:
    del group["nodes"]["b"]["weight"]
    group["nodes"]["b"].create_dataset("weight", (MOST_NUMBERS, 2**20, 3, 3), "f4", chunks=True, compression="gzip")


def wide(group: h5py.Group) -> None:
    """Words that are nothing in the file and many gigabytes in memory."""
    del group["edges"]
    group.create_dataset("edges", (8000, 2), "S1000000", chunks=(1, 2), compression="gzip")


def edge(*ends: str) -> Callable[[h5py.Group], None]:
    def edit(group: h5py.Group) -> None:
        edges = [tuple(end.decode() for end in pair) for pair in group["edges"][()]] + [ends]
        del group["edges"]
        group["edges"] = np.array(edges, h5py.string_dtype())

    return edit


def replace_node(name: str, node: nir.NIRNode) -> Callable[[nir.NIRGraph], None]:
    return lambda graph: graph.nodes.__setitem__(name, node)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is not a NIR file"),
    "garbage": (lambda path: path.write_bytes(bytes(range(256)) * 9), "is not a NIR file"),
    "another HDF5 file": (lambda path: h5py.File(path, "w").close(), "lacks 'node'"),
    "missing": (lambda path: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "does not exist or is not a file"),
    "data in another file": (edited(outside), "another file"),
    "a link to another file": (edited(elsewhere(h5py.ExternalLink("/etc/passwd", "/"))), "has a link"),
    "a link": (edited(elsewhere(h5py.SoftLink("/node/nodes/c/r"))), "has a link"),
    "enormous": (edited(enormous), "more than"),
    "words too long": (edited(wide), "words of 1000000 letters"),
    "no data at all": (edited(put("a", "r", h5py.Empty("f8"))), "'r' is empty"),
    "a cycle": (edited(edge("c", "b")), "cycle"),
    "an edge to nowhere": (edited(edge("c", "nowhere")), "'nowhere', which is no node"),
    "an edge twice": (edited(edge("c", "d")), "the same"),
    "an edge into the Input": (edited(edge("output", "input")), "cycle"),
    "spikes and currents in one sum": (edited(edge("a", "c")), "spikes"),
    "numbers for a type": (edited(put("a", "type", 3)), "no type"),
    "a word for numbers": (edited(put("a", "tau", "x")), "tau is neither"),
    "no numbers": (edited(put("b", "bias", np.zeros(0))), "bias is not an array"),
    "not a number": (edited(put("b", "bias", np.full(6, np.nan))), "not finite"),
    "infinite": (edited(put("a", "r", np.full((6, 8, 10), np.inf))), "not finite"),
    "a bias beyond all": (edited(put("b", "bias", np.full(6, 1e308))), "larger than"),
    "a threshold beyond all": (edited(put("a", "v_threshold", np.full(6, 1e300))), "larger than"),
    "next to no time": (edited(put("a", "tau", np.full(6, 1e-320))), "must be above 0"),
    "half a channel": (edited(put("input", "shape", np.array([3.5, 8, 10]))), "3.5 channels"),
    "a negative time": (edited(put("a", "tau", np.full(6, -1e-4))), "must be above 0"),
    "too few numbers": (edited(put("a", "v_threshold", np.ones(4))), "as many numbers as channels"),
    "a padding in words": (edited(put("b", "padding", "same")), "is the word 'same'"),
    "half a stride": (edited(put("b", "stride", 1.5)), "stride is 1.5"),
    "groups that do not fit": (edited(put("b", "groups", 4)), "groups"),
    "kernel and padding that do not fit": (edited(put("b", "padding", 1)), "less 2 padding"),
    "another leak": (changed(replace_node("a", lif((6, 8, 10), steps=3.0))), "its tau is 3 steps"),
    "another reset": (edited(put("a", "v_reset", np.full((6, 8, 10), 0.1))), "v_reset is not 0"),
    "another threshold everywhere": (
        edited(put("a", "v_threshold", np.arange(1, 481).reshape(6, 8, 10))), "differs within a channel",
    ),
    "another kind of node": (edited(put("a", "type", "CubaLIF")), "'a' \\(CubaLIF\\): Input, Output, Conv2d and LIF"),
    "an Output too many": (edited(put("d", "type", "Output")), "2 Output nodes"),
    "other channels than a picture": (edited(put("input", "shape", np.array([5, 8, 10]))), "5 channels.*--ends"),
    "weights too large": (edited(put("b", "weight", np.full((6, 6, 3, 3), 1e6))), "too large"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_answered_with_one_sentence(name, tmp_path, capsys):
    write, sentence = BAD[name]
    path = tmp_path / "bad.nir"
    write(path)
    with pytest.raises(ExportError, match=sentence):
        convert(read_file(path), Reading(4))
    assert main([str(path), "--time-steps", "4", "--out", str(tmp_path / "out.safetensors")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("export.from_nir: ") and error.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_nodes_with_long_names_that_differ_at_the_end_stay_apart(tmp_path):
    graph = by_hand()
    names = {"a": "n" * 100 + "1", "b": "n" * 100 + "2"}
    graph.nodes = {names.get(name, name): node for name, node in graph.nodes.items()}
    graph.edges = [(names.get(a, a), names.get(b, b)) for a, b in graph.edges]
    graph.metadata = {}
    saved(graph, tmp_path / "long.nir")
    file = read_file(tmp_path / "long.nir")
    assert set(names.values()) <= {node.name for node in file.in_order()}
    convert(file, Reading(4))


def test_damaged_files_are_read_or_refused(tmp_path):
    content = serialise(by_hand())
    rng, path, refused = np.random.default_rng(0), tmp_path / "damaged.nir", 0
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), int(rng.integers(1, 12))):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged[: int(rng.integers(len(content) // 2, len(content) + 1))])
        try:
            convert(read_file(path), Reading(4))
        except ExportError:
            refused += 1
    assert refused > 20


def test_time_that_neither_file_nor_command_says_is_asked_for(tmp_path, capsys):
    saved(by_hand(), tmp_path / "a.nir")
    assert main([str(tmp_path / "a.nir")]) == 2
    assert "pass --time-steps N" in capsys.readouterr().err
    for options in (["--grid", "99"], ["--dt", "0"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "a.nir"), *options])
    assert main([str(tmp_path / "a.nir"), "--time-steps", "3"]) == 2
    assert "a power of two" in capsys.readouterr().err
