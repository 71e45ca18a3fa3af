"""`python -m firmware_bridge.kernel_cost [MACHINE ...]`: instructions per synaptic operation, counted by the emulator.

A synaptic operation is one spike added to one output channel. Counted is one position, from the call of the core's
inner loop to its return, with so many spikes arriving there; "one more" is what a spike more costs where there are
many. Instructions are no cycles: a real Cortex-M7 does up to two at a time, and waits for slow memory.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from firmware_bridge.boards import BOARDS
from firmware_bridge.boards.emulated import EmulatedCortexM
from firmware_bridge.machine import INSTRUCTION_NS
from firmware_bridge.runner import Runner, RunnerError
from firmware_bridge.toolchain import BuildError

MACHINES = {name: board.machine for name, board in BOARDS.items() if issubclass(board, EmulatedCortexM)}
CHANNELS = (8, 16, 32, 64)
SPIKES = (1, 3, 10, 30)
MANY = (100, 300)


def instructions_per_synop(runner: Runner, tick_ns: float, channels: int, plain: bool) -> list[float]:
    """For each of SPIKES at a position, and then for one more."""
    rng = np.random.default_rng(channels)
    weight = rng.integers(-99, 100, (288, channels)).astype(np.int16)

    def instructions(spikes: int) -> float:
        ticks = runner.accumulate(weight, rng.integers(0, len(weight), spikes), plain)[1]
        return ticks * tick_ns / INSTRUCTION_NS

    few, many = (instructions(spikes) for spikes in MANY)
    found = [instructions(spikes) / (spikes * channels) for spikes in SPIKES]
    return [*found, (many - few) / ((MANY[1] - MANY[0]) * channels)]


def main(argv: list[str] | None = None) -> int:
    """Prints a table in Markdown; 2 if an emulator or a compiler is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.kernel_cost", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "machine", nargs="*", metavar="MACHINE", default=list(MACHINES), help=f"default: {' '.join(MACHINES)}"
    )
    names = parser.parse_args(argv).machine
    unknown = set(names) - set(MACHINES)
    if unknown:
        parser.error(f"instructions are not counted on {', '.join(sorted(unknown))}; choose from {', '.join(MACHINES)}")
    heads = " | ".join(f"{spikes} spike{'s' * (spikes > 1)}" for spikes in SPIKES)
    print(f"| machine | loop | channels | {heads} | one more |")
    print("|---" * (len(SPIKES) + 4) + "|")
    try:
        for name in names:
            with Runner(MACHINES[name]) as runner:
                for plain in (False, True):
                    for channels in CHANNELS:
                        figures = instructions_per_synop(runner, MACHINES[name].tick_ns, channels, plain)
                        cells = " | ".join(f"{figure:.2f}" for figure in figures)
                        print(f"| {name} | {'plain C' if plain else 'the core'} | {channels} | {cells} |", flush=True)
    except (BuildError, RunnerError) as error:
        print(f"firmware_bridge.kernel_cost: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
