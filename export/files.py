"""What every exporter shares: its errors, and files that appear whole or not at all."""

from __future__ import annotations

import os

import simulator.files
from simulator.graph import Node
from simulator.kinds import KnownAttributes, unknown_attribute


class ExportError(ValueError):
    """An export that cannot be made. str() is one sentence: what was found, what was expected, what to do."""


def no_form(layer: str, kind: str, form: str) -> ExportError:
    """What an exporter raises at a kind of node that it has no rule for. form: what it writes, such as "ONNX form"."""
    return ExportError(f"Layer {layer!r} is of the kind {kind!r}, which has no {form}.")


def missing_package(package: str, extra: str = "export") -> str:
    """One sentence for who lacks a package that the extra brings."""
    since = " (Python 3.11 on)" if package in ("onnx", "onnxruntime") else ""
    return f"The package {package} is not installed; `pip install 'spikerir-edge[{extra}]'` brings it{since}."


def check_attributes(node: Node, known: KnownAttributes, form: str) -> None:
    """Raises ExportError for an attribute, or a word of one, that an exporter with these rules would pass over."""
    unknown = unknown_attribute(node, known)
    if unknown:
        raise ExportError(f"Layer {node.name!r} ({node.kind}) has {unknown}, which has no {form}.")


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
