"""An external power meter, through the CSV file that its logger writes.

One of two headers, further columns are ignored; one row per sample, in the order of time:

    time_s,power_w                  seconds since 1970 (UTC, fractions welcome), watts
    time_s,voltage_v,current_a      the same, volts, amperes

The meter's clock and this machine's must agree. A last line without its end is still being written and is left out.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firmware_bridge.power.meter import NotMeasured, Span
from firmware_bridge.power.sensor import LARGEST_W

FORMS = (("time_s", "power_w"), ("time_s", "voltage_v", "current_a"))


class MeterFileError(ValueError):
    """A file that is no recording. str() says which line and why."""


class MeterFile:
    """A recording, read whole. times: float64 [n], seconds since 1970, rising; watts: float64 [n]."""

    def __init__(self, path: Path):
        """Raises `MeterFileError`."""
        self.path = path
        try:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise MeterFileError(f"{path} cannot be read: {error.strerror}") from error
        lines = csv.reader(text[: text.rfind("\n") + 1].splitlines())
        form = [name.strip().lower() for name in next(lines, [])]
        names = next((names for names in FORMS if set(names) <= set(form)), None)
        if names is None:
            forms = " or ".join(",".join(names) for names in FORMS)
            raise MeterFileError(f"{path} begins with {','.join(form)[:60]!r}; expected the header {forms}")
        columns = [form.index(name) for name in names]
        times: list[float] = []
        watts: list[float] = []
        for line in lines:
            if not line:
                continue
            where = f"{path}, line {lines.line_num}"
            try:
                at, *factors = (float(line[column]) for column in columns)
            except (ValueError, IndexError) as error:
                raise MeterFileError(f"{where}: {','.join(line)[:60]!r} is not {','.join(names)} in numbers") from error
            power = math.prod(factors)
            if not (math.isfinite(at) and abs(power) <= LARGEST_W):
                raise MeterFileError(f"{where}: {power:.4g} W at {at:.4f} s cannot be")
            if times and at <= times[-1]:
                raise MeterFileError(f"{where}: the time {at:.4f} s is not after {times[-1]:.4f} s of the row before")
            times.append(at)
            watts.append(power)
        if not times:
            raise MeterFileError(f"{path} has a header and no complete row")
        self.times: npt.NDArray[np.float64] = np.array(times)
        self.watts: npt.NDArray[np.float64] = np.array(watts)

    @property
    def interval_s(self) -> float:
        """The usual distance of samples, seconds."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0

    def span(self, begin: float, end: float) -> Span:
        """What was measured from `begin` to `end`, seconds since 1970; raises `NotMeasured` if they are not covered."""
        first, last = self.times[0], self.times[-1]
        if begin < first or end > last:
            raise NotMeasured(
                f"{self.path} covers {first:.3f} to {last:.3f} s since 1970, "
                f"the run took from {begin:.3f} to {end:.3f}; "
                "start the logger before the run, end it after, and set both clocks alike"
            )
        span = Span(at=begin)
        inside = self.times[(begin < self.times) & (self.times < end)]
        for at in (begin, *inside.tolist(), end):
            span.add(at, float(np.interp(at, self.times, self.watts)))
        return span
