"""The power of a run: idle first, then the run, then joules per frame."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firmware_bridge.power.meter import IDLE_S, Meter, NotMeasured, Span, idle_seconds
from firmware_bridge.power.meter_file import MeterFile, MeterFileError
from firmware_bridge.power.sensors import Found, Sensor, SensorError, choose, find

WAIT_FOR_LOGGER_S = 5.0


@dataclass(frozen=True)
class Power:
    """A measurement over a whole run: reading, computing and writing.

    measured_w: mean power above idle, watts. idle_w: before the run. joules_per_frame: above idle. seconds: of the run;
    samples: taken in it. sensor: its name; covers: what it measures.
    """

    measured_w: float
    idle_w: float
    joules_per_frame: float
    seconds: float
    samples: int
    sensor: str
    covers: str

    def report(self) -> dict[str, Any]:
        """The `power` of a `--stats` file."""
        return {**asdict(self), "label": "measured"}


def evaluate(idle: Span, run: Span, frames: float, sensor: str, covers: str, interval_s: float) -> Power:
    """Idle subtracted from a run of so many frames; raises `NotMeasured`, a sentence."""
    try:
        idle_w, gross_w = idle.watts(interval_s), run.watts(interval_s)
    except NotMeasured as error:
        raise NotMeasured(f"{sensor}: {error}") from error
    if gross_w <= idle_w:
        raise NotMeasured(
            f"{sensor} read {gross_w:.4g} W in the run and {idle_w:.4g} W before it, so nothing can be told from idle; "
            "keep the machine otherwise quiet and give it more frames"
        )
    net = gross_w - idle_w
    return Power(net, idle_w, net * run.seconds / frames, run.seconds, run.samples, sensor, covers)


class Recording:
    """Measures one run by a sensor or by an external meter's file; without either, says why there is no figure.

    windows: begin and end of idle and of the run, seconds since 1970, for a meter whose file comes later.
    """

    def __init__(self, sensor: Sensor | None = None, meter_file: Path | None = None, missing: str = ""):
        self.sensor, self.meter_file, self.missing = sensor, meter_file, missing
        self.windows: dict[str, tuple[float, float]] = {}
        self._spans: dict[str, Span] = {}

    @property
    def source(self) -> str:
        """What is read; empty if nothing is."""
        return self.sensor.name if self.sensor else str(self.meter_file or "")

    @property
    def idle_s(self) -> float:
        """How long doing nothing is measured before a run, seconds."""
        return idle_seconds(self.sensor) if self.sensor else IDLE_S if self.meter_file else 0.0

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Measures idle, then the block. Without sensor and meter this takes no time."""
        if self.sensor is None:
            if self.meter_file is not None:
                with self._window("idle"):
                    time.sleep(IDLE_S)
            with self._window("run"):
                yield
            return
        with Meter(self.sensor) as meter:
            self._spans["idle"] = meter.idle()
            with meter.span() as self._spans["run"]:
                yield

    def report(self, frames: float) -> dict[str, Any]:
        """What goes into a `--stats` file: power, or null and why; for a meter's file also when the run was."""
        figures: dict[str, Any] = {"power": None, "power_reason": None}
        if self.meter_file is not None:
            figures["power_windows"] = self.windows
        try:
            figures["power"] = self.power(frames).report()
        except (NotMeasured, MeterFileError) as error:
            figures["power_reason"] = str(error)
        return figures

    def power(self, frames: float) -> Power:
        """The figure, after the run; raises `NotMeasured`, a sentence."""
        if self.sensor is not None:
            sensor = self.sensor
            return evaluate(
                self._spans["idle"], self._spans["run"], frames, sensor.name, sensor.covers, sensor.interval_s
            )
        if self.meter_file is None:
            raise NotMeasured(self.missing)
        deadline = time.monotonic() + WAIT_FOR_LOGGER_S
        while True:  # the logger may be a little behind
            try:
                return from_file(self.meter_file, self.windows["idle"], self.windows["run"], frames)
            except (NotMeasured, MeterFileError):
                if time.monotonic() > deadline or not self._grows():
                    raise

    def _grows(self) -> bool:
        """Whether the logger wrote something within a second."""
        assert self.meter_file is not None
        before = _size(self.meter_file)
        time.sleep(1.0)
        return _size(self.meter_file) != before

    @contextlib.contextmanager
    def _window(self, name: str) -> Iterator[None]:
        begin = time.time()
        try:
            yield
        finally:
            self.windows[name] = begin, time.time()


def from_file(path: Path, idle: tuple[float, float], run: tuple[float, float], frames: float) -> Power:
    """The figure from a meter's file and the times of idle and run; raises `MeterFileError` or `NotMeasured`."""
    file = MeterFile(path)
    covers = "whatever the meter is connected to"
    return evaluate(file.span(*idle), file.span(*run), frames, path.name, covers, file.interval_s)


def open_recording(wanted: str, found: Found | None = None) -> Recording:
    """wanted: "none", "auto", a sensor's name (several: A+B), or the name of an external meter's CSV file.

    found: the sensors to choose from; None: this machine's. With "auto", no sensor is no error. Raises `SensorError`
    or `MeterFileError` for what was named and cannot be used.
    """
    if wanted == "none":
        return Recording(missing="power was not asked for")
    if wanted.lower().endswith(".csv"):
        path = Path(wanted)
        if path.exists():
            MeterFile(path)  # a wrong file is better found before the run
        return Recording(meter_file=path)
    try:
        return Recording(choose(find() if found is None else found, wanted))
    except SensorError as error:
        if wanted != "auto":
            raise
        return Recording(missing=str(error))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
