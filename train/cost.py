"""What restoring one picture takes: milliseconds, all networks in turn, and estimated energy; and a plot with PSNR."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from simulator.statistics import BITS_32
from train.figures.canvas import FigureError, pyplot, save
from train.tables import Table

ROUNDS = 7
SECONDS = 10.0  # a call that took longer in all sits out the remaining rounds
MARKS = "osDv^P*X"
COLUMNS = 4  # panels side by side


def in_turn(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Median milliseconds of each call, which is made once to warm up and then up to ROUNDS times, in turn.

    What takes longer than SECONDS has its first call counted, and no other.
    """
    taken = [[first] if (first := _seconds(call)) > SECONDS else [] for call in calls]
    for _ in range(ROUNDS):
        for call, times in zip(calls, taken, strict=True):
            if sum(times) < SECONDS:
                times.append(_seconds(call))
    return [1e3 * median(times) for times in taken]


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def cost_table(reports: Sequence[dict[str, Any]]) -> Table:
    """One set's reports of all networks -> a row each: parameters, milliseconds, multiples of the first, energy."""
    first = reports[0]["cost"]
    rows = []
    for report in reports:
        cost, size = report["cost"], report["parameters"]
        energy = "-" if cost["energy_uj"] is None else f"{cost['energy_uj']:,.0f}"
        times = [f"{cost['ms']:,.1f}", f"{cost['ms'] / first['ms']:.2f}"]
        rows.append(
            (f"{report['network']} ({report['backend']})", ["-" if size is None else f"{size:,}", *times, energy])
        )
    caption = (
        f"The first picture of {reports[0]['dataset']}, {first['width']}x{first['height']} pixels{first['noise']}. "
        f"Milliseconds: medians of up to {ROUNDS} runs, all in turn. Energy: {BITS_32}; "
        "a dash: operations are not counted."
    )
    columns = ["parameters", "ms", "of the first row's", "energy [uJ], estimated"]
    return Table(f"What it takes: {reports[0]['dataset']}", caption, columns, rows)


def quality(report: dict[str, Any], row: str = "restored") -> float:
    """PSNR in dB by the first protocol, the mean over noise levels where there are several. row: or "input"."""
    results = next(iter(report["results"].values()))
    entries = [results] if row in results else results.values()
    return mean(float(entry[row]["psnr"]) for entry in entries)


def plot(sets: Sequence[Sequence[dict[str, Any]]], path: Path) -> Path:
    """PSNR over milliseconds, a panel for each set, a mark for each network.

    sets: of each set the reports of all networks. FigureError without matplotlib, or where the file cannot be written.
    """
    plt = pyplot()
    from matplotlib import ticker

    rows, columns = math.ceil(len(sets) / COLUMNS), min(len(sets), COLUMNS)
    figure, panels = plt.subplots(
        rows, columns, figsize=(2.5 + 4.5 * columns, 4.8 * rows), squeeze=False, layout="constrained"
    )
    for axes in panels.ravel()[len(sets) :]:
        axes.remove()
    names = list(dict.fromkeys(report["network"] for reports in sets for report in reports))
    for axes, reports in zip(panels.ravel(), sets, strict=False):
        for report in reports:
            i = names.index(report["network"])
            axes.plot(report["cost"]["ms"], quality(report), MARKS[i % len(MARKS)], color=f"C{i % 10}", ms=8)
        cost = reports[0]["cost"]
        axes.set(xscale="log", xlabel=f"milliseconds, {cost['width']}x{cost['height']}")
        axes.set_title(f"{reports[0]['dataset']}, untouched {quality(reports[0], 'input'):.2f} dB", fontsize=11)
        times = [report["cost"]["ms"] for report in reports]
        wide = max(times) > 8 * min(times)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.margins(0.15)
        axes.grid(alpha=0.3, which="both")
    for axes in panels[:, 0]:
        axes.set_ylabel("PSNR [dB]")
    for i, name in enumerate(names):
        panels[0][-1].plot([], [], MARKS[i % len(MARKS)], color=f"C{i % 10}", label=name)
    panels[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    try:
        return save(figure, path)
    except OSError as error:
        raise FigureError(f"{path} cannot be written: {error}.") from error
