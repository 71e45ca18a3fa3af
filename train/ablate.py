"""`python -m train.ablate`: do the hints pay? The same training with hints at different stages, or none.

Every run has the same steps, seed, batches and settings; only the stages of the hints differ. What `train.hkd` takes
(--data, --teacher-weights, --steps, --rate, ...) is passed on. In --out: one folder per run (resumed or skipped when
the command is given again), convergence.csv (PSNR on held-out images over steps, one row per run and validation) and
convergence.png. How many steps each run needed to reach a given PSNR is printed, none or better left out.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from simulator.files import write_atomically
from train import hkd
from train.run import TrainingError

COLUMNS = ("stages", "seed", "step", "seconds", "rounded", "rate", "psnr_15", "psnr_25", "psnr_50", "psnr")
Rows = list[dict[str, str]]


def run_folder(out: Path, stages: str, seed: int) -> Path:
    return out / f"{stages}-seed{seed}"


def read_rows(out: Path, stages: list[str], seeds: list[int]) -> Rows:
    """The validations of all runs; TrainingError if one has none."""
    rows: Rows = []
    for seed in seeds:
        for stage in stages:
            path = run_folder(out, stage, seed) / "log.csv"
            with open(path, newline="") as file:
                found = [{**row, "stages": stage, "seed": str(seed)} for row in csv.DictReader(file)]
            if not found:
                raise TrainingError(f"{path} holds no validation yet.")
            rows += found
    return rows


def score(row: dict[str, str]) -> float:
    """PSNR of a validation in dB, the mean over noise levels where there are several."""
    names = [name for name in row if name.startswith("psnr") and row[name]]
    return sum(float(row[name]) for name in names) / len(names)


def steps_to_reach(rows: Rows, stages: str, seed: int, target: float) -> int | None:
    """The first validated step at which a run reaches `target` dB, or None if it never does."""
    reached = [
        int(r["step"]) for r in rows if r["stages"] == stages and r["seed"] == str(seed) and score(r) >= target - 1e-9
    ]
    return min(reached, default=None)


def plot(rows: Rows, path: Path, title: str) -> None:
    """PSNR over steps, one line per run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for stage, seed in dict.fromkeys((row["stages"], row["seed"]) for row in rows):
        run = [row for row in rows if (row["stages"], row["seed"]) == (stage, seed)]
        label = "no hints" if stage == "none" else f"hints at stages {stage}"
        axes.plot(
            [int(row["step"]) for row in run], [score(row) for row in run], marker=".", label=f"{label}, seed {seed}"
        )
    axes.set(xlabel="step", ylabel="PSNR on held-out images [dB], mean over noise levels", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, dpi=110, bbox_inches="tight", format="png")
    plt.close(figure)
    write_atomically(path, content.getvalue())


def write_results(out: Path, stages: list[str], seeds: list[int], title: str) -> None:
    """convergence.csv, convergence.png, and a printed summary."""
    rows = read_rows(out, stages, seeds)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out / "convergence.csv", text.getvalue().encode())
    plot(rows, out / "convergence.png", title)
    for seed in seeds:
        best = {
            stage: max(score(row) for row in rows if row["stages"] == stage and row["seed"] == str(seed))
            for stage in stages
        }
        target = min(best.values())
        for stage in stages:
            step = steps_to_reach(rows, stage, seed, target)
            print(f"seed {seed}, stages {stage:5s} best {best[stage]:.2f} dB; {target:.2f} dB reached at step {step}")


def main(arguments: list[str] | None = None) -> int:
    """The command; exit codes as `train.hkd`."""
    parser = argparse.ArgumentParser(
        prog="python -m train.ablate",
        description="Train with hints at different stages; other options go to train.hkd.",
    )
    parser.add_argument("--stages", nargs="+", choices=tuple(hkd.HINT_STAGES), default=["none", "4-7"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    options, passed = parser.parse_known_args(arguments)
    for seed in options.seeds:
        for stage in options.stages:
            folder = run_folder(options.out, stage, seed)
            print(f"--- stages {stage}, seed {seed}", file=sys.stderr)
            code = hkd.main([*passed, "--stages", stage, "--seed", str(seed), "--out", str(folder), "--resume"])
            if code:
                return code
    settings = hkd.parse_arguments([*passed, "--stages", "none"])
    title = f"{settings.task}, {settings.student} student, batch {settings.batch}, rate {settings.rate:g}"
    try:
        write_results(options.out, options.stages, options.seeds, title)
    except (OSError, TrainingError) as error:
        print(f"train.ablate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
