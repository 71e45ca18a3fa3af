"""Compiles the C core with the machine's compiler or a cross compiler; results are kept and used again.

A build is named by its sources and flags, so that a changed source is a new build, and lies in the user's cache folder.
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

FIRMWARE = Path(__file__).parent / "firmware"
CORE = tuple(sorted((FIRMWARE / "core").glob("*.c")))
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


class BuildError(RuntimeError):
    """A compiler that is missing or fails. str() is a sentence and what the compiler said."""


@dataclass(frozen=True)
class Target:
    """How to compile for one kind of machine. package: the Debian package of the compiler."""

    compiler: str
    flags: tuple[str, ...]
    package: str


HOST = Target("gcc", ("-O3",), "gcc libc6-dev")
SANITIZED = Target("gcc", SANITIZERS, "gcc libc6-dev")


def shared_library() -> Path:
    """The core as a shared library for this machine; raises `BuildError`."""
    return compile_program(HOST, "libsnn.so", CORE, ("-shared", "-fPIC"))


def runner(target: Target = HOST) -> Path:
    """The core as a program that reads plans and pictures and writes results (firmware/runner)."""
    return compile_program(target, "runner", (*CORE, *_files("runner/runner.c", "runner/stdio.c")))


def fuzzer(target: Target = SANITIZED) -> Path:
    """The program that damages plans and pictures and has the core read them (firmware/fuzz)."""
    return compile_program(target, "fuzz", (*CORE, *_files("fuzz/fuzz.c")))


def compile_program(target: Target, name: str, sources: tuple[Path, ...], more: tuple[str, ...] = ()) -> Path:
    """Compiles and links `sources`; returns the file called `name`."""
    compiler = shutil.which(target.compiler)
    if compiler is None:
        raise BuildError(
            f"the compiler {target.compiler} is not installed; on Debian or Ubuntu: apt-get install {target.package}"
        )
    flags = (*STRICT, *target.flags, f"-I{FIRMWARE / 'core'}", *more)
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
        command = [compiler, *flags, *map(str, sources), "-o", str(fresh)]
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
