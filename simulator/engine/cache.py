"""Compiled kernels on disk: loaded by the next start, and checked before anything in them is taken for code.

One file holds one kernel: MAGIC, the SHA-256 of its key and of what follows, then Numba's form of the compiled function
(a pickle with machine code in it). The key is made of all that the code depends on: versions, processor, sources. So a
file that is damaged, half-written, or of another version or machine is not opened up, and neither is one that somebody
else could have written: it must belong to this user, to root, or to whoever owns the engine's own files. What cannot be
used counts as missing: the kernel is compiled anew.

`folders` are looked through in order; the first that holds the kernel is read, the first that can be written to gets
it. That of the installed package is one of them, so `edge-restore --warmup` while an image is built serves every start
from that image, also where nothing can be written.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import CompileResultCacheImpl
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps

from simulator.files import write_atomically

MAGIC = b"SNNKRNL1"
LARGEST = 64 << 20  # bytes; the largest kernel has about three million
KEPT = 8  # files of one kernel in a folder: of versions, processors
PACKAGE = Path(__file__).parent
NAME = "spikerir-edge"


def folders() -> Iterator[Path]:
    """Where kernels may be kept: below NUMBA_CACHE_DIR if that is set, in the package, in the user's own cache."""
    chosen: str = getattr(config, "CACHE_DIR")  # noqa: B009 (Numba makes it when it starts)
    if chosen:
        yield Path(chosen) / NAME
    yield PACKAGE / "__pycache__"
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(own):  # a user without a home has none
        yield Path(own) / NAME


class Kernel(CPUDispatcher):
    """A function for Numba to compile without Python objects and without its lock, kept by a `KernelCache`."""

    def __init__(self, function: Callable[..., Any], sources: str, uncached: Callable[[], None]):
        """sources: a hash of all that is compiled. uncached: called before compiling what no folder can keep."""
        super().__init__(function, targetoptions={"nopython": True, "nogil": True, "boundscheck": None})
        self._cache = KernelCache(f"{function.__module__}.{function.__name__}", sources, uncached)


class KernelCache:
    """What Numba asks for compiled code, and gives it to: the methods of its own caches."""

    def __init__(self, name: str, sources: str, uncached: Callable[[], None]):
        self._name, self._sources, self._uncached = name.rpartition("simulator.")[2], sources, uncached
        self._folder: Path | None = None

    @property
    def cache_path(self) -> str | None:
        """Where the kernel came from, or is kept for the next start; None if no folder can keep it."""
        return None if self._folder is None else str(self._folder)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled function, or None where it must be compiled."""
        target.refresh()
        key = self._key(signature, target.codegen())
        for folder in folders():
            payload = read(folder / self._file(key), key)
            if payload is None:
                continue
            try:
                found = _Form().rebuild(target, pickle.loads(payload))
            except Exception:  # whole, and yet of no use: whatever that may be, compiling helps
                continue
            self._folder = folder
            return found
        self._folder = next(filter(writable, folders()), None)
        if self._folder is None:
            self._uncached()
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled function where `load_overload` found that it can be; a full disk keeps nothing."""
        if self._folder is None:
            return
        assert not compiled.library.has_dynamic_globals, "an address in the code would be wrong at the next start"
        key = self._key(signature, compiled.codegen)
        try:
            write(self._folder / self._file(key), key, dumps(_Form().reduce(compiled)))
            kept = sorted(self._folder.glob(f"{self._name}-*.kernel"), key=lambda path: path.stat().st_mtime)
            for path in kept[:-KEPT]:
                path.unlink()
        except OSError:
            self._folder = None

    def _key(self, signature: Any, codegen: Any) -> bytes:
        python = (sys.implementation.cache_tag, getattr(sys, "abiflags", ""))
        versions = (numba.__version__, llvmlite.__version__, np.__version__, python)
        parts = (self._name, self._sources, str(signature), codegen.magic_tuple(), versions)
        return hashlib.sha256(repr(parts).encode()).digest()

    def _file(self, key: bytes) -> str:
        return f"{self._name}-{key.hex()[:32]}.kernel"


class _Form(CompileResultCacheImpl):
    """Numba's form of a compiled function for a pickle, without its search for a folder."""

    def __init__(self) -> None:
        pass


def write(path: Path, key: bytes, payload: bytes) -> None:
    """Store what `read` gives back. Raises OSError."""
    write_atomically(path, MAGIC + hashlib.sha256(key + payload).digest() + payload, mode=0o644)


def read(path: Path, key: bytes) -> bytes | None:
    """What `write` stored in `path` for `key`; None where the file is not exactly that, or not to be trusted."""
    try:
        # Not blocking: the name could be that of a pipe.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST or not trusted(facts):
                return None
            content = file.read(LARGEST)
    except (OSError, ValueError):
        return None
    start = len(MAGIC) + hashlib.sha256().digest_size
    digest, payload = content[len(MAGIC) : start], content[start:]
    whole = content.startswith(MAGIC) and digest == hashlib.sha256(key + payload).digest()
    return payload if whole else None


def trusted(facts: os.stat_result) -> bool:
    """Whether nobody could have written a file but who can change this program anyway."""
    if not hasattr(os, "geteuid"):  # no owners and modes of this sort
        return True
    package = PACKAGE.stat()
    owners = {os.geteuid(), 0, package.st_uid}
    others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if facts.st_gid == package.st_gid:  # as in images whose files are the group's to change
        others &= ~(package.st_mode & stat.S_IWGRP)
    return facts.st_uid in owners and not others


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError):
        return False
    return True
