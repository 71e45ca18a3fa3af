"""The C core against the reference, bit for bit: pixels, spikes, SyOps, MACs, every layer at every step."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from firmware_bridge import native
from firmware_bridge.counts import COUNTS
from firmware_bridge.native import STATUSES, Core, CoreError
from firmware_bridge.plan import PlanError, compile_bundle, compile_plan
from firmware_bridge.tiles import Tile
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import Bundle, read_bundle
from simulator.kinds import KINDS
from simulator.network import Network
from simulator.random_networks import USUAL, narrow_paper_network, random_network, random_tensors
from simulator.statistics import Population
from simulator.trace import first_difference
from tests.conformance.agreement import NOT_IN_EVERY_BACKEND, bundled
from tests.firmware_bridge.native_network import NativeNetwork
from tests.simulator.networks import observed, random_image, small_network

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*.safetensors"))
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.safetensors"))
CAMERA = ROOT / "edge" / "bundles" / "denoise-camera.safetensors"
SEEDS = (*range(24), 26, 41, 48, 53)  # of tests/conformance: together they have every kind in every variant


def photograph(height: int, width: int) -> np.ndarray:
    picture = cv2.imread(str(ROOT / "edge" / "samples" / "noisy.png"))
    return np.ascontiguousarray(picture[100 : 100 + height, 200 : 200 + width, ::-1])


def check(bundle: Bundle, image: np.ndarray) -> None:
    reference, core = Network(bundle, "reference"), NativeNetwork(bundle)
    place = first_difference(reference.trace(image), core.trace(image))
    assert place is None, f"reference and C core differ at {place}"
    expected, found = reference.run(image), core.run(image)
    assert np.array_equal(found.image, expected.image), "the C core differs where nodes are fused"
    assert found.stats.layers == expected.stats.layers


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_bundles_agree_on_a_photograph(path):
    check(read_bundle(path), photograph(43, 58))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_agree_in_every_layer_and_step(seed):
    bundle = bundled(*random_network(seed))
    rng = np.random.default_rng([2, seed])
    check(bundle, random_image(rng, 1, 1, 3))
    check(bundle, random_image(rng, *(int(side) for side in rng.integers(1, 34, 2)), 3))


@pytest.mark.parametrize("kind", KINDS)
def test_networks_around_a_kind_agree_in_every_layer_and_step(kind):
    """A new kind that has no form in the device plan yet is refused by name."""
    bundle = bundled(*random_network(1, kind))
    try:
        compile_bundle(bundle)
    except PlanError as refusal:
        if kind not in NOT_IN_EVERY_BACKEND or repr(kind) not in str(refusal):
            raise
        return
    check(bundle, random_image(np.random.default_rng(2), 19, 27, 3))


@pytest.mark.parametrize("seed", range(16))
def test_networks_of_window_neurons_agree_in_every_layer_and_step(seed):
    bundle = bundled(*random_network(seed, "window"))
    rng = np.random.default_rng([4, seed])
    check(bundle, random_image(rng, 1, 1, 3))
    image = random_image(rng, *(int(side) for side in rng.integers(1, 34, 2)), 3)
    check(bundle, image)
    expected, found = Network(bundle, "reference").run(image), NativeNetwork(bundle).run(image, by_rows=True)
    assert np.array_equal(found.image, expected.image) and found.stats.layers == expected.stats.layers


@pytest.mark.parametrize("seed", range(2, 10))
@pytest.mark.parametrize("kind", ["conv", "lif"])
def test_taps_apart_and_finer_membranes_agree_also_by_rows(kind, seed):
    bundle = bundled(*random_network(seed, kind))
    image = random_image(np.random.default_rng(seed), 23 + seed, 31, 3)
    check(bundle, image)
    expected, found = Network(bundle, "reference").run(image), NativeNetwork(bundle).run(image, by_rows=True)
    assert np.array_equal(found.image, expected.image) and found.stats.layers == expected.stats.layers


@pytest.mark.parametrize("kind", ["lif", "window"])
def test_rows_with_more_events_than_16_bits_can_number_agree(kind):
    """1,024 channels in 70 columns: the numbers of columns start again at the 65th."""
    b = Builder(2, grid=8)
    x = b.requantise("round", b.dense_conv("wide", b.image(), 1024, 1, q=8), 7, 1 << 7)
    x = b.conv("conv", getattr(b, kind)("neurons", x), 3, 3)
    graph = b.finish(b.requantise("out", b.time_sum("sum", x), 1, 1 << 10))
    bundle = bundled(graph, random_tensors(graph, np.random.default_rng(0), 50))
    check(bundle, random_image(np.random.default_rng(1), 3, 70, 3))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_networks_agree(path):
    check(read_bundle(path), photograph(19, 27))


def test_the_random_networks_have_every_kind_of_node():
    assert {node.kind for seed in SEEDS for node in random_network(seed)[0].nodes} == set(USUAL)


def test_the_papers_architecture_agrees():
    check(bundled(*narrow_paper_network()), photograph(17, 22))


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 4)])
def test_grayscale_and_alpha_are_handled_as_the_simulator_does(shape):
    bundle = bundled(*small_network())
    image = random_image(np.random.default_rng(0), *shape)
    assert np.array_equal(NativeNetwork(bundle).run(image).image, Network(bundle, "reference").run(image).image)


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.stem == "denoise"], ids=["denoise"])
def test_tiles_give_the_pixels_and_counts_of_the_whole_image(path):
    network = NativeNetwork(read_bundle(path))
    image = photograph(150, 161)
    whole, tiled = network.run(image), network.run(image, tile=64)
    assert np.array_equal(tiled.image, whole.image)
    assert tiled.stats.layers == whole.stats.layers


@pytest.mark.parametrize("seed", (3, 7, 11, 15))
def test_tiles_of_random_networks_agree(seed):
    bundle = bundled(*random_network(seed))
    network, align = NativeNetwork(bundle), bundle.analysis.align
    image = random_image(np.random.default_rng(seed), 3 * align + 1, 2 * align + 3, 3)
    expected, found = Network(bundle, "reference").run(image), network.run(image, tile=align)
    assert np.array_equal(found.image, expected.image)
    assert found.stats.layers == expected.stats.layers


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "every node"])
@pytest.mark.parametrize("seed", SEEDS)
def test_by_rows_and_at_once_give_the_same(seed, fuse):
    graph, tensors = random_network(seed)
    analysis = analyse(graph, tensors)
    core, rng = Core(compile_plan(analysis, tensors, fuse=fuse).data), np.random.default_rng([3, seed])
    for height, width in ((1, 1), (int(rng.integers(1, 90)), int(rng.integers(1, 20))), (5 * analysis.align + 3, 7)):
        image = random_image(rng, height, width, 3)
        expected, found = core.run(image), core.run(image, by_rows=True)
        assert np.array_equal(found.image, expected.image) and np.array_equal(found.counts, expected.counts)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_bundles_by_rows_agree_on_a_tall_photograph(path):
    bundle, image = read_bundle(path), photograph(190, 37)
    expected, found = Network(bundle).run(image), NativeNetwork(bundle).run(image, by_rows=True)
    assert np.array_equal(found.image, expected.image)
    assert found.stats.layers == expected.stats.layers


def test_a_trace_of_a_run_by_rows_is_refused_and_so_is_an_unknown_mode():
    graph, tensors = small_network()
    core = Core(compile_plan(analyse(graph, tensors), tensors).data)
    with pytest.raises(CoreError, match="SNN_MODE"):
        core.run(np.zeros((4, 4, 3), np.uint8), trace=True, by_rows=True)
    with pytest.raises(CoreError, match="SNN_MODE"):
        core.memory_size(Tile.whole(4, 4), by_rows=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "kind"), [*((seed, None) for seed in (0, 3, 7, 12, 26)), *((seed, "window") for seed in range(4))]
)
def test_a_probe_shows_any_step_and_channel_of_any_layer(seed, kind):
    graph, tensors = random_network(seed, kind)
    analysis = analyse(graph, tensors)
    rows, columns = analysis.padded(13, 10)
    image = random_image(np.random.default_rng(seed), rows, columns, 3)
    core = Core(compile_plan(analysis, tensors, fuse=False).data)
    values = observed(graph, tensors, image.transpose(2, 0, 1).astype(np.int16) - 128)
    for layer, node in enumerate(graph.nodes[:-1]):
        value = values[node.name]
        for step, channel in {(0, 0), (value.shape[0] - 1, value.shape[1] - 1)}:
            assert np.array_equal(core.look(image, layer, step, channel), value[step, channel].ravel()), node.name
        assert core.look(image, layer, value.shape[0], 0).size == 0
        assert core.look(image, layer, 0, value.shape[1]).size == 0


def test_a_probe_without_room_for_the_layer_is_left_alone():
    graph, tensors = small_network()
    core = Core(compile_plan(analyse(graph, tensors), tensors, fuse=False).data)
    numbers = np.full(4, -7, np.int32)
    probe = native._Probe(0, 0, 0, numbers.ctypes.data, 3)
    core.run(np.zeros((2, 2, 3), np.uint8), probe=probe)
    assert probe.count == 0 and (numbers == -7).all()


def test_a_tile_that_is_no_multiple_of_the_alignment_is_refused():
    with pytest.raises(ValueError, match="multiples of 2 pixels"):
        NativeNetwork(bundled(*small_network())).run(np.zeros((8, 8, 3), np.uint8), tile=3)


def test_macs_are_counted_by_the_core_and_equal_the_simulators():
    graph, tensors = narrow_paper_network()
    analysis = analyse(graph, tensors)
    counts = Core(compile_plan(analysis, tensors).data).run(np.zeros((13, 18, 3), np.uint8)).counts
    expected = Population(analysis, 13, 18).layers(*({node.name: 0 for node in graph.nodes} for _ in range(2)))
    found = dict(zip((node.name for node in graph.nodes), counts["macs"], strict=True))
    assert {layer.name: layer.macs for layer in expected} == {layer.name: found[layer.name] for layer in expected}


class Job:
    """One call of snn_run with memory of one's own."""

    def __init__(self, data: bytes, image: np.ndarray, memory_bytes: int | None = None, fill: int = 0):
        self.core, self.tile = Core(data), Tile.whole(*image.shape[:2])
        self.size = self.core.memory_size(self.tile) if memory_bytes is None else memory_bytes
        self.guarded = native._aligned(self.size + 64)
        self.guarded[:] = fill
        self.restored = image.copy()  # restored in place
        self.counts = np.zeros(self.core.layers, COUNTS)

    def run(self, poll: object = None, offset: int = 0) -> str:
        job = native._Job(
            0, self.restored.ctypes.data, self.restored.ctypes.data, self.guarded.ctypes.data + offset, self.size,
            self.counts.ctypes.data, None, ctypes.cast(poll, ctypes.c_void_p) if poll else None, None,
        )  # fmt: skip
        tile = native._Tile(*self.tile.fields())
        return STATUSES[native._library().snn_run(ctypes.byref(self.core._plan), tile, ctypes.byref(job))]


@pytest.mark.parametrize("seed", (0, 2, 5, 12))
def test_results_depend_neither_on_what_was_in_memory_nor_on_separate_pictures(seed):
    graph, tensors = random_network(seed)
    data = compile_plan(analyse(graph, tensors), tensors).data
    image = random_image(np.random.default_rng(seed), 13, 9, 3)
    expected = Core(data).run(image)
    for fill in (0, 0x5A, 0xFF):
        job = Job(data, image, fill=fill)
        assert job.run() == "SNN_OK"
        assert np.array_equal(job.restored, expected.image) and np.array_equal(job.counts, expected.counts)
        assert (job.guarded[job.size :] == fill).all()


def test_too_little_or_misaligned_memory_is_refused():
    graph, tensors = small_network()
    data, image = compile_plan(analyse(graph, tensors), tensors).data, np.zeros((6, 6, 3), np.uint8)
    enough = Job(data, image).size
    assert Job(data, image, enough - 1).run() == "SNN_MEMORY"
    assert Job(data, image).run(offset=4) == "SNN_ALIGNMENT"


def test_the_caller_can_stop_a_run_after_any_row():
    graph, tensors = small_network()
    data, image = compile_plan(analyse(graph, tensors), tensors).data, np.zeros((6, 6, 3), np.uint8)
    rows: list[int] = []
    count = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _: rows.append(1) or 0)
    assert Job(data, image).run(count) == "SNN_OK"
    for last in (0, 1, len(rows) - 1):
        left = iter([0] * last)
        stop = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _, left=left: next(left, 1))
        assert Job(data, image).run(stop) == "SNN_STOPPED"


def test_every_status_has_its_name():
    name = native._library().snn_status_name
    name.restype = ctypes.c_char_p
    assert tuple(name(i).decode() for i in range(len(STATUSES) + 1)) == (*STATUSES, "unknown")


@pytest.mark.parametrize(
    "change",
    [
        {"image_height": 0, "height": 0, "inner_height": 0},
        {"height": 9},
        {"height": 31},  # neither at the image's edge nor a multiple of the stride
        {"top": 8, "height": 24, "inner_top": 16, "inner_height": 16},
        {"top": 16, "height": 16},  # the inner part begins before the tile
        {"inner_height": 0},
        {"inner_height": 20},
        {"inner_top": 8, "inner_height": 24},
        {"image_height": 1 << 21, "height": 32},
        {"top": (1 << 32) - 16, "inner_top": (1 << 32) - 16},
        {"width": (1 << 32) - 1},
    ],
)
def test_tiles_that_make_no_sense_are_refused(change):
    core = Core(compile_bundle(read_bundle(CAMERA)).data)
    sound = Tile.whole(48, 40)
    assert core.memory_size(replace(sound, height=32, inner_height=32)) > 0
    with pytest.raises(CoreError, match="SNN_SIZE"):
        core.memory_size(replace(sound, **({"height": 32, "inner_height": 32} | change)))


def test_memory_beyond_the_machines_addresses_is_refused():
    core = Core(compile_bundle(read_bundle(CAMERA)).data)
    assert core.memory_size(Tile.whole(1 << 12, 1 << 12)) > 1 << 30
    try:
        core.memory_size(Tile.whole(1 << 20, 1 << 20))
    except CoreError as error:
        assert error.status == "SNN_TOO_LARGE"
