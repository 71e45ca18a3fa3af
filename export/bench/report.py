"""What is printed and drawn: tables, the marks to reach, two plots. All of it is made from the JSON report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WIDTH = 34  # of a contender's name
NETWORKS = {
    "spiking": "the same spiking network, all {T} time steps",
    "ann": "the equivalent ANN: one pass, ReLU for the neurons, random weights",
}


def size_table(entry: dict[str, Any], steps: int) -> list[str]:
    """One size's contenders: medians, 95th percentiles, multiples of the engine's time."""
    lines = [
        f"{entry['width']}x{entry['height']} pixels of {entry['picture']}, spike rate {entry['spike_rate']:.3f}, "
        f"{threads_in_words(entry['threads'])} each",
        f"  {'':{WIDTH}}{'median ms':>10s}{'p95 ms':>10s}{'x engine':>10s}  result",
    ]
    for network, title in NETWORKS.items():
        rows = [row for row in entry["contenders"] if row["network"] == network]
        if rows:
            lines.append(f" {title.format(T=steps)}")
        for row in rows:
            lines.append(
                f"  {row['name']:{WIDTH}}{row['median_ms']:10.2f}{row['p95_ms']:10.2f}{row['ratio']:10.2f}  "
                f"{_result(row)}"
            )
    return lines


def threads_in_words(threads: int) -> str:
    return "one thread" if threads == 1 else f"{threads} threads"


def _result(row: dict[str, Any]) -> str:
    if row["key"] == "engine":
        return ""
    if row["differing_pixels"] is None:
        return "another network"
    if row["differing_pixels"] == 0:
        return "equal to the bit"
    return f"differs, by {row['mean_difference']:.2f} grey levels on average"


def scaling_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["Threads: the engine with more of them, in turn with itself on one"]
    for row in rows:
        each = ", ".join(f"{t} threads {s:.2f}x as fast" for t, s in row["speed"].items() if t != "1")
        lines.append(f"  {row['width']}x{row['height']}: {each}")
    return lines


def layer_table(rows: list[dict[str, Any]]) -> list[str]:
    """Milliseconds at each spike rate."""
    rates = [one["rate"] for one in rows[0]["rates"]]
    lines = [
        "One spiking convolution on random spikes, 128x128 positions, all time steps: ms, one row per shape",
        f"  {'':24s}{'sums':>6s}" + "".join(f"{rate:>8.1%}" for rate in rates) + "   dense f32   equal at",
    ]
    for row in rows:
        dense = "        -" if row["onnx_float32_ms"] is None else f"{row['onnx_float32_ms']:9.2f}"
        equal = row["equal_at_rate"]
        at = "" if row["onnx_float32_ms"] is None else (f"> {rates[-1]:.0%}" if equal is None else f"{equal:.0%}")
        lines.append(
            f"  {row['shape']:24s}{row['accumulator']:>6s}"
            + "".join(f"{one['ms']:8.2f}" for one in row["rates"])
            + f"   {dense}{at:>11s}"
        )
    return lines


def roofline_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "The accumulate kernel at 10 % spikes against the same instructions without anything else, one thread",
        f"  {'':16s}{'sums':>6s}{'GSyOp/s':>10s}{'bound':>8s}{'share':>8s}{'GB/s moved':>12s}",
    ]
    for row in rows:
        lines.append(
            f"  {row['shape']:16s}{row['accumulator']:>6s}{row['synops_per_s'] / 1e9:10.1f}"
            f"{row['bound_synops_per_s'] / 1e9:8.1f}{row['fraction']:8.0%}{row['bytes_per_s'] / 1e9:12.0f}"
        )
    return lines


def process_table(report: dict[str, Any]) -> list[str]:
    lines = []
    start = report["start_up"]
    if "cached_s" in start:
        lines.append(f"  process start to first restored 481x321 picture   {start['cached_s']:7.2f} s")
    if "first_ever_s" in start:
        lines.append(f"  the same with an empty kernel cache               {start['first_ever_s']:7.2f} s")
    for row in report["memory"]:
        what = f"peak memory, {row['key']}, {row['width']}x{row['height']}"
        lines.append(f"  {what:50s}{row['peak_mb']:7.0f} MB (of it Python and NumPy {row['baseline_mb']:.0f})")
    return ["Each in a process of its own", *lines] if lines else []


def marks(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What the project wants to reach, and what this run found: {what, wanted, found, reached}; the worst of each.

    Sizes below 256x256 do not count. What was not measured is left out.
    """
    ratios: dict[str, list[float]] = {}
    for entry in report["sizes"]:
        if min(entry["height"], entry["width"]) >= 256 and entry["threads"] == 1:
            for row in entry["contenders"]:
                ratios.setdefault(row["key"], []).append(row["ratio"])
    found: list[tuple[str, float, float, bool]] = []

    def at_least(what: str, wanted: float, values: list[float]) -> None:
        if values:
            found.append((what, wanted, min(values), min(values) >= wanted))

    def at_most(what: str, wanted: float, values: list[float]) -> None:
        if values:
            found.append((what, wanted, max(values), max(values) <= wanted))

    at_least("times ONNX Runtime float32, same spiking network", 6, ratios.get("onnx", []))
    for key in ("spikingjelly", "snntorch", "norse", "sinabs"):
        at_least(f"times {key}", 8, ratios.get(key, []))
    at_least("times ONNX Runtime float32, equivalent ANN", 1, ratios.get("ann-onnx", []))
    kernels = [row["fraction"] for row in report["roofline"] if row["shape"].startswith("32->32 ")]
    at_least("share of the roofline, 32 channels, 10 % spikes", 0.6, kernels)
    at_least("times one thread with two", 1.7, [row["speed"]["2"] for row in report["scaling"] if "2" in row["speed"]])
    start = report["start_up"]
    at_most("seconds to the first picture, cached kernels", 1.5, [start["cached_s"]] if "cached_s" in start else [])
    at_most("seconds of the first start ever", 40, [start["first_ever_s"]] if "first_ever_s" in start else [])
    large = [row["peak_mb"] for row in report["memory"] if (row["key"], row["width"]) == ("engine", 1920)]
    at_most("MB of memory for 1920x1080", 500, large)
    return [dict(zip(("what", "wanted", "found", "reached"), one, strict=True)) for one in found]


def marks_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'Marks (the worst of this run)':52s}{'wanted':>8s}{'found':>9s}"]
    for row in rows:
        verdict = "reached" if row["reached"] else "not reached"
        lines.append(f"  {row['what']:50s}{row['wanted']:8g}{row['found']:9.2f}  {verdict}")
    return lines


def plots(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write `resolution.png` (the paper's Figure 10b) and `spike_rate.png` into the folder; the files written.

    Raises ImportError or ValueError, a sentence, where a package that the paper's figures need is missing.
    """
    from train.figures import resolution

    written = []
    if report["sizes"]:
        written.append(resolution.plot(report, folder / "resolution.png"))
    if report["layers"]:
        written.append(_spike_rate(report, folder / "spike_rate.png"))
    return written


def _spike_rate(report: dict[str, Any], path: Path) -> Path:
    """Time against spike rate, one line per shape of layer; the dense time as a horizontal line of its colour."""
    from train.figures.canvas import pyplot, save

    figure, axes = pyplot().subplots(figsize=(9, 6), layout="constrained")
    for i, row in enumerate(report["layers"]):
        label = f"{row['shape']}, {row['accumulator']}"
        rates, times = zip(*((100 * one["rate"], one["ms"]) for one in row["rates"]), strict=True)
        axes.plot(rates, times, marker="o", markersize=4, color=f"C{i % 10}", label=label)
        if row["onnx_float32_ms"] is not None:
            axes.axhline(row["onnx_float32_ms"], color=f"C{i % 10}", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="spike rate, %", ylabel="milliseconds, median")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_yticks(*plain_ticks(*axes.get_ylim()))
    axes.minorticks_off()
    axes.set_title("One spiking convolution, random spikes (dashed: dense in ONNX Runtime, float32)", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save(figure, path)


def plain_ticks(lowest: float, highest: float) -> tuple[list[float], list[str]]:
    """1, 2, 5, 10, ... between the two, and how they are written: for a logarithmic axis."""
    marked = [step * 10.0**power for power in range(-4, 5) for step in (1, 2, 5)]
    marked = [value for value in marked if lowest <= value <= highest]
    return marked, [f"{value:g}" for value in marked]
