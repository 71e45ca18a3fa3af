"""What every exporter shares: its error, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


class ExportError(ValueError):
    """An export that cannot be made. str() is one sentence: what was found, what was expected, what to do."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under another name, then rename it: no half-written file, and an old one stays if this fails.

    Raises ExportError if the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written: {(error.strerror or str(error)).lower()}; "
            "choose a folder that exists, is writable and has room."
        ) from error
