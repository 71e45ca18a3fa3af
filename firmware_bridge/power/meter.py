"""Samples a sensor in the background and integrates what it reads over spans of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from firmware_bridge.power.sensor import LARGEST_W, Sensor, SensorError

FAILURES = 5  # in a row: then a sensor is gone
MIN_SAMPLES = 3  # in a span
LONGEST_GAP_S = 1.0  # between samples, or ten times the usual distance if that is more
IDLE_S = 1.5


class NotMeasured(RuntimeError):
    """There is no figure. str() says why."""


@dataclass
class Span:
    """Energy between the first and the last sample added: the trapezoid rule for watts, differences for a counter.

    joules, seconds: until now. at: time of the last sample, before that of the beginning. longest_gap_s: without one.
    fault: why there is no figure, if there is none.
    """

    counts: bool = False
    joules: float = 0.0
    seconds: float = 0.0
    samples: int = 0
    at: float = 0.0
    longest_gap_s: float = 0.0
    fault: str = ""
    _value: float = 0.0

    def add(self, at: float, value: float) -> None:
        """One more sample: seconds on a clock that does not go back; watts, or joules of a counter."""
        gap = at - self.at
        if self.samples:
            step = value - self._value if self.counts else 0.5 * (self._value + value) * gap
            if self.counts and not 0 <= step <= LARGEST_W * max(gap, 1e-3):
                self.fault = f"its counter moved by {step:.4g} J in {gap:.3g} s"
            self.joules += step
            self.seconds += gap
        self.longest_gap_s = max(self.longest_gap_s, gap)
        self.samples += 1
        self.at, self._value = at, value

    def watts(self, interval_s: float) -> float:
        """Mean power. interval_s: the usual distance of samples. Raises `NotMeasured` where samples are missing."""
        if self.fault:
            raise NotMeasured(self.fault)
        if self.samples < MIN_SAMPLES or self.seconds <= 0:
            raise NotMeasured(
                f"{self.seconds:.3g} s is too short for a sensor that is read every {interval_s:.3g} s; "
                "give it more frames"
            )
        if self.longest_gap_s > max(LONGEST_GAP_S, 10 * interval_s):
            raise NotMeasured(f"it gave nothing for {self.longest_gap_s:.1f} s")
        return self.joules / self.seconds


def idle_seconds(sensor: Sensor) -> float:
    """How long doing nothing has to be measured."""
    return max(IDLE_S, 2 * MIN_SAMPLES * sensor.interval_s)


class Meter:
    """Reads a sensor every `sensor.interval_s` seconds in a thread of its own, while it is open (a context manager).

    A sensor that fails `FAILURES` times in a row is not asked again; spans that it was needed for are not measured.
    """

    def __init__(self, sensor: Sensor):
        self.sensor = sensor
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failures, self._fault = 0, ""
        self._thread = threading.Thread(target=self._sample_on, name="power", daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)

    @contextmanager
    def span(self) -> Iterator[Span]:
        """What is integrated while the block runs, with a sample at either end."""
        span = Span(self.sensor.counts, at=time.perf_counter())
        with self._lock:
            self._spans.append(span)
        self._sample()
        try:
            yield span
        finally:
            self._sample()
            with self._lock:
                self._spans = [other for other in self._spans if other is not span]
                span.fault = span.fault or self._fault
                # Samples may be missing at either end, too.
                span.longest_gap_s = max(span.longest_gap_s, time.perf_counter() - span.at)

    def idle(self) -> Span:
        """Waits for a moment and integrates meanwhile."""
        with self.span() as span:
            time.sleep(idle_seconds(self.sensor))
        return span

    def _sample_on(self) -> None:
        while not self._stop.wait(self.sensor.interval_s):
            if self._spans:
                self._sample()

    def _sample(self) -> None:
        with self._lock:
            if self._fault:
                return
            try:
                begin = time.perf_counter()
                value = self.sensor.read()
                at = 0.5 * (begin + time.perf_counter())
            except SensorError as error:
                self._failures += 1
                if self._failures == FAILURES:
                    self._fault = f"it stopped answering: {error}"
                return
            self._failures = 0
            for span in self._spans:
                span.add(at, value)
