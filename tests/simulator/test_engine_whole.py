"""Kinds without row operations: the engine computes them by their meaning, with the bits of the reference."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

import simulator.engine
from simulator.analysis import analyse
from simulator.engine import Engine, plan, whole
from simulator.engine import video as engine_video
from simulator.engine.plan import build_plan
from simulator.graph import GraphError
from simulator.network import Network
from simulator.random_networks import narrow_paper_network, random_network
from simulator.reference import Reference
from tests.conformance.agreement import bundled
from tests.simulator import networks

KINDS = ("conv", "dense_conv", "requantise", "sum", "time_sum", "lif")
EVERY = (*KINDS, "concat", "upsample", "attend", "space_to_depth")


def forget(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Take these kinds' row operations, and their own forms in NumPy, from the engine."""
    monkeypatch.setattr(plan, "ROW_KINDS", plan.ROW_KINDS - set(kinds))
    monkeypatch.setattr(plan, "ROW_NEURONS", plan.ROW_NEURONS - set(kinds))
    monkeypatch.setattr(whole, "FORMS", {})


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.int16]:
    return (np.random.default_rng(seed).integers(0, 256, (3, height, width)) - 128).astype(np.int16)


def frame(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same(found: Engine, expected: Reference, pixels: npt.NDArray[np.int16]) -> None:
    """Pixels, spike counts and every node's output."""
    wanted: dict[str, npt.NDArray[np.int64]] = {}
    restored, spikes = expected.run_padded(pixels, lambda name, value: wanted.update({name: value.copy()}))
    seen: dict[str, npt.NDArray[np.int64]] = {}
    found.run_padded(pixels, lambda name, value: seen.update({name: value}))
    assert seen.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(seen[name], wanted[name], name)
    image, counted = found.run_padded(pixels)
    np.testing.assert_array_equal(image, restored)
    for name in spikes:
        np.testing.assert_array_equal(counted[name], spikes[name], name)


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), ("conv", "lif"), EVERY], ids="+".join)
def test_a_kind_without_row_operations_is_computed_by_its_meaning(
    kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, *kinds)
    for seed in range(8):
        graph, tensors = random_network(seed)
        analysis = analyse(graph, tensors)
        found = Engine(analysis, tensors, 1)
        for step in found.plan.passes:
            assert not (step.by_rows and graph.node(step.root).kind in set(kinds) & set(KINDS))
        for rows, columns in ((3, 5), (24, 1)):  # the second goes round the rings of rows
            assert_same(found, Reference(analysis, tensors), picture(rows * analysis.stride, columns * analysis.stride))


def test_a_node_with_an_attribute_that_the_engine_does_not_know_is_computed_by_its_meaning() -> None:
    for seed in range(4):
        graph, tensors = random_network(seed)
        analysis = analyse(graph, tensors)
        ends = graph.nodes[0], graph.nodes[-1]
        nodes = [node if node in ends else replace(node, attrs={**node.attrs, "novelty": 1}) for node in graph.nodes]
        strange = replace(analysis, graph=replace(graph, nodes=tuple(nodes)))
        found = Engine(strange, tensors, 1)
        assert [step.root for step in found.plan.passes if step.by_rows] == [node.name for node in ends]
        assert_same(found, Reference(analysis, tensors), picture(4 * analysis.stride, 3 * analysis.stride, seed))


def test_an_attribute_of_the_picture_that_the_engine_does_not_know_is_refused() -> None:
    graph, tensors = random_network(0)
    nodes = (*graph.nodes[:-1], replace(graph.nodes[-1], attrs={"novelty": 1}))
    strange = replace(analyse(graph, tensors), graph=replace(graph, nodes=nodes))
    with pytest.raises(GraphError, match="'readout' .* attributes that the engine does not know"):
        Engine(strange, tensors, 1)


def test_what_is_computed_by_its_meaning_needs_the_memory_that_is_reckoned_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulator.engine, "LITTLE_MEMORY", 0)
    graph, tensors = narrow_paper_network()
    analysis = analyse(graph, tensors)
    ordinary = Engine(analysis, tensors, 1).memory(160, 160)
    forget(monkeypatch, *EVERY)
    found = Engine(analysis, tensors, 1)
    reckoned = found.memory(160, 160)
    pixels = picture(160, 160)
    tracemalloc.start()
    found.run_padded(pixels)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ordinary < most < 1.2 * reckoned


@pytest.mark.parametrize("kinds", [("conv",), ("lif",), ("sum", "requantise"), EVERY], ids="+".join)
@pytest.mark.parametrize("threads", [1, 3])
def test_so_it_is_in_tiles_on_threads_and_in_video(
    kinds: tuple[str, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator.engine, "available_threads", lambda: threads)
    monkeypatch.setattr(engine_video, "REACH_LIMIT", 1.0)
    monkeypatch.setattr(engine_video, "LEAST_SHARE", 1)
    for seed in (2, 3, 6, 11):
        bundle = bundled(*random_network(seed), networks.META)
        ordinary = Network(bundle, threads=1)
        with monkeypatch.context() as patch:
            forget(patch, *kinds)
            net = Network(bundle, threads=threads)
            side = 3 * net.min_tile
            now = frame(side + 3, side + 1, seed)
            stream, rng = net.video(), np.random.default_rng(seed)
            for _ in range(4):
                expected = ordinary.run(now)
                for found in (net.run(now), net.run(now, tile=net.min_tile), stream.run(now)):
                    np.testing.assert_array_equal(found.image, expected.image)
                    assert found.stats.layers == expected.stats.layers
                now = now.copy()
                y, x = rng.integers(0, side - 2, 2)
                now[y : y + 3, x : x + 2] = rng.integers(0, 256, now[y : y + 3, x : x + 2].shape)
            assert stream.state_bytes > 0


def test_what_has_row_operations_uses_them() -> None:
    whole_kinds = set()
    for seed in range(40):
        graph, tensors = random_network(seed)
        steps = build_plan(analyse(graph, tensors), tensors).passes
        whole_kinds |= {graph.node(step.root).kind for step in steps if not step.by_rows}
    assert whole_kinds == {"concat", "upsample", "attend", "space_to_depth"}
