"""`python -m firmware_bridge.power`: the power sensors of this machine, and power from a meter's file after a run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from firmware_bridge.power.meter import NotMeasured
from firmware_bridge.power.meter_file import MeterFileError
from firmware_bridge.power.recording import from_file
from firmware_bridge.power.sensors import SensorError, choose, find
from simulator.files import reason, write_atomically


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 2 for files that cannot be used; 1 if there is no sensor or no figure."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.power", description=__doc__)
    parser.add_argument("meter", metavar="METER.csv", nargs="?", type=Path, help="what an external meter recorded")
    parser.add_argument("stats", metavar="STATS.json", nargs="?", type=Path, help="of a run; its `power` is filled in")
    args = parser.parse_args(argv)
    if (args.meter is None) != (args.stats is None):
        parser.error("a meter's file goes with the --stats file of the run that it recorded; give both or none")
    if args.meter is None:
        return _list()
    try:
        figures = json.loads(args.stats.read_text())
        windows, frames = figures["power_windows"], int(figures["frames"])
        idle, run = ((float(begin), float(end)) for begin, end in (windows["idle"], windows["run"]))
    except OSError as error:
        return _fail(f"{args.stats} cannot be read: {error.strerror}", 2)
    except (ValueError, KeyError, TypeError):
        return _fail(
            f"{args.stats} does not say when its run was; it has to come from edge-restore --power {args.meter}", 2
        )
    try:
        power = from_file(args.meter, idle, run, frames)
    except MeterFileError as error:
        return _fail(str(error), 2)
    except NotMeasured as error:
        return _fail(str(error), 1)
    figures.update(power=power.report(), power_reason=None)
    try:
        write_atomically(args.stats, (json.dumps(figures, indent=2) + "\n").encode())
    except OSError as error:
        return _fail(f"{args.stats} cannot be written: {reason(error)}", 2)
    print(f"{power.measured_w:.3f} W above {power.idle_w:.3f} W idle, {power.joules_per_frame:.4g} J a frame")
    return 0


def _list() -> int:
    found = find()
    for sensor in found.sensors:
        try:
            now = "an energy counter" if sensor.counts else f"{sensor.read():.3f} W now"
        except SensorError as error:
            now = str(error)
        print(f"{sensor.name}: {sensor.covers}; {now}")
    for problem in found.problems:
        print(f"not usable: {problem}")
    try:
        print(f"auto: {choose(found).name}")
    except SensorError as error:
        print(f"auto: none; {error}")
    return 0 if found.sensors else 1


def _fail(sentence: str, code: int) -> int:
    print(f"firmware_bridge.power: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
