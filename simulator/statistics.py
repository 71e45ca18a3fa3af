"""Spikes, synaptic operations, multiply-accumulates and energy: one definition each.

- A neuron at scale s (one per channel and s x s pixels) is real if it covers a real pixel: rows 0..ceil(H/s)-1 and
  columns 0..ceil(W/s)-1. What the padding adds is computed but never counted.
- Spike rate of a layer: spikes / (neurons * T), both over the real neurons.
- Synaptic operation (SyOp): one spike of a real neuron arriving at one synapse to a real neuron (an output position of
  the convolution that holds the weight). Border-exact: taps that fall outside are not there. A spike that reaches the
  convolution through a nearest-neighbour enlargement arrives once per copy.
- A network's spike rate: SyOps / SyOps if every neuron fired at every step.
- MAC: one multiply-accumulate with a real-valued input, from a real position to a real position: dense convolutions
  (once if the input is static, else T times) and, in `attend`, the perceptron or convolution and the gate products.
- Energy: Eq. (1) of arXiv 2504.01755, T (rate E_AC OP_AC + E_MAC OP_MAC). T rate OP_AC is the number of SyOps. MACs
  are counted as executed; a second number counts every MAC T times, as the equation is printed.

Biases, neuron updates and additions of streams are no SyOps and no MACs.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import SPACE_KERNEL, Analysis
from simulator.graph import Node

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EnergyModel:
    """Energy of one multiply-accumulate and one accumulate, picojoules."""

    name: str
    mac_pj: float
    ac_pj: float

    def __str__(self) -> str:
        return (
            f"estimated by Eq. (1) with {self.mac_pj} pJ per MAC and {self.ac_pj} pJ per accumulate ({self.name}); "
            "leaves out memory traffic, neuron updates and everything but the network"
        )


BITS_32 = EnergyModel("45 nm, 32 bit", 4.6, 0.9)
BITS_16 = EnergyModel("45 nm, 16 bit", 1.5, 0.4)


@dataclass(frozen=True)
class LayerStatistics:
    """Counts of one layer for one frame, over all T steps.

    Layers of neurons (lif) have neurons, spikes and a rate; conv layers have SyOps; dense_conv and attend have MACs.
    `macs_printed` counts what is computed once per frame T times, as Eq. (1) is printed.
    """

    name: str
    kind: str
    neurons: int = 0
    spikes: int = 0
    spike_rate: float | None = None
    synops: int = 0
    synops_max: int = 0
    macs: int = 0
    macs_printed: int = 0


@dataclass(frozen=True)
class Statistics:
    """One frame: wall time in seconds, image size, time steps, parameters of the network, layers in order.

    recomputed: the share of the network's numbers that were computed for this frame (`Network.video`); all counts are
    those of the whole frame, whatever was carried over from the one before.
    """

    latency_s: float
    height: int
    width: int
    T: int
    params: int
    layers: tuple[LayerStatistics, ...]
    recomputed: float = 1.0

    @property
    def synops(self) -> int:
        return sum(layer.synops for layer in self.layers)

    @property
    def synops_max(self) -> int:
        return sum(layer.synops_max for layer in self.layers)

    @property
    def spike_rate(self) -> float:
        """SyOps / SyOps if every neuron fired at every step; 0 for a network without spiking convolutions."""
        return self.synops / self.synops_max if self.synops_max else 0.0

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def estimated_uj(self, model: EnergyModel = BITS_32) -> float:
        """Energy of the operations that are executed, microjoules; an estimate, never a measurement."""
        return (self.synops * model.ac_pj + self.macs * model.mac_pj) * 1e-6

    def as_printed_uj(self, model: EnergyModel = BITS_32) -> float:
        """Eq. (1) as printed: every MAC counted T times, also where it is computed once. Microjoules."""
        printed = sum(layer.macs_printed for layer in self.layers)
        return (self.synops * model.ac_pj + printed * model.mac_pj) * 1e-6


def real_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Rows and columns of positions at `scale` that cover a real pixel."""
    return -(-height // scale), -(-width // scale)


def arrivals(length_in: int, length_out: int, kernel: int, stride: int, padding: int) -> Integers:
    """For each of `length_in` input positions along one axis, how many taps lead to one of `length_out` outputs."""
    place = np.arange(length_in)
    count = np.zeros(length_in, np.int64)
    for tap in range(kernel):
        target = place + padding - tap
        count += (target % stride == 0) & (target >= 0) & (target < length_out * stride)
    return count


@dataclass(frozen=True)
class Projection:
    """The synapses from the neurons of layer `source` to convolution `target`.

    A spike at row y, column x of any channel arrives at rows[y] * columns[x] * channels synapses.
    """

    source: str
    target: str
    rows: Integers
    columns: Integers
    channels: int


def projections(analysis: Analysis, height: int, width: int) -> list[Projection]:
    """All synapses of spiking convolutions for an image of that size."""
    found = []
    for node in analysis.graph.nodes:
        if node.kind != "conv":
            continue
        value = analysis.values[node.name]
        outputs = real_size(height, width, value.scale)
        for source, factor in _spike_sources(analysis, node.inputs[0]):
            inputs = real_size(height, width, analysis.values[source].scale)
            rows, columns = (
                arrivals(n * factor, m, node["kernel"], node["stride"], node["padding"]).reshape(n, factor).sum(1)
                for n, m in zip(inputs, outputs, strict=True)
            )
            found.append(Projection(source, node.name, rows, columns, node["channels"] // node["groups"]))
    return found


def _spike_sources(analysis: Analysis, name: str) -> list[tuple[str, int]]:
    """(lif, enlargement) of every layer of neurons whose spikes are the value `name`."""
    node = analysis.graph.node(name)
    if node.kind == "lif":
        return [(name, 1)]
    factor = node["factor"] if node.kind == "upsample" else 1
    return [(lif, factor * inner) for source in node.inputs for lif, inner in _spike_sources(analysis, source)]


class Counter:
    """Collects the spike maps of one frame, whole or tile by tile, and turns them into its statistics."""

    def __init__(self, analysis: Analysis, height: int, width: int):
        self.analysis, self.height, self.width = analysis, height, width
        self.projections = projections(analysis, height, width)
        self.spikes = {node.name: 0 for node in analysis.graph.nodes if node.kind == "lif"}
        self.synops = {node.name: 0 for node in analysis.graph.nodes if node.kind == "conv"}

    def add(self, maps: Mapping[str, npt.NDArray[np.int32]], top: int = 0, left: int = 0) -> None:
        """Count the spikes of a tile whose first pixel is (top, left), multiples of the deepest scale.

        `maps`: for each lif node its spikes per position, [h, w], summed over channels and time. Positions that cover
        no real pixel may be there; they are left out.
        """
        cut = {}
        for name in self.spikes:
            scale = self.analysis.values[name].scale
            real = real_size(self.height - top, self.width - left, scale)
            cut[name] = maps[name][: real[0], : real[1]].astype(np.int64)
            self.spikes[name] += int(cut[name].sum())
        for p in self.projections:
            scale = self.analysis.values[p.source].scale
            spikes = cut[p.source]
            rows = p.rows[top // scale :][: len(spikes)]
            columns = p.columns[left // scale :][: spikes.shape[1]]
            self.synops[p.target] += int(rows @ (spikes @ columns)) * p.channels

    @functools.cached_property
    def _constants(self) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
        """What does not depend on the frame: SyOps of each conv if every neuron fired, and `macs` of each layer."""
        synops_max = dict.fromkeys(self.synops, 0)
        for p in self.projections:
            neurons = self.analysis.values[p.source].channels * self.analysis.graph.time_steps
            synops_max[p.target] += neurons * int(p.rows.sum()) * int(p.columns.sum()) * p.channels
        layers = [node for node in self.analysis.graph.nodes if node.kind in ("dense_conv", "attend")]
        return synops_max, {node.name: macs(self.analysis, node, self.height, self.width) for node in layers}

    def finish(self, latency_s: float) -> Statistics:
        steps, layers = self.analysis.graph.time_steps, []
        synops_max, operations = self._constants
        for node in self.analysis.graph.nodes:
            value = self.analysis.values[node.name]
            if node.kind == "lif":
                rows, columns = real_size(self.height, self.width, value.scale)
                neurons, spikes = value.channels * rows * columns, self.spikes[node.name]
                rate = spikes / (neurons * steps)
                layers.append(LayerStatistics(node.name, node.kind, neurons, spikes, rate))
            elif node.kind == "conv":
                counts = {"synops": self.synops[node.name], "synops_max": synops_max[node.name]}
                layers.append(LayerStatistics(node.name, node.kind, **counts))
            elif node.kind in ("dense_conv", "attend"):
                once, each = operations[node.name]
                layers.append(
                    LayerStatistics(node.name, node.kind, macs=once + each * steps, macs_printed=(once + each) * steps)
                )
        return Statistics(latency_s, self.height, self.width, steps, self.analysis.parameters, tuple(layers))


def count(
    analysis: Analysis, height: int, width: int, maps: Mapping[str, npt.NDArray[np.int32]], latency_s: float
) -> Statistics:
    """Statistics of one frame from the spike maps of the whole image."""
    counter = Counter(analysis, height, width)
    counter.add(maps)
    return counter.finish(latency_s)


def macs(analysis: Analysis, node: Node, height: int, width: int) -> tuple[int, int]:
    """Multiply-accumulates of a dense_conv or attend node: (executed once per frame, executed at each time step)."""
    source, value = analysis.values[node.inputs[0]], analysis.values[node.name]
    inputs, outputs = (real_size(height, width, v.scale) for v in (source, value))
    if node.kind == "dense_conv":
        taps = _taps(inputs, outputs, node["kernel"], node["stride"], node["padding"])
        total = taps * source.channels * (value.channels // node["groups"])
        return (total, 0) if source.static else (0, total)
    gated = value.channels * outputs[0] * outputs[1]  # one product per element
    once, each = (gated, 0) if value.static else (0, gated)
    if node["over"] == "space":
        gates = _taps(inputs, outputs, SPACE_KERNEL, 1, SPACE_KERNEL // 2)
        return (once + gates, each) if source.static else (once, each + gates)
    rows, columns = real_size(*inputs, node["window"])
    size = analysis.graph.time_steps if node["over"] == "time" else source.channels
    return once + rows * columns * 2 * size * node["hidden"], each


def _taps(inputs: tuple[int, int], outputs: tuple[int, int], kernel: int, stride: int, padding: int) -> int:
    """Pairs (input position, output position) that a kernel joins."""
    rows, columns = (int(arrivals(n, m, kernel, stride, padding).sum()) for n, m in zip(inputs, outputs, strict=True))
    return rows * columns


class Tally:
    """Statistics of a run, frame by frame: memory grows by the latency alone, eight bytes a frame."""

    def __init__(self) -> None:
        self.latencies_ms = array("d")
        self.layers: list[LayerStatistics] = []  # counts of all frames together
        self.T = self.params = 0

    def __len__(self) -> int:
        return len(self.latencies_ms)

    def add(self, frame: Statistics) -> None:
        """Count one more frame of the same network."""
        self.latencies_ms.append(frame.latency_s * 1e3)
        self.T, self.params = frame.T, frame.params
        if self.layers:
            self.layers = [_together(a, b) for a, b in zip(self.layers, frame.layers, strict=True)]
        else:
            self.layers = list(frame.layers)

    def report(self, *, task: str, bundle_hash: str, backend: str, model: EnergyModel = BITS_32) -> dict[str, Any]:
        """The `--stats` JSON (at least one frame): counts are means per frame, rates are over all frames.

        `power` is null: only a sensor fills it.
        """
        if not self:
            raise ValueError("no frame was processed, so there are no statistics to report")
        frames = len(self)
        whole = Statistics(0.0, 0, 0, self.T, self.params, tuple(self.layers))
        return {
            "task": task,
            "bundle": bundle_hash,
            "backend": backend,
            "T": self.T,
            "frames": frames,
            "latency_ms": {
                "median": float(np.median(self.latencies_ms)),
                "p95": float(np.percentile(self.latencies_ms, 95)),
            },
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "spike_rate": layer.spikes / (layer.neurons * self.T) if layer.kind == "lif" else None,
                    "synops": _mean(layer.synops, frames),
                    "macs": _mean(layer.macs, frames),
                }
                for layer in self.layers
            ],
            "totals": {
                "spike_rate": whole.spike_rate,
                "synops": _mean(whole.synops, frames),
                "macs": _mean(whole.macs, frames),
                "params": self.params,
            },
            "energy": {
                "estimated_uj": whole.estimated_uj(model) / frames,
                "as_printed_uj": whole.as_printed_uj(model) / frames,
                "model": str(model),
            },
            "power": None,
        }


def report(
    frames: Iterable[Statistics], *, task: str, bundle_hash: str, backend: str, model: EnergyModel = BITS_32
) -> dict[str, Any]:
    """The `--stats` JSON of a run over `frames`, see `Tally.report`."""
    tally = Tally()
    for frame in frames:
        tally.add(frame)
    return tally.report(task=task, bundle_hash=bundle_hash, backend=backend, model=model)


def _together(a: LayerStatistics, b: LayerStatistics) -> LayerStatistics:
    """Counts of the same layer added up; the rate is left to who knows T."""
    return LayerStatistics(
        a.name,
        a.kind,
        a.neurons + b.neurons,
        a.spikes + b.spikes,
        None,
        a.synops + b.synops,
        a.synops_max + b.synops_max,
        a.macs + b.macs,
        a.macs_printed + b.macs_printed,
    )


def _mean(total: int, count: int) -> float:
    """Arithmetic mean; a whole number stays one."""
    return total // count if total % count == 0 else total / count
