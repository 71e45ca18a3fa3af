"""Boards in an emulator that this machine starts and stops; the link goes through its fast path."""

from __future__ import annotations

from typing import ClassVar

from firmware_bridge.boards.linked import Linked
from firmware_bridge.machine import INSTRUCTION_NS, Machine
from firmware_bridge.transport import Pipe, Transport


class Emulated(Linked):
    """machine: what is built for it, and how the emulator is started. one_processor: see `transport.Pipe`."""

    clock = "wall time of the emulation, which says nothing about a real board"
    machine: ClassVar[Machine]
    one_processor = False

    @classmethod
    def packages(cls) -> tuple[str, ...]:
        return cls.machine.missing_packages()

    def _connect(self) -> Transport:
        return Pipe(self.machine.link_command(), self.one_processor)


class EmulatedCortexM(Emulated):
    """Without an operating system; its clock counts instructions."""

    clock = f"instructions at {INSTRUCTION_NS} ns each, not cycles"
    unit, unit_ns = "instructions", INSTRUCTION_NS
    one_processor = True
