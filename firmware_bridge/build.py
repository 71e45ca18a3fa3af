"""Compiles the C core with the machine's compiler or a cross compiler; results are kept and used again.

`python -m firmware_bridge.build` puts everything that goes onto boards into a folder.

A build is named by its sources and flags, so that a changed source is a new build, and lies in the user's cache folder.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIRMWARE = Path(__file__).parent / "firmware"
PORT = FIRMWARE / "ports" / "cortexm"
CORE = tuple(sorted((FIRMWARE / "core").glob("*.c")))
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


FUZZERS = ("plans", "frames")


class BuildError(RuntimeError):
    """A compiler that is missing or fails. str() is a sentence and what the compiler said."""


@dataclass(frozen=True)
class Target:
    """How to compile for one kind of machine. package: the Debian package of the compiler."""

    compiler: str
    flags: tuple[str, ...]
    package: str


@dataclass(frozen=True)
class Machine:
    """A machine to build for, and how to start what was built. tick_ns: of its clock, nanoseconds.

    linker_script: of a machine without an operating system, in firmware/ports/cortexm. uart: address and interrupt of
    the one that the link uses there. emulator: the command before
    the program's file; package: what has it on Debian.
    """

    target: Target
    emulator: tuple[str, ...] = ()
    package: str = ""
    linker_script: str = ""
    tick_ns: float = 1.0
    uart: tuple[int, int] = (0, 0)

    def command(self) -> list[str]:
        """Starts the runner on this machine; raises `BuildError`."""
        self._check()
        return [*self.emulator, str(runner(self))]

    def link_command(self, uart: bool = False) -> list[str]:
        """Starts the board's end of the link, on standard input and output; raises `BuildError`.

        uart: of a bare machine, those are its UART, else semihosting.
        """
        self._check()
        emulator = list(self.emulator)
        if uart:
            emulator[emulator.index("-serial") + 1] = "stdio"
        return [*emulator, str(link_program(self, uart))]

    def _check(self) -> None:
        if self.emulator and shutil.which(self.emulator[0]) is None:
            raise BuildError(
                f"the emulator {self.emulator[0]} is not installed; on Debian or Ubuntu: apt-get install {self.package}"
            )


def _cortex_m(*flags: str) -> Target:
    bare = ("-mthumb", "-ffreestanding", "-fno-common", "-ffunction-sections", "-nostdlib")
    return Target("arm-none-eabi-gcc", ("-O3", *bare, *flags), "gcc-arm-none-eabi")


def _qemu_system(machine: str) -> tuple[str, ...]:
    # One instruction takes 2^6 ns of the machine's time, so that its clock counts instructions.
    quiet = ("-display", "none", "-serial", "none", "-monitor", "none")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return ("qemu-system-arm", "-M", machine, *quiet, "-icount", "shift=6", *semihosting, "-kernel")


HOST = Target("gcc", ("-O3",), "gcc libc6-dev")
SANITIZED = Target("gcc", SANITIZERS, "gcc libc6-dev")
ARM64 = Target("aarch64-linux-gnu-gcc", ("-O3", "-static"), "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
ARMV7 = Target(
    "arm-linux-gnueabihf-gcc", ("-O3", "-mfpu=neon", "-static"), "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
)
CORTEX_M7 = _cortex_m("-mcpu=cortex-m7", "-mfloat-abi=soft")
CORTEX_M55 = _cortex_m("-mcpu=cortex-m55", "-mfloat-abi=hard")
INSTRUCTION_NS = 64  # 2^6, see _qemu_system

MACHINES = {
    "host": Machine(HOST),
    "sanitized": Machine(SANITIZED),
    "qemu-aarch64": Machine(ARM64, ("qemu-aarch64",), "qemu-user"),
    "qemu-arm": Machine(ARMV7, ("qemu-arm",), "qemu-user"),
    "qemu-mps2-an500": Machine(
        CORTEX_M7, _qemu_system("mps2-an500"), "qemu-system-arm", "an500.ld", 40.0, (0x40004000, 0)
    ),
    "qemu-mps3-an547": Machine(
        CORTEX_M55, _qemu_system("mps3-an547"), "qemu-system-arm", "an547.ld", 31.25, (0x59303000, 33)
    ),
}


def shared_library() -> Path:
    """The core as a shared library for this machine; raises `BuildError`."""
    return compile_program(HOST, "libsnn.so", CORE, ("-shared", "-fPIC"))


def link_library() -> Path:
    """The board's end of the link as a shared library for this machine, for tests and the agent."""
    return compile_program(HOST, "libsnnlink.so", (*CORE, *_files("link/link.c")), ("-shared", "-fPIC"))


def runner(machine: Machine) -> Path:
    """The core as a program that reads plans and pictures and writes results (firmware/runner)."""
    sources = (*CORE, *_files("runner/runner.c"))
    if not machine.linker_script:
        return compile_program(machine.target, "runner", (*sources, *_files("runner/stdio.c")))
    return _bare(machine, "runner.elf", (*sources, PORT / "runner_main.c"))


def link_program(machine: Machine, uart: bool = False) -> Path:
    """The board's end of the link as a program (firmware/link): on standard input and output, or on a bare machine's
    UART."""
    sources = (*CORE, *_files("link/link.c"))
    build = f'-DSNN_BUILD="{_digest(sources)[:15]}"'
    if not machine.linker_script:
        return compile_program(machine.target, "snn-link", (*sources, *_files("link/daemon.c")), (build,))
    address, interrupt = machine.uart
    line = (f"-DUART_BASE={address:#x}u", f"-DUART_INTERRUPT={interrupt}") if uart else ("-DLINK_SEMIHOSTING",)
    clock = (f"-DTICKS_PER_SECOND={round(1e9 / machine.tick_ns)}u", "-DCLOCK_KIND=SNN_CYCLES")
    return _bare(machine, "link.elf", (*sources, PORT / "link_main.c"), (build, *line, *clock))


def _bare(machine: Machine, name: str, sources: tuple[Path, ...], more: tuple[str, ...] = ()) -> Path:
    linking = (f"-I{PORT / 'include'}", f"-L{PORT}", f"-T{PORT / machine.linker_script}", "-Wl,--gc-sections")
    own = tuple(PORT / name for name in ("startup.c", "memory.c", "semihosting.c"))
    return compile_program(machine.target, name, (*sources, *own), (*more, *linking), ("-lgcc",))


def _digest(sources: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def fuzzer(what: str, target: Target = SANITIZED, link: Path = FIRMWARE / "link" / "link.c") -> Path:
    """The program that tries hostile plans or frames (FUZZERS) on the core and on the board's end of the `link`."""
    return compile_program(target, what, (*CORE, link, *_files(f"fuzz/{what}.c")))


def compile_program(
    target: Target, name: str, sources: tuple[Path, ...], more: tuple[str, ...] = (), libraries: tuple[str, ...] = ()
) -> Path:
    """Compiles and links `sources`; returns the file called `name`."""
    compiler = shutil.which(target.compiler)
    if compiler is None:
        raise BuildError(
            f"the compiler {target.compiler} is not installed; on Debian or Ubuntu: apt-get install {target.package}"
        )
    flags = (
        *STRICT,
        *target.flags,
        f"-I{FIRMWARE / 'core'}",
        f"-I{FIRMWARE / 'runner'}",
        f"-I{FIRMWARE / 'link'}",
        f"-I{FIRMWARE / 'fuzz'}",
        *more,
    )
    key = hashlib.sha256("\0".join((_version(compiler), name, *flags)).encode())
    for path in sorted({*sources, *FIRMWARE.rglob("*.[hS]"), *FIRMWARE.rglob("*.ld")}):
        key.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = _cache() / key.hexdigest()[:24]
    built = folder / name
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch) / name
        command = [compiler, *flags, *map(str, sources), *libraries, "-o", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"{target.compiler} cannot compile the core:\n{done.stderr.strip()}")
        os.replace(fresh, built)  # another process may have built the same meanwhile
    return built


def _files(*names: str) -> tuple[Path, ...]:
    return tuple(FIRMWARE / name for name in names)


@functools.cache
def _version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikerir-edge" / "firmware"


def programs() -> dict[str, Callable[[], Path]]:
    """What `python -m firmware_bridge.build` makes: file names, and what compiles each."""
    made: dict[str, Callable[[], Path]] = {"libsnn.so": shared_library}
    for name, machine in MACHINES.items():
        if name == "sanitized":
            continue
        short = name.removeprefix("qemu-")
        if machine.linker_script:
            made[f"snn-link-{short}.elf"] = functools.partial(link_program, machine, True)
            made[f"snn-link-{short}-semihosting.elf"] = functools.partial(link_program, machine)
        else:
            made[f"snn-link-{short}"] = functools.partial(link_program, machine)
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
