"""RAPL: energy counters (uJ, they wrap around) of Intel's and AMD's processor packages, /sys/class/powercap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from firmware_bridge.power.sensor import Searched, Sensor, SensorError, folders, number, text


def find(machine: Searched) -> Iterator[Sensor]:
    # Subzones (cores, graphics) are inside a package and "psys" is around it: neither is added to the packages.
    zones = folders(machine.root / "sys/class/powercap", r"intel-rapl:\d+")
    packages = [folder for folder in zones if text(folder / "name").startswith("package")]
    if packages:
        what = "the processor package" if len(packages) == 1 else f"{len(packages)} processor packages"
        counters = [_Counter(folder) for folder in packages]
        yield Sensor(
            "rapl", f"{what}, not the rest of the machine", lambda: math.fsum(c.read() for c in counters), counts=True
        )


class _Counter:
    """A RAPL zone's energy, joules since the first reading; goes on where the counter wraps around."""

    def __init__(self, folder: Path):
        self._energy, self._range = folder / "energy_uj", folder / "max_energy_range_uj"
        self._last: int | None = None
        self._total = 0

    def read(self) -> float:
        now = int(number(self._energy))
        if self._last is not None:
            step = now - self._last
            if step < 0:
                wrap = int(number(self._range))
                if now < 0 or self._last > wrap:
                    raise SensorError(f"{self._energy} went from {self._last} to {now}, its range being {wrap}")
                step += wrap
            self._total += step
        self._last = now
        return self._total * 1e-6
