"""What every exporter shares: its errors, and files that appear whole or not at all."""

from __future__ import annotations

import os

import simulator.files
from simulator.graph import Node


class ExportError(ValueError):
    """An export that cannot be made. str() is one sentence: what was found, what was expected, what to do."""


def no_form(layer: str, kind: str, form: str) -> ExportError:
    """What an exporter raises at a kind of node that it has no rule for. form: what it writes, such as "ONNX form"."""
    return ExportError(f"Layer {layer!r} is of the kind {kind!r}, which has no {form}.")


def check_words(node: Node, form: str, **known: tuple[str, ...]) -> None:
    """Raises ExportError unless the node's attributes of those names are words that the exporter has a rule for."""
    for name, words in known.items():
        if node[name] not in words:
            raise ExportError(
                f"Layer {node.name!r} has {name} {node[name]!r}, which has no {form}; known: {', '.join(words)}."
            )


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
