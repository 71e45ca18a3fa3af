"""The power sensors of Linux boards: which there are, and which of them speaks for the board.

A kind of sensor is a file of this folder with a function `find(machine)`, which yields those that seem to be there;
what they have in common is in `power/sensor.py`.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.power.sensor import Searched, Sensor, SensorError
from firmware_bridge.power.sensors import pmic

__all__ = ["KINDS", "Found", "Sensor", "SensorError", "choose", "find"]

KINDS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@dataclass(frozen=True)
class Found:
    """sensors: those that answer. problems: a sentence for each that is there but cannot be used."""

    sensors: tuple[Sensor, ...]
    problems: tuple[str, ...]


def run_command(command: list[str]) -> str:
    """What a command prints. Raises OSError or subprocess.SubprocessError."""
    return subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout


def find(root: Path = Path("/"), command: Callable[[list[str]], str] = run_command) -> Found:
    """All sensors of a machine, each read once. command: runs a program and returns what it prints."""
    machine = Searched(root, command)
    sensors, problems = [], []
    for kind in KINDS:
        for sensor in importlib.import_module(f"{__name__}.{kind}").find(machine):
            try:
                sensor.read()
                sensors.append(sensor)
            except SensorError as error:
                problems.append(f"{sensor.name}: {error}")
    if not sensors and pmic.why_none(machine):
        problems.append(pmic.why_none(machine))
    return Found(tuple(sensors), tuple(problems))


def choose(found: Found, wanted: str = "auto") -> Sensor:
    """The sensor called `wanted`, or several joined by +, added up; "auto": the one that speaks for the board.

    That is a rail through which everything comes, else the only sensor there is besides the processor's own, else the
    processor packages. Rails of unknown relation are never added up unasked. Raises `SensorError`, a sentence.
    """
    if wanted != "auto":
        return _together([_named(found, name) for name in wanted.split("+")])
    rails = [sensor for sensor in found.sensors if not sensor.counts]
    for sensor in rails:
        if sensor.whole:
            return sensor
    if len(rails) > 1:
        names = ", ".join(sensor.name for sensor in rails)
        raise SensorError(
            f"none of the power sensors {names} is known to carry the whole board; name one, or several as A+B"
        )
    for sensor in (*rails, *found.sensors):
        return sensor
    raise SensorError("; ".join(("no power sensor was found", *found.problems)))


def _named(found: Found, name: str) -> Sensor:
    for sensor in found.sensors:
        if sensor.name == name:
            return sensor
    there = ", ".join(sensor.name for sensor in found.sensors) or "none"
    raise SensorError(
        "; ".join((f"there is no power sensor called {name} (those that answer: {there})", *found.problems))
    )


def _together(parts: list[Sensor]) -> Sensor:
    if len(parts) == 1:
        return parts[0]
    if len({part.name for part in parts}) < len(parts) or any(part.counts for part in parts):
        raise SensorError("only different sensors of rails can be added up, not one twice and not energy counters")
    return Sensor(
        "+".join(part.name for part in parts),
        " and ".join(part.covers for part in parts),
        lambda: math.fsum(part.read() for part in parts),
        interval_s=max(part.interval_s for part in parts),
    )
