"""Random networks for conformance: every kind of node with every attribute, seeded, valid under `analyse`.

What can be drawn of each kind stands with the kind; here it is put together to networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.graph import Graph, GraphError
from simulator.kinds import KINDS, kind_of
from simulator.kinds.dense_conv import draw_rounded
from simulator.kinds.layer import Random
from simulator.kinds.sketch import Known, Sketch
from simulator.structure import with_defaults

Tensors = dict[str, npt.NDArray[np.int32]]

# The kinds that are drawn for every network, in this order: a seed gives the same network however many kinds there are.
_DRAWN = ("lif", "conv", "dense_conv", "requantise", "sum", "concat", "upsample", "attend", "space_to_depth")
# All kinds that `random_network` gives without being asked for one.
USUAL = ("image", *_DRAWN, "time_sum", "readout")


def random_network(seed: int, kind: str | None = None, kinds: Sequence[str] = _DRAWN) -> tuple[Graph, Tensors]:
    """A random graph of the usual kinds and its tensors; the same ones for the same seed.

    kind: a smaller network in which about every second node is of that kind, usual or not. kinds: what is drawn between
    the first layer of neurons and the readout.
    """
    for attempt in range(200):
        rng = np.random.default_rng([seed, attempt])
        try:
            graph = _grown(rng, kind, kinds)
            tensors = random_tensors(graph, rng)
            analyse(graph, tensors)
        except GraphError:
            continue
        if kind is None or kind in {node.kind for node in graph.nodes}:
            return graph, tensors
    raise AssertionError(f"no valid network for seed {seed}")


def random_tensors(graph: Graph, rng: Random, spread: int = 60) -> Tensors:
    """Tensors that keep neurons firing: thresholds about as large as currents, leaks of all sizes."""
    return {
        f"{name}.{part}": spec.draw(rng, spec.shape, spread).clip(*spec.range).astype(np.int32)
        for name, specs in analyse(graph).tensors.items()
        for part, spec in specs.items()
    }


def _grown(rng: Random, kind: str | None, kinds: Sequence[str]) -> Graph:
    """A graph of some real-valued and spiking layers, random ones, and a readout."""
    steps = int(rng.choice([1, 2, 4, 4, 8]))
    sketch = Sketch(rng, steps, with_defaults, lambda layer: kind_of(layer.node).output(layer))
    x = sketch.keep(sketch.add("image", "image", (), 128))
    if sketch.chance(0.7):
        factor = sketch.pick((2, 2, 4))
        x = sketch.keep(sketch.add("encode.pixels", "space_to_depth", (x,), 128, factor=factor))
    draw_rounded(sketch, x)
    KINDS["lif"].draws()[0](sketch)
    usual = [draw for name in kinds for draw in KINDS[name].draws()]
    special = (*KINDS[kind].draws(), *KINDS[kind].later_draws()) if kind else ()
    for _ in range(int(rng.integers(5, 16)) if kind is None else 6):
        draws = special if special and sketch.chance(0.5) else usual
        draws[int(rng.integers(len(draws)))](sketch)
    _read_out(sketch)
    return Graph(tuple(sketch.nodes), sketch.time_steps)


def _read_out(sketch: Sketch) -> None:
    """Adds what leads from some value to the picture."""
    x = sketch.choose(spikes=False)
    assert x is not None
    total: Known = x
    if sketch.chance(0.8) or not x.value.static:
        total = sketch.add("readout.sum", "time_sum", (x,), x.limit)
    shift = sketch.pick((0, 1, 2)) if x.value.q >= 2 else 0
    rounded = sketch.add("readout.round", "requantise", (total,), 1 << 10, shift=shift, lo=-(1 << 10), hi=(1 << 10) - 1)
    scale, kernel = x.value.scale, sketch.pick((1, 3))
    y = sketch.add(
        "readout.conv", "dense_conv", (rounded,), 0, channels=3 * scale**2, kernel=kernel, stride=1,
        padding=(kernel - 1) // 2, groups=1, q=max(7 - rounded.value.q, sketch.pick((4, 6, 8))),
        bias=int(sketch.chance(0.5)),
    )  # fmt: skip
    if scale > 1:
        y = sketch.add("readout.pixels", "upsample", (y,), 0, factor=scale, mode="depth_to_space")
    sketch.add("readout", "readout", (y,), 0)


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
