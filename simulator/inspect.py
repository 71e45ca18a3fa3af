"""`python -m simulator.inspect BUNDLE`: what is in a bundle, layer by layer."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.bundle import Bundle, BundleError, quality, read_bundle

_COLUMNS = ("layer", "kind", "channels", "scale", "steps", "grid", "parameters", "bound", "accumulator", "float32")
_LEFT = ("layer", "kind", "accumulator", "float32")
_ENTRIES = (
    ("training data", "training.data"),
    ("its terms", "training.terms"),
    ("weights' licence", "weights.licence"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m simulator.inspect", description="What is in a bundle, layer by layer.")
    parser.add_argument("bundle", type=Path, help="a .safetensors file written by `python -m export.bundle`")
    path: Path = parser.parse_args(arguments).bundle
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        print(f"error: {_plain(str(error))}", file=sys.stderr)
        return 2
    try:
        print(describe(bundle))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    return 0


def describe(bundle: Bundle) -> str:
    """The text that is printed: one table row per node, then what holds for the whole network."""
    analysis, meta = bundle.analysis, bundle.meta
    rows = [_COLUMNS]
    for node in bundle.graph.nodes:
        value = analysis.values[node.name]
        own = sum(math.prod(shape) for key, shape in analysis.shapes.items() if key.rpartition(".")[0] == node.name)
        rows.append(
            (
                node.name,
                node.kind,
                str(value.channels),
                f"1/{value.scale}",
                "1" if value.static else str(bundle.graph.time_steps),
                "spikes" if value.spikes else f"2^-{value.q}" if value.q else "1",
                str(own) if own else "",
                str(analysis.bounds[node.name]),
                analysis.width(node.name),
                "exact" if analysis.float_exact(node.name) else "inexact",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    table = [
        "  ".join(
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for cell, width, column in zip(row, widths, _COLUMNS, strict=True)
        ).rstrip()
        for row in rows
    ]
    table.insert(1, "  ".join("-" * width for width in widths))
    exact = sum(analysis.float_exact(node.name) for node in bundle.graph.nodes)
    narrow = sum(analysis.width(node.name) == "int16" for node in bundle.graph.nodes)
    versions = [meta[f"bundle.{word}_version"] for word in ("structure", "semantics")]
    facts = [
        ("task", bundle.task),
        ("content hash", bundle.content_hash),
        ("format", f"structure version {versions[0]}, semantics version {versions[1]}"),
        ("time steps", f"T = {bundle.graph.time_steps}, spike if v {meta['neuron.comparison']} threshold"),
        ("input", f"{meta['input.colour']}, {meta['input.range']}"),
        ("padding", meta["input.padding"]),
        ("parameters", f"{analysis.parameters:,}"),
        ("nodes", f"{len(rows) - 1}: {narrow} fit int16, {exact} are exact in float32"),
        ("stride", f"{analysis.stride} pixels; tiles: multiples of {analysis.align}, with a halo of {analysis.halo}"),
        ("memory", f"up to {analysis.bytes_per_pixel():.0f} MB per megapixel"),
        *((label, meta[key]) for label, key in _ENTRIES),
        *((f"PSNR {name}", f"{value:.2f} dB") for name, value in quality(meta).items()),
        *((key, meta[key]) for key in sorted(meta) if key.startswith("note.")),
    ]
    wide = max(len(label) for label, _ in facts)
    lines = [*table, "", *(f"{label.ljust(wide)}  {text}" for label, text in facts)]
    return "\n".join(_plain(line) for line in lines)


def _plain(text: str) -> str:
    """Text that cannot steer a terminal, whatever a file put into it."""
    return "".join(c if c.isprintable() else "?" for c in text)


if __name__ == "__main__":
    sys.exit(main())
