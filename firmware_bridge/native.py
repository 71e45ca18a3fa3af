"""The C core on this machine: `run(bundle, image)` gives what every other backend gives, to the last bit."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from firmware_bridge.build import shared_library
from firmware_bridge.plan import Plan, compile_bundle
from simulator.analysis import Analysis
from simulator.bundle import Bundle
from simulator.network import Result, as_given, as_rgb
from simulator.statistics import Population, Statistics
from simulator.trace import Trace, digest

TILE_FIELDS = (
    "image_height", "image_width", "top", "left", "height", "width",
    "inner_top", "inner_left", "inner_height", "inner_width",
)  # fmt: skip
COUNTS = np.dtype([("spikes", "<u8"), ("synops", "<u8"), ("macs", "<u8")])
STATUSES = (
    "SNN_OK", "SNN_ALIGNMENT", "SNN_TRUNCATED", "SNN_NOT_A_PLAN", "SNN_VERSION", "SNN_HASH", "SNN_HEADER", "SNN_VALUE",
    "SNN_OPERATION", "SNN_TERM", "SNN_PROJECTION", "SNN_CONSTANT", "SNN_SIZE", "SNN_TOO_LARGE", "SNN_MEMORY",
    "SNN_MODE", "SNN_STOPPED",
)  # fmt: skip


class CoreError(RuntimeError):
    """The core refused a plan or a tile. `status`: its name in firmware/core/snn.h, as "SNN_HASH"."""

    def __init__(self, status: int, doing: str):
        self.status = STATUSES[status] if status < len(STATUSES) else f"status {status}"
        super().__init__(f"the C core answered {self.status} when {doing}")


@dataclass(frozen=True)
class Tile:
    """Which pixels are given and which of them are counted; see snn_tile in firmware/core/snn.h."""

    image_height: int
    image_width: int
    top: int
    left: int
    height: int
    width: int
    inner_top: int
    inner_left: int
    inner_height: int
    inner_width: int

    @staticmethod
    def whole(height: int, width: int) -> Tile:
        return Tile(height, width, 0, 0, height, width, 0, 0, height, width)

    def fields(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in TILE_FIELDS)


@dataclass(frozen=True)
class Restored:
    """What the core gives for a tile. image: uint8 [height, width, 3]. counts: [layers] of COUNTS. trace: uint64
    [layers, T], 0 where nothing is stored, or None. seconds: its wall time."""

    image: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.void]
    trace: npt.NDArray[np.uint64] | None
    seconds: float


class _Plan(ctypes.Structure):
    _fields_ = [
        ("hash", ctypes.c_void_p),
        ("bundle_hash", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("layers", "time_steps", "stride", "align", "halo")),
        *((name, ctypes.c_void_p) for name in ("header", "values", "operations", "terms", "projections", "constants")),
        ("constant_bytes", ctypes.c_size_t),
    ]


class _Tile(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in TILE_FIELDS]


class _Job(ctypes.Structure):
    _fields_ = [
        ("mode", ctypes.c_int),
        ("picture", ctypes.c_void_p),
        ("restored", ctypes.c_void_p),
        ("memory", ctypes.c_void_p),
        ("memory_bytes", ctypes.c_size_t),
        ("counts", ctypes.c_void_p),
        ("trace", ctypes.c_void_p),
        ("poll", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("probe", ctypes.c_void_p),
    ]


class _Probe(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("layer", "step", "channel")),
        ("numbers", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    ]


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(shared_library()))
    plan, tile = ctypes.POINTER(_Plan), ctypes.POINTER(_Tile)
    library.snn_open.argtypes = [plan, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint32)]
    library.snn_memory_size.argtypes = [plan, tile, ctypes.c_int, ctypes.POINTER(ctypes.c_size_t)]
    library.snn_run.argtypes = [plan, tile, ctypes.POINTER(_Job)]
    library.snn_status_name.restype = ctypes.c_char_p
    return library


def status_name(status: int) -> str:
    """What the core calls a status."""
    name: bytes = _library().snn_status_name(status)
    return name.decode()


class Core:
    """A plan, opened by the C core. Raises `CoreError` for a plan that it refuses; `record`: see snn_open."""

    def __init__(self, data: bytes):
        self._bytes = _aligned(len(data))
        self._bytes[:] = np.frombuffer(data, np.uint8)
        self._plan, record = _Plan(), ctypes.c_uint32()
        status = _library().snn_open(ctypes.byref(self._plan), self._bytes.ctypes.data, len(data), ctypes.byref(record))
        if status:
            raise CoreError(status, f"it was given a plan of {len(data)} bytes (record {record.value})")
        self.layers, self.time_steps = int(self._plan.layers), int(self._plan.time_steps)

    def memory_size(self, tile: Tile, by_rows: bool = False) -> int:
        """Bytes of working memory for a tile; raises `CoreError`. by_rows: see snn_mode in firmware/core/snn.h."""
        size = ctypes.c_size_t()
        status = _library().snn_memory_size(
            ctypes.byref(self._plan), _Tile(*tile.fields()), int(by_rows), ctypes.byref(size)
        )
        if status:
            raise CoreError(status, f"it was asked for the memory of {tile}")
        return size.value

    def run(
        self,
        picture: npt.NDArray[np.uint8],
        tile: Tile | None = None,
        trace: bool = False,
        by_rows: bool = False,
        probe: _Probe | None = None,
    ) -> Restored:
        """Restores uint8 [height, width, 3], whole or as part of an image; raises `CoreError`."""
        tile = tile or Tile.whole(*picture.shape[:2])
        if picture.shape != (tile.height, tile.width, 3) or picture.dtype != np.uint8:
            raise ValueError(f"a {picture.dtype} array {list(picture.shape)} was given for {tile}")
        picture = np.ascontiguousarray(picture)
        restored, memory = np.empty_like(picture), _aligned(self.memory_size(tile, by_rows))
        counts = np.zeros(self.layers, COUNTS)
        hashes = np.zeros((self.layers, self.time_steps), np.uint64) if trace else None
        job = _Job(
            int(by_rows), picture.ctypes.data, restored.ctypes.data, memory.ctypes.data, len(memory),
            counts.ctypes.data, hashes.ctypes.data if hashes is not None else None, None, None,
            ctypes.addressof(probe) if probe is not None else None,
        )  # fmt: skip
        start = time.perf_counter()
        status = _library().snn_run(ctypes.byref(self._plan), _Tile(*tile.fields()), ctypes.byref(job))
        seconds = time.perf_counter() - start
        if status:
            raise CoreError(status, f"it ran {tile}")
        return Restored(restored, counts, hashes, seconds)

    def look(self, picture: npt.NDArray[np.uint8], layer: int, step: int, channel: int) -> npt.NDArray[np.int32]:
        """One step and channel of a layer's output in a run over the whole picture; empty if it is not stored.

        picture: uint8 [height, width, 3], height and width multiples of the plan's stride. Returns int32 [positions],
        row by row.
        """
        numbers = np.zeros(picture.shape[0] * picture.shape[1], np.int32)
        probe = _Probe(layer, step, channel, numbers.ctypes.data, numbers.size)
        self.run(picture, probe=probe)
        return numbers[: probe.count]


class NativeNetwork:
    """A bundle on the C core. `plan`: what it was compiled to."""

    def __init__(self, bundle: Bundle):
        self.bundle, self.analysis = bundle, bundle.analysis
        self.plan: Plan = compile_bundle(bundle)
        self.core = Core(self.plan.data)

    def run(self, image: npt.NDArray[np.uint8], tile: int | None = None, by_rows: bool = False) -> Result:
        """As `simulator.network.Network.run`. tile: side of halo tiles in pixels; None: the image whole. by_rows: from
        top to bottom in bands, in memory that grows with the width alone."""
        colour, alpha = as_rgb(image)
        height, width = colour.shape[:2]
        restored = np.empty((height, width, 3), np.uint8)
        counts, seconds = np.zeros(len(self.plan.layers), COUNTS), 0.0
        for part in tiles(self.analysis, height, width, tile):
            rows = slice(part.top, part.top + part.height)
            found = self.core.run(colour[rows, part.left : part.left + part.width], part, by_rows=by_rows)
            place, source = inner_slices(part)
            restored[place] = found.image[source]
            add_counts(counts, found.counts)
            seconds += found.seconds
        stats = statistics(self.analysis, height, width, counts, seconds)
        return Result(as_given(image, restored, alpha), stats)

    def trace(self, image: npt.NDArray[np.uint8]) -> Trace:
        """As `simulator.network.Network.trace`, from a plan that stores every node."""
        colour, _ = as_rgb(image)
        return trace(self.bundle, colour)


def run(bundle: Bundle, image: npt.NDArray[np.uint8]) -> Result:
    """Restore an image of any size with the C core; see `NativeNetwork.run`."""
    return NativeNetwork(bundle).run(image)


def trace(bundle: Bundle, colour: npt.NDArray[np.uint8]) -> Trace:
    """Hashes of every layer's output at every step, over the padded image; colour: uint8 [H, W, 3]."""
    plan = compile_bundle(bundle, fuse=False)
    height, width = colour.shape[:2]
    rows, columns = bundle.analysis.padded(height, width)
    padded = np.pad(colour, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    found = Core(plan.data).run(padded, trace=True)
    assert found.trace is not None
    return hashes_by_layer(bundle.analysis, found.trace, found.image)


def hashes_by_layer(analysis: Analysis, hashes: npt.NDArray[np.uint64], restored: npt.NDArray[np.uint8]) -> Trace:
    """A trace as `simulator.trace` has it, of the layers that are stored and the restored picture [H, W, 3]."""
    found: Trace = {}
    for node, row in zip(analysis.graph.nodes, hashes, strict=True):
        steps = 1 if analysis.values[node.name].static else analysis.graph.time_steps
        if row[:steps].any():
            found[node.name] = [int(number).to_bytes(8, "little").hex() for number in row[:steps]]
    found[analysis.graph.nodes[-1].name] = digest(restored.transpose(2, 0, 1)[None])
    return found


def tiles(analysis: Analysis, height: int, width: int, side: int | None) -> list[Tile]:
    """Tiles of `side` pixels (a multiple of `analysis.align`) with their halo; None: one for the whole image."""
    if side is None:
        return [Tile.whole(height, width)]
    if side < 1 or side % analysis.align:
        raise ValueError(f"a tile of {side} pixels; this network's tiles are multiples of {analysis.align} pixels")
    down, across = (_spans(extent, side, analysis.halo) for extent in (height, width))
    return [
        Tile(height, width, top, left, rows, columns, inner_top, inner_left, inner_rows, inner_columns)
        for top, rows, inner_top, inner_rows in down
        for left, columns, inner_left, inner_columns in across
    ]


def _spans(extent: int, side: int, halo: int) -> list[tuple[int, int, int, int]]:
    """(first, length) with halo and without, of the tiles along one axis."""
    spans = []
    for first in range(0, extent, side):
        start, end = max(first - halo, 0), min(first + side + halo, extent)
        spans.append((start, end - start, first, min(side, extent - first)))
    return spans


def inner_slices(tile: Tile) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the inner part of a tile lies: in the image, and in the tile."""
    rows, columns = (
        (slice(at, at + length), slice(at - outer, at - outer + length))
        for at, length, outer in (
            (tile.inner_top, tile.inner_height, tile.top),
            (tile.inner_left, tile.inner_width, tile.left),
        )
    )
    return (rows[0], columns[0]), (rows[1], columns[1])


def add_counts(total: npt.NDArray[np.void], part: npt.NDArray[np.void]) -> None:
    """Adds the counts of one tile; MACs are the whole image's in every tile."""
    total["spikes"] += part["spikes"]
    total["synops"] += part["synops"]
    total["macs"] = part["macs"]


def statistics(analysis: Analysis, height: int, width: int, counts: npt.NDArray[np.void], seconds: float) -> Statistics:
    """Statistics of a frame from what the core counted [nodes]: spikes, SyOps and MACs are the core's own."""
    names = [node.name for node in analysis.graph.nodes]
    counted: Mapping[str, npt.NDArray[np.void]] = dict(zip(names, counts, strict=True))
    spikes, synops, macs = (
        {name: int(row[what]) for name, row in counted.items()} for what in ("spikes", "synops", "macs")
    )
    layers = Population(analysis, height, width).layers(spikes, synops)
    own = tuple(replace(layer, macs=macs[layer.name]) for layer in layers)
    return Statistics(seconds, height, width, analysis.graph.time_steps, analysis.parameters, own)


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    """Uninitialised bytes that start at a multiple of 8."""
    return np.empty(-(-size // 8), np.uint64).view(np.uint8)[:size]
