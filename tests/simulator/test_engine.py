"""The compiled engine against the reference: same bits for every kind of node, size, thread count and schedule."""

from __future__ import annotations

import os

import numba
import numpy as np
import numpy.typing as npt
import pytest

import simulator.engine
from simulator.analysis import INT16_LIMIT, Analysis, analyse
from simulator.builder import Builder
from simulator.engine import Engine, available_threads, lists, vectors
from simulator.engine import plan as engine_plan
from simulator.engine.layout import Layout
from simulator.engine.plan import build_plan
from simulator.graph import Graph
from simulator.network import Network
from simulator.random_networks import USUAL, Tensors, narrow_paper_network, random_network, random_tensors
from simulator.reference import Reference
from tests.conformance.agreement import bundled
from tests.simulator import networks

Pixels = npt.NDArray[np.int16]


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    return (np.random.default_rng(seed).integers(0, 256, (3, height, width)) - 128).astype(np.int16)


def assert_same(analysis: Analysis, tensors: Tensors, pixels: Pixels, engine: Engine | None = None) -> None:
    """Pixels and spike counts of the fused engine are the reference's."""
    expected, spikes = Reference(analysis, tensors).run_padded(pixels)
    restored, counted = (engine or Engine(analysis, tensors, 1)).run_padded(pixels)
    assert counted.keys() == spikes.keys()
    for name in spikes:
        np.testing.assert_array_equal(counted[name], spikes[name], name)
        assert counted[name].dtype == np.int32
    np.testing.assert_array_equal(restored, expected)
    assert restored.dtype == np.uint8


# Networks of the usual kinds, and such in which neurons that integrate before they fire stand beside the others.
RANDOM = [(None, seed) for seed in range(30)] + [("window", seed) for seed in range(30)]


@pytest.mark.parametrize(("kind", "seed"), RANDOM)
def test_every_node_equals_the_reference_on_random_networks(kind: str | None, seed: int) -> None:
    graph, tensors = random_network(seed, kind)
    analysis = analyse(graph, tensors)
    height, width = np.random.default_rng(seed).integers(1, 5, 2) * analysis.stride
    pixels = picture(height, width, seed)
    expected: dict[str, npt.NDArray[np.int64]] = {}
    Reference(analysis, tensors).run_padded(pixels, lambda name, value: expected.update({name: value.copy()}))
    seen = set()

    def compare(name: str, value: npt.NDArray[np.int64]) -> None:
        assert value.shape == expected[name].shape, name
        np.testing.assert_array_equal(value, expected[name], f"{name}: {graph.node(name)}")
        seen.add(name)

    engine = Engine(analysis, tensors, 1)
    engine.run_padded(pixels, compare)
    assert seen == expected.keys()
    assert_same(analysis, tensors, pixels, engine)


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in (None, "window") for seed in range(100, 115)])
@pytest.mark.parametrize("shape", [(24, 1), (1, 30)], ids=["tall", "wide"])
def test_long_pictures_go_round_the_rings_and_over_the_blocks(
    kind: str | None, seed: int, shape: tuple[int, int]
) -> None:
    graph, tensors = random_network(seed, kind)
    analysis = analyse(graph, tensors)
    assert_same(analysis, tensors, picture(shape[0] * analysis.stride, shape[1] * analysis.stride, seed))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator.engine, "available_threads", lambda: threads)
    for seed, kind in ((3, None), (11, None), (12, None), (3, "window"), (5, "window")):
        graph, tensors = random_network(seed, kind)
        analysis = analyse(graph, tensors)
        engine = Engine(analysis, tensors, threads)
        assert engine.threads == threads
        assert_same(analysis, tensors, picture(8 * analysis.stride, 2 * analysis.stride), engine)


def test_threads_are_limited_to_the_processors_there_are() -> None:
    graph, tensors = random_network(0)
    assert Engine(analyse(graph, tensors), tensors, 5000).threads == available_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_narrow_paper_network_with_real_valued_shortcuts_and_attention(steps: int) -> None:
    graph, tensors = narrow_paper_network(time_steps=steps)
    analysis = analyse(graph, tensors)
    engine = Engine(analysis, tensors, 1)
    for height, width in ((2, 2), (6, 10), (38, 22)):
        assert_same(analysis, tensors, picture(height, width), engine)


def test_one_engine_takes_pictures_of_changing_size() -> None:
    graph, tensors = random_network(4)
    analysis = analyse(graph, tensors)
    engine = Engine(analysis, tensors, 1)
    for rows, columns in ((1, 1), (6, 5), (2, 9), (6, 5), (1, 1)):
        assert_same(analysis, tensors, picture(rows * analysis.stride, columns * analysis.stride), engine)


def test_one_pixel() -> None:
    b = Builder(time_steps=4)
    x = b.requantise("round", b.dense_conv("encode", b.image(), 16), 7, 1 << 12)
    x = b.sum("add", x, b.conv("conv", b.lif("lif", x), 16, 5))
    graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", x), 3, q=6))
    tensors = random_tensors(graph, np.random.default_rng(0))
    assert_same(analyse(graph, tensors), tensors, picture(1, 1))


def all_firing(weights: npt.NDArray[np.int64]) -> tuple[Graph, Tensors]:
    """A network whose 3x3 convolution over neurons that always fire has the given weights [C_out, C_in, 3, 3]."""
    c_out, c_in = weights.shape[:2]
    b = Builder(time_steps=2)
    x = b.lif("lif", b.dense_conv("encode", b.image(), c_in, 1))
    x = b.conv("conv", x, c_out, 3, q=14)
    b.lif("fires", x)
    x = b.requantise("round", x, 8, 1 << 10)
    graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", x), 3, 1, q=4))
    tensors = random_tensors(graph, np.random.default_rng(1))
    tensors["lif.threshold"][:] = 1
    tensors["lif.bias"][:] = 1 << 20
    tensors["conv.weight"] = weights.astype(np.int32)
    return graph, tensors


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("total", [INT16_LIMIT, INT16_LIMIT + 1])
def test_sums_that_reach_the_limit_of_int16_are_exact(total: int, sign: int) -> None:
    weights = np.zeros((32, 16, 3, 3), np.int64)
    flat = weights.reshape(32, -1)
    flat[:, : total // 2048] = 2048
    flat[:, total // 2048] = total % 2048
    graph, tensors = all_firing(sign * weights)
    analysis = analyse(graph, tensors)
    assert analysis.width("conv") == ("int16" if total == INT16_LIMIT else "int32")
    seen = {}
    Engine(analysis, tensors, 1).run_padded(picture(5, 5), lambda name, value: seen.update({name: value}))
    assert seen["lif"].all()
    assert seen["conv"][0, 0, 2, 2] == sign * total
    assert_same(analysis, tensors, picture(5, 5))


def test_neurons_of_16_bits_on_sums_that_need_32_on_the_way() -> None:
    b = Builder(time_steps=2)
    x = b.lif("lif", b.dense_conv("encode", b.image(), 32, 1))
    x = b.conv("conv", x, 16, 3, q=10, bias=True)
    x = b.conv("last", b.lif("fires", x, "shift", "zero"), 3, 1, q=9)
    graph = b.finish(b.time_sum("sum", x))
    tensors = random_tensors(graph, np.random.default_rng(2))
    tensors["conv.weight"] = np.random.default_rng(2).integers(0, 280, (16, 32, 3, 3)).astype(np.int32)
    tensors["conv.bias"][:] = -20_000
    tensors["fires.threshold"][:] = np.arange(1, 17) * 100
    tensors["fires.bias"][:] = 0
    tensors["fires.leak"][:] = 3
    analysis = analyse(graph, tensors)
    assert analysis.width("conv") == "int32" and analysis.width("fires") == "int16"
    assert_same(analysis, tensors, picture(9, 8))


def over_a_window(
    time_steps: int, weights: npt.NDArray[np.int64], groups: int = 1, stride: int = 1, rate: float = 0.3
) -> tuple[Graph, Tensors]:
    """A network with one convolution [C_out, C_in / groups, k, k] of the spikes of window neurons, which fire at about
    that share of the steps on pictures of noise."""
    c_out, c_in, kernel = len(weights), weights.shape[1] * groups, weights.shape[2]
    b = Builder(time_steps)
    x = b.window("before", b.dense_conv("encode", b.image(), c_in, 1))
    x = b.conv("conv", x, c_out, kernel, stride=stride, groups=groups, q=9, bias=True)
    x = b.sum("add", x, b.conv("again", b.window("after", x), c_out, 1, q=9))
    if stride > 1:
        x = b.upsample("back", x, stride)
    graph = b.finish(b.dense_conv("readout.conv", b.requantise("round", x, 4, 1 << 10), 3, 1, q=6))
    rng = np.random.default_rng(0)
    tensors = random_tensors(graph, rng)
    tensors["conv.weight"] = weights.astype(np.int32)
    tensors["before.threshold"][:] = rng.integers(1, 2000, c_in)
    tensors["before.bias"][:] = 0 if rate < 1 else 1 << 20
    tensors["after.threshold"][:] = rng.integers(1, max(2, 2 * int(np.abs(weights).sum((1, 2, 3)).max())), c_out)
    return graph, tensors


@pytest.mark.parametrize("time_steps", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "kernel", "stride"),
    [
        (32, 32, 1, 3, 1), (32, 32, 2, 3, 1), (64, 64, 1, 3, 1), (96, 96, 2, 3, 1), (128, 128, 4, 3, 1),
        (128, 64, 1, 3, 1), (32, 32, 1, 1, 1), (64, 64, 1, 1, 1), (96, 64, 1, 1, 1), (64, 96, 1, 2, 2),
        (48, 80, 1, 2, 2), (40, 24, 1, 5, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("large", [False, True], ids=["int16", "int32"])
def test_convolutions_over_a_window_equal_the_reference(
    time_steps: int, inputs: int, outputs: int, groups: int, kernel: int, stride: int, large: bool
) -> None:
    rng, shape = np.random.default_rng(0), (outputs, inputs // groups, kernel, kernel)
    most = max(1, 20_000 // (time_steps * inputs // groups * kernel**2))
    weights = rng.choice([-2048, 2047], shape, p=[0.2, 0.8]) if large else rng.integers(-most, most + 1, shape)
    graph, tensors = over_a_window(time_steps, weights, groups, stride)
    analysis = analyse(graph, tensors)
    assert analysis.width("conv") == ("int32" if large else "int16") and analysis.values["conv"].static
    for height, width in ((1, 1), (3, 35)):
        assert_same(analysis, tensors, picture(height * stride, width * stride))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("channels", [32, 64, 96, 128])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_16_bits_are_widened_before_they_could_overflow(
    kernel: int, stride: int, channels: int, sign: int
) -> None:
    weights = np.full((channels, 64, kernel, kernel), sign * 2048)
    graph, tensors = over_a_window(4, weights, stride=stride, rate=1)
    analysis = analyse(graph, tensors)
    assert all(table.most == 4 for table in build_plan(analysis, tensors).spike_tables["conv"])
    assert_same(analysis, tensors, picture(4 * stride, 9 * stride))


def test_the_largest_weights_everywhere() -> None:
    graph, tensors = all_firing(np.where(np.random.default_rng(0).random((40, 24, 3, 3)) < 0.5, -2048, 2048))
    assert_same(analyse(graph, tensors), tensors, picture(9, 7))


def test_wide_convolutions_are_split_where_their_table_would_outgrow_16_bit_numbers() -> None:
    b = Builder(time_steps=1)
    x = b.lif("lif", b.dense_conv("encode", b.image(), 700, 1, q=4))
    x = b.conv("conv", x, 20, 7, q=6)
    graph = b.finish(b.dense_conv("readout.conv", b.requantise("round", x, 4, 1 << 10), 3, 1, q=6))
    tensors = random_tensors(graph, np.random.default_rng(0), spread=10)
    analysis = analyse(graph, tensors)
    assert len(build_plan(analysis, tensors).spike_tables["conv"]) > 1
    assert_same(analysis, tensors, picture(3, 20))


def test_memory_does_not_grow_with_the_height_of_the_picture() -> None:
    b = Builder(time_steps=4)
    x = b.requantise("round", b.dense_conv("encode", b.image(), 32), 7, 1 << 12)
    for i in range(3):
        y = b.conv(f"conv{i}", b.lif(f"lif{i}", x), 32)
        x = b.sum(f"add{i}", x, y)
    graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", x), 3, q=6))
    tensors = random_tensors(graph, np.random.default_rng(0))
    plan = build_plan(analyse(graph, tensors), tensors)
    small, large = (Layout(plan, height, 64, 1).arena_size for height in (256, 4096))
    assert large == small


@pytest.mark.parametrize("features", [None, {"avx2", "sse2"}, {"sse2"}, set()], ids=["this", "avx2", "sse2", "any"])
def test_vector_operations_are_the_same_on_every_processor(features: set[str] | None) -> None:
    if features is not None:
        if not features <= vectors.x86_features():
            pytest.skip("this processor has not got them")
        vectors_features = frozenset(features)
    else:
        vectors_features = vectors.x86_features()
    rng = np.random.default_rng(0)
    events, masks = np.zeros(128, np.uint16), [0, 1, 1 << 63, *((1 << n) - 1 for n in (8, 16, 17, 32, 33, 63, 64))]
    masks += map(int, rng.integers(0, 1 << 64, 20, np.uint64))

    @numba.njit
    def listed(address, base, unit, bits):
        return lists.list_ones(address, base, unit, bits)

    @numba.njit
    def counted(address, base, unit, more, first, second, third, fourth):
        return lists.list_counts(address, base, unit, more, first, second, third, fourth)

    with pytest.MonkeyPatch.context() as patch:
        for module in (vectors, lists):
            patch.setattr(module, "x86_features", lambda: vectors_features)
        for i, mask in enumerate(masks):
            count = listed(events.ctypes.data, 65000, 16, mask - (mask >> 63 << 64))
            expected = [(65000 + 16 * bit) % 65536 for bit in range(64) if mask >> bit & 1]
            assert count == len(expected) and events[:count].tolist() == expected
            planes = [mask, mask & masks[-1], mask & masks[-1] & masks[-2], mask & masks[-1] & masks[-2] & masks[i - 1]]
            count = counted(events.ctypes.data, 65000, 16, 1024, *(plane - (plane >> 63 << 64) for plane in planes))
            times = [sum(plane >> bit & 1 for plane in planes) for bit in range(64)]
            expected = [(65000 + 16 * bit + 1024 * (n - 1)) % 65536 for bit, n in enumerate(times) if n]
            assert sorted(events[:count].tolist()) == sorted(expected)
        for bits, pixels, count in ((16, 2, 2), (16, 4, 1), (32, 3, 1)):
            check_outer_product(bits, pixels, count)


def check_outer_product(bits: int, pixels: int, count: int) -> None:
    """`pixels` numbers or pairs, two bytes apart, times `count` vectors of weights, on top of a start."""
    begin, advance, keep = vectors.outer_product(bits, pixels, count)

    @numba.njit
    def products(start, weights, at, step, out):
        keep(advance(begin(start), weights, at, step), out)

    rng = np.random.default_rng(bits + pixels)
    start = rng.integers(-1000, 1000, count * 16).astype(np.int32)
    numbers = rng.integers(-(1 << 15), 1 << 15, 2 * pixels).astype(np.int16)
    if bits == 16:
        weights = rng.integers(-2048, 2049, (count * 16, 2)).astype(np.int16)
        weights[0] = numbers[:2] = -(1 << 15)  # the one pair whose sum of products wraps around
        expected = [weights.astype(np.int64) @ numbers[p : p + 2] for p in range(pixels)]
    else:
        weights = rng.integers(-2048, 2049, count * 16).astype(np.int32)
        expected = [weights.astype(np.int64) * int(numbers[p : p + 2].view(np.int32)[0]) for p in range(pixels)]
    out = np.zeros((pixels, count * 16), np.int32)
    products(start.ctypes.data, weights.ctypes.data, numbers.ctypes.data, 2, out.ctypes.data)
    np.testing.assert_array_equal(out, (np.array(expected) + start).astype(np.int32))


def test_random_networks_have_every_kind_and_attribute() -> None:
    kinds, words, kernels, strides = set(), set(), set(), set()
    for seed in range(60):
        for node in random_network(seed)[0].nodes:
            kinds.add(node.kind)
            words |= {str(v) for v in node.attrs.values() if isinstance(v, str)}
            if node.kind == "conv":
                kernels.add(node["kernel"])
                strides.add(node["stride"])
    assert kinds == set(USUAL)
    assert words == {"shift", "decay", "zero", "subtract", "nearest", "depth_to_space", "time", "channel", "space"}
    assert kernels >= {1, 2, 3, 4, 5, 7} and strides == {1, 2, 3, 4}


def test_a_1x1_dense_convolution_reads_its_input_in_place_at_every_width() -> None:
    for channels, stride in ((12, 1), (32, 1), (32, 2), (40, 1), (300, 1)):
        b = Builder(time_steps=2)
        x = b.requantise("round", b.dense_conv("encode", b.image(), channels, 1), 7, 1 << 9)
        x = b.sum("add", x, b.conv("conv", b.lif("lif", x), channels, 1))
        x = b.requantise("limit", b.dense_conv("dense", x, 16, stride, stride=stride, q=6), 6, 1 << 12)
        x = b.sum("more", x, b.conv("conv2", b.lif("lif2", x), 16, 3))
        if stride > 1:
            x = b.upsample("back", x, stride)
        graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", x), 3, 1, q=6))
        tensors = random_tensors(graph, np.random.default_rng(0))
        analysis = analyse(graph, tensors)
        for width in (1, 7, 8, 33):
            assert_same(analysis, tensors, picture(4 * analysis.stride, width * analysis.stride))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (2, 2)])
def test_the_first_convolution_reads_the_picture_itself(factor: int, kernel: int, stride: int) -> None:
    b = Builder(time_steps=2)
    x = b.space_to_depth("pixels", b.image(), factor) if factor > 1 else b.image()
    x = b.requantise("round", b.dense_conv("encode", x, 20, kernel, stride=stride), 6, 1 << 9)
    x = b.conv("conv", b.window("fires", x), 3, 1)
    x = b.upsample("back", x, factor * stride) if factor * stride > 1 else x
    graph = b.finish(b.dense_conv("readout.conv", b.requantise("last", x, 3, 1 << 11), 3, 1, q=6))
    tensors = random_tensors(graph, np.random.default_rng(0))
    analysis = analyse(graph, tensors)
    plan = build_plan(analysis, tensors)
    assert plan.passes[0].root == "round" and "image" in plan.inlined
    network = Network(bundled(graph, tensors, networks.META), threads=1)
    reference = Network(bundled(graph, tensors, networks.META), "reference")
    levels = np.random.default_rng(1).integers(0, 256, (2 * 37, 3 * 41, 3), np.uint8)
    strided = levels[::2, ::-3]
    for given in (levels[:1, :1], levels[:5, :33], levels[:37, :41], strided, np.moveaxis(levels[:9, :20], 0, 1)):
        found, expected = network.run(given), reference.run(given)
        np.testing.assert_array_equal(found.image, expected.image)
        assert found.stats.layers == expected.stats.layers
        pixels = picture(*analysis.padded(*given.shape[:2]))
        for times in (1, 3):  # noise that was not clipped does not fit 8 bits
            assert_same(analysis, tensors, times * pixels)


def dense_network(
    channels: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, shift: int = 7, limit: int = 1 << 11
) -> tuple[Graph, Tensors]:
    """A network in which "dense" convolves what "round" clips to -limit .. limit - 1."""
    b = Builder(time_steps=2)
    x = b.requantise("round", b.dense_conv("encode", b.image(), channels, 1), shift, limit)
    x = b.dense_conv("dense", x, outputs, kernel, stride=stride, groups=groups, q=4, bias=True)
    x = b.conv("conv", b.lif("lif", b.requantise("limit", x, 8, 1 << 12)), 16, 1)
    if stride > 1:
        x = b.upsample("back", x, stride)
    graph = b.finish(b.dense_conv("readout.conv", b.requantise("last", b.time_sum("sum", x), 3, 1 << 11), 3, q=6))
    tensors = random_tensors(graph, np.random.default_rng(0), spread=30)
    tensors["encode.weight"] *= 20
    return graph, tensors


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (7, 1), (1, 2), (2, 2), (4, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "direct"])
def test_real_valued_convolutions_of_every_shape(
    kernel: int, stride: int, filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not filtered:
        monkeypatch.setattr(engine_plan, "winograd_tables", lambda *arguments: ())
    for channels, outputs, groups, shift in ((16, 32, 1, 7), (40, 24, 2, 7), (12, 20, 1, 0), (64, 80, 4, 7)):
        graph, tensors = dense_network(
            channels, outputs, kernel, stride, groups, shift, 1 << (17 if shift == 0 else 11)
        )
        analysis = analyse(graph, tensors)
        assert build_plan(analysis, tensors).forms["round"].size == (2 if shift else 4)
        fits = filtered and (kernel, stride, shift) == (3, 1, 7)  # without the shift its input needs 32 bits
        assert bool(build_plan(analysis, tensors).winograd_tables.get("dense")) == fits
        for rows, columns in ((1, 1), (2, 5), (5, 37)):
            assert_same(analysis, tensors, picture(rows * analysis.stride, columns * analysis.stride))


@pytest.mark.parametrize(("limit", "used", "filtered"), [(8191, 3, True), (8192, 3, False), (8191, 4, False)])
def test_filtered_convolutions_are_exact_up_to_their_limits(limit: int, used: int, filtered: bool) -> None:
    graph, tensors = dense_network(16, 32, shift=0, limit=limit)
    rng = np.random.default_rng(1)
    tensors["encode.weight"] = rng.choice([-2048, 2048], (16, 3, 1, 1)).astype(np.int32)
    weight = np.zeros((32, 16, 3, 3), np.int32)
    weight[:, :used] = rng.choice([-2048, 2048], (32, used, 3, 3))
    weight[:8, :used] = 2048
    weight[8:16, :used] = 2048 * (1 - 2 * (np.indices((3, 3)).sum(0) % 2))
    tensors["dense.weight"] = weight
    analysis = analyse(graph, tensors)
    assert bool(build_plan(analysis, tensors).winograd_tables.get("dense")) == filtered
    pixels = picture(9, 40)
    pixels[:, :, :20] = 127  # both ends of the range
    pixels[:, :, 25:30] = -128
    assert_same(analysis, tensors, pixels)


@pytest.mark.parametrize("channels", [32, 64])
@pytest.mark.parametrize("large", [False, True], ids=["int16", "int32"])
@pytest.mark.parametrize("firing", [False, True], ids=["some", "all"])
def test_sums_that_slide_along_a_row_equal_the_reference(channels: int, large: bool, firing: bool) -> None:
    rng = np.random.default_rng(0)
    graph, tensors = all_firing(rng.integers(-2048 if large else -50, 2049 if large else 51, (channels, 32, 3, 3)))
    if not firing:
        tensors["lif.bias"][:] = 0
        tensors["lif.threshold"][:] = 300
    analysis = analyse(graph, tensors)
    assert analysis.width("conv") == ("int32" if large else "int16")
    assert all(table.slides for table in build_plan(analysis, tensors).spike_tables["conv"])
    for height, width in ((1, 1), (2, 3), (5, 70), (3, 131)):
        assert_same(analysis, tensors, picture(height, width))


@pytest.mark.parametrize("seed", [6, 11])
def test_the_memory_that_is_reckoned_with_is_what_a_tall_picture_takes(seed: int, monkeypatch) -> None:
    monkeypatch.setattr(simulator.engine, "LITTLE_MEMORY", 0)
    graph, tensors = random_network(seed)
    analysis = analyse(graph, tensors)
    engine = Engine(analysis, tensors, 1)
    height, width = 2048 // analysis.stride * analysis.stride, 64 // analysis.stride * analysis.stride
    expected = Layout(build_plan(analysis, tensors), height, width, 1)
    assert 0.9 < engine.memory(height, width) / (expected.arena_size + 4 * expected.map_size) < 1.1
