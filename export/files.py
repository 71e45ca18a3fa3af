"""What every exporter shares: its error, and files that appear whole or not at all."""

from __future__ import annotations

import os

import simulator.files


class ExportError(ValueError):
    """An export that cannot be made. str() is one sentence: what was found, what was expected, what to do."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under another name, then rename it: no half-written file, and an old one stays if this fails.

    Raises ExportError if the place cannot be written to.
    """
    try:
        simulator.files.write_atomically(path, content)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written: {simulator.files.reason(error)}; "
            "choose a folder that exists, is writable and has room."
        ) from error
