"""The network with other frameworks' neurons: shapes, and spikes equal to the reference's where that is claimed."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.reference import Reference
from tests.simulator.networks import observed, random_image, random_network

torch = pytest.importorskip("torch")
frameworks = pytest.importorskip("export.bench.frameworks")

PACKAGES = {
    "PyTorch": "torch",
    "SpikingJelly": "spikingjelly.activation_based.neuron",
    "snnTorch": "snntorch",
    "Norse": "norse.torch",
    "sinabs": "sinabs.layers",
}


@pytest.fixture(params=PACKAGES)
def framework(request) -> str:
    pytest.importorskip(PACKAGES[request.param])
    return request.param


def exact_network(leak: str, shift: int, reset: str):
    """Currents are multiples of 64 units, so that no leak by `shift` has anything to round off within four steps.

    Thresholds are powers of two, so that frameworks whose threshold is 1 divide exactly. A skip, groups and biases.
    """
    b = Builder(4)
    x = b.requantise("round", b.dense_conv("head", b.space_to_depth("pixels", b.image(), 2), 8, 1, q=14), 5, 1 << 20)
    y = b.lif("lif2", b.conv("conv1", b.lif("lif1", x, leak, reset), 8, 3, q=10), leak, reset)
    x = b.sum("add", x, b.conv("conv2", y, 8, 3, q=10, groups=2))
    x = b.conv("conv3", b.lif("lif3", x, leak, reset), 8, 3, q=10)
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 4, 1 << 12)
    x = b.dense_conv("readout.conv", x, 12, 1, q=9, bias=True)
    graph = b.finish(b.upsample("readout.pixels", x, 2, "depth_to_space"))
    rng, analysis, tensors = np.random.default_rng(0), analyse(graph), {}
    for node in graph.nodes:
        for part, spec in analysis.tensors[node.name].items():
            shape = spec.shape
            if part == "threshold":
                power = {"lif1": 12, "lif2": 10, "lif3": 15}[node.name]
                drawn = 2 ** rng.integers(power, power + 3, shape)
            elif part == "leak":
                drawn = np.full(shape, shift)
            elif node.name == "head":
                drawn = 2048 * rng.integers(-1, 2, shape)
            elif node.name.startswith("readout"):
                drawn = rng.integers(-40, 41, shape)
            else:
                drawn = 64 * (rng.integers(-2, 3, shape) if part == "bias" else rng.integers(-5, 6, shape))
            tensors[f"{node.name}.{part}"] = drawn.astype(np.int32)
    return graph, tensors


def run(graph, tensors, framework, pixels):
    """(restored uint8 [3, H, W], spikes of each layer [T, C, h, w]) of uint8 [3, H, W]."""
    net = frameworks.FrameworkNet(graph, tensors, framework)
    spikes, plain = {}, net.fire

    def watched(node, current):
        fired, count = plain(node, current)
        spikes[node.name] = fired.numpy().copy()
        return fired, count

    net.fire = watched
    with torch.inference_mode():
        restored = net.restore(torch.from_numpy((pixels.astype(np.float32) - 128) / 128)[None])
    return restored[0].numpy(), spikes


@pytest.mark.parametrize(("leak", "shift"), [("decay", 2), ("decay", 1), ("shift", 1)])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_where_no_leak_rounds_spikes_equal_the_references(framework, leak, shift, reset):
    if (framework, reset) == ("snnTorch", "subtract"):
        pytest.skip("snnTorch subtracts the threshold after the leak")
    graph, tensors = exact_network(leak, shift, reset)
    pixels = random_image(np.random.default_rng(1), 24, 36, 3).transpose(2, 0, 1)
    seen = observed(graph, tensors, pixels.astype(np.int16) - 128)
    restored, spikes = run(graph, tensors, framework, pixels)
    for name, fired in spikes.items():
        assert 0.02 < fired.mean() < 0.98, name
        assert np.array_equal(fired, seen[name]), name
    assert np.array_equal(restored, seen["readout"][0])


@pytest.mark.parametrize("seed", range(4))
def test_any_network_runs_with_similar_spike_rates(framework, seed):
    graph, tensors = random_network(seed)
    analysis = analyse(graph, tensors)
    pixels = random_image(np.random.default_rng(seed), *analysis.padded(30, 40), 3).transpose(2, 0, 1)
    restored, spikes = run(graph, tensors, framework, pixels)
    expected, maps = Reference(analysis, tensors).run_padded(pixels.astype(np.int16) - 128)
    assert restored.shape == expected.shape and restored.dtype == np.uint8
    for name, fired in spikes.items():
        value = analysis.values[name]
        assert fired.shape == (graph.time_steps, value.channels, *maps[name].shape)
        assert set(np.unique(fired)) <= {0, 1}
    rates = [np.mean([fired.mean() for fired in spikes.values()])]
    rates.append(np.mean([maps[name].sum() / spikes[name].size for name in spikes]))
    assert abs(rates[0] - rates[1]) < 0.1
    if framework == "PyTorch":
        assert np.array_equal(restored, expected)


def test_folded_biases_leave_the_network_as_it_was():
    for seed in range(4):
        graph, tensors = random_network(seed)
        folded, moved = frameworks.fold_biases(graph, tensors)
        pixels = random_image(np.random.default_rng(seed), *analyse(graph).padded(20, 20), 3).transpose(2, 0, 1)
        results = [
            Reference(analyse(g, t), t).run_padded(pixels.astype(np.int16) - 128)[0]
            for g, t in ((graph, tensors), (folded, moved))
        ]
        assert np.array_equal(*results)
