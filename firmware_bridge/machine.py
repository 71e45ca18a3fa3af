"""A machine to build the C core for, and how to start what was built: this one, or one in an emulator.

Which machines there are is said in `boards/`, one file each.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.toolchain import CORE, FIRMWARE, HOST_COMPILER, BuildError, Compiler, compile_program, sources

PORT = FIRMWARE / "ports" / "cortexm"
INSTRUCTION_NS = 64  # of an emulated Cortex-M's time, see `qemu_cortex_m`


@dataclass(frozen=True)
class Machine:
    """A machine with an operating system. tick_ns: of its clock, nanoseconds.

    emulator: the command before the program's file; none for this machine. emulator_packages: Debian's that have it.
    """

    compiler: Compiler
    emulator: tuple[str, ...] = ()
    emulator_packages: tuple[str, ...] = ()
    tick_ns: float = 1.0

    def missing_packages(self) -> tuple[str, ...]:
        """Debian packages that have to be installed before anything can be built and run."""
        needed = [(self.compiler.program, self.compiler.packages)]
        needed += [(program, self.emulator_packages) for program in self.emulator[:1]]
        return tuple(package for program, packages in needed if shutil.which(program) is None for package in packages)

    def runner(self) -> Path:
        """The core as a program that reads plans and pictures and writes results (firmware/runner)."""
        return compile_program(self.compiler, "runner", (*CORE, *sources("runner/runner.c", "runner/stdio.c")))

    def link_program(self) -> Path:
        """The board's end of the link as a program (firmware/link), on standard input and output."""
        files = (*CORE, *sources("link/link.c"))
        return compile_program(
            self.compiler, "snn-link", (*files, *sources("link/daemon.c")), (f'-DSNN_BUILD="{_digest(files)}"',)
        )

    def command(self) -> list[str]:
        """Starts the runner on this machine; raises `BuildError`."""
        return [*self._emulator(), str(self.runner())]

    def link_command(self) -> list[str]:
        """Starts the board's end of the link, on standard input and output; raises `BuildError`."""
        return [*self._emulator(), str(self.link_program())]

    def _emulator(self) -> tuple[str, ...]:
        if self.emulator and shutil.which(self.emulator[0]) is None:
            raise BuildError(
                f"the emulator {self.emulator[0]} is not installed; on Debian or Ubuntu: "
                f"apt-get install {' '.join(self.emulator_packages)}"
            )
        return self.emulator


@dataclass(frozen=True)
class Region:
    """A piece of memory: where it starts and how long it is, bytes."""

    start: int
    size: int


@dataclass(frozen=True)
class Uart:
    """A UART. driver: its file in firmware/ports/cortexm, see uart.h there. base: of its registers. interrupt: of what
    it receives, as the interrupt controller numbers it."""

    driver: str
    base: int
    interrupt: int


@dataclass(frozen=True)
class CortexM(Machine):
    """A Cortex-M without an operating system. code: what it starts from, vectors first. data: variables and stack.
    pool: for plans, pictures and the core's work."""

    code: Region = Region(0, 0)
    data: Region = Region(0, 0)
    pool: Region = Region(0, 0)
    uart: Uart = Uart("", 0, 0)

    @property
    def linker_script(self) -> str:
        regions = (("CODE", self.code), ("DATA", self.data), ("POOL", self.pool))
        memory = "\n".join(f"    {name} : ORIGIN = {at.start:#x}, LENGTH = {at.size:#x}" for name, at in regions)
        return f"MEMORY {{\n{memory}\n}}\nINCLUDE sections.ld\n"

    def runner(self) -> Path:
        return self._bare("runner.elf", (*CORE, *sources("runner/runner.c"), PORT / "runner_main.c"))

    def link_program(self, uart: bool = False) -> Path:
        """uart: the link is on the machine's UART, else on semihosting."""
        files = (*CORE, *sources("link/link.c"))
        line, where = ["line_semihosting.c"], []
        if uart:
            line = ["line_uart.c", self.uart.driver]
            where = [f"-DUART_BASE={self.uart.base:#x}u", f"-DUART_INTERRUPT={self.uart.interrupt}"]
        clock = (f"-DTICKS_PER_SECOND={round(1e9 / self.tick_ns)}u", "-DCLOCK_KIND=SNN_CYCLES")
        ports = tuple(PORT / name for name in ("link_main.c", *line))
        return self._bare("link.elf", (*files, *ports), (f'-DSNN_BUILD="{_digest(files)}"', *where, *clock))

    def link_command(self, uart: bool = False) -> list[str]:
        """uart: standard input and output are the machine's UART, else semihosting."""
        emulator = list(self._emulator())
        if uart:
            emulator[emulator.index("-serial") + 1] = "stdio"
        return [*emulator, str(self.link_program(uart))]

    def _bare(self, name: str, files: tuple[Path, ...], more: tuple[str, ...] = ()) -> Path:
        linking = (f"-I{PORT / 'include'}", f"-L{PORT}", "-Wl,--gc-sections")
        own = tuple(PORT / name for name in ("startup.c", "memory.c", "semihosting.c"))
        return compile_program(
            self.compiler, name, (*files, *own), (*more, *linking), ("-lgcc",), linker_script=self.linker_script
        )


def qemu_cortex_m(
    machine: str, flags: tuple[str, ...], tick_ns: float, *, code: Region, data: Region, pool: Region, uart: Uart
) -> CortexM:
    """A Cortex-M in qemu-system-arm. machine: its name there. flags: of the compiler, for its processor.

    One instruction takes 2^6 ns of the machine's time, so that its clock counts instructions.
    """
    bare = ("-mthumb", "-ffreestanding", "-fno-common", "-ffunction-sections", "-nostdlib")
    quiet = ("-display", "none", "-serial", "none", "-monitor", "none")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return CortexM(
        Compiler("arm-none-eabi-gcc", ("-O3", *bare, *flags), ("gcc-arm-none-eabi",)),
        ("qemu-system-arm", "-M", machine, *quiet, "-icount", "shift=6", *semihosting, "-kernel"),
        ("qemu-system-arm",),
        tick_ns,
        code,
        data,
        pool,
        uart,
    )


HOST = Machine(HOST_COMPILER)


def _digest(files: tuple[Path, ...]) -> str:
    """What the firmware says of its build: its sources, as 15 hex digits."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:15]
