"""Power sensors of Linux boards: which there are, what each covers, and how to read it.

| kind | where | units there |
|---|---|---|
| hwmon | /sys/class/hwmon: chips called ina* (INA219, 220, 226, 230, 231, 3221, ...) | mV, mA, uW |
| IIO | /sys/bus/iio/devices: in_power*, or voltage and current of one index | raw * scale: mW, mV, mA |
| Jetson | JetPack 5 on: hwmon ina3221, rails by label; JetPack 4: IIO ina3221x, rail_name_N | mV, mA; mW |
| Raspberry Pi 5 | `vcgencmd pmic_read_adc`: current and voltage of every rail of the power management IC | A, V |
| RAPL | /sys/class/powercap/intel-rapl:N, energy counters of the processor packages, which wrap around | uJ |

Everything is found by name below a `root` folder, which is another one than / only in tests.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LARGEST_W = 5000.0  # no board takes more; such a reading is a fault
SMALLEST_W = -0.1  # a sensor's offset may push nothing a little below zero
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN", "DC_IN")  # labels of rails through which everything comes
JETPACK_4 = "ina3221x"
PMIC_RAIL = re.compile(r"(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([-\d.]+)")
PMIC_BOARDS = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5", "Raspberry Pi 500")

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
class Found:
    """sensors: those that answer. problems: a sentence for each that is there but cannot be used."""

    sensors: tuple[Sensor, ...]
    problems: tuple[str, ...]


def run_command(command: list[str]) -> str:
    """What a command prints. Raises OSError or subprocess.SubprocessError."""
    return subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout


def find(root: Path = Path("/"), command: Callable[[list[str]], str] = run_command) -> Found:
    """All sensors of a machine, each read once. command: runs a program and returns what it prints."""
    sensors, problems = [], []
    for sensor in [*_hwmon(root), *_iio(root), *_pmic(root, command), *_rapl(root)]:
        try:
            sensor.read()
            sensors.append(sensor)
        except SensorError as error:
            problems.append(f"{sensor.name}: {error}")
    model = _model(root)
    if model.startswith("Raspberry Pi") and not model.startswith(PMIC_BOARDS) and not sensors:
        problems.append(f"a {model} has no current sensing: use an external meter")
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


def _hwmon(root: Path) -> Iterator[Sensor]:
    for folder in _folders(root / "sys/class/hwmon", r"hwmon\d+"):
        chip = _text(folder / "name")
        if not re.fullmatch(r"ina\d+\w*", chip):
            continue
        place = (folder / "device").resolve().name if (folder / "device").exists() else folder.name
        interval = max(0.05, _milliseconds(folder / "update_interval"))
        for current in _numbered(folder, r"curr(\d+)_input"):
            voltage, power = folder / f"in{current}_input", folder / f"power{current}_input"
            label = _text(folder / f"in{current}_label")
            if label == "NC" or not (voltage.exists() or power.exists()):
                continue
            read = _product(voltage, folder / f"curr{current}_input") if not power.exists() else _scaled(power, 1e-6)
            yield Sensor(
                f"{chip}@{place}" + (f":{label}" if label else f":{current}" if chip.startswith("ina3221") else ""),
                f"rail {label}" if label else "the rail that its shunt is in",
                _with_shunt(read, folder / "shunt_resistor"),
                whole=label in WHOLE_BOARD,
                interval_s=interval,
            )


def _iio(root: Path) -> Iterator[Sensor]:
    for folder in _folders(root / "sys/bus/iio/devices", r"iio:device\d+"):
        chip = _text(folder / "name")
        if chip == JETPACK_4:  # named rails, already in mW
            for rail in _numbered(folder, r"in_power(\d+)_input"):
                label = _text(folder / f"rail_name_{rail}") or rail
                if label != "NC":
                    power = _scaled(folder / f"in_power{rail}_input", 1e-3)
                    yield Sensor(f"{chip}:{label}", f"rail {label}", power, whole=label in WHOLE_BOARD)
            continue
        powers = _numbered(folder, r"in_power(\d*)_raw")
        for channel in powers:
            milliwatts = _channel(folder, f"in_power{channel}", "in_power")
            yield _iio_sensor(folder, chip, channel if len(powers) > 1 else "", [milliwatts], 1e-3)
        if not powers:
            currents = _numbered(folder, r"in_current(\d*)_raw")
            pairs = [channel for channel in currents if (folder / f"in_voltage{channel}_raw").exists()]
            for channel in pairs:
                factors = [_channel(folder, f"in_{kind}{channel}", f"in_{kind}") for kind in ("voltage", "current")]
                yield _iio_sensor(folder, chip, channel if len(pairs) > 1 else "", factors, 1e-6)


def _iio_sensor(folder: Path, chip: str, channel: str, factors: list[Reading], unit: float) -> Sensor:
    """A sensor of an IIO device; its watts are the product of the factors times `unit`."""
    label = _text(folder / f"in_power{channel}_label") or _text(folder / "label")
    name = f"{chip or 'iio'}@{folder.name.replace(':', '')}" + (f":{channel}" if channel else "")
    read = _plausible(lambda: math.prod(factor() for factor in factors) * unit)
    covers = f"rail {label}" if label else "the rail that its shunt is in"
    return Sensor(name, covers, read, whole=label in WHOLE_BOARD)


def _pmic(root: Path, command: Callable[[list[str]], str]) -> Iterator[Sensor]:
    if not _model(root).startswith(PMIC_BOARDS):
        return

    def read() -> float:
        try:
            said = command(["vcgencmd", "pmic_read_adc"])
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
    yield Sensor("rpi5-pmic", covers, _plausible(read), whole=True, interval_s=0.25)


def _rapl(root: Path) -> Iterator[Sensor]:
    # Subzones (cores, graphics) are inside a package and "psys" is around it: neither is added to the packages.
    folders = _folders(root / "sys/class/powercap", r"intel-rapl:\d+")
    packages = [folder for folder in folders if _text(folder / "name").startswith("package")]
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
        now = int(_number(self._energy))
        if self._last is not None:
            step = now - self._last
            if step < 0:
                wrap = int(_number(self._range))
                if now < 0 or self._last > wrap:
                    raise SensorError(f"{self._energy} went from {self._last} to {now}, its range being {wrap}")
                step += wrap
            self._total += step
        self._last = now
        return self._total * 1e-6


def _scaled(path: Path, factor: float) -> Reading:
    return _plausible(lambda: _number(path) * factor)


def _product(millivolts: Path, milliamperes: Path) -> Reading:
    return _plausible(lambda: _number(millivolts) * _number(milliamperes) * 1e-6)


def _channel(folder: Path, channel: str, shared: str) -> Reading:
    """(raw + offset) * scale of an IIO channel, in the unit of its kind; scale and offset may be shared by the kind."""

    def part(what: str, default: float) -> float:
        for name in (channel, shared):
            if (folder / f"{name}_{what}").exists():
                return _number(folder / f"{name}_{what}")
        return default

    return lambda: (_number(folder / f"{channel}_raw") + part("offset", 0.0)) * part("scale", 1.0)


def _plausible(read: Reading) -> Reading:
    def checked() -> float:
        watts = read()
        if not SMALLEST_W <= watts <= LARGEST_W:
            raise SensorError(
                f"it reads {watts:.4g} W; is its shunt the right way round, and the driver told its size?"
            )
        return watts

    return checked


def _with_shunt(read: Reading, shunt: Path) -> Reading:
    def checked() -> float:
        if shunt.exists() and _number(shunt) <= 0:
            raise SensorError(f"{shunt} is not set, so its currents mean nothing; write the shunt's micro-ohms there")
        return read()

    return checked


def _number(path: Path) -> float:
    try:
        text = path.read_text(errors="replace").strip()
    except PermissionError as error:
        raise SensorError(f"{path} can be read by root only") from error
    except OSError as error:
        raise SensorError(f"{path} cannot be read: {error.strerror}") from error
    try:
        number = float(text)
    except ValueError as error:
        raise SensorError(f"{path} holds {text[:40]!r}, which is no number") from error
    if not math.isfinite(number):
        raise SensorError(f"{path} holds {text[:40]!r}, which is no number")
    return number


def _text(path: Path) -> str:
    """The content of a file that says what something is; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _milliseconds(path: Path) -> float:
    """Seconds from a file in ms; 0 if it does not tell."""
    text = _text(path)
    return int(text) * 1e-3 if text.isdecimal() else 0.0


def _model(root: Path) -> str:
    return _text(root / "proc/device-tree/model")


def _folders(folder: Path, pattern: str) -> list[Path]:
    try:
        names = [entry.name for entry in folder.iterdir() if re.fullmatch(pattern, entry.name)]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=lambda name: (len(name), name))]


def _numbered(folder: Path, pattern: str) -> list[str]:
    """The numbers in the names of the files that match, in order."""
    matches = [re.fullmatch(pattern, entry.name) for entry in sorted(folder.iterdir())]
    return [match[1] for match in matches if match]
