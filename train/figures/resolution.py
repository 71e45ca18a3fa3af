"""Figure 10b: inference time against resolution, from a report that `export.bench --json` wrote in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from train.figures.canvas import FigureError, pyplot, save


def draw(record: Path, out: Path) -> list[str]:
    """Write resolution.png into the folder `out`; multiples of the ANN's time, in lines.

    record: the JSON report. Raises FigureError for a file that is not such a report.
    """
    report = read_report(record)
    return [*ratios(report), f"wrote {plot(report, out / 'resolution.png')}"]


def read_report(path: Path) -> dict[str, Any]:
    """The report in a file; FigureError for anything else, and if no size was timed."""
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
        timed = [(row["key"], row["median_ms"]) for entry in report["sizes"] for row in entry["contenders"]]
    except OSError as error:
        raise FigureError(f"{path} cannot be read: {error}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FigureError(f"{path} is not a file that `export.bench --json` writes.") from error
    if not timed:
        raise FigureError(f"{path} holds no times of whole pictures; `export.bench --parts sizes` takes them.")
    return report


def plot(report: dict[str, Any], path: Path) -> Path:
    """Draw time against the number of pixels, one line per contender, with the report's first number of threads."""
    threads = report["sizes"][0]["threads"]
    lines: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for entry in report["sizes"]:
        if entry["threads"] == threads:
            for row in entry["contenders"]:
                pixels = (entry["height"] * entry["width"]) ** 0.5
                lines.setdefault((row["key"], row["name"], row["network"]), []).append((pixels, row["median_ms"]))
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    colours = plt.get_cmap("tab20")
    for i, ((key, name, network), points) in enumerate(lines.items()):
        colour = "black" if key == "engine" else colours(i)
        axes.plot(
            *zip(*sorted(points), strict=True), marker="o", markersize=4, color=colour,
            linewidth=3 if key == "engine" else 1.3, linestyle="-" if network == "spiking" else "--",
            label=name if network == "spiking" else f"ANN: {name}",
        )  # fmt: skip
    sides = sorted({round((e["height"] * e["width"]) ** 0.5) for e in report["sizes"]})
    axes.set(xscale="log", yscale="log", xlabel="picture, pixels per side", ylabel="milliseconds, median")
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.minorticks_off()
    in_words = "one thread" if threads == 1 else f"{threads} threads"
    axes.set_title(f"Time against resolution, {in_words} (dashed: the equivalent ANN)", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    return save(figure, path)


def ratios(report: dict[str, Any]) -> list[str]:
    """Limitation (i) of the paper in figures: the spiking network's time over its ANN's, event-driven and dense."""
    lines = []
    for entry in report["sizes"]:
        times = {row["key"]: row["median_ms"] for row in entry["contenders"]}
        if "ann-onnx" not in times:
            why = report.get("missing", {}).get("ann-onnx", "it did not take part")
            return [f"The equivalent ANN was not timed: {why}"]
        parts = [f"event-driven engine {times['engine'] / times['ann-onnx']:.2f}"]
        if "onnx" in times:
            parts.append(f"the same network computed densely {times['onnx'] / times['ann-onnx']:.2f}")
        lines.append(f"{entry['width']}x{entry['height']}: multiples of the ANN's time: {', '.join(parts)}")
    return lines
