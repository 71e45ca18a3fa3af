"""Figure 10a: does an epoch take longer as training goes on (limitation (ii) of the paper)? From a run's log.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from train.figures.canvas import FigureError, caption, pyplot, save

FLAT = 0.05  # the last epochs are within so much of the first


@dataclass(frozen=True)
class Epochs:
    """Seconds per epoch between two validations: places in epochs, whether the contract's roundings were on."""

    name: str
    epochs: list[float]
    seconds: list[float]
    rounded: list[bool]

    def phases(self) -> dict[str, list[float]]:
        """{phase: seconds per epoch, in order}: the roundings make a step longer, so each phase also stands alone."""
        parts = {
            "whole run": self.seconds,
            "without roundings": [s for s, on in zip(self.seconds, self.rounded, strict=True) if not on],
            "with roundings": [s for s, on in zip(self.seconds, self.rounded, strict=True) if on],
        }
        both = parts["without roundings"] and parts["with roundings"]
        return {name: values for name, values in parts.items() if values and (both or name == "whole run")}


def read_epochs(run: Path) -> Epochs:
    """The times in the log of a run of `train.hkd`. Raises FigureError, a sentence."""
    path = run / "log.csv" if run.is_dir() else run
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        epochs = [float(row["epoch"]) for row in rows]
        seconds = [float(row["seconds_per_epoch"]) for row in rows]
        rounded = [row["rounded"] == "1" for row in rows]
    except OSError as error:
        raise FigureError(f"{path} cannot be read: {error}; give the folder of a run of train.hkd.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FigureError(f"{path} is not the log.csv of a run of train.hkd ({error!r}).") from error
    if not rows:
        raise FigureError(f"{path} holds no validation yet, so no epoch was timed.")
    return Epochs(path.parent.name, epochs, seconds, rounded)


def growth(seconds: Sequence[float]) -> float:
    """Median of the last tenth over median of the first tenth (at least one value each)."""
    tenth = max(1, len(seconds) // 10)
    return median(seconds[-tenth:]) / median(seconds[:tenth])


def draw(runs: Sequence[Path], out: Path) -> list[str]:
    """Write epoch_time.png into the folder `out`; the ratios, in lines. Raises FigureError."""
    found = [read_epochs(run) for run in runs]
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 4.5))
    lines = []
    for i, run in enumerate(found):
        ratios = {phase: growth(values) for phase, values in run.phases().items() if len(values) > 1}
        label = f"{run.name}: " + (f"last / first tenth {ratios['whole run']:.2f}" if ratios else "one validation only")
        axes.plot(run.epochs, run.seconds, color=f"C{i % 10}", linewidth=1.3, label=label)
        for on, fill in ((False, "full"), (True, "none")):
            points = [(e, s) for e, s, r in zip(run.epochs, run.seconds, run.rounded, strict=True) if r == on]
            if points:
                axes.plot(
                    *zip(*points, strict=True), "o", color=f"C{i % 10}", fillstyle=fill, markersize=5,
                    markerfacecolor="white" if on else None,
                )  # fmt: skip
        for phase, ratio in ratios.items():
            verdict = "within 5 %" if abs(ratio - 1) <= FLAT else "longer" if ratio > 1 else "shorter"
            lines.append(
                f"{run.name}, {phase} ({len(run.phases()[phase])} validations): seconds per epoch, median of the last "
                f"tenth over the first tenth {ratio:.3f}, {verdict}"
            )
        if not ratios:
            lines.append(f"{run.name}: one validation only, nothing to compare")
    axes.set(xlabel="epoch", ylabel="seconds per epoch", ylim=(0, None), xlim=(0, None))
    axes.set_title("Training time per epoch (Figure 10a)", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    caption(
        figure,
        "Wall time of the training steps between two validations, as log.csv has it, on whatever else the machine did "
        "at the time. Open circles: with the contract's roundings, which make a step longer by design; each phase is "
        "also compared within itself.",
    )
    path = save(figure, out / "epoch_time.png")
    return [*lines, f"wrote {path}"]
