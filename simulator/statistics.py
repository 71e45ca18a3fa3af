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

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.graph import Node
from simulator.kinds import kind_of
from simulator.kinds.convolution import arrivals

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


class LayerStatistics(NamedTuple):
    """Counts of one layer for one frame, over all T steps. (A tuple: of small pictures, making them is what counts.)

    Layers of neurons have neurons, spikes and a rate; layers with synapses have SyOps; others have MACs.
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
    """One frame: wall time in seconds, image size, time steps, parameters of the network, layers in order (none where
    what computed does not count).

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

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: of plain tuples, which takes a seventh of the time that named ones do."""
        layers = tuple(map(tuple, self.layers))
        rest = self.latency_s, self.height, self.width, self.T, self.params, self.recomputed
        return _unpickled, (layers, *rest)

    @cached_property
    def synops(self) -> int:
        return sum(map(attrgetter("synops"), self.layers))

    @cached_property
    def synops_max(self) -> int:
        return sum(map(attrgetter("synops_max"), self.layers))

    @property
    def spike_rate(self) -> float:
        """SyOps / SyOps if every neuron fired at every step; 0 for a network without spiking convolutions."""
        return self.synops / self.synops_max if self.synops_max else 0.0

    @cached_property
    def macs(self) -> int:
        return sum(map(attrgetter("macs"), self.layers))

    @property
    def ann_macs(self) -> int:
        """MACs of the equivalent ANN: the same layers, every synapse a multiply-accumulate, in one pass."""
        once = sum(layer.macs_printed for layer in self.layers) // self.T
        return once + self.synops_max // self.T

    def ann_uj(self, model: EnergyModel = BITS_32) -> float:
        """Energy of the equivalent ANN by the same equation, microjoules."""
        return self.ann_macs * model.mac_pj * 1e-6

    def estimated_uj(self, model: EnergyModel = BITS_32) -> float:
        """Energy of the operations that are executed, microjoules; an estimate, never a measurement."""
        return (self.synops * model.ac_pj + self.macs * model.mac_pj) * 1e-6

    def as_printed_uj(self, model: EnergyModel = BITS_32) -> float:
        """Eq. (1) as printed: every MAC counted T times, also where it is computed once. Microjoules."""
        printed = sum(layer.macs_printed for layer in self.layers)
        return (self.synops * model.ac_pj + printed * model.mac_pj) * 1e-6


def _unpickled(
    layers: tuple[tuple[Any, ...], ...], latency_s: float, height: int, width: int, T: int, params: int, part: float
) -> Statistics:
    return Statistics(latency_s, height, width, T, params, tuple(map(LayerStatistics._make, layers)), part)


def real_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Rows and columns of positions at `scale` that cover a real pixel."""
    return -(-height // scale), -(-width // scale)


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
        synapses = kind_of(node).synapses(analysis.layers[node.name])
        if synapses is None:
            continue
        *taps, fan_out = synapses
        outputs = real_size(height, width, analysis.values[node.name].scale)
        for source, factor in spike_sources(analysis, node.inputs[0]):
            inputs = real_size(height, width, analysis.values[source].scale)
            rows, columns = (
                arrivals(n * factor, m, *taps).reshape(n, factor).sum(1) for n, m in zip(inputs, outputs, strict=True)
            )
            found.append(Projection(source, node.name, rows, columns, fan_out))
    return found


def spike_sources(analysis: Analysis, name: str) -> list[tuple[str, int]]:
    """(layer, enlargement) of every layer of neurons whose spikes are the value `name`."""
    node = analysis.graph.node(name)
    kind = kind_of(node)
    if kind.neurons:
        return [(name, 1)]
    factor = kind.copies(node)
    return [(layer, factor * inner) for source in node.inputs for layer, inner in spike_sources(analysis, source)]


class Population:
    """What of a network's statistics depends on the size of the image only.

    projections: all its synapses. most: its layers as if every neuron fired at every step.
    """

    def __init__(self, analysis: Analysis, height: int, width: int):
        self.analysis, self.height, self.width = analysis, height, width
        self.projections = projections(analysis, height, width)
        self.most: list[LayerStatistics] = []
        steps = analysis.graph.time_steps
        for node in analysis.graph.nodes:
            value, kind = analysis.values[node.name], kind_of(node)
            once, each = macs(analysis, node, height, width)
            if kind.neurons:
                rows, columns = real_size(height, width, value.scale)
                neurons = value.channels * rows * columns
                self.most.append(LayerStatistics(node.name, node.kind, neurons, neurons * steps, 1.0))
            elif kind.synapses(analysis.layers[node.name]):
                most = sum(
                    analysis.values[p.source].channels * steps * int(p.rows.sum()) * int(p.columns.sum()) * p.channels
                    for p in self.projections
                    if p.target == node.name
                )
                self.most.append(LayerStatistics(node.name, node.kind, synops=most, synops_max=most))
            elif once or each:
                counts = {"macs": once + each * steps, "macs_printed": (once + each) * steps}
                self.most.append(LayerStatistics(node.name, node.kind, **counts))

    def weights(self) -> list[tuple[str, Integers, Integers]]:
        """(layer, rows, columns) of every sum that a frame needs: spikes at [y, x] of that layer, times rows[y] times
        columns[x], over all real positions. First the spikes of each layer of neurons, then each projection."""
        sums = []
        for layer in self.most:
            if layer.neurons:
                shape = real_size(self.height, self.width, self.analysis.values[layer.name].scale)
                sums.append((layer.name, np.ones(shape[0], np.int64), np.ones(shape[1], np.int64)))
        return sums + [(p.source, p.rows, p.columns) for p in self.projections]

    def layers(self, spikes: Mapping[str, int], synops: Mapping[str, int]) -> tuple[LayerStatistics, ...]:
        """The layers of a frame with so many spikes and SyOps."""
        layers = []
        for most in self.most:
            if most.neurons:
                count = spikes[most.name]
                layers.append(LayerStatistics(most.name, most.kind, most.neurons, count, count / most.spikes))
            elif most.name in synops:
                layers.append(most._replace(synops=synops[most.name]))
            else:
                layers.append(most)
        return tuple(layers)


class Counter:
    """Adds up the spikes of one frame, whole or tile by tile, and turns them into its statistics."""

    def __init__(self, population: Population):
        self.population = population
        self.spikes = {layer.name: 0 for layer in population.most if layer.neurons}
        self.synops = {projection.target: 0 for projection in population.projections}

    def add(self, maps: Mapping[str, npt.NDArray[np.int32]], top: int = 0, left: int = 0) -> None:
        """Count the spikes of a tile whose first pixel is (top, left), multiples of the deepest scale.

        `maps`: for each layer of neurons its spikes per position, [h, w], summed over channels and time. Positions that
        cover no real pixel may be there; they are left out.
        """
        sums = []
        for name, rows, columns in self.population.weights():
            scale = self.population.analysis.values[name].scale
            rows, columns = rows[top // scale :], columns[left // scale :]
            spikes = maps[name][: len(rows), : len(columns)].astype(np.int64)
            sums.append(int(rows[: len(spikes)] @ (spikes @ columns[: spikes.shape[1]])))
        self.add_sums(sums)

    def add_sums(self, sums: Iterable[int]) -> None:
        """Count spikes that were added up elsewhere with `Population.weights`: one sum for each, in that order."""
        numbers = iter(sums)
        for name in self.spikes:
            self.spikes[name] += next(numbers)
        for p in self.population.projections:
            self.synops[p.target] += next(numbers) * p.channels

    def finish(self, latency_s: float) -> Statistics:
        population, analysis = self.population, self.population.analysis
        return Statistics(
            latency_s, population.height, population.width, analysis.graph.time_steps, analysis.parameters,
            population.layers(self.spikes, self.synops),
        )  # fmt: skip


def count(
    analysis: Analysis, height: int, width: int, maps: Mapping[str, npt.NDArray[np.int32]], latency_s: float
) -> Statistics:
    """Statistics of one frame from the spike maps of the whole image."""
    counter = Counter(Population(analysis, height, width))
    counter.add(maps)
    return counter.finish(latency_s)


def macs(analysis: Analysis, node: Node, height: int, width: int) -> tuple[int, int]:
    """Multiply-accumulates of a node: (executed once per frame, executed at each time step)."""
    inputs = real_size(height, width, analysis.values[node.inputs[0]].scale) if node.inputs else (0, 0)
    outputs = real_size(height, width, analysis.values[node.name].scale)
    return kind_of(node).macs(analysis.layers[node.name], inputs, outputs)


class Tally:
    """Statistics of a run, frame by frame: memory grows by the latency alone, eight bytes a frame."""

    _AT_ONCE = 64  # frames whose layers are added up together, which is several times as quick as one by one

    def __init__(self) -> None:
        self.latencies_ms = array("d")
        self._layers: tuple[LayerStatistics, ...] = ()  # counts of all frames together, but for those in _more
        self._more: list[tuple[LayerStatistics, ...]] = []
        self.T = self.params = 0
        self.recomputed = 0.0  # sum over the frames

    def __len__(self) -> int:
        return len(self.latencies_ms)

    def add(self, frame: Statistics | Tally) -> None:
        """Count one more frame of the same network, or those that were counted elsewhere."""
        if isinstance(frame, Tally):
            self.latencies_ms.extend(frame.latencies_ms)
        else:
            self.latencies_ms.append(frame.latency_s * 1e3)
        self.T, self.params = frame.T, frame.params
        self.recomputed += frame.recomputed
        self._more.append(frame.layers)
        if len(self._more) == self._AT_ONCE:
            self._add_up()

    @property
    def layers(self) -> tuple[LayerStatistics, ...]:
        """Counts of all frames together; their rates are left to who knows T."""
        self._add_up()
        return self._layers

    def __getstate__(self) -> dict[str, Any]:
        self._add_up()  # what goes to another process is small
        return self.__dict__

    def _add_up(self) -> None:
        frames = [self._layers, *self._more] if self._layers else self._more
        self._layers = tuple(_together(*same) for same in zip(*frames, strict=True))
        self._more = []

    def report(self, *, task: str, bundle_hash: str, backend: str, model: EnergyModel = BITS_32) -> dict[str, Any]:
        """The `--stats` JSON (at least one frame): counts are means per frame, rates are over all frames.

        `power` is null: only a sensor fills it. So are counts, rates and energy where nothing was counted.
        """
        if not self:
            raise ValueError("no frame was processed, so there are no statistics to report")
        frames, layers = len(self), self.layers
        whole = Statistics(0.0, 0, 0, self.T, self.params, layers)
        counted = bool(layers)
        return {
            "task": task,
            "bundle": bundle_hash,
            "backend": backend,
            "T": self.T,
            "frames": frames,
            "recomputed": self.recomputed / frames,
            "latency_ms": {
                "median": float(np.median(self.latencies_ms)),
                "p95": float(np.percentile(self.latencies_ms, 95)),
            },
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "spike_rate": layer.spikes / (layer.neurons * self.T) if layer.neurons else None,
                    "synops": _mean(layer.synops, frames),
                    "macs": _mean(layer.macs, frames),
                }
                for layer in layers
            ],
            "totals": {
                "spike_rate": whole.spike_rate if counted else None,
                "synops": _mean(whole.synops, frames) if counted else None,
                "macs": _mean(whole.macs, frames) if counted else None,
                "params": self.params,
            },
            "energy": {
                "estimated_uj": whole.estimated_uj(model) / frames,
                "as_printed_uj": whole.as_printed_uj(model) / frames,
                "model": str(model),
            }
            if counted
            else None,
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


def _together(*frames: LayerStatistics) -> LayerStatistics:
    """Counts of the same layer in several frames added up."""
    names, kinds, neurons, spikes, _, *operations = zip(*frames, strict=False)
    return LayerStatistics(names[0], kinds[0], sum(neurons), sum(spikes), None, *map(sum, operations))


def _mean(total: int, count: int) -> float:
    """Arithmetic mean; a whole number stays one."""
    return total // count if total % count == 0 else total / count
