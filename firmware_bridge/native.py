"""The C core in this process: plans opened, pictures restored, layers inspected."""

from __future__ import annotations

import ctypes
import functools
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.counts import COUNTS
from firmware_bridge.plan.records import VERSION
from firmware_bridge.tiles import TILE_FIELDS, Tile
from firmware_bridge.toolchain import shared_library
from simulator.bundle import SEMANTICS_VERSION

STATUSES = (
    "SNN_OK", "SNN_ALIGNMENT", "SNN_TRUNCATED", "SNN_NOT_A_PLAN", "SNN_VERSION", "SNN_HASH", "SNN_HEADER", "SNN_VALUE",
    "SNN_OPERATION", "SNN_TERM", "SNN_PROJECTION", "SNN_CONSTANT", "SNN_SIZE", "SNN_TOO_LARGE", "SNN_MEMORY",
    "SNN_MODE", "SNN_STOPPED",
)  # fmt: skip


OTHER_VERSION = (
    f"it runs plans of version {VERSION} with nodes of version {SEMANTICS_VERSION}; have the bundle compiled, and the "
    "core built, from one and the same version of this project"
)


class CoreError(RuntimeError):
    """The core refused a plan or a tile. `status`: its name in firmware/core/snn.h, as "SNN_HASH"."""

    def __init__(self, status: int, doing: str):
        self.status = STATUSES[status] if status < len(STATUSES) else f"status {status}"
        why = f": {OTHER_VERSION}" if self.status == "SNN_VERSION" else ""
        super().__init__(f"the C core answered {self.status} when {doing}{why}")


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
    return library


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


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    """Uninitialised bytes that start at a multiple of 8."""
    return np.empty(-(-size // 8), np.uint64).view(np.uint8)[:size]
