"""The first number in which two backends differ: its layer, step, row, column and channel.

Backends tell by traces (`simulator.trace`: a hash per layer and step), and then, for the one layer and step where the
first hashes differ, by the numbers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge.native import Restored
from firmware_bridge.plan import Plan
from simulator.analysis import Analysis
from simulator.bundle import Bundle
from simulator.network import Network
from simulator.trace import Trace, digest

Planes = npt.NDArray[np.int32]


class Tracer(Protocol):
    """A backend whose layers can be inspected. Pictures: uint8 RGB [H, W, 3], any size; layers: of the padded one."""

    def trace(self, picture: npt.NDArray[np.uint8]) -> Trace:
        """Hashes of every layer that can be looked at, in the order of the graph."""

    def planes(self, picture: npt.NDArray[np.uint8], layer: str, step: int) -> Planes:
        """What a layer gives at one step, int32 [C, h, w]."""


class NetworkTracer:
    """Looks into a backend of the simulator."""

    def __init__(self, network: Network):
        self._network = network

    def trace(self, picture: npt.NDArray[np.uint8]) -> Trace:
        return self._network.trace(picture)

    def planes(self, picture: npt.NDArray[np.uint8], layer: str, step: int) -> Planes:
        found: list[Planes] = []

        def observe(name: str, value: npt.NDArray[Any]) -> None:
            if name == layer:
                found.append(value[step].astype(np.int32))

        self._network.observe(picture, observe)
        return found[0]


class Looking(Protocol):
    """The C core: in this process (`native.Core`), on an emulated machine (`runner.Runner`) or at the end of a link."""

    def run(self, picture: npt.NDArray[np.uint8], *, trace: bool = False) -> Restored: ...

    def look(self, picture: npt.NDArray[np.uint8], layer: int, step: int, channel: int) -> npt.NDArray[np.int32]: ...


class CoreTracer:
    """Looks into a C core that has opened `plan`, which was compiled with fuse=False and so stores every node."""

    def __init__(self, bundle: Bundle, plan: Plan, core: Looking):
        self._bundle, self._plan, self._core = bundle, plan, core

    def trace(self, picture: npt.NDArray[np.uint8]) -> Trace:
        found = self._core.run(padded(self._bundle, picture), trace=True)
        assert found.trace is not None
        return hashes_by_layer(self._bundle.analysis, found.trace, found.image)

    def planes(self, picture: npt.NDArray[np.uint8], layer: str, step: int) -> Planes:
        analysis, picture = self._bundle.analysis, padded(self._bundle, picture)
        if layer == analysis.graph.nodes[-1].name:  # the picture itself
            return np.ascontiguousarray(self._core.run(picture).image.transpose(2, 0, 1), dtype=np.int32)
        value, number = analysis.values[layer], self._plan.layers.index(layer)
        shape = picture.shape[0] // value.scale, picture.shape[1] // value.scale
        channels = [self._core.look(picture, number, step, channel) for channel in range(value.channels)]
        return np.stack([plane.reshape(shape) for plane in channels])


def hashes_by_layer(analysis: Analysis, hashes: npt.NDArray[np.uint64], restored: npt.NDArray[np.uint8]) -> Trace:
    """A trace as `simulator.trace` has it, of the layers that are stored and the restored picture [H, W, 3]."""
    found: Trace = {}
    for node, row in zip(analysis.graph.nodes, hashes, strict=True):
        steps = 1 if analysis.values[node.name].static else analysis.graph.time_steps
        if row[:steps].any():
            found[node.name] = [int(number).to_bytes(8, "little").hex() for number in row[:steps]]
    found[analysis.graph.nodes[-1].name] = digest(restored.transpose(2, 0, 1)[None])
    return found


@dataclass(frozen=True)
class Place:
    """The first number that differs, rows first: row and column are those of the layer, not of the picture."""

    layer: str
    step: int
    row: int
    column: int
    channel: int
    expected: int
    found: int

    def __str__(self) -> str:
        return (
            f"layer {self.layer!r}, step {self.step}, row {self.row}, column {self.column}, channel {self.channel}: "
            f"{self.found} instead of {self.expected}"
        )


def first_place(expected: Tracer, found: Tracer, picture: npt.NDArray[np.uint8]) -> Place | None:
    """Where `found` first differs from `expected` on this picture, or None; raises what the backends raise.

    Layers that one of the two does not tell about are passed over.
    """
    theirs = found.trace(picture)
    for layer, hashes in expected.trace(picture).items():
        for step, (one, other) in enumerate(zip(hashes, theirs.get(layer, hashes), strict=True)):
            if one != other:
                sound, faulty = (tracer.planes(picture, layer, step) for tracer in (expected, found))
                channel_last = np.argwhere((sound != faulty).transpose(1, 2, 0))
                row, column, channel = (int(index) for index in channel_last[0])
                at = channel, row, column
                return Place(layer, step, row, column, channel, int(sound[at]), int(faulty[at]))
    return None


def padded(bundle: Bundle, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The picture with its last row and column repeated up to the size that the network needs."""
    height, width = picture.shape[:2]
    rows, columns = bundle.analysis.padded(height, width)
    return np.pad(picture, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
