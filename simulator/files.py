"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from pathlib import Path


def temporary_name(path: str | os.PathLike[str]) -> Path:
    """A hidden name, not in use, beside the file that `path` stands for (links are followed), with its suffix."""
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.stem[:64]}.{secrets.token_hex(6)}{target.suffix}")


def remove_temporaries(path: str | os.PathLike[str]) -> None:
    """Removes what a process that was killed while it wrote `path` has left; none may be writing it now."""
    target = Path(os.path.realpath(path))
    for left in target.parent.glob(f".{glob.escape(target.stem[:64])}.{'[0-9a-f]' * 12}{glob.escape(target.suffix)}"):
        with contextlib.suppress(OSError):
            left.unlink()


def write_atomically(path: str | os.PathLike[str], content: bytes, mode: int = 0o666) -> None:
    """Write under a temporary name, then rename: a kill or a full disk leaves the old file or the new one, whole.

    mode: the file's permissions, less the process's umask. Raises OSError if the place cannot be written to; nothing is
    left behind then.
    """
    temporary = temporary_name(path)
    try:
        # O_EXCL: never through a file or link that someone else put there.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, os.path.realpath(path))
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def reason(error: OSError) -> str:
    """What the operating system says, in the middle of a sentence."""
    return (error.strerror or str(error)).lower()
