"""Small networks that have a body for a card."""

from __future__ import annotations

import numpy as np

from simulator.builder import Builder
from simulator.bundle import Bundle
from simulator.random_networks import random_tensors
from tests.conformance.agreement import bundled


def network(neurons: str = "lif", seed: int = 0, reach: int = 20) -> Bundle:
    """A network for cards, with a skip, a stride and an enlargement; weights of at most `reach` units. float16
    adds up the default's exactly."""
    b = Builder(4)
    x = b.requantise("encode.round", b.dense_conv("encode.conv", b.image(), 6, q=8), 7, 1 << 10)
    neuron = b.window if neurons == "window" else b.lif
    down = b.conv("down.conv", neuron("down.lif", x), 8, 2, stride=2, q=8)
    inner = b.sum("inner.add", down, b.conv("inner.conv", neuron("inner.lif", down), 8, q=8))
    up = b.upsample("up.nearest", b.conv("up.conv", neuron("up.lif", inner), 6, 1, q=8))
    y = b.sum("up.add", x, up)
    total = y if neurons == "window" else b.time_sum("readout.sum", y)
    graph = b.finish(b.dense_conv("readout.conv", b.requantise("readout.round", total, 2, 1 << 10), 3, q=8, bias=True))
    tensors = random_tensors(graph, np.random.default_rng(seed))
    for name in (node.name for node in graph.nodes if node.kind == "conv"):
        weight = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = weight * reach // max(1, int(np.abs(weight).max()))
    for part, least in (("threshold", 1), ("bias", -reach)):  # so that neurons fire, some of them
        for name in ("inner.lif", "up.lif"):
            tensors[f"{name}.{part}"] = np.maximum(tensors[f"{name}.{part}"] * reach // 120, least)
    return bundled(graph, tensors)
