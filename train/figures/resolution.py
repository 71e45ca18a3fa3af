"""Figure 10b: inference time against resolution, measured by `simulator.bench` in one run, everybody in turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from simulator.bench.command import main as bench
from train.figures.canvas import FigureError, pyplot

# The engine always runs; the same spiking network as a dense one; the equivalent ANN.
CONTENDERS = ("onnx", "ann-onnx")


def draw(bundle: Path, sizes: Sequence[int], repeats: int, out: Path) -> list[str]:
    """Write resolution.png and resolution.json into the folder `out`; ratios to the ANN's time, in lines.

    sizes: sides in pixels. repeats: rounds. Raises FigureError if the measurement fails; it prints its own table.
    """
    pyplot()
    out.mkdir(parents=True, exist_ok=True)
    record = out / "resolution.json"
    command = ["--bundle", str(bundle), "--parts", "sizes", "--only", *CONTENDERS, "--repeats", str(repeats)]
    code = bench([*command, "--sizes", *map(str, sizes), "--json", str(record), "--plots", str(out)])
    if code:
        raise FigureError(f"simulator.bench ended with {code}, so there is no figure of time against resolution.")
    return [*ratios(json.loads(record.read_text())), f"wrote {out / 'resolution.png'}"]


def ratios(report: dict) -> list[str]:
    """Limitation (i) of the paper in figures: the spiking network's time over its ANN's, event-driven and dense."""
    lines = []
    for entry in report["sizes"]:
        times = {row["key"]: row["median_ms"] for row in entry["contenders"]}
        if "ann-onnx" not in times:
            return [f"The equivalent ANN was not timed: {report['missing'].get('ann-onnx', 'it did not take part')}"]
        parts = [f"event-driven engine {times['engine'] / times['ann-onnx']:.2f}"]
        if "onnx" in times:
            parts.append(f"the same network computed densely {times['onnx'] / times['ann-onnx']:.2f}")
        lines.append(f"{entry['width']}x{entry['height']}: multiples of the ANN's time: {', '.join(parts)}")
    return lines
