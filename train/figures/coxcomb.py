"""Figure 1: a coxcomb of PSNR over tasks and sets, from the JSON files of `train.evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from train import published
from train.datasets import DATASETS
from train.figures.canvas import FigureError, caption, pyplot, save
from train.tasks import TASKS, paper_order

CENTRE = 10.0  # dB at the middle: below it no picture is worth looking at


@dataclass(frozen=True)
class Wedge:
    """One network on one set (denoise: at one noise level). PSNR in dB; printed: the paper's student, if it has one."""

    label: str
    task: str
    untouched: float
    restored: float
    printed: float | None
    network: str
    images: int
    whole: bool
    synthetic: bool


def read_wedges(paths: Sequence[Path]) -> list[Wedge]:
    """All wedges in files that `train.evaluate --json` wrote, by task. Raises FigureError for another file."""
    wedges: list[Wedge] = []
    for path in paths:
        try:
            content = json.loads(path.read_text())
            for own in content.get("networks", [content]):
                for report in own.get("sets", [own]):
                    wedges += _paired(report) if "protocols" in report else _denoised(report)
        except OSError as error:
            raise FigureError(f"{path} cannot be read: {error}.") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FigureError(f"{path} is not a file that `train.evaluate --json` writes ({error!r}).") from error
    if not wedges:
        raise FigureError("There are no scores in these files.")
    crowded = {w.label for w in wedges if len({v.network for v in wedges if v.label == w.label}) > 1}
    wedges = [replace(w, label=f"{w.label}\n{w.network}") if w.label in crowded else w for w in wedges]
    tests = [w.label.splitlines()[0] for w in wedges]
    return sorted(wedges, key=lambda w: (paper_order(w.task), tests.index(w.label.splitlines()[0])))


def _denoised(report: dict[str, Any]) -> list[Wedge]:
    """Clipped noise, which is what a device sees; unclipped only where nothing else was measured."""
    results = report["results"]
    protocol = "clipped" if "clipped" in results else next(iter(results))
    name, found = report["dataset"], []
    for sigma, row in results[protocol].items():
        label = f"{name}, sigma {sigma}" + ("" if protocol == "clipped" else ", unclipped")
        found.append(_wedge(report, label, DATASETS[name].task, row, published.best_student(name, sigma)))
    return found


def _paired(report: dict[str, Any]) -> list[Wedge]:
    protocol = "rgb" if "rgb" in report["results"] else next(iter(report["results"]))
    name, row = report["dataset"], report["results"][protocol]
    task = name.split()[1] if report["synthetic"] else DATASETS[name].task
    label = name
    return [_wedge(report, label, task, row, published.best_student(name))]


def _wedge(report: dict[str, Any], label: str, task: str, row: dict[str, Any], printed: float | None) -> Wedge:
    count = DATASETS[report["dataset"]].count if report["dataset"] in DATASETS else report["whole"]
    return Wedge(
        label, task, row["input"]["psnr"], row["restored"]["psnr"], printed, report.get("network", "this network"),
        report["images"], report["images"] == count and not report.get("synthetic"), bool(report.get("synthetic")),
    )  # fmt: skip


def draw(paths: Sequence[Path], out: Path) -> list[str]:
    """Write coxcomb.png into the folder `out`; what it shows, in lines. Raises FigureError."""
    wedges = read_wedges(paths)
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8.5, 8.5), subplot_kw={"projection": "polar"})
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    step = 2 * np.pi / len(wedges)
    shown = [value for w in wedges for value in (w.untouched, w.restored, w.printed or 0.0)]
    top = 5 * np.ceil((max(shown) + 1) / 5)
    for i, wedge in enumerate(wedges):
        middle = i * step
        height, inner = (max(value - CENTRE, 0) for value in (wedge.restored, wedge.untouched))
        axes.bar(
            middle, height, 0.9 * step, bottom=CENTRE, color=TASKS[wedge.task].colour, alpha=0.75,
            hatch="//" if wedge.synthetic else None, edgecolor="white", linewidth=0.8,
        )  # fmt: skip
        axes.bar(middle, inner, 0.9 * step, bottom=CENTRE, color="0.55", edgecolor="white", linewidth=0.8)
        if wedge.printed is not None:
            arc = np.linspace(middle - 0.45 * step, middle + 0.45 * step, 40)
            axes.plot(arc, np.full(40, wedge.printed), color="black", linewidth=2)
        text = f"{wedge.label}\n{wedge.restored:.2f} dB ({wedge.restored - wedge.untouched:+.2f})"
        side = "left" if 0.1 < middle < np.pi - 0.1 else "right" if np.pi + 0.1 < middle < 2 * np.pi - 0.1 else "center"
        place = "bottom" if np.cos(middle) > 0.3 else "top" if np.cos(middle) < -0.3 else "center"
        axes.text(middle, top + 0.6, text, ha=side, va=place, fontsize=9)
    axes.set_ylim(CENTRE, top)
    rings = np.arange(CENTRE, top + 1, 5)
    # The rings' labels stand in a gap between two wedges.
    axes.set_yticks(rings, [f"{ring:g} dB" for ring in rings], fontsize=8)
    axes.set_rlabel_position(np.degrees(step / 2))
    axes.set_xticks([])
    axes.grid(alpha=0.3)
    handles = [plt.Rectangle((0, 0), 1, 1, color="0.55", label="untouched input")]
    for task in dict.fromkeys(w.task for w in wedges):
        handles.append(plt.Rectangle((0, 0), 1, 1, color=TASKS[task].colour, alpha=0.75, label=f"this project, {task}"))
    if any(w.synthetic for w in wedges):
        handles.append(plt.Rectangle((0, 0), 1, 1, facecolor="white", hatch="//", edgecolor="0.5", label="synthetic"))
    if any(w.printed is not None for w in wedges):
        handles.append(plt.Line2D([], [], color="black", linewidth=2, label="the paper's student, as printed"))
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.03), ncols=3, fontsize=8, frameon=False)
    parts = ", ".join(dict.fromkeys(f"{w.label.splitlines()[0]}: {w.images}" for w in wedges if not w.whole))
    few = f" Images that were scored, where not the whole published set: {parts}." if parts else ""
    caption(
        figure,
        f"PSNR, RGB, 8-bit pictures in and out, measured by train.evaluate; denoising: noise clipped to 8 bits unless "
        f"said otherwise. The radius starts at {CENTRE:g} dB. Black: the best of the paper's rows for its student on "
        f"the same set; its protocol is not said.{few}",
        below=0.05,
    )
    path = save(figure, out / "coxcomb.png")
    lines = [
        f"{w.label.replace(chr(10), ' ')}: {w.untouched:.2f} -> {w.restored:.2f} dB"
        + (f" (the paper's student: {w.printed:.2f})" if w.printed is not None else "")
        for w in wedges
    ]
    return [*lines, f"wrote {path}"]
