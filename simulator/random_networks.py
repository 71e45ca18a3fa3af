"""Random networks for conformance: every kind of node with every attribute, seeded, valid under `analyse`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.analysis import analyse, tensor_shapes, weight_tensors
from simulator.graph import Builder, Graph, GraphError, Node

Tensors = dict[str, npt.NDArray[np.int32]]
Random = np.random.Generator

CHANNELS = (1, 3, 5, 8, 12, 16, 24, 32, 40, 48)
SCALES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Known:
    """What the generator tracks of a value; `limit` bounds its magnitude, loosely."""

    name: str
    channels: int
    scale: int
    spikes: bool
    q: int
    limit: int


def random_network(seed: int) -> tuple[Graph, Tensors]:
    """A random graph and its tensors; the same ones for the same seed."""
    for attempt in range(200):
        rng = np.random.default_rng([seed, attempt])
        try:
            graph = _Candidate(rng).build()
            tensors = random_tensors(graph, rng)
            analyse(graph, tensors)
        except GraphError:
            continue
        return graph, tensors
    raise AssertionError(f"no valid network for seed {seed}")


def random_tensors(graph: Graph, rng: Random, spread: int = 60) -> Tensors:
    """Tensors that keep neurons firing: thresholds about as large as currents, leaks of all sizes."""
    analysis = analyse(graph)
    tensors: Tensors = {}
    for node in graph.nodes:
        channels = analysis.values[node.inputs[0]].channels if node.inputs else 0
        for part, shape in tensor_shapes(node, channels, graph.time_steps).items():
            tensors[f"{node.name}.{part}"] = _tensor(node, part, shape, rng, spread).astype(np.int32)
    return tensors


def _tensor(node: Node, part: str, shape: tuple[int, ...], rng: Random, spread: int) -> npt.NDArray[np.int64]:
    if part in weight_tensors(node):
        if node.kind == "conv":
            spread = int(rng.choice([spread, 2 * spread, 2048])) if math.prod(shape[1:]) < 200 else spread
        return rng.integers(-spread, spread + 1, shape)
    if part == "threshold":
        return rng.integers(1, 6 * spread, shape)
    if part == "leak":
        return rng.integers(0, 5, shape) if rng.random() < 0.5 else np.full(shape, rng.integers(0, 16))
    return rng.integers(-spread, spread + 1, shape)


class _Candidate:
    """Grows one graph; `analyse` has the last word on whether it is valid."""

    def __init__(self, rng: Random):
        self.rng = rng
        self.b = Builder(int(rng.choice([1, 2, 4, 4, 8])))
        self.known: list[Known] = []
        self.count = 0

    def pick(self, values: tuple[int, ...]) -> int:
        return int(self.rng.choice(values))

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}.{self.count}"

    def choose(self, spikes: bool) -> Known | None:
        """A value of that sort, later ones more likely."""
        matching = [value for value in self.known if value.spikes == spikes]
        return matching[-1 - int(min(self.rng.exponential(1.5), len(matching) - 1))] if matching else None

    def keep(self, name: str, channels: int, scale: int, spikes: bool, q: int, limit: int) -> Known:
        self.known.append(Known(name, channels, scale, spikes, q, limit))
        return self.known[-1]

    def build(self) -> Graph:
        x = self.keep(self.b.image(), 3, 1, False, 7, 128)
        if self.rng.random() < 0.7:
            factor = self.pick((2, 2, 4))
            x = self.keep(self.b.space_to_depth("encode.pixels", x.name, factor), 3 * factor**2, factor, False, 7, 128)
        self.dense_conv(x)
        self.lif()
        steps = [
            self.lif, self.lif, self.conv, self.conv, self.conv, self.dense_conv, self.requantise, self.sum, self.sum,
            self.concat, self.nearest, self.depth_to_space, self.attend, self.attend, self.space_to_depth,
        ]  # fmt: skip
        for _ in range(int(self.rng.integers(5, 16))):
            steps[int(self.rng.integers(len(steps)))]()
        return self.finish()

    def finish(self) -> Graph:
        x = self.choose(spikes=False)
        assert x is not None
        name = x.name
        if self.rng.random() < 0.8 or not self._static(name):
            name = self.b.time_sum("readout.sum", name)
        name = self.b.requantise("readout.round", name, self.pick((0, 1, 2)) if x.q >= 2 else 0, 1 << 10)
        q = x.q - int(self.b.nodes[-1]["shift"])
        channels = 3 * x.scale**2
        name = self.b.dense_conv(
            "readout.conv", name, channels, self.pick((1, 3)), q=max(7 - q, self.pick((4, 6, 8))),
            bias=bool(self.rng.random() < 0.5),
        )  # fmt: skip
        if x.scale > 1:
            name = self.b.upsample("readout.pixels", name, x.scale, "depth_to_space")
        return self.b.finish(name)

    def _static(self, name: str) -> bool:
        graph = Graph(tuple(self.b.nodes), self.b.time_steps)
        static: dict[str, bool] = {}
        for node in graph.nodes:
            static[node.name] = all(static[i] for i in node.inputs)
            if node.kind == "lif" or (node.kind == "attend" and node["over"] == "time"):
                static[node.name] = self.b.time_steps == 1 and node.kind == "lif"
        return static[name]

    def _convolution(self, x: Known, kind: str) -> tuple[str, int, int, int]:
        """Adds one; returns its name, channels, scale and q."""
        strides = [s for s in (1, 1, 1, 2, 3, 4) if x.scale * s in SCALES]
        stride = int(self.rng.choice(strides))
        kernel = self.pick((1, 2, 3, 3, 3, 4, 5, 7))
        paddings = [p for p in range(4) if 0 < kernel - 2 * p <= stride]
        if not paddings:
            kernel, paddings = 3 if stride == 1 else stride, [1 if stride == 1 else 0]
        channels = self.pick(CHANNELS)
        divisors = [g for g in range(1, 17) if x.channels % g == 0 and channels % g == 0]
        groups = int(self.rng.choice(divisors)) if self.rng.random() < 0.5 else 1
        if self.rng.random() < 0.15:  # depth-wise
            channels = groups = x.channels
        q = self.pick((6, 8, 10))
        name = self.b.add(
            self.name(kind), kind, (x.name,), channels=channels, kernel=kernel, stride=stride,
            padding=int(self.rng.choice(paddings)), groups=groups, q=q, bias=int(self.rng.random() < 0.4),
        )  # fmt: skip
        return name, channels, x.scale * stride, q + (0 if kind == "conv" else x.q)

    def conv(self) -> None:
        x = self.choose(spikes=True)
        if x:
            name, channels, scale, q = self._convolution(x, "conv")
            self.keep(name, channels, scale, False, q, 1 << 15)

    def dense_conv(self, x: Known | None = None) -> None:
        x = x or self.choose(spikes=False)
        if x and x.limit < 1 << 16:
            name, channels, scale, q = self._convolution(x, "dense_conv")
            shift = max(0, q - self.pick((6, 8, 10)))
            limit = 1 << self.pick((8, 12, 14, 15))
            rounded = self.b.requantise(self.name("round"), name, shift, limit)
            self.keep(rounded, channels, scale, False, q - shift, limit)

    def requantise(self) -> None:
        x = self.choose(spikes=False)
        if x and x.q > 5:
            shift, lo, hi = self.pick((0, 1, 2)), -self.pick((0, 100, 5000)), self.pick((1, 100, 32768))
            name = self.b.add(self.name("round"), "requantise", (x.name,), shift=shift, lo=lo, hi=hi)
            self.keep(name, x.channels, x.scale, False, x.q - shift, max(-lo, hi))

    def lif(self) -> None:
        x = self.choose(spikes=False)
        if x:
            leak, reset = self.rng.choice(["shift", "decay"]), self.rng.choice(["zero", "subtract"])
            name = self.b.lif(self.name("lif"), x.name, str(leak), str(reset))
            self.keep(name, x.channels, x.scale, True, 0, 1)

    def _alike(self, x: Known, channels: bool) -> Known:
        matching = [
            v for v in self.known
            if v.scale == x.scale and v.spikes == x.spikes and (v.channels == x.channels or not channels)
        ]  # fmt: skip
        return matching[int(self.rng.integers(len(matching)))]

    def sum(self) -> None:
        x = self.choose(spikes=False)
        if x:
            others = [self._alike(x, channels=True) for _ in range(self.pick((1, 1, 2)))]
            q = max(v.q for v in (x, *others))
            limit = sum(v.limit << (q - v.q) for v in (x, *others))
            if limit < 1 << 28:
                name = self.b.sum(self.name("sum"), x.name, *(v.name for v in others))
                self.keep(name, x.channels, x.scale, False, q, limit)

    def concat(self) -> None:
        x = self.choose(spikes=bool(self.rng.random() < 0.5))
        if x:
            other = self._alike(x, channels=False)
            q = max(x.q, other.q)
            limit = max(x.limit << (q - x.q), other.limit << (q - other.q))
            name = self.b.concat(self.name("concat"), x.name, other.name)
            self.keep(name, x.channels + other.channels, x.scale, x.spikes, q, limit)

    def nearest(self) -> None:
        x = self.choose(spikes=bool(self.rng.random() < 0.5))
        if x and x.scale > 1:
            factor = int(self.rng.choice([f for f in range(2, 9) if x.scale % f == 0]))
            name = self.b.upsample(self.name("nearest"), x.name, factor)
            self.keep(name, x.channels, x.scale // factor, x.spikes, x.q, x.limit)

    def depth_to_space(self) -> None:
        x = self.choose(spikes=False)
        if x:
            factors = [f for f in (2, 3, 4) if x.scale % f == 0 and x.channels % f**2 == 0]
            if factors:
                factor = int(self.rng.choice(factors))
                name = self.b.upsample(self.name("shuffle"), x.name, factor, "depth_to_space")
                self.keep(name, x.channels // factor**2, x.scale // factor, False, x.q, x.limit)

    def space_to_depth(self) -> None:
        x = self.choose(spikes=False)
        if x and x.scale * 2 in SCALES and x.channels <= 16:
            name = self.b.space_to_depth(self.name("depth"), x.name, 2)
            self.keep(name, x.channels * 4, x.scale * 2, False, x.q, x.limit)

    def attend(self) -> None:
        x = self.choose(spikes=False)
        if x and x.limit < 1 << 20:
            over = str(self.rng.choice(["time", "channel", "space"]))
            window = self.pick((1, 2, 4, 8))
            hidden = 0 if over == "space" else self.pick((1, 3, 8))
            name = self.b.attend(
                self.name(over), x.name, over, window, hidden, pool_q=min(x.q, self.pick((4, 6, 8))),
                q=self.pick((6, 8)), gate_q=self.pick((4, 6, 8)),
            )  # fmt: skip
            self.keep(name, x.channels, x.scale, False, x.q, x.limit)


def narrow_paper_network(
    widths: tuple[int, ...] = (6, 12), time_steps: int = 4, seed: int = 0
) -> tuple[Graph, Tensors]:
    """A few channels of the paper's architecture: full resolution, real-valued shortcut convolutions, attention.

    Per block: neuron -> 3x3 convolution -> neuron -> 3x3 convolution, beside a real-valued 3x3 shortcut, then attention
    over time, channel and space, then the sum.
    """
    b = Builder(time_steps)

    def block(name: str, x: str, width: int) -> str:
        y = b.conv(f"{name}.conv1", b.lif(f"{name}.lif1", x, "shift", "zero"), width, q=8)
        y = b.conv(f"{name}.conv2", b.lif(f"{name}.lif2", y, "shift", "zero"), width, q=8)
        shortcut = b.dense_conv(f"{name}.shortcut", x, width, q=8)
        y = b.sum(f"{name}.residual", y, b.requantise(f"{name}.round", shortcut, 8, 1 << 12))
        y = b.attend(f"{name}.time", y, "time", 4, 3)
        y = b.attend(f"{name}.channel", y, "channel", 4, 4)
        y = b.attend(f"{name}.space", y, "space")
        return b.sum(f"{name}.add", x, y)

    x = b.requantise("encode.round", b.dense_conv("encode.conv", b.image(), widths[0], q=8), 7, 1 << 12)
    skips = []
    for level, width in enumerate(widths):
        if level:
            x = b.conv(f"down{level}.conv", b.lif(f"down{level}.lif", x), width, 2, stride=2, q=8)
        x = block(f"encoder{level + 1}", x, width)
        skips.append(x)
    for level in range(len(widths) - 2, -1, -1):
        up = b.upsample(f"up{level + 1}.nearest", b.lif(f"up{level + 1}.lif", x))
        x = b.conv(f"up{level + 1}.conv", up, widths[level], 1, q=8)
        both = b.concat(f"up{level + 1}.concat", x, skips[level])
        fused = b.conv(f"up{level + 1}.fuse", b.lif(f"up{level + 1}.fuse.lif", both), widths[level], 1, q=8)
        x = block(f"decoder{level + 1}", fused, widths[level])
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 2, 1 << 10)
    graph = b.finish(b.dense_conv("readout.conv", x, 3, q=8, bias=True))
    tensors = random_tensors(graph, np.random.default_rng(seed))
    analyse(graph, tensors)
    return graph, tensors
