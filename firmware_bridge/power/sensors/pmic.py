"""The power management IC of a Raspberry Pi 5: `vcgencmd pmic_read_adc` gives A and V of each of its rails."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterator

from firmware_bridge.power.sensor import Searched, Sensor, SensorError, plausible

PMIC_RAIL = re.compile(r"(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([-\d.]+)")
PMIC_BOARDS = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5", "Raspberry Pi 500")


def find(machine: Searched) -> Iterator[Sensor]:
    if not machine.model.startswith(PMIC_BOARDS):
        return

    def read() -> float:
        try:
            said = machine.command(["vcgencmd", "pmic_read_adc"])
        except (OSError, subprocess.SubprocessError) as error:
            raise SensorError(f"`vcgencmd pmic_read_adc` cannot be run: {error}") from error
        values: dict[str, dict[str, float]] = {"A": {}, "V": {}}
        for rail, unit, number in PMIC_RAIL.findall(said):
            try:
                values[unit][rail] = float(number)
            except ValueError as error:
                raise SensorError(f"`vcgencmd pmic_read_adc` gives {number!r} for {rail}") from error
        pairs = values["A"].keys() & values["V"].keys()  # the supply and the clock's battery have a voltage only
        if not pairs:
            raise SensorError("`vcgencmd pmic_read_adc` names no rail with both current and voltage")
        return math.fsum(values["A"][rail] * values["V"][rail] for rail in pairs)

    covers = "all rails of the power management IC, without its own losses and what hangs on 5 V"
    yield Sensor("rpi5-pmic", covers, plausible(read), whole=True, interval_s=0.25)


def why_none(machine: Searched) -> str:
    """What is to be said of a Raspberry Pi that has no sensor; else nothing."""
    if machine.model.startswith("Raspberry Pi") and not machine.model.startswith(PMIC_BOARDS):
        return f"a {machine.model} has no current sensing: use an external meter"
    return ""
