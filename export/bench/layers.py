"""One spiking convolution at a time: its time against the spike rate, and the accumulate kernel against the roofline.

Spikes are random and independent; the layer has SIDE x SIDE positions, T steps and the bundle's own weights. Timed is
the engine's pass of that convolution alone, unfused: spikes lie in memory as bits, currents are written to memory. (In
a whole network currents stay in the cache, and the neurons' work comes on top.) Beside it ONNX Runtime computes the
same layer densely in float32 over all T steps at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from export.bench.dense import onnx_session
from export.bench.roofline import measure
from export.files import missing_package
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import Bundle
from simulator.engine.alone import NodeAlone
from simulator.graph import Node
from simulator.statistics import projections

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SIDE = 128  # positions of the layer's input, per side


def shapes(bundle: Bundle) -> dict[tuple[Any, ...], list[Node]]:
    """The bundle's spiking convolutions, alike ones together: channels, kernel, stride, groups, accumulator."""
    found: dict[tuple[Any, ...], list[Node]] = {}
    for node in bundle.graph.nodes:
        if node.kind == "conv":
            inputs = bundle.analysis.values[node.inputs[0]].channels
            attrs = tuple(node[key] for key in ("channels", "kernel", "stride", "padding", "groups"))
            found.setdefault((inputs, *attrs, bundle.analysis.width(node.name)), []).append(node)
    return found


class SpikingLayer:
    """A small network of which only the pass of one convolution is run, on spikes that are put in front of it."""

    def __init__(self, bundle: Bundle, node: Node, side: int, threads: int):
        inputs = bundle.analysis.values[node.inputs[0]].channels
        b = Builder(bundle.graph.time_steps)
        spikes = b.lif("lif", b.dense_conv("encode", b.image(), inputs, 1, q=4))
        x = b.add("conv", "conv", (spikes,), **node.attrs)
        x = b.requantise("round", x, min(2, node["q"]), 1 << 8)
        x = b.dense_conv("readout.conv", b.time_sum("sum", x), 3 * node["stride"] ** 2, 1, q=7)
        if node["stride"] > 1:
            x = b.upsample("pixels", x, node["stride"], "depth_to_space")
        graph = b.finish(x)
        tensors = {name: np.ones(shape, np.int32) for name, shape in analyse(graph).shapes.items()}
        for part in ("weight", "bias") if node["bias"] else ("weight",):
            tensors[f"conv.{part}"] = bundle.tensors[f"{node.name}.{part}"]
        self.analysis, self.side = analyse(graph, tensors), side
        self.alone = NodeAlone(self.analysis, tensors, "conv", side, side, threads)

    def draw(self, rate: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], int]:
        """(bits for `place`, synaptic operations) of random spikes at that rate."""
        memory, channels = self.alone.stored("lif"), self.analysis.values["lif"].channels
        spikes = np.zeros((*memory.shape[:3], 8 * memory.shape[3]), bool)
        inside = spikes[:, :, : self.side, :channels]
        inside[...] = rng.random(inside.shape) < rate
        (synapses,) = projections(self.analysis, self.side, self.side)
        synops = int(synapses.rows @ (inside.sum((0, 3)) @ synapses.columns)) * synapses.channels
        return np.packbits(spikes, axis=3, bitorder="little"), synops

    def place(self, bits: npt.NDArray[np.uint8]) -> None:
        self.alone.stored("lif")[...] = bits

    def run(self) -> None:
        self.alone.run()

    def currents(self) -> npt.NDArray[np.int64]:
        """What `run` left, [T, C, h, w]."""
        return self.alone.value("conv")


def dense_convolution(bundle: Bundle, node: Node, side: int, threads: int) -> Any:
    """A call: the layer in ONNX Runtime, float32, on [T, C_in, side, side]. Raises a sentence if it is missing."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise ImportError(missing_package("onnx")) from error
    weight = bundle.tensors[f"{node.name}.weight"].astype(np.float32)
    spikes = [bundle.graph.time_steps, weight.shape[1] * node["groups"], side, side]
    conv = helper.make_node(
        "Conv", ["spikes", "weight"], ["currents"], kernel_shape=[node["kernel"]] * 2, strides=[node["stride"]] * 2,
        pads=[node["padding"]] * 4, group=node["groups"],
    )  # fmt: skip
    ends = [helper.make_tensor_value_info("spikes", TensorProto.FLOAT, spikes)]
    ends.append(helper.make_tensor_value_info("currents", TensorProto.FLOAT, [None] * 4))
    graph = helper.make_graph([conv], "layer", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnx_session(model, threads)
    drawn = (np.random.default_rng(0).random(spikes) < 0.1).astype(np.float32)
    return lambda: session.run(None, {"spikes": drawn})


def sweep(bundle: Bundle, threads: int, repeats: int, side: int = SIDE) -> Iterator[dict[str, Any]]:
    """For each shape: milliseconds and SyOps at each rate, the dense time, and the rate at which both are equal."""
    for shape, nodes in shapes(bundle).items():
        layer = SpikingLayer(bundle, nodes[0], side, threads)
        rng = np.random.default_rng(0)
        drawn = {rate: layer.draw(rate, rng) for rate in RATES}
        try:
            dense = dense_convolution(bundle, nodes[0], side, threads)
        except ImportError:
            dense = None
        times: dict[float | str, list[float]] = {rate: [] for rate in RATES} | {"dense": []}
        for _ in range(repeats):
            for rate, (bits, _) in drawn.items():
                layer.place(bits)
                times[rate].append(_timed(layer.run))
            if dense is not None:
                times["dense"].append(_timed(dense))
        inputs, outputs, kernel, stride, _, groups, accumulator = shape
        medians = [median(times[rate]) for rate in RATES]
        dense_ms = median(times["dense"]) if times["dense"] else None
        yield {
            "shape": f"{inputs}->{outputs} {kernel}x{kernel}"
            + (f" stride {stride}" if stride > 1 else "")
            + (f" groups {groups}" if groups > 1 else ""),
            "accumulator": accumulator,
            "layers": [node.name for node in nodes],
            "rates": [
                {"rate": rate, "ms": ms, "synops": drawn[rate][1], "synops_per_s": drawn[rate][1] / ms * 1e3}
                for rate, ms in zip(RATES, medians, strict=True)
            ],
            "onnx_float32_ms": dense_ms,
            "equal_at_rate": None if dense_ms is None else crossing(RATES, medians, dense_ms),
        }


def crossing(rates: tuple[float, ...], times: list[float], level: float) -> float | None:
    """The rate at which the times, joined by straight lines, first exceed the level; None if they never do."""
    if times[0] > level:
        return 0.0
    for i in range(1, len(rates)):
        if times[i] > level:
            part = (level - times[i - 1]) / (times[i] - times[i - 1])
            return rates[i - 1] + part * (rates[i] - rates[i - 1])
    return None


def _timed(call: Any) -> float:
    """Milliseconds of the second of two calls. The first one brings weights and spikes into the caches, whatever was
    there before."""
    call()
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def roofline(bundle: Bundle, repeats: int) -> list[dict[str, Any]]:
    """The accumulate kernel against the processor's bound for the same instructions (`export.bench.roofline`),
    one thread: at 10 % spikes with 32 channels and both accumulators, then for the bundle's own shapes."""
    wanted = [(32, 32, 3, accumulator) for accumulator in ("int16", "int32")]
    for inputs, outputs, kernel, stride, _, groups, accumulator in shapes(bundle):
        one = (inputs // groups, outputs // groups, kernel, accumulator)
        if stride == 1 and kernel > 1 and one not in wanted:
            wanted.append(one)
    rows = []
    for inputs, outputs, kernel, accumulator in wanted:
        try:
            found = measure(0.1, inputs, outputs, kernel, accumulator=accumulator, repeats=repeats)
        except ValueError:  # so few channels cannot be made to need that accumulator
            continue
        rows.append(
            {
                "shape": f"{inputs}->{outputs} {kernel}x{kernel}",
                "accumulator": accumulator,
                "rate": found.rate,
                "ms": found.seconds * 1e3,
                "synops": found.synops,
                "synops_per_s": found.synops_per_s,
                "bound_synops_per_s": found.bound_synops_per_s,
                "fraction": found.fraction,
                "bytes_moved": found.bytes_moved,
                "bytes_per_s": found.bytes_per_s,
            }
        )
    return rows
