"""What a power sensor is to a meter, and how numbers are read from the files of a kernel's drivers.

The kinds of sensors are in `sensors/`, one file each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LARGEST_W = 5000.0  # no board takes more; such a reading is a fault
SMALLEST_W = -0.1  # a sensor's offset may push nothing a little below zero
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN", "DC_IN")  # labels of rails through which everything comes

Reading = Callable[[], float]


class SensorError(RuntimeError):
    """A sensor that is missing, cannot be read, or reads nonsense. str() says which and why."""


@dataclass(frozen=True)
class Sensor:
    """Something that can be sampled.

    read: watts now, or, if it `counts`, joules since its first reading; raises `SensorError`. covers: what the figure
    is about, for people. whole: it is the whole board. interval_s: how often it is worth reading, seconds.
    """

    name: str
    covers: str
    read: Reading
    counts: bool = False
    whole: bool = False
    interval_s: float = 0.05


@dataclass(frozen=True)
class Searched:
    """Where sensors are looked for: below `root`, and by `command`, which runs a program and returns what it prints.

    Both are others than the machine's own only in tests.
    """

    root: Path
    command: Callable[[list[str]], str]

    @property
    def model(self) -> str:
        """The board's name, as its device tree tells it."""
        return text(self.root / "proc/device-tree/model")


def scaled(path: Path, factor: float) -> Reading:
    """Reads watts from a file that holds them in a unit of `factor` watts."""
    return plausible(lambda: number(path) * factor)


def plausible(read: Reading) -> Reading:
    """The same, but what cannot be is a `SensorError`."""

    def checked() -> float:
        watts = read()
        if not SMALLEST_W <= watts <= LARGEST_W:
            raise SensorError(
                f"it reads {watts:.4g} W; is its shunt the right way round, and the driver told its size?"
            )
        return watts

    return checked


def number(path: Path) -> float:
    """The number that a file holds; raises `SensorError`."""
    try:
        content = path.read_text(errors="replace").strip()
    except PermissionError as error:
        raise SensorError(f"{path} can be read by root only") from error
    except OSError as error:
        raise SensorError(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = float(content)
    except ValueError as error:
        raise SensorError(f"{path} holds {content[:40]!r}, which is no number") from error
    if not math.isfinite(found):
        raise SensorError(f"{path} holds {content[:40]!r}, which is no number")
    return found


def text(path: Path) -> str:
    """The content of a file that says what something is; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def folders(folder: Path, pattern: str) -> list[Path]:
    """The entries of a folder whose whole names match, in order of their numbers; none if there is no such folder."""
    try:
        names = [entry.name for entry in folder.iterdir() if re.fullmatch(pattern, entry.name)]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=lambda name: (len(name), name))]


def numbered(folder: Path, pattern: str) -> list[str]:
    """The numbers in the names of the files that match, in order."""
    matches = [re.fullmatch(pattern, entry.name) for entry in sorted(folder.iterdir())]
    return [match[1] for match in matches if match]
