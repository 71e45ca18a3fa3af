"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from pathlib import Path


def temporary_name(path: str | os.PathLike[str]) -> Path:
    """A hidden name, not in use, beside the file that `path` stands for (links are followed), with its suffix."""
    return Path(_temporary(os.path.realpath(path)))


def remove_temporaries(path: str | os.PathLike[str]) -> None:
    """Removes what a process that was killed while it wrote `path` has left; none may be writing it now."""
    folder, stem, suffix = map(glob.escape, _parts(os.path.realpath(path)))
    for left in glob.iglob(os.path.join(folder, f".{stem}.{'[0-9a-f]' * 12}{suffix}")):
        with contextlib.suppress(OSError):
            os.unlink(left)


def write_atomically(path: str | os.PathLike[str], content: bytes, mode: int = 0o666) -> None:
    """Write under a temporary name, then rename: a kill or a full disk leaves the old file or the new one, whole.

    mode: the file's permissions, less the process's umask. Raises OSError if the place cannot be written to; nothing is
    left behind then.
    """
    target = os.path.realpath(path)
    temporary = _temporary(target)
    try:
        # O_EXCL: never through a file or link that someone else put there.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _temporary(target: str) -> str:
    folder, stem, suffix = _parts(target)
    return os.path.join(folder, f".{stem}.{secrets.token_hex(6)}{suffix}")


def _parts(target: str) -> tuple[str, str, str]:
    """Folder, the beginning of the name, suffix."""
    folder, name = os.path.split(target)
    stem, suffix = os.path.splitext(name)
    return folder, stem[:64], suffix


def reason(error: OSError) -> str:
    """What the operating system says, in the middle of a sentence."""
    return (error.strerror or str(error)).lower()
