"""Video: frame by frame the bits of `Network.run`, at a cost in proportion to what changed since the frame before."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from simulator import coarse
from simulator.network import Network, Result, as_given, as_rgb, installed_memory

if TYPE_CHECKING:
    from simulator.engine.video import VideoState

MOST_STILL = 255
CGROUP_MEMORY = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
UNKNOWN_MEMORY = 1 << 30  # bytes that a system has which does not tell


class VideoStream:
    """Restores the frames of one video in order; made by `Network.video`.

    A frame's result is that of `Network.run` on the *used* frame, bit for bit and whatever was computed. With still = 0
    that is the frame itself. Else a pixel of the used frame keeps its value (all three channels) as long as no channel
    of the new frame differs from it by more than `still` grey levels, and takes over the new one when one does; small
    differences do not add up unseen, because they are counted from the used value and not from the frame before. The
    first frame is used whole, and so is one of another size than the frame before it: the stream starts anew. Alpha is
    passed through from the frame itself.

    The network's state stays in memory between frames (`state_bytes`). Where that is more than `memory` allows, with a
    `tile`, and on the reference backend, every frame is a full run. A frame that changed nearly everywhere is one, too.
    """

    def __init__(self, network: Network, still: int = 0, tile: int | None = None, memory: int | None = None):
        if not 0 <= still <= MOST_STILL:
            raise ValueError(f"{still} grey levels were to count as unchanged; 0 to {MOST_STILL} make sense")
        self.network, self.still, self.tile = network, still, tile
        self._budget = _half_of_memory() if memory is None else memory
        self._shape: tuple[int, ...] = ()
        self._state: VideoState | None = None
        self._used = np.zeros((0, 0, 3), np.uint8)

    @property
    def state_bytes(self) -> int:
        """Bytes kept between frames of the present size, about; 0 if every frame is a full run."""
        return self._state.size if self._state else 0

    def run(self, frame: npt.NDArray[np.uint8]) -> Result:
        """Restore the next frame, uint8 in any shape that `Network.run` takes. Raises ValueError as that does.

        `Result.stats` are those of a full run but for the time, and `stats.recomputed` says how much was computed.
        """
        start = time.perf_counter()
        whole, alpha = as_rgb(frame)
        colour, by = coarse.seen(self.network.meta, whole)
        colour = np.ascontiguousarray(colour)
        same = colour.shape == self._shape
        if not same:
            self._begin(colour)
        if self._state is None:
            if same and self.still:
                moved = (np.abs(colour.astype(np.int16) - self._used) > self.still).any(2)
                self._used[moved] = colour[moved]
            else:
                self._used = colour.copy() if self.still else colour
            before = time.perf_counter() - start
            restored, stats = self.network.restore(self._used, self.tile)
            stats = dataclasses.replace(stats, latency_s=stats.latency_s + before)
        else:
            if same:
                self._state.update(colour, self.still)
            else:
                self._state.start(colour)
            restored = self._state.image.copy()
            latency = time.perf_counter() - start
            stats = self._state.counted().finish(latency)
            stats = dataclasses.replace(stats, recomputed=self._state.recomputed)
        self._shape = colour.shape
        restored = coarse.carried_over(whole, colour, restored, by)
        return Result(as_given(frame, restored, alpha), stats)

    def _begin(self, colour: npt.NDArray[np.uint8]) -> None:
        """Forget the frames before this one of another size."""
        self._shape, self._state = (), None
        engine = self.network.engine
        if self.network.backend == "numba" and self.tile is None:
            from simulator.engine import Engine
            from simulator.engine.video import VideoState

            assert isinstance(engine, Engine)
            state = VideoState(engine, *colour.shape[:2])
            if state.size <= self._budget:
                self._state = state


def _half_of_memory() -> int:
    """Half of the bytes that this process may take: the machine's memory, or a container's limit."""
    limits = [installed_memory() or UNKNOWN_MEMORY]
    for name in CGROUP_MEMORY:
        try:
            limits.append(int(Path(name).read_text()))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return min(limits) // 2
