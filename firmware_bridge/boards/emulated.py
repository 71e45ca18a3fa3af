"""Boards inside emulators that this machine starts and stops itself."""

from __future__ import annotations

import shutil

from firmware_bridge.boards.core import CoreBoard
from firmware_bridge.build import INSTRUCTION_NS, MACHINES
from firmware_bridge.runner import Runner


class Emulated(CoreBoard):
    here = False
    most_columns = 1 << 12

    def __init__(self) -> None:
        self._runners: list[Runner] = []

    @classmethod
    def missing(cls) -> str:
        machine = MACHINES[cls.name]
        packages = [
            package
            for tool, package in (
                (machine.target.compiler, machine.target.package),
                (machine.emulator[0], machine.package),
            )
            if shutil.which(tool) is None
        ]
        return f"apt-get install {' '.join(packages)}" if packages else ""

    def _open(self, plan: bytes) -> Runner:
        runner = Runner(MACHINES[self.name])
        self._runners.append(runner)
        runner.open(plan)
        return runner

    def close(self) -> None:
        while self._runners:
            self._runners.pop().close()


class Arm64(Emulated):
    name = "qemu-aarch64"
    about = "the C core for Linux on ARM64, under qemu-user"
    clock = "wall time of the emulation, which says nothing about a real board"


class ArmV7(Emulated):
    name = "qemu-arm"
    about = "the C core for Linux on ARMv7 with NEON, under qemu-user"
    clock = Arm64.clock


class CortexM7(Emulated):
    name = "qemu-mps2-an500"
    about = "Cortex-M7 without an operating system, Arm MPS2+ AN500, under qemu-system-arm"
    clock = f"instructions at {INSTRUCTION_NS} ns each, not cycles"
    unit, unit_ns = "instructions", INSTRUCTION_NS
    memory_bytes = 15 << 20


class CortexM55(CortexM7):
    name = "qemu-mps3-an547"
    about = "Cortex-M55 without an operating system, Arm MPS3 AN547, under qemu-system-arm"
