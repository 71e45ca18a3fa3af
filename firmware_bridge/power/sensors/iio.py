"""Converters with power channels, or current and voltage of one number, under /sys/bus/iio/devices.

Units there: raw * scale is mW, mV, mA. Jetson boards with JetPack 4 have named rails there, already in mW.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from firmware_bridge.power.sensor import (
    WHOLE_BOARD,
    Reading,
    Searched,
    Sensor,
    folders,
    number,
    numbered,
    plausible,
    scaled,
    text,
)

JETPACK_4 = "ina3221x"


def find(machine: Searched) -> Iterator[Sensor]:
    for folder in folders(machine.root / "sys/bus/iio/devices", r"iio:device\d+"):
        chip = text(folder / "name")
        if chip == JETPACK_4:  # named rails, already in mW
            for rail in numbered(folder, r"in_power(\d+)_input"):
                label = text(folder / f"rail_name_{rail}") or rail
                if label != "NC":
                    power = scaled(folder / f"in_power{rail}_input", 1e-3)
                    yield Sensor(f"{chip}:{label}", f"rail {label}", power, whole=label in WHOLE_BOARD)
            continue
        powers = numbered(folder, r"in_power(\d*)_raw")
        for channel in powers:
            milliwatts = _channel(folder, f"in_power{channel}", "in_power")
            yield _iio_sensor(folder, chip, channel if len(powers) > 1 else "", [milliwatts], 1e-3)
        if not powers:
            currents = numbered(folder, r"in_current(\d*)_raw")
            pairs = [channel for channel in currents if (folder / f"in_voltage{channel}_raw").exists()]
            for channel in pairs:
                factors = [_channel(folder, f"in_{kind}{channel}", f"in_{kind}") for kind in ("voltage", "current")]
                yield _iio_sensor(folder, chip, channel if len(pairs) > 1 else "", factors, 1e-6)


def _iio_sensor(folder: Path, chip: str, channel: str, factors: list[Reading], unit: float) -> Sensor:
    """A sensor of an IIO device; its watts are the product of the factors times `unit`."""
    label = text(folder / f"in_power{channel}_label") or text(folder / "label")
    name = f"{chip or 'iio'}@{folder.name.replace(':', '')}" + (f":{channel}" if channel else "")
    read = plausible(lambda: math.prod(factor() for factor in factors) * unit)
    covers = f"rail {label}" if label else "the rail that its shunt is in"
    return Sensor(name, covers, read, whole=label in WHOLE_BOARD)


def _channel(folder: Path, channel: str, shared: str) -> Reading:
    """(raw + offset) * scale of an IIO channel, in the unit of its kind; scale and offset may be shared by the kind."""

    def part(what: str, default: float) -> float:
        for name in (channel, shared):
            if (folder / f"{name}_{what}").exists():
                return number(folder / f"{name}_{what}")
        return default

    return lambda: (number(folder / f"{channel}_raw") + part("offset", 0.0)) * part("scale", 1.0)
