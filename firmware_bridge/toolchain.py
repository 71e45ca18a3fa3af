"""Compiles the C core with the machine's compiler or a cross compiler; results are kept and used again.

A build is named by its sources and flags, so that a changed source is a new build, and lies in the user's cache folder.
What is built for a board is in `machine.py`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from simulator.files import reason

FIRMWARE = Path(__file__).parent / "firmware"
CORE = tuple(sorted((FIRMWARE / "core").glob("*.c")))
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
INCLUDED = ("core", "runner", "link", "fuzz")  # folders whose headers every file may include
FUZZERS = ("plans", "frames")


class BuildError(RuntimeError):
    """A compiler that is missing or fails. str() is a sentence and what the compiler said."""


@dataclass(frozen=True)
class Compiler:
    """How to compile for one kind of machine. packages: Debian's that have it."""

    program: str
    flags: tuple[str, ...]
    packages: tuple[str, ...]


HOST_COMPILER = Compiler("gcc", ("-O3",), ("gcc", "libc6-dev"))
SANITIZING_COMPILER = Compiler("gcc", SANITIZERS, HOST_COMPILER.packages)


def shared_library() -> Path:
    """The core as a shared library for this machine; raises `BuildError`."""
    return compile_program(HOST_COMPILER, "libsnn.so", CORE, ("-shared", "-fPIC"))


def link_library() -> Path:
    """The board's end of the link as a shared library for this machine; raises `BuildError`."""
    return compile_program(HOST_COMPILER, "libsnnlink.so", (*CORE, *sources("link/link.c")), ("-shared", "-fPIC"))


def fuzzer(what: str, link: Path = FIRMWARE / "link" / "link.c") -> Path:
    """The program that tries hostile plans or frames (FUZZERS) on the core and on the board's end of the `link`."""
    return compile_program(SANITIZING_COMPILER, what, (*CORE, link, *sources(f"fuzz/{what}.c")))


def compile_program(
    compiler: Compiler,
    name: str,
    files: tuple[Path, ...],
    more: tuple[str, ...] = (),
    libraries: tuple[str, ...] = (),
    linker_script: str = "",
) -> Path:
    """Compiles and links `files`; returns the built file, called `name`. Raises `BuildError`.

    more: flags besides the compiler's own. linker_script: the text of one, for machines without an operating system.
    """
    program = shutil.which(compiler.program)
    if program is None:
        raise BuildError(
            f"the compiler {compiler.program} is not installed; on Debian or Ubuntu: "
            f"apt-get install {' '.join(compiler.packages)}"
        )
    flags = (*STRICT, *compiler.flags, *(f"-I{FIRMWARE / folder}" for folder in INCLUDED), *more)
    key = hashlib.sha256("\0".join((_version(program), name, *flags, linker_script)).encode())
    for path in sorted({*files, *FIRMWARE.rglob("*.[hS]"), *FIRMWARE.rglob("*.ld")}):
        key.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = _cache() / key.hexdigest()[:24]
    built = folder / name
    if built.exists():
        return built
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise BuildError(
            f"the core cannot be compiled in {folder}: {reason(error)}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    with scratch:
        fresh, script = Path(scratch.name) / name, Path(scratch.name) / "memory.ld"
        script.write_text(linker_script)
        linking = (f"-T{script}",) if linker_script else ()
        command = [program, *flags, *linking, *map(str, files), *libraries, "-o", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"{compiler.program} cannot compile the core:\n{done.stderr.strip()}")
        os.replace(fresh, built)  # another process may have built the same meanwhile
    return built


def sources(*names: str) -> tuple[Path, ...]:
    """Files of firmware/."""
    return tuple(FIRMWARE / name for name in names)


@functools.cache
def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return done.stdout.partition("\n")[0]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikerir-edge" / "firmware"
