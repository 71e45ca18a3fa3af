"""`python -m firmware_bridge.build`: everything that goes onto boards, built and put into a folder."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.boards import BOARDS
from firmware_bridge.boards.emulated import Emulated
from firmware_bridge.machine import HOST, CortexM
from firmware_bridge.toolchain import BuildError, shared_library


def programs() -> dict[str, Callable[[], Path]]:
    """File names, and what compiles each."""
    made: dict[str, Callable[[], Path]] = {"libsnn.so": shared_library, "snn-link-host": HOST.link_program}
    for name, board in BOARDS.items():
        if not issubclass(board, Emulated):
            continue
        machine, short = board.machine, name.removeprefix("qemu-")
        if isinstance(machine, CortexM):
            made[f"snn-link-{short}.elf"] = functools.partial(machine.link_program, uart=True)
            made[f"snn-link-{short}-semihosting.elf"] = machine.link_program
        else:
            made[f"snn-link-{short}"] = machine.link_program
    return made


def main(argv: list[str] | None = None) -> int:
    """0; 2 if a compiler is missing, or the folder cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.build",
        description="Builds the board's end of the link for every processor, and the core as a library.",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("build/firmware"), help="build/firmware")
    out = parser.parse_args(argv).out
    failed = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, compile_it in programs().items():
            try:
                built = compile_it()
            except BuildError as error:
                print(f"firmware_bridge.build: {name}: {error}", file=sys.stderr)
                failed = 2
                continue
            fresh = out / f".{name}.{os.getpid()}"
            shutil.copy2(built, fresh)
            os.replace(fresh, out / name)
            print(f"{out / name}: {built.stat().st_size:,} bytes")
    except OSError as error:
        print(f"firmware_bridge.build: {error.filename or out} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return failed


if __name__ == "__main__":
    sys.exit(main())
