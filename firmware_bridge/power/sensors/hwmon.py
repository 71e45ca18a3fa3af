"""INA chips that a kernel driver shows under /sys/class/hwmon: INA219, 220, 226, 230, 231, 3221, ...

Units there: mV, mA, uW. Jetson boards from JetPack 5 on have an INA3221 whose rails are labelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from firmware_bridge.power.sensor import (
    WHOLE_BOARD,
    Reading,
    Searched,
    Sensor,
    SensorError,
    folders,
    number,
    numbered,
    plausible,
    scaled,
    text,
)


def find(machine: Searched) -> Iterator[Sensor]:
    for folder in folders(machine.root / "sys/class/hwmon", r"hwmon\d+"):
        chip = text(folder / "name")
        if not re.fullmatch(r"ina\d+\w*", chip):
            continue
        place = (folder / "device").resolve().name if (folder / "device").exists() else folder.name
        interval = max(0.05, _milliseconds(folder / "update_interval"))
        for current in numbered(folder, r"curr(\d+)_input"):
            voltage, power = folder / f"in{current}_input", folder / f"power{current}_input"
            label = text(folder / f"in{current}_label")
            if label == "NC" or not (voltage.exists() or power.exists()):
                continue
            read = _product(voltage, folder / f"curr{current}_input") if not power.exists() else scaled(power, 1e-6)
            yield Sensor(
                f"{chip}@{place}" + (f":{label}" if label else f":{current}" if chip.startswith("ina3221") else ""),
                f"rail {label}" if label else "the rail that its shunt is in",
                _with_shunt(read, folder / "shunt_resistor"),
                whole=label in WHOLE_BOARD,
                interval_s=interval,
            )


def _product(millivolts: Path, milliamperes: Path) -> Reading:
    return plausible(lambda: number(millivolts) * number(milliamperes) * 1e-6)


def _with_shunt(read: Reading, shunt: Path) -> Reading:
    def checked() -> float:
        if shunt.exists() and number(shunt) <= 0:
            raise SensorError(f"{shunt} is not set, so its currents mean nothing; write the shunt's micro-ohms there")
        return read()

    return checked


def _milliseconds(path: Path) -> float:
    """Seconds from a file in ms; 0 if it does not tell."""
    content = text(path)
    return int(content) * 1e-3 if content.isdecimal() else 0.0
