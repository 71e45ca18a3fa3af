"""The first number in which two backends differ is found: layer, step, row, column, channel."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.first_difference import CoreTracer, NetworkTracer, Place, first_place, padded
from firmware_bridge.machine import HOST
from firmware_bridge.native import Core
from firmware_bridge.plan import compile_bundle, compile_plan
from firmware_bridge.runner import Runner
from simulator.analysis import analyse
from simulator.network import Network
from simulator.random_networks import random_network
from tests.conformance.agreement import bundled
from tests.simulator.networks import observed, random_image


def expected_place(graph, tensors, damaged, picture) -> Place | None:
    """By comparing all numbers of two reference runs."""
    levels = picture.transpose(2, 0, 1).astype(np.int16) - 128
    sound, faulty = observed(graph, tensors, levels), observed(graph, damaged, levels)
    for node in graph.nodes:
        for step, (a, b) in enumerate(zip(sound[node.name], faulty[node.name], strict=True)):
            differing = np.argwhere((a != b).transpose(1, 2, 0))
            if len(differing):
                row, column, channel = differing[0]
                at = channel, row, column
                return Place(node.name, step, row, column, channel, a[at], b[at])
    return None


@pytest.mark.parametrize("seed", (0, 1, 3, 5, 8, 12))
def test_one_damaged_weight_is_found_where_it_first_shows(seed):
    graph, tensors = random_network(seed)
    bundle = bundled(graph, tensors)
    weights = [name for name in tensors if name.endswith(".weight")]
    damaged = {name: tensor.copy() for name, tensor in tensors.items()}
    weight = damaged[weights[seed % len(weights)]]
    weight.flat[weight.size // 2] += 37
    picture = padded(bundle, random_image(np.random.default_rng(seed), 21, 18, 3))
    plan = compile_plan(analyse(graph, damaged), damaged, fuse=False)
    network = NetworkTracer(Network(bundle, "reference"))
    place = expected_place(graph, tensors, damaged, picture)
    assert first_place(network, CoreTracer(bundle, plan, Core(plan.data)), picture) == place
    with Runner(HOST) as runner:
        runner.open(plan.data)
        assert first_place(network, CoreTracer(bundle, plan, runner), picture) == place
    engine = NetworkTracer(Network(bundled(graph, damaged)))
    assert first_place(network, engine, picture) == place


def test_backends_that_agree_differ_nowhere():
    bundle = bundled(*random_network(4))
    picture = random_image(np.random.default_rng(0), 19, 23, 3)
    plan = compile_bundle(bundle, fuse=False)
    core = CoreTracer(bundle, plan, Core(plan.data))
    assert first_place(NetworkTracer(Network(bundle)), core, picture) is None


def test_a_place_is_told_in_words():
    place = Place("conv2", 1, 3, 5, 7, 12, 11)
    assert str(place) == "layer 'conv2', step 1, row 3, column 5, channel 7: 11 instead of 12"
