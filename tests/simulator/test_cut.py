"""The cut for cards: head, body and tail together are the network, and what has no such cut is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator.analysis import Analysis, Tensors, analyse
from simulator.builder import Builder
from simulator.bundle import read_bundle
from simulator.cut import LINEAR, Cut, CutError, Host, cut
from simulator.graph import Graph
from simulator.random_networks import narrow_paper_network, random_network, random_tensors
from tests.simulator.networks import observed

SHIPPED = sorted((Path(__file__).parents[2] / "edge" / "bundles").glob("*.safetensors"))
BODIES = {"lif": ("lif", *LINEAR), "window": ("window", *LINEAR)}


def random_pixels(analysis: Analysis, seed: int) -> np.ndarray:
    """int16 [3, H, W], a few strides high and wide."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) * analysis.stride for n in rng.integers(1, 1 + 24 // analysis.stride, 2) + 1)
    return rng.integers(-128, 128, (3, height, width)).astype(np.int16)


def check_parts(parts: Cut, graph: Graph, tensors: Tensors, pixels: np.ndarray) -> None:
    """Head, body and tail against the whole, and everything that crosses against what the cut says of it."""
    whole, host, seen = observed(graph, tensors, pixels), Host(parts, tensors), {}
    entering = host.head(pixels)
    leaving = host.body(entering, lambda name, value: seen.update({name: value}))
    assert np.array_equal(host.tail(pixels, entering, leaving), whole[graph.nodes[-1].name][0])
    assert list(seen) == [node.name for node in parts.body]
    assert all(np.array_equal(value, whole[name]) for name, value in seen.items())
    for crossings, values in ((parts.entering, entering), (parts.leaving, leaving)):
        for one in crossings:
            value = values[one.name]
            assert value.shape == one.shape(*pixels.shape[1:]) and np.array_equal(value, whole[one.name])
            assert (value >= one.lo[:, None, None]).all() and (value <= one.hi[:, None, None]).all()
            assert np.abs(value).max() <= one.magnitude
    assert set(leaving) == {one.name for one in parts.leaving}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_network_is_its_head_body_and_tail(path):
    bundle = read_bundle(path)
    parts = cut(bundle.analysis)
    assert [node.name for node in parts.head][-1] == "encode.round" and len(parts.entering) == len(parts.leaving) == 1
    assert parts.entering[0].steps == 1
    assert parts.leaving[0].steps == (1 if parts.tail[0].name == "readout.round" else bundle.graph.time_steps)
    assert {node.kind for node in parts.body} <= {"lif", "window", *LINEAR}
    check_parts(parts, bundle.graph, bundle.tensors, random_pixels(bundle.analysis, 0))


@pytest.mark.parametrize("neurons", BODIES)
def test_random_networks_of_neurons_and_sums_are_their_parts(neurons):
    divided = 0
    for seed in range(20):
        graph, tensors = random_network(seed, kinds=BODIES[neurons])
        analysis = analyse(graph, tensors)
        try:
            parts = cut(analysis)
        except CutError as error:
            assert "no neurons" in str(error)
            continue
        divided += 1
        check_parts(parts, graph, tensors, random_pixels(analysis, seed))
    assert divided >= 10


def test_any_number_of_values_may_cross():
    b = Builder(4)
    x = b.requantise("round", b.dense_conv("first", b.image(), 4, q=8), 5, 1 << 12)
    y = b.requantise("other", x, 2, 1 << 12)
    spikes = b.concat("both", b.lif("lif1", x), b.lif("lif2", y))
    one, two = b.conv("conv1", spikes, 3, q=8), b.conv("conv2", spikes, 3, q=7)
    kept = b.conv("kept", x, 3, 1, q=8, kind="dense_conv")  # from the head to the tail: stays on the host
    total = b.sum("sum", b.time_sum("sum1", one), b.time_sum("sum2", two), b.requantise("kept.round", kept, 8, 99))
    graph = b.finish(total)
    tensors = random_tensors(graph, np.random.default_rng(0))
    parts = cut(analyse(graph, tensors))
    assert [one.name for one in parts.entering] == ["round", "other"]
    assert [(one.name, one.steps) for one in parts.leaving] == [("conv1", 4), ("conv2", 4)]
    check_parts(parts, graph, tensors, random_pixels(parts.analysis, 0))


def test_layers_that_the_picture_does_not_depend_on_are_in_no_part():
    b = Builder(2)
    x = b.requantise("round", b.dense_conv("first", b.image(), 4, q=8), 5, 1 << 12)
    y = b.conv("spiking", b.lif("lif", x), 4, q=8)
    b.lif("unread", b.requantise("unread.round", y, 1, 1 << 12))
    total = b.requantise("tail.round", b.time_sum("total", b.sum("sum", x, y)), 2, 1 << 12)
    graph = b.finish(b.dense_conv("tail", total, 3, q=8))
    tensors = random_tensors(graph, np.random.default_rng(0))
    parts = cut(analyse(graph, tensors))
    assert [[node.name for node in part] for part in (parts.head, parts.body, parts.tail)] == [
        ["image", "first", "round"], ["lif", "spiking", "sum"], ["total", "tail.round", "tail", "readout"]
    ]  # fmt: skip
    check_parts(parts, graph, tensors, random_pixels(parts.analysis, 0))


def test_what_stands_between_neurons_is_named():
    graph, tensors = narrow_paper_network()
    with pytest.raises(CutError) as error:
        cut(analyse(graph, tensors))
    named = "Layer 'encoder1.space', of the kind 'attend', stands between neurons ('down1.lif' depends on it)"
    assert named in str(error.value)


def test_a_network_without_neurons_is_refused():
    b = Builder(1)
    x = b.requantise("round", b.dense_conv("first", b.image(), 4, q=8), 5, 1 << 12)
    graph = b.finish(b.dense_conv("last", x, 3, q=8))
    with pytest.raises(CutError, match="no neurons"):
        cut(analyse(graph, random_tensors(graph, np.random.default_rng(0))))
