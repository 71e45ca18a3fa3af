"""The counts against their definitions, spelled out as plain loops over the reference's spikes."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from simulator import statistics
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.kinds.convolution import arrivals, convolve
from simulator.statistics import BITS_16, BITS_32, LayerStatistics, Statistics, real_size
from tests.simulator.networks import Q, observed, random_image, random_network, random_tensors

SIZES = [(1, 1), (7, 13), (24, 10), (31, 30)]


def frame(graph, tensors, height, width, seed=0):
    """(analysis, every node's output, spike maps) for a random image of that size."""
    analysis = analyse(graph, tensors)
    image = random_image(np.random.default_rng(seed), height, width, 3)
    padded = analysis.padded(height, width)
    image = np.pad(image, ((0, padded[0] - height), (0, padded[1] - width), (0, 0)), mode="edge")
    seen = observed(graph, tensors, image.transpose(2, 0, 1).astype(np.int16) - 128)
    maps = {n.name: seen[n.name].sum((0, 1)).astype(np.int32) for n in graph.nodes if n.kind == "lif"}
    return analysis, seen, maps


def ones_at_real_positions(shape, scale, height, width):
    rows, columns = real_size(height, width, scale)
    ones = np.zeros(shape, np.int64)
    ones[..., :rows, :columns] = 1
    return ones


def spikes_of_real_neurons(analysis, seen, name, height, width, all_fire):
    """The value `name` with the spikes of neurons that cover no real pixel taken out, or with all others firing."""
    node, value = analysis.graph.node(name), analysis.values[name]
    if node.kind == "lif":
        real = ones_at_real_positions(seen[name].shape, value.scale, height, width)
        return real if all_fire else seen[name] * real
    parts = [spikes_of_real_neurons(analysis, seen, source, height, width, all_fire) for source in node.inputs]
    if node.kind == "concat":
        return np.concatenate(parts, 1)
    return parts[0].repeat(node["factor"], -2).repeat(node["factor"], -1)


def synapses_reached(analysis, node, x, height, width):
    """What a convolution with all weights 1 adds up at the positions that cover a real pixel."""
    value = analysis.values[node.name]
    shape = (value.channels, x.shape[1] // node["groups"], node["kernel"], node["kernel"])
    arrived = convolve(x, np.ones(shape, np.int64), None, node["stride"], node["padding"], node["groups"])
    rows, columns = real_size(height, width, value.scale)
    return int(arrived[..., :rows, :columns].sum())


@pytest.mark.parametrize("height,width", SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_counts_equal_their_definitions(seed, height, width):
    graph, tensors = random_network(seed)
    analysis, seen, maps = frame(graph, tensors, height, width, seed)
    stats = statistics.count(analysis, height, width, maps, 0.5)
    layers = {layer.name: layer for layer in stats.layers}
    assert [layer.name for layer in stats.layers] == [
        n.name for n in graph.nodes if n.kind in ("lif", "conv", "dense_conv", "attend")
    ]
    for node in graph.nodes:
        value, layer = analysis.values[node.name], layers.get(node.name)
        if node.kind == "lif":
            rows, columns = real_size(height, width, value.scale)
            assert layer.neurons == value.channels * rows * columns
            assert layer.spikes == seen[node.name][..., :rows, :columns].sum()
            assert layer.spike_rate == layer.spikes / (layer.neurons * graph.time_steps)
        elif node.kind == "conv":
            for all_fire, found in ((False, layer.synops), (True, layer.synops_max)):
                x = spikes_of_real_neurons(analysis, seen, node.inputs[0], height, width, all_fire)
                assert found == synapses_reached(analysis, node, x, height, width)
        elif node.kind == "dense_conv":
            source = analysis.values[node.inputs[0]]
            x = ones_at_real_positions(seen[node.inputs[0]].shape, source.scale, height, width)
            assert layer.macs == synapses_reached(analysis, node, x, height, width)
            assert layer.macs_printed == layer.macs * (graph.time_steps if source.static else 1)
    assert stats.params == sum(tensor.size for tensor in tensors.values())


def test_spikes_of_padding_are_not_counted():
    graph, tensors = random_network(0)
    analysis, _, maps = frame(graph, tensors, 9, 9)
    stats = statistics.count(analysis, 9, 9, maps, 0.0)
    for name, spikes in maps.items():
        rows, columns = real_size(9, 9, analysis.values[name].scale)
        spikes[rows:], spikes[:, columns:] = 10**6, 10**6
    assert statistics.count(analysis, 9, 9, maps, 0.0) == stats


def attention_network(over: str, window: int, hidden: int):
    b = Builder(4)
    x = b.dense_conv("head", b.image(), 5, 1, q=8)
    x = b.requantise("round", x, 5, 1 << 12)
    x = b.sum("add", x, b.conv("conv", b.lif("lif", x), 5, 1, q=Q))
    x = b.attend("attend", x, over, window, hidden)
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 4, 1 << 12)
    graph = b.finish(b.dense_conv("readout.conv", x, 3, 1, q=9, bias=True))
    return graph, random_tensors(graph, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("over", "window", "once", "each"),
    [
        # 7x6 pixels, 5 channels, T = 4: 2x2 windows of 4x4 pixels; two matrices of 5x3 or 4x3; 7x6x5 products a step
        ("channel", 4, 2 * 2 * 2 * 5 * 3, 7 * 6 * 5),
        ("time", 4, 2 * 2 * 2 * 4 * 3, 7 * 6 * 5),
        # 3x3 taps, those beyond the border left out: (3 * 7 - 2) * (3 * 6 - 2) per step
        ("space", 1, 0, 19 * 16 + 7 * 6 * 5),
    ],
)
def test_multiply_accumulates_of_attention(over, window, once, each):
    graph, tensors = attention_network(over, window, 3)
    analysis = analyse(graph, tensors)
    counter = statistics.Counter(statistics.Population(analysis, 7, 6))
    layer = next(layer for layer in counter.finish(0.0).layers if layer.name == "attend")
    assert (layer.macs, layer.macs_printed) == (once + 4 * each, 4 * (once + each))


def test_arrivals_along_an_axis():
    assert arrivals(4, 4, 3, 1, 1).tolist() == [2, 3, 3, 2]
    assert arrivals(1, 1, 3, 1, 1).tolist() == [1]
    assert arrivals(5, 3, 2, 2, 0).tolist() == [1, 1, 1, 1, 1]
    assert arrivals(5, 3, 1, 2, 0).tolist() == [1, 0, 1, 0, 1]
    assert arrivals(4, 2, 3, 2, 1).tolist() == [1, 2, 1, 1]


def test_tiles_add_up_to_the_whole():
    graph, tensors = random_network(5)
    analysis, _, maps = frame(graph, tensors, 29, 23)
    counter = statistics.Counter(statistics.Population(analysis, 29, 23))
    tile = 2 * analysis.stride
    for top in range(0, 29, tile):
        for left in range(0, 23, tile):
            part = {}
            for name, spikes in maps.items():
                s = analysis.values[name].scale
                part[name] = spikes[top // s : (top + tile) // s, left // s : (left + tile) // s]
            counter.add(part, top, left)
    assert counter.finish(1.0) == statistics.count(analysis, 29, 23, maps, 1.0)


LAYERS = (
    LayerStatistics("head", "dense_conv", macs=1_000_000, macs_printed=4_000_000),
    LayerStatistics("lif", "lif", neurons=1000, spikes=400, spike_rate=0.1),
    LayerStatistics("conv", "conv", synops=2_000_000, synops_max=20_000_000),
)
FRAME = Statistics(0.010, 64, 64, 4, 123, LAYERS)


def test_energy_is_equation_1():
    # T * rate * OP_AC = 4 * 0.1 * 5e6 accumulates; T * OP_MAC = 4 * 1e6 as printed, 1e6 as executed
    assert FRAME.spike_rate == 0.1
    assert FRAME.estimated_uj() == pytest.approx(2.0 * 0.9 + 1.0 * 4.6)
    assert FRAME.as_printed_uj() == pytest.approx(2.0 * 0.9 + 4.0 * 4.6)
    assert FRAME.estimated_uj(BITS_16) == pytest.approx(2.0 * 0.4 + 1.0 * 1.5)
    assert "memory traffic" in str(BITS_32) and "estimated" in str(BITS_32) and "4.6 pJ" in str(BITS_32)


def test_the_report_of_a_run():
    silent = tuple(
        LayerStatistics(x.name, x.kind, x.neurons, 0, None if x.spike_rate is None else 0.0, 0, x.synops_max, x.macs,
                        x.macs_printed)
        for x in LAYERS
    )  # fmt: skip
    frames = [FRAME, Statistics(0.030, 64, 64, 4, 123, silent), Statistics(0.020, 64, 64, 4, 123, silent)]
    result = statistics.report(frames, task="denoise", bundle_hash="ab", backend="numba")
    assert json.loads(json.dumps(result)) == result
    assert list(result) == [
        "task", "bundle", "backend", "T", "frames", "recomputed", "latency_ms", "layers", "totals", "energy", "power",
    ]  # fmt: skip
    assert (result["task"], result["bundle"], result["backend"]) == ("denoise", "ab", "numba")
    assert (result["T"], result["frames"], result["power"]) == (4, 3, None)
    assert result["recomputed"] == 1.0
    assert result["latency_ms"] == {"median": pytest.approx(20), "p95": pytest.approx(29)}
    assert result["layers"] == [
        {"name": "head", "kind": "dense_conv", "spike_rate": None, "synops": 0, "macs": 1_000_000},
        {"name": "lif", "kind": "lif", "spike_rate": pytest.approx(0.1 / 3), "synops": 0, "macs": 0},
        {"name": "conv", "kind": "conv", "spike_rate": None, "synops": pytest.approx(2e6 / 3), "macs": 0},
    ]
    assert result["totals"] == {
        "spike_rate": pytest.approx(0.1 / 3), "synops": pytest.approx(2e6 / 3), "macs": 1_000_000, "params": 123,
    }  # fmt: skip
    assert result["energy"]["estimated_uj"] == pytest.approx(4.6 + 0.6)
    assert result["energy"]["as_printed_uj"] == pytest.approx(18.4 + 0.6)


def test_statistics_come_out_of_another_process_as_they_went_in():
    layers = (LayerStatistics("a", "lif", 4, 3, 0.25), LayerStatistics("b", "conv", synops=5, synops_max=9))
    given = Statistics(0.5, 3, 4, 4, 7, layers, 0.125)
    found = pickle.loads(pickle.dumps(given))
    assert found == given and [type(layer) for layer in found.layers] == [LayerStatistics] * 2
    assert found.spike_rate == 5 / 9


def test_a_report_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="no frame was processed"):
        statistics.report([], task="denoise", bundle_hash="", backend="numba")
