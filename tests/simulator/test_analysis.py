"""The numerics contract: the rounding, the neuron, bounds that hold at their extremes, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.analysis import Analysis, analyse
from simulator.builder import Builder
from simulator.graph import Graph, GraphError, Node
from simulator.kinds.attend import attend_cap, window_sums
from simulator.kinds.convolution import convolve
from simulator.kinds.lif import lif
from simulator.kinds.requantise import requantise
from simulator.structure import graph_from_json, graph_to_json
from tests.simulator.networks import observed, random_network, random_tensors, small_network

INT32 = st.integers(-(2**31), 2**31 - 1)


# ---- the rounding and the neuron


@given(x=INT32, shift=st.integers(0, 30), limit=st.integers(1, 2**30))
def test_requantise_rounds_halves_up_and_clips(x, shift, limit):
    expected = max(-limit, min(limit - 1, math.floor(x / 2**shift + 0.5)))  # a float64 holds every int32 and half
    assert requantise(np.array([x]), shift, -limit, limit - 1)[0] == expected


def test_requantise_never_rounds_halves_to_even():
    assert requantise(np.array([-3, -2, -1, 0, 1, 2, 3]), 1, -99, 99).tolist() == [-1, -1, 0, 0, 1, 1, 2]


@given(
    currents=st.lists(st.integers(-(2**20), 2**20), min_size=4, max_size=4),
    threshold=st.integers(1, 2**20),
    bias=st.integers(-(2**16), 2**16),
    leak=st.integers(0, 15),
    kind=st.sampled_from(["shift", "decay"]),
    reset=st.sampled_from(["zero", "subtract"]),
)
def test_the_neuron_is_its_equation(currents, threshold, bias, leak, kind, reset):
    v, expected = 0, []
    for current in currents:
        leaked = math.floor(v / 2**leak)
        v = (leaked if kind == "shift" else v - leaked) + current + bias
        expected.append(int(v >= threshold))
        if v >= threshold:
            v = 0 if reset == "zero" else v - threshold
    one = [np.array([p]) for p in (threshold, bias, leak)]
    spikes = lif(np.array(currents).reshape(4, 1, 1, 1), *one, 4, kind, reset)
    assert spikes.ravel().tolist() == expected


# ---- bounds hold


def extreme_pixels(rng: np.random.Generator, analysis: Analysis) -> np.ndarray:
    """Black and white in patterns of every size, int16 [3, H, W]."""
    side = -(-24 // analysis.stride) * analysis.stride
    block = int(rng.choice([1, 2, 5, side]))
    coarse = rng.integers(0, 2, (3, -(-side // block), -(-side // block)))
    return (coarse.repeat(block, 1).repeat(block, 2)[:, :side, :side] * 255 - 128).astype(np.int16)


def intermediates(analysis: Analysis, tensors, node: Node, seen) -> list[np.ndarray]:
    """What a backend computes on the way to a node's output, besides the output itself."""
    if not node.inputs or node.kind == "readout":
        return []
    x, value = seen[node.inputs[0]], analysis.values[node.inputs[0]]
    own = {k.rpartition(".")[2]: t.astype(np.int64) for k, t in tensors.items() if k.rpartition(".")[0] == node.name}
    if node.kind in ("conv", "dense_conv"):  # sums over the positive and over the negative terms alone
        parts = []
        for keep_weight in (np.maximum, np.minimum):
            for keep_x in (np.maximum, np.minimum):
                weight = keep_weight(own["weight"], 0)
                parts.append(convolve(keep_x(x, 0), weight, None, node["stride"], node["padding"], node["groups"]))
        return parts
    if node.kind == "requantise":
        return [x + ((1 << node["shift"]) >> 1)]
    if node.kind == "lif":
        threshold, bias, leak = (own[k][:, None, None] for k in ("threshold", "bias", "leak"))
        v, states = np.zeros(x.shape[1:], np.int64), []
        for t in range(analysis.graph.time_steps):
            v = v >> leak if node["leak"] == "shift" else v - (v >> leak)
            current = x[min(t, len(x) - 1)]
            states += [v + current, v + bias, v + current + bias]
            v = v + current + bias
            v = np.where(v >= threshold, 0 if node["reset"] == "zero" else v - threshold, v)
        return states
    if node.kind == "attend":
        steps = analysis.graph.time_steps
        total = {
            "channel": lambda: window_sums(x.sum(0) * (steps if value.static else 1), node["window"]),
            "time": lambda: window_sums(x.sum(1), node["window"]),
            "space": lambda: x.sum(1),
        }[node["over"]]()
        return [total, x << node["gate_q"]]
    return []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_value_of_a_random_network_exceeds_its_bound(seed):
    graph, tensors = random_network(seed)
    analysis = analyse(graph, tensors)
    seen = observed(graph, tensors, extreme_pixels(np.random.default_rng(seed), analysis))
    for node in graph.nodes:
        value, out = analysis.values[node.name], seen[node.name]
        assert out.shape[:2] == (1 if value.static else graph.time_steps, value.channels)
        low, high = (out.min((0, 2, 3)), out.max((0, 2, 3)))
        assert (low >= value.lo).all() and (high <= value.hi).all(), node.name
        for part in [out, *intermediates(analysis, tensors, node, seen)]:
            assert np.abs(part).max() <= analysis.bounds[node.name], node.name


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), groups=st.sampled_from([1, 2]), kernel=st.sampled_from([1, 3, 5]))
def test_a_convolution_reaches_its_bound_and_no_more(seed, groups, kernel):
    rng = np.random.default_rng(seed)
    b = Builder(1)
    x = b.requantise("round", b.dense_conv("head", b.image(), 4, 1, q=3), 3, 128)
    x = b.conv("conv", b.lif("lif", x), 6, kernel, groups=groups, bias=True)
    x = b.dense_conv("readout.conv", b.time_sum("sum", x), 3, 1)
    graph = b.finish(x)
    tensors = random_tensors(graph, rng)
    value, node = analyse(graph, tensors).values["conv"], graph.node("conv")
    weight, bias = tensors["conv.weight"].astype(np.int64), tensors["conv.bias"].astype(np.int64)
    for channel in range(6):
        group = channel // (6 // groups)
        reached = []
        for sign in (1, -1):  # spikes exactly at the positive (negative) weights
            spikes = np.zeros((1, 4, kernel, kernel), np.int64)
            spikes[0, group * (4 // groups) : (group + 1) * (4 // groups)] = weight[channel] * sign > 0
            out = convolve(spikes, weight, bias, 1, node["padding"], groups)
            reached.append(out[0, channel, kernel // 2, kernel // 2])
        assert reached == [value.hi[channel], value.lo[channel]]


def test_a_dense_convolution_reaches_its_bound_and_no_more():
    graph, tensors = small_network(size=4)
    analysis = analyse(graph, tensors)
    weight = tensors["head.weight"].astype(np.int64)
    for channel in range(4):
        for sign, edge in ((1, analysis.values["head"].hi), (-1, analysis.values["head"].lo)):
            x = np.where(weight[channel] * sign > 0, 127, -128)[None]
            assert convolve(x, weight, None, 1, 1, 1)[0, channel, 1, 1] == edge[channel]
    largest = max(analysis.values["head"].hi.max(), -analysis.values["head"].lo.min())
    assert analysis.bounds["head"] == largest


def neuron_network(threshold: int, bias: int, leak: str = "decay", reset: str = "subtract") -> tuple[Graph, dict]:
    """Currents of -1280..1270 into one kind of neuron, T = 8, leak shift 1."""
    b = Builder(8)
    x = b.dense_conv("head", b.image(), 3, 1, q=3)
    x = b.conv("conv", b.lif("lif", x, leak, reset), 3, 1)
    graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", x), 3, 1))
    tensors = {name: np.zeros(shape, np.int32) for name, shape in analyse(graph).shapes.items()}
    tensors["head.weight"][range(3), range(3)] = 10
    tensors["lif.threshold"][:], tensors["lif.bias"][:], tensors["lif.leak"][:] = threshold, bias, 1
    return graph, tensors


@pytest.mark.parametrize("leak", ["shift", "decay"])
@pytest.mark.parametrize("pixel,bias", [(127, 0), (-128, 0), (-128, -300), (127, 50)])
def test_a_membrane_that_never_fires_reaches_its_bound_and_no_more(leak, pixel, bias):
    graph, tensors = neuron_network(10**6, bias, leak)
    v = largest = 0
    for _ in range(8):
        v = v >> 1 if leak == "shift" else v - (v >> 1)
        largest = max(largest, abs(v + pixel * 10), abs(v + pixel * 10 + bias))
        v += pixel * 10 + bias
    analysis = analyse(graph, tensors, (min(pixel, 0), max(pixel, 0)))
    assert analysis.bounds["lif"] == max(largest, 10**6)
    tensors["lif.threshold"][:] = 1
    assert analyse(graph, tensors, (min(pixel, 0), max(pixel, 0))).bounds["lif"] <= largest


def test_a_neuron_that_is_reset_by_subtraction_may_pile_up():
    graph, tensors = neuron_network(1, 0)
    graph_zero, _ = neuron_network(1, 0, reset="zero")
    # Downwards both reach -1280 - 640 - ... - 10.
    assert analyse(graph_zero, tensors).bounds["lif"] == analyse(graph, tensors).bounds["lif"] == 2550
    v = 0
    for _ in range(8):
        v = v - (v >> 1) + 1270
        largest, v = v, v - 1
    assert analyse(graph, tensors, (0, 127)).bounds["lif"] == largest > 2500
    assert analyse(graph_zero, tensors, (0, 127)).bounds["lif"] == 1270


def test_sum_and_concat_align_to_the_finest_grid():
    b = Builder(2)
    head = b.requantise("round", b.dense_conv("head", b.image(), 2, 1, q=3), 3, 64)  # grid 7, -64..63
    spikes = b.lif("lif", head)
    fine, coarse = b.conv("fine", spikes, 2, 1, q=10), b.conv("coarse", spikes, 2, 1, q=8)
    total = b.concat("both", b.sum("add", fine, coarse), head)
    graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", total), 3, 1))
    tensors = random_tensors(graph, np.random.default_rng(0))
    tensors["fine.weight"][:, :, 0, 0] = [[5, -7], [1, 1]]
    tensors["coarse.weight"][:, :, 0, 0] = [[2, -3], [-1, 0]]
    analysis = analyse(graph, tensors)
    assert analysis.values["add"].q == analysis.values["both"].q == 10
    assert analysis.values["add"].hi.tolist() == [5 + 4 * 2, 2] and analysis.values["add"].lo.tolist() == [-19, -4]
    assert analysis.values["both"].lo[2:].tolist() == [-64 * 8] * 2 and analysis.bounds["add"] == 19


def test_widths_and_exactness_follow_from_the_bounds():
    graph, tensors = neuron_network(2**15 - 1, 0)
    tensors["conv.weight"][0] = 2048
    analysis = analyse(graph, tensors)
    assert (analysis.bounds["lif"], analysis.width("lif")) == (2**15 - 1, "int16")
    tensors["lif.threshold"][2] = 2**15
    analysis = analyse(graph, tensors)
    assert (analysis.bounds["lif"], analysis.width("lif"), analysis.channel["lif"]) == (2**15, "int32", 2)
    for threshold, exact in ((2**24 - 1, True), (2**24, False)):
        tensors["lif.threshold"][1] = threshold
        assert analyse(graph, tensors).float_exact("lif") is exact


# ---- geometry


def test_stride_alignment_and_halo():
    graph, _ = small_network()
    analysis = analyse(graph)
    # half resolution, two 3x3 convolutions in a row: 2 positions of 2 pixels each way
    assert (analysis.stride, analysis.align, analysis.halo) == (2, 2, 4)
    assert analysis.padded(1, 1) == (2, 2) and analysis.padded(4, 5) == (4, 6)
    b = Builder(1)
    x = b.attend("attend", b.dense_conv("head", b.space_to_depth("s", b.image(), 2), 12, 1), "channel", 8, 2)
    graph = b.finish(b.upsample("p", x, 2, "depth_to_space"))
    assert (analyse(graph).stride, analyse(graph).align, analyse(graph).halo) == (2, 16, 0)


def test_the_halo_covers_spikes_that_the_picture_does_not_need():
    """A 1x1 convolution of stride 2 reads every second neuron; the spikes of the others are counted all the same."""
    b = Builder(1)
    x = b.lif("lif", b.dense_conv("head", b.image(), 3, 3))
    x = b.upsample("up", b.conv("conv", x, 3, 1, stride=2), 2)
    assert analyse(b.finish(x)).halo == 2
    b = Builder(1)
    x = b.dense_conv("head", b.image(), 3, 1)
    b.lif("unused", b.dense_conv("wide", x, 3, 7))
    assert analyse(b.finish(x)).halo == 3


@pytest.mark.parametrize("seed", range(6))
def test_a_pixel_beyond_the_halo_changes_nothing(seed):
    graph, tensors = random_network(seed)
    analysis = analyse(graph, tensors)
    rng = np.random.default_rng(seed)
    side = analysis.align + 2 * analysis.halo + 2 * analysis.align
    pixels = rng.integers(-128, 128, (3, side, side)).astype(np.int16)
    first, last = analysis.align + analysis.halo, 2 * analysis.align + analysis.halo
    other = rng.integers(-128, 128, pixels.shape).astype(np.int16)
    inside = slice(first - analysis.halo, last + analysis.halo)
    other[:, inside, inside] = pixels[:, inside, inside]
    a, b = observed(graph, tensors, pixels), observed(graph, tensors, other)
    for name in a:
        scale = analysis.values[name].scale
        tile = slice(first // scale, last // scale)
        assert (a[name][..., tile, tile] == b[name][..., tile, tile]).all(), name


# ---- refusals


def _chain(change):
    """A graph of one image, what `change(builder, image)` adds, and a readout."""
    b = Builder(2)
    return b, change(b, b.image())


def deep_shortcut(b: Builder, x: str) -> str:
    for i in range(3):
        x = b.dense_conv(f"dense{i}", x, 3, 1, q=10)
    return x


def large_scale(b: Builder, x: str) -> str:
    x = b.lif("lif", x)
    for i in range(9):
        x = b.lif(f"lif{i}", b.conv(f"conv{i}", x, 3, 2, stride=2))
    return x


def large_windows(b: Builder, x: str) -> str:
    x = b.attend("attend", b.space_to_depth("s", x, 8), "channel", 1024, 2)
    return b.upsample("p", x, 8, "depth_to_space")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda b, x: b.conv("c", x, 3), "layer 'c' (conv): its input is not spikes"),
        (lambda b, x: b.sum("s", b.lif("a", x), b.lif("b", x)), "layer 's' (sum): its input is spikes"),
        (lambda b, x: b.concat("c", b.lif("a", x), x), "spikes and real values cannot be concatenated"),
        (lambda b, x: b.sum("s", x, b.space_to_depth("d", x, 2)), "its inputs have the scales [1, 2]"),
        (lambda b, x: b.sum("s", x, b.dense_conv("d", x, 4)), "its inputs have [3, 4] channels"),
        (lambda b, x: b.dense_conv("d", x, 4, groups=2), "3 -> 4 channels do not divide into 2 groups"),
        (lambda b, x: b.upsample("u", x, 2), "a value at scale 1 cannot be enlarged 2 times"),
        (
            lambda b, x: b.upsample("u", b.dense_conv("d", x, 3, 2, stride=2), 2, "depth_to_space"),
            "3 channels do not divide into 2x2 pixels",
        ),
        (lambda b, x: b.requantise("r", x, 9, 64), "shift 9 is larger than its input's grid 7"),
        (lambda b, x: b.attend("a", x, "channel", 3, 1), "a window of 3 is not a power of two"),
        (lambda b, x: b.attend("a", x, "channel", 2, 0), "needs at least one hidden unit"),
        (deep_shortcut, "layer 'dense2': grid 37; at most 30 is supported"),
        (large_scale, "layer 'conv8': a scale of 512; at most 256 is supported"),
        (large_windows, "tiles would be multiples of 8192 pixels; at most 4096 is supported"),
        (lambda b, x: b.lif("l", x), "layer 'readout' (readout): its input is spikes"),
        (lambda b, x: b.dense_conv("d", x, 4), "its input must be 3 static channels at the image's scale"),
        (lambda b, x: b.requantise("r", x, 3, 64), "its input's grid 4 is coarser than a pixel's (7)"),
    ],
)
def test_a_graph_that_breaks_a_rule_is_refused(change, sentence):
    with pytest.raises(GraphError) as caught:
        b, x = _chain(change)
        analyse(b.finish(x))
    assert sentence in str(caught.value)


def test_what_does_not_fit_int32_names_layer_and_channel():
    graph, tensors = small_network()
    tensors["readout.conv.bias"][7] = 2**31 - 1
    with pytest.raises(
        GraphError, match="layer 'readout.conv', channel 7: a value can reach 2147.* does not fit int32"
    ):
        analyse(graph, tensors)


def test_bounds_that_would_overflow_int64_are_refused_and_not_wrapped():
    b = Builder(1)
    image = b.image()
    coarse = b.dense_conv("coarse", b.requantise("round", image, 7, 1), 3, 1, q=0, bias=True)  # grid 0
    fine = b.dense_conv("finer", b.dense_conv("fine", image, 3, 1, q=14), 3, 1, q=9)  # grid 30
    graph = b.finish(b.sum("add", fine, *[coarse] * 16))
    tensors = {name: np.zeros(shape, np.int32) for name, shape in analyse(graph).shapes.items()}
    analyse(graph, tensors)
    tensors["coarse.bias"][1] = 2**30  # 16 * 2^30 * 2^30 = 2^64, which int64 takes for 0
    with pytest.raises(GraphError, match="layer 'add', channel 1: a value can reach"):
        analyse(graph, tensors)


@pytest.mark.parametrize(
    ("name", "place", "value", "sentence"),
    [
        ("conv.weight", (1, 0, 0, 0), -2049, "layer 'conv', channel 1: weight holds -2049 units; at most 2048"),
        ("lif.threshold", 1, 0, "layer 'lif', channel 1: threshold is 0; 1 to 2147483647 is supported"),
        ("lif.leak", 0, -1, "layer 'lif', channel 0: leak is -1; 0 to 15 is supported"),
    ],
)
def test_a_tensor_out_of_its_range_is_refused(name, place, value, sentence):
    graph, tensors = small_network()
    tensors[name][place] = value
    with pytest.raises(GraphError) as caught:
        analyse(graph, tensors)
    assert sentence in str(caught.value)


def test_missing_further_and_misshapen_tensors_are_refused():
    graph, tensors = small_network()
    with pytest.raises(GraphError, match="not used \\['x.weight'\\]"):
        analyse(graph, {**tensors, "x.weight": np.zeros(1, np.int32)})
    with pytest.raises(GraphError, match="layer 'conv': its tensor 'conv.bias' is missing"):
        analyse(graph, {k: v for k, v in tensors.items() if k != "conv.bias"})
    for wrong in (tensors["conv.bias"].astype(np.int64), np.zeros(3, np.int32)):
        with pytest.raises(GraphError, match="layer 'conv': bias is .*; expected int32"):
            analyse(graph, {**tensors, "conv.bias": wrong})


def test_a_graph_survives_json():
    for seed in range(5):
        graph, _ = random_network(seed)
        assert graph_from_json(graph_to_json(graph)) == graph


def test_every_attention_and_enlargement_turns_up_in_the_random_networks():
    found = {(n.attrs.get("over"), n.attrs.get("mode")) for seed in range(60) for n in random_network(seed)[0].nodes}
    assert {over for over, _ in found} == {None, "time", "channel", "space"}
    assert {mode for _, mode in found} == {None, "nearest", "depth_to_space"}


def test_gates_lie_between_nothing_and_everything():
    for seed in range(40):
        graph, tensors = random_network(seed)
        for node in graph.nodes:
            if node.kind == "attend":
                assert attend_cap(node) < 2**11
                seen = observed(graph, tensors, extreme_pixels(np.random.default_rng(seed), analyse(graph, tensors)))
                x, y = seen[node.inputs[0]], seen[node.name]
                assert (np.abs(y) <= np.abs(x)).all() and (y * x >= 0).all()
