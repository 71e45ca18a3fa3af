"""How close the accumulate kernel comes to what this processor can do with the same instructions.

The bound is a loop that does nothing but the work: per event it takes a 16-bit offset from a list (four with one load),
loads the weight row at that offset from the first-level cache and adds it to accumulators that stay in registers. There
is one list of thousands of events: no spikes are turned into events, no run of them ends, nothing is stored but once.
The kernel is `kernels.spikes.conv` as the engine runs it, on random spikes that lie in memory as bits: it lists the
events, sums the runs of all output pixels and writes the sums to scratch memory. Neurons are not part of it.

Both are counted in synaptic operations (SyOps), one added number each, border-exact (`simulator.statistics`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.engine.alone import NodeAlone
from simulator.engine.records import TABLE_VECTORS
from simulator.engine.tables import aligned, padded
from simulator.engine.vectors import I16X32, I32X16, load, load_i64, splat, store
from simulator.kinds.convolution import arrivals
from simulator.statistics import projections

LISTED = 4096  # events in the bound's list: 8 KiB
VECTOR = 64  # bytes


@dataclass(frozen=True)
class Roofline:
    """One convolution at one spike rate, one thread.

    rate: spikes / (neurons * T), as drawn. accumulator: "int16" or "int32". synops: SyOps of one call. seconds: median
    time of one call. bytes_moved: what one call loads and stores, nearly all of it in the first-level cache (weight
    rows as often as they are added, events written and read, spikes read, sums written). bound_synops_per_s: the
    bound's SyOps per second, from the median of its times, which were taken in turn with the others.
    """

    rate: float
    inputs: int
    outputs: int
    kernel: int
    accumulator: str
    synops: int
    seconds: float
    bytes_moved: int
    bound_synops_per_s: float

    @property
    def synops_per_s(self) -> float:
        return self.synops / self.seconds

    @property
    def fraction(self) -> float:
        """SyOps per second of the kernel / those of the bound."""
        return self.synops_per_s / self.bound_synops_per_s

    @property
    def bytes_per_s(self) -> float:
        return self.bytes_moved / self.seconds


def measure(
    rate: float,
    inputs: int = 32,
    outputs: int = 32,
    kernel: int = 3,
    side: int = 128,
    time_steps: int = 4,
    accumulator: str = "int16",
    repeats: int = 15,
    seed: int = 0,
) -> Roofline:
    """Time the convolution `inputs` -> `outputs` channels (kernel x kernel from 2 on, stride 1) and the bound in turn.

    The layer is side x side positions over `time_steps` steps, its spikes independent with probability `rate`. Raises
    ValueError for a rate outside 0..1, and where the accumulator does not fit the number of channels.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a spike rate of {rate} was given; expected 0 to 1")
    if kernel < 2:
        raise ValueError("a 1x1 convolution has a kernel without events; give a kernel of 2 or more")
    layer = _Layer(inputs, outputs, kernel, side, time_steps, accumulator)
    drawn = layer.draw(rate, np.random.default_rng(seed))
    bound = _Bound(inputs * kernel**2, outputs, accumulator)
    times, bounds = [], []
    for _ in range(repeats + 1):  # the first of each warms the caches
        times.append(_timed(layer.run))
        bounds.append(_timed(bound.run))
    return Roofline(
        drawn, inputs, outputs, kernel, accumulator, layer.synops, float(np.median(times[1:])), layer.bytes_moved,
        bound.synops / float(np.median(bounds[1:])),
    )  # fmt: skip


def _timed(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


class _Layer:
    """A small network, of which only the records of one convolution are run."""

    def __init__(self, inputs: int, outputs: int, kernel: int, side: int, time_steps: int, accumulator: str):
        b = Builder(time_steps=time_steps)
        x = b.lif("lif", b.dense_conv("encode", b.image(), inputs, 1, q=4))
        x = b.requantise("round", b.conv("conv", x, outputs, kernel, q=4), 2, 1 << 8)
        graph = b.finish(b.dense_conv("readout.conv", b.time_sum("sum", x), 3, 1, q=6))
        tensors = {name: np.ones(shape, np.int32) for name, shape in analyse(graph).shapes.items()}
        fan_in = inputs * kernel**2
        tensors["conv.weight"] *= 2047 if accumulator == "int32" else min(2047, 32767 // fan_in)
        self.analysis = analyse(graph, tensors)
        if self.analysis.width("conv") != accumulator:
            raise ValueError(f"{inputs} channels under a {kernel}x{kernel} kernel do not accumulate in {accumulator}")
        self.side = side
        self.alone = NodeAlone(self.analysis, tensors, "conv", side, side, stored=False)

    def draw(self, rate: float, rng: np.random.Generator) -> float:
        """Put random spikes in front of the convolution; the share that fires. Sets `synops` and `bytes_moved`."""
        channels = self.analysis.values["lif"].channels
        memory = self.alone.stored("lif")
        spikes = np.zeros((*memory.shape[:3], padded(channels)), bool)
        inside = spikes[:, :, : self.side, :channels]
        inside[...] = rng.random(inside.shape) < rate
        memory[...] = np.packbits(spikes, axis=3, bitorder="little")
        counts = inside.sum((0, 3))
        (synapses,) = projections(self.analysis, self.side, self.side)
        self.synops = int(synapses.rows @ (counts @ synapses.columns)) * synapses.channels
        self.bytes_moved = self._bytes_moved(counts)
        return float(inside.mean())

    def _bytes_moved(self, counts: npt.NDArray[np.int64]) -> int:
        node, size = self.analysis.graph.node("conv"), self.alone.plan.forms["conv"].size
        steps = self.analysis.graph.time_steps
        total = steps * self.side**2 * padded(node["channels"]) * size
        for table in self.alone.plan.spike_tables["conv"]:
            # How many blocks of output pixels have a row, or a column, of spikes under them.
            rows, columns = (
                arrivals(self.side, -(-self.side // block), node["kernel"] + block - 1, block, node["padding"])
                for block in (table.rows, table.columns)
            )
            listed = int(rows @ counts.sum(1))
            read = listed if table.slides else int(rows @ (counts @ columns))
            total += 2 * listed + read * table.chunks * (2 + VECTOR * table.vectors * max(table.slides, 1))
            total += 2 * table.words * steps * self.side * int(rows.sum())
        return total

    def run(self) -> None:
        self.alone.run()


class _Bound:
    """The bound's loop over weight rows of `outputs` channels, `fan_in` of them."""

    def __init__(self, fan_in: int, outputs: int, accumulator: str):
        kind, size = (np.int32, 4) if accumulator == "int32" else (np.int16, 2)
        lanes = padded(outputs, VECTOR // size)
        row = lanes * size
        rng = np.random.default_rng(0)
        self.table = aligned(np.ones((fan_in, lanes), kind))
        self.events = aligned((rng.integers(0, fan_in, LISTED) * (row // 8)).astype(np.uint16))
        self.sums = aligned(np.zeros(lanes, kind))
        self.vectors, self.rounds = row // VECTOR, 100
        self.synops = self.rounds * LISTED * outputs
        self._loop = _bound_loop(accumulator == "int32", min(self.vectors, TABLE_VECTORS))

    def run(self) -> None:
        step = min(self.vectors, TABLE_VECTORS)
        for first in range(0, self.vectors, step):
            self._loop(
                self.events.ctypes.data, LISTED, self.rounds, self.table.ctypes.data + VECTOR * first,
                self.sums.ctypes.data + VECTOR * first,
            )  # fmt: skip


@functools.cache
def _bound_loop(wide: bool, vectors: int) -> Any:
    """events (a multiple of four), their number, how often to go through them, weight table, address of the sums."""
    kind = I32X16 if wide else I16X32

    if vectors == 1:

        @njit(nogil=True)
        def loop(events: int, count: int, rounds: int, table: int, sums: int) -> None:
            a, b, c, d = splat(kind, 0), splat(kind, 0), splat(kind, 0), splat(kind, 0)
            for _ in range(rounds):
                for event in range(events, events + 2 * count, 8):
                    four = load_i64(event)
                    a = a + load(kind, table + ((four & 0xFFFF) << 3))
                    b = b + load(kind, table + ((four >> 16 & 0xFFFF) << 3))
                    c = c + load(kind, table + ((four >> 32 & 0xFFFF) << 3))
                    d = d + load(kind, table + ((four >> 48 & 0xFFFF) << 3))
            store(sums, a + b + (c + d))
    else:

        @njit(nogil=True)
        def loop(events: int, count: int, rounds: int, table: int, sums: int) -> None:
            a, b, c, d = splat(kind, 0), splat(kind, 0), splat(kind, 0), splat(kind, 0)
            for _ in range(rounds):
                for event in range(events, events + 2 * count, 8):
                    four = load_i64(event)
                    row = table + ((four & 0xFFFF) << 3)
                    a, b = a + load(kind, row), b + load(kind, row + 64)
                    row = table + ((four >> 16 & 0xFFFF) << 3)
                    c, d = c + load(kind, row), d + load(kind, row + 64)
                    row = table + ((four >> 32 & 0xFFFF) << 3)
                    a, b = a + load(kind, row), b + load(kind, row + 64)
                    row = table + ((four >> 48 & 0xFFFF) << 3)
                    c, d = c + load(kind, row), d + load(kind, row + 64)
            store(sums, a + c)
            store(sums + 64, b + d)

    return loop
