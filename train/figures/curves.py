"""Learning curves: PSNR on the held-out crops over the seconds of training, from the log.csv of runs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from train.figures.canvas import FigureError, caption, pyplot, save

COLUMNS = 4  # panels side by side


@dataclass(frozen=True)
class Curve:
    """The validations of one run. seconds: of training; psnr: dB, mean over noise levels; rounded: as the device."""

    name: str
    seconds: list[float]
    psnr: list[float]
    rounded: list[bool]

    def late_gain(self) -> float:
        """dB between the best of the first three quarters of the time and the best of all."""
        early = [psnr for at, psnr in zip(self.seconds, self.psnr, strict=True) if at <= 0.75 * self.seconds[-1]]
        return max(self.psnr) - max(early, default=self.psnr[0])


def read_curve(run: Path) -> Curve:
    """The curve of a run of `train.hkd`, or in a file with the columns seconds, rounded and psnr or psnr_*.

    Raises FigureError, a sentence.
    """
    path = run / "log.csv" if run.is_dir() else run
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        seconds = [float(row["seconds"]) for row in rows]
        psnr = [mean(float(row[name]) for name in row if name.startswith("psnr")) for row in rows]
        rounded = [row["rounded"] == "1" for row in rows]
    except OSError as error:
        raise FigureError(f"{path} cannot be read: {error}; give the folder of a run of train.hkd.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FigureError(f"{path} is not the log.csv of a run of train.hkd ({error!r}).") from error
    if not rows:
        raise FigureError(f"{path} holds no validation yet.")
    return Curve(path.parent.name if path.name == "log.csv" else path.stem, seconds, psnr, rounded)


def draw(runs: Sequence[Path], out: Path) -> list[str]:
    """Write curves.png into the folder `out`; what each run reached and gained last, in lines. Raises FigureError."""
    curves = [read_curve(run) for run in runs]
    rows = math.ceil(len(curves) / COLUMNS)
    columns = min(len(curves), COLUMNS)
    figure, panels = pyplot().subplots(
        rows, columns, figsize=(3.6 * columns, 2.7 * rows), squeeze=False, layout="constrained"
    )
    for axes in panels.ravel()[len(curves) :]:
        axes.remove()
    lines = []
    for curve, axes in zip(curves, panels.ravel(), strict=False):
        axes.plot(curve.seconds, curve.psnr, color="C0", linewidth=1.3)
        for on, colour in ((False, "C0"), (True, "white")):
            points = [(s, p) for s, p, r in zip(curve.seconds, curve.psnr, curve.rounded, strict=True) if r == on]
            if points:
                axes.plot(*zip(*points, strict=True), "o", color="C0", markersize=4.5, markerfacecolor=colour)
        axes.set_title(f"{curve.name}: {curve.psnr[-1]:.2f} dB at the end", fontsize=10)
        axes.set_xlim(0, None)
        axes.grid(alpha=0.3)
        lines.append(
            f"{curve.name}: {curve.psnr[-1]:.2f} dB after {curve.seconds[-1]:,.0f} s, {max(curve.psnr):.2f} dB at "
            f"best, {curve.late_gain():.2f} dB of which the last quarter of the time brought"
        )
    for axes in panels[-1]:
        axes.set_xlabel("seconds of training")
    for axes in panels[:, 0]:
        axes.set_ylabel("PSNR [dB]")
    caption(
        figure,
        "PSNR on the ten held-out crops, of noise the mean over sigma 15, 25 and 50; open circles: with the contract's "
        "roundings, as the device computes it. Seconds of one core that did other work as well.",
    )
    path = save(figure, out / "curves.png")
    return [*lines, f"wrote {path}"]
