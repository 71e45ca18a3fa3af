"""Small networks for the tests, made of NumPy's random numbers: structure from `Builder`, tensors by hand."""

from __future__ import annotations

import numpy as np

from simulator.analysis import Tensors, analyse
from simulator.builder import Builder
from simulator.graph import Graph, Node

META = {
    "network.task": "denoise",
    "training.data": "none",
    "training.terms": "none",
    "weights.licence": "CC0-1.0",
    "quality.psnr": '{"untouched input":20.25}',
}
Q = 10  # grid of currents, thresholds and the stream


def random_tensors(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tensors in proportion: currents of about one threshold, small changes at the readout."""
    analysis, tensors = analyse(graph), {}
    for node in graph.nodes:
        for part, spec in analysis.tensors[node.name].items():
            tensors[f"{node.name}.{part}"] = _random(node, part, spec.shape, rng).astype(np.int32)
    return tensors


def _random(node: Node, part: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if part == "threshold":
        return rng.integers(1 << (Q - 2), 1 << Q, shape)
    if part == "leak":
        return rng.integers(0, 4, shape)
    if node.kind == "attend":
        # Means are below 1 / 8 of the stream's range; gates come out all over 0..1.
        return rng.integers(-256, 257, shape) << (node["pool_q"] if part.endswith("bias") else 0)
    if part == "bias":
        return rng.integers(-200, 201, shape)
    fan_in = int(np.prod(shape[1:]))
    spread = (0.02 if node.name == "readout.conv" else 1.0) * 2.0 ** node["q"] * np.sqrt(2 / fan_in)
    return np.clip(np.rint(rng.normal(0, spread, shape)), -2048, 2048)


def random_network(seed: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A network with kinds, sizes, strides and attributes drawn by `seed`; every kind turns up within a few seeds."""
    rng = np.random.default_rng(seed)

    def one_of(*choices):
        return choices[rng.integers(len(choices))]

    steps, factor = one_of(1, 2, 4, 4), one_of(2, 2, 3)
    b = Builder(steps)
    counter = iter(range(1000))
    group = one_of(1, 2)
    width = group * int(rng.integers(1, 4))

    def neuron(x: str) -> str:
        return b.lif(f"lif{next(counter)}", x, one_of("shift", "decay"), one_of("zero", "subtract"))

    def block(x: str) -> str:
        y = b.conv(
            f"conv{next(counter)}", neuron(x), width, one_of(1, 3, 5), groups=group, q=one_of(8, 9, Q),
            bias=one_of(True, False),
        )  # fmt: skip
        if rng.random() < 0.3:  # a real-valued shortcut, as the paper's blocks have
            s = b.dense_conv(f"shortcut{next(counter)}", x, width, one_of(1, 3), q=6)
            y = b.sum(f"sum{next(counter)}", y, b.requantise(f"round{next(counter)}", s, 6, 1 << 13))
        return b.sum(f"sum{next(counter)}", x, y)

    def attention(x: str) -> str:
        over = one_of("time", "channel", "space", None, None)
        if over is None:
            return x
        return b.attend(f"attend{next(counter)}", x, over, one_of(1, 2, 4), int(rng.integers(1, 4)))

    x = b.dense_conv("head", b.space_to_depth("pixels", b.image(), factor), width, 3, q=8, bias=one_of(True, False))
    x = attention(block(b.requantise("head.round", x, 5, 1 << 14)))
    skip, low = neuron(x), x
    kernel = one_of(1, 2, 3)
    low = block(b.conv("down", neuron(low), width, kernel, stride=2, q=Q))
    low = attention(low)
    if rng.random() < 0.5:  # spikes enlarged and joined with others
        both = b.concat("join", skip, b.upsample("enlarge", neuron(low), 2))
        up = b.conv("up", both, width, one_of(1, 3), groups=group, q=Q)
    else:  # currents enlarged
        up = b.conv("up", neuron(low), 4 * width, 1, q=Q)
        up = b.upsample("enlarge", up, 2, "depth_to_space")
    x = block(b.sum("merge", x, up))
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 4, 1 << 12)
    x = b.dense_conv("readout.conv", x, 3 * factor**2, one_of(1, 3), q=9, bias=True)
    graph = b.finish(b.upsample("readout.pixels", x, factor, "depth_to_space"))
    return graph, random_tensors(graph, rng)


def small_network(time_steps: int = 2, size: int = 2) -> tuple[Graph, dict[str, np.ndarray]]:
    """Head, one spiking convolution, readout."""
    b = Builder(time_steps)
    x = b.dense_conv("head", b.space_to_depth("pixels", b.image(), 2), size, 3, q=8)
    x = b.requantise("round", x, 5, 1 << 14)
    x = b.sum("add", x, b.conv("conv", b.lif("lif", x), size, 3, q=Q, bias=True))
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 4, 1 << 12)
    x = b.dense_conv("readout.conv", x, 12, 1, q=9, bias=True)
    graph = b.finish(b.upsample("readout.pixels", x, 2, "depth_to_space"))
    return graph, random_tensors(graph, np.random.default_rng(0))


def identity_network() -> tuple[Graph, dict[str, np.ndarray]]:
    """A network that changes nothing: its readout's weights are 0."""
    graph, tensors = small_network()
    tensors["readout.conv.weight"][:] = 0
    tensors["readout.conv.bias"][:] = 0
    return graph, tensors


def random_image(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Smooth areas, noise, and black and white at the extremes."""
    height, width = shape[:2]
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), *shape[2:]))
    image = coarse.repeat(8, 0).repeat(8, 1)[:height, :width] + rng.normal(0, 40, shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def observed(graph: Graph, tensors: Tensors, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Every node's output on `pixels` (int16 [3, H, W], padded), from the reference."""
    from simulator.reference import Reference

    seen: dict[str, np.ndarray] = {}
    Reference(analyse(graph, tensors), tensors).run_padded(
        pixels, lambda name, value: seen.__setitem__(name, value.copy())
    )
    return seen
