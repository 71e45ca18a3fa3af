"""Every backend against the reference, bit for bit: reference = Numba = PyTorch = ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from export.checks import check_image
from export.compare import restorer
from export.files import ExportError
from simulator.analysis import FLOAT_LIMIT, analyse
from simulator.builder import Builder
from simulator.bundle import Bundle, read_bundle
from simulator.graph import Graph, GraphError
from simulator.kinds import KINDS
from simulator.kinds.attend import window_sums
from simulator.random_networks import USUAL, random_network
from simulator.trace import first_difference
from tests.conformance.agreement import NOT_IN_EVERY_BACKEND, bundled, check, guaranteed
from tests.simulator.networks import observed, random_image
from train.architectures import edge, nir, paper
from train.student import Student

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*.safetensors"))
SAMPLES = ROOT / "edge" / "samples"
SEEDS = (*range(24), 26, 41, 48, 53)  # together they have everything; a test says so


def extreme_image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Nothing but black and white, in patches and alone."""
    coarse = rng.integers(0, 2, (-(-height // 4), -(-width // 4), 3)).repeat(4, 0).repeat(4, 1)[:height, :width]
    alone = rng.random((height, width, 3)) < 0.3
    return np.where(alone, 1 - coarse, coarse).astype(np.uint8) * 255


def largest_pooled_sum(bundle: Bundle, image: np.ndarray) -> int:
    """Of the magnitudes that any attend node sums on this image, the largest sum: no partial sum is larger."""
    rows, columns = bundle.analysis.padded(*image.shape[:2])
    padded = np.pad(image, ((0, rows - image.shape[0]), (0, columns - image.shape[1]), (0, 0)), mode="edge")
    values = observed(bundle.graph, bundle.tensors, padded.transpose(2, 0, 1).astype(np.int16) - 128)
    largest = 0
    for node in bundle.graph.nodes:
        if node.kind == "attend":
            x = np.abs(values[node.inputs[0]])
            over = x.sum(0 if node["over"] == "channel" else 1)
            largest = max(largest, int(window_sums(over, node["window"]).max()))
    return largest


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_agree_in_every_layer_and_step(seed, report):
    graph, tensors = random_network(seed)
    bundle = bundled(graph, tensors)
    rng = np.random.default_rng([1, seed])
    height, width = (int(side) for side in rng.integers(1, 40, 2))
    report(bundle.analysis)
    check(bundle, random_image(rng, height, width, 3))
    check(bundle, extreme_image(rng, height, width))


@pytest.mark.parametrize("kind", KINDS)
def test_networks_around_a_kind_agree_in_every_layer_and_step(kind, report):
    """A backend that a new kind has not reached yet refuses it by name."""
    bundle = bundled(*random_network(1, kind))
    rng = np.random.default_rng(2)
    try:
        check(bundle, random_image(rng, 19, 27, 3))
        check(bundle, extreme_image(rng, 27, 19))
    except (GraphError, ExportError) as refusal:
        if kind not in NOT_IN_EVERY_BACKEND or repr(kind) not in str(refusal):
            raise
    report(bundle.analysis)


LATER = [*(("conv", seed) for seed in (3, 6, 7, 12)), *(("lif", seed) for seed in (3, 5, 8, 9))]


@pytest.mark.parametrize(("kind", "seed"), LATER)
def test_networks_with_later_attributes_agree_in_every_layer_and_step(kind, seed, report):
    bundle = bundled(*random_network(seed, kind))
    report(bundle.analysis)
    check(bundle, random_image(np.random.default_rng(seed), 22 + seed, 17, 3))


def test_these_networks_have_every_later_attribute():
    nodes = [node for kind, seed in LATER for node in random_network(seed, kind)[0].nodes]
    convolutions, neurons = ([node for node in nodes if node.kind == kind] for kind in ("conv", "lif"))
    assert {node["stride"] for node in convolutions if node["dilation"] > 1} == {1, 2}
    assert any(node["groups"] > 1 for node in convolutions if node["dilation"] > 1)
    assert {node["limit"] for node in convolutions} == {127, 2048}
    for name in ("fine", "shared", "above"):
        assert {bool(node[name]) for node in neurons} == {False, True}
    assert {(node["leak"], node["reset"]) for node in neurons if node["fine"]} == {
        (leak, reset) for leak in ("shift", "decay") for reset in ("zero", "subtract")
    }


def variants(graph: Graph) -> set[str]:
    """In words, what a graph has of the things that a backend could get wrong."""
    values = analyse(graph).values
    found = set()
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        when = "static" if all(v.static for v in inputs) else "mixed" if any(v.static for v in inputs) else "steps"
        found.add(f"{node.kind}, {when}" if node.kind in ("sum", "concat", "lif") else node.kind)
        found |= {f"{node.kind}, {node[key]}" for key in ("mode", "leak", "reset") if key in node.attrs}
        if node.kind == "attend":
            found.add(f"attend over {node['over']}, {when}, {'window' if node['window'] > 1 else 'pixel'}")
        if node.kind in ("conv", "dense_conv"):
            found.add(
                f"{node.kind}, {'strided' if node['stride'] > 1 else 'grouped' if node['groups'] > 1 else 'plain'}"
            )
        if node.kind in ("sum", "concat") and len({v.q for v in inputs}) > 1:
            found.add(f"{node.kind}, different grids, {when}")
        if node.kind in ("concat", "upsample"):
            found.add(f"{node.kind} of {'spikes' if inputs[0].spikes else 'real values'}")
    return found


def test_the_random_networks_have_every_kind_of_node_in_every_variant():
    found = set().union(*(variants(random_network(seed)[0]) for seed in SEEDS))
    expected = set(USUAL) - {"sum", "concat", "lif"}
    expected |= {f"{kind}, {when}" for kind in ("sum", "concat") for when in ("static", "steps", "mixed")}
    expected |= {f"{kind}, different grids, mixed" for kind in ("sum", "concat")}
    expected |= {f"{kind}, {form}" for kind in ("conv", "dense_conv") for form in ("plain", "grouped", "strided")}
    expected |= {f"{kind} of {what}" for kind in ("concat", "upsample") for what in ("spikes", "real values")}
    expected |= {"lif, static", "lif, steps", "lif, shift", "lif, decay", "lif, zero", "lif, subtract"}
    expected |= {"upsample, nearest", "upsample, depth_to_space"}
    expected |= {
        f"attend over {over}, {when}, {size}"
        for over in ("time", "channel", "space") for when in ("static", "steps") for size in ("window", "pixel")
    }  # fmt: skip
    assert expected - found == set()


@pytest.mark.parametrize(
    ("graph", "leak", "threshold"),
    [
        pytest.param(paper((8, 12, 16, 20)), 1, 0.15, id="paper, narrow"),
        pytest.param(edge((16, 16, 16, 16), attention=True), 2, 0.4, id="edge with attention"),
        pytest.param(
            edge((16, 16, 16, 16), attention=True, neuron="window"), 2, 0.4, id="edge with window neurons and attention"
        ),
        pytest.param(edge((16, 16, 16, 16), block="full", reset="zero", leak="shift"), 1, 0.3, id="edge, full blocks"),
        pytest.param(nir(16, (1, 4)), 2, 0.5, id="nir"),
    ],
)
def test_students_agree_before_any_training(graph, leak, threshold, report):
    student = Student(graph, leak=leak, threshold=threshold)
    student.rounded = True
    bundle = bundled(graph, student.freeze())
    report(bundle.analysis)
    check(bundle, check_image())
    # The paper's attention sums over such wide windows that its bounds pass 2^24; on a small picture the sums do not.
    small = check_image(23, 31)
    assert largest_pooled_sum(bundle, small) < FLOAT_LIMIT
    check(bundle, small, everywhere=True)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("picture", ["noisy", "clean"])
def test_shipped_bundles_agree_on_a_photograph(path, picture, report):
    image = cv2.imread(str(SAMPLES / f"{picture}.png"))[100:211, 200:329, ::-1]
    bundle = read_bundle(path)
    report(bundle.analysis)
    check(bundle, np.ascontiguousarray(image))


def at_the_limit(time_steps: int, shift: int) -> tuple[Graph, dict[str, np.ndarray], np.ndarray]:
    """A network whose first convolution and its rounding come as close to 2^24 as can be, and the picture for it."""
    b = Builder(time_steps)
    x = b.dense_conv("head", b.image(), 3, 7, q=4, bias=True)
    x = b.requantise("round", x, shift, 1 << 24)
    y = b.conv("conv", b.lif("lif", x, "decay", "subtract"), 3, 1, q=7)
    graph = b.finish(b.time_sum("total", y))
    rng = np.random.default_rng([time_steps, shift])
    tensors = {name: np.zeros(shape, np.int32) for name, shape in analyse(graph).shapes.items()}
    weight = tensors["head.weight"]
    weight[:] = rng.choice([-1, 1], weight.shape) * rng.integers(700, 820, weight.shape)
    # A picture that follows the signs of channel 0's weights: 127 where they are positive, -128 where they are not.
    picture = np.where(weight[0] > 0, 255, 0).astype(np.uint8).transpose(1, 2, 0)
    bound = FLOAT_LIMIT - 1 - ((1 << shift) >> 1)
    tensors["head.bias"][:] = bound - np.where(weight > 0, 127 * weight, -128 * weight).sum((1, 2, 3))
    tensors["lif.threshold"][:] = (bound >> shift) - 1
    tensors["lif.leak"][:] = 1
    tensors["conv.weight"][:] = rng.integers(-40, 41, tensors["conv.weight"].shape)
    return graph, tensors, picture


@pytest.mark.parametrize(("time_steps", "shift"), [(1, 0), (1, 3), (2, 1), (4, 2)])
def test_float_backends_are_exact_up_to_the_last_bound_below_two_to_the_24(time_steps, shift):
    graph, tensors, picture = at_the_limit(time_steps, shift)
    bundle = bundled(graph, tensors)
    assert max(bundle.analysis.bounds.values()) == FLOAT_LIMIT - 1
    assert len(guaranteed(bundle.analysis)) == len(graph.nodes)
    middle = observed(graph, tensors, picture.transpose(2, 0, 1).astype(np.int16) - 128)["head"][0, 0, 3, 3]
    assert middle == bundle.analysis.bounds["head"]
    for image in (picture, 255 - picture, extreme_image(np.random.default_rng(0), 9, 8)):
        check(bundle, image)


def test_a_mismatch_names_the_layer_and_the_step():
    graph, tensors = random_network(3)
    spiking = next(node.name for node in graph.nodes if node.kind == "lif")
    changed = {name: tensor.copy() for name, tensor in tensors.items()}
    changed[f"{spiking}.threshold"] += 40
    image = check_image()
    one, other = (restorer("torch", bundled(graph, t)).trace(image) for t in (tensors, changed))
    place = first_difference(one, other)
    assert place is not None and place.startswith(f"layer {spiking!r}, step ")
