"""What is known of a run while it goes on: for the view, for lines of JSON, for whoever watches over a service."""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge.images import Pixels
from edge.sources.record import Frame
from simulator.statistics import BITS_32, Statistics

if TYPE_CHECKING:
    from edge.sources.capture import Video

_WINDOW_S = 3.0  # over which frames per second are counted


@dataclass(frozen=True)
class Step:
    """One picture that is through: as it came, restored (uint8, the same shape), and what it took.

    number: from 1. delay_s: from the arrival of what is live until it was restored; None of what is not.
    """

    number: int
    frame: Frame
    restored: Pixels
    statistics: Statistics
    delay_s: float | None


class Watcher(Protocol):
    def seen(self, step: Step) -> None:
        """Called for every picture, by the thread that restores: it must not take long. Raises UserError."""


class Figures:
    """The numbers of the run as they are now; safe to ask from any thread."""

    def __init__(self, source: Video) -> None:
        self.network = {"task": "", "bundle": ""}
        self._source = source
        self._lock = threading.Lock()
        self._ends: collections.deque[float] = collections.deque()
        self._step: Step | None = None

    def seen(self, step: Step) -> None:
        now = time.monotonic()
        with self._lock:
            self._step = step
            self._ends.append(now)
            while len(self._ends) > 2 and self._ends[0] < now - _WINDOW_S:
                self._ends.popleft()

    @property
    def fps(self) -> float:
        """Pictures a second, of the last seconds or the last two pictures; 0 when no more come."""
        now = time.monotonic()
        with self._lock:
            count, first, last = len(self._ends), *((self._ends[0], self._ends[-1]) if self._ends else (now, now))
        if count < 2:
            return 0.0
        between = (last - first) / (count - 1)
        return 0.0 if now - last > max(_WINDOW_S, 3 * between) else 1 / max(between, now - last, 1e-6)

    @property
    def status(self) -> str:
        """opening, running, stalled or ended."""
        return self._source.status

    def report(self) -> dict[str, Any]:
        """As /stats and MQTT show it. Energy is estimated, from the operations of the last picture."""
        with self._lock:
            step = self._step
        source = self._source
        figures: dict[str, Any] = {
            **self.network,
            "source": source.label,
            "status": self.status,
            "frames": step.number if step else 0,
            "fps": round(self.fps, 2),
            "dropped": source.dropped,
            "broken": source.broken,
            "reconnects": source.reconnects,
        }
        if step is not None:
            figures |= line(step)
        return figures


def line(step: Step) -> dict[str, Any]:
    """One picture in numbers, as `--stats -` prints it."""
    statistics = step.statistics
    return {
        "frame": step.number,
        "time": step.frame.time,
        "size": [statistics.width, statistics.height],
        "latency_ms": round(statistics.latency_s * 1e3, 3),
        "delay_ms": None if step.delay_s is None else round(step.delay_s * 1e3, 1),
        "recomputed": round(statistics.recomputed, 4),
        "spike_rate": round(statistics.spike_rate, 5) if statistics.layers else None,
        "synops": statistics.synops if statistics.layers else None,
        "macs": statistics.macs if statistics.layers else None,
        "estimated_uj": round(statistics.estimated_uj(BITS_32), 2) if statistics.layers else None,
        "layers": [
            {"name": layer.name, "spike_rate": round(layer.spike_rate, 5)}
            for layer in statistics.layers
            if layer.spike_rate is not None
        ],
    }
