"""`python -m train.sweep`: what sparsity costs. PSNR against spike rate, milliseconds and estimated energy.

Each point of the sweep is the same training (steps, seed, batches) with another architecture or weight of the spike
penalty; POINTS names them. What `train.hkd` takes (--data, --steps, --rate, ...) is passed on. Then every point is
frozen and measured on the device path: PSNR on a test set by the clipped protocol of `train.evaluate`, spike rate, and
on a 256x256 picture of noise level 25 the milliseconds (one thread, medians of interleaved repetitions) and the energy
by Eq. (1), operations executed, beside that of the equivalent ANN.

In --out: one folder per point (resumed or skipped when the command is given again), sweep.csv, sweep.md, sweep.png.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from simulator.bundle import BundleError
from simulator.files import write_atomically
from simulator.network import Network
from train import hkd
from train.checkpoint import read_checkpoint
from train.data import DataError, add_noise, image_paths, load_image
from train.frozen import freeze_run, score
from train.run import WHOLE, TrainingError, validation_pairs
from train.tasks import TASKS

SIGMAS = TASKS["denoise"].noise_levels
SIDE = 256  # pixels of the picture whose milliseconds and energy are given
ENDS = ("encode=3x3", "readout=thin")  # a sixth of the real-valued multiply-accumulates of the wide ends
CHEAP = (*ENDS, "blocks=1,1,1,1,1,2,2")  # and what that saves in parameters put into one more block
# What is trained: architecture options and the penalty's weight.
POINTS: dict[str, tuple[tuple[str, ...], float]] = {
    "wide ends, no penalty": ((), 0.0),
    "wide ends, 0.008": ((), 0.008),
    "2x2 in, 3x3 out, 0.008": (("encode=thin", "readout=wide"), 0.008),
    "4x4 in, spikes and 1x1 out, 0.008": (("encode=4x4", "readout=spikes"), 0.008),
    "3x3 in, 1x1 out, 0.008": (ENDS, 0.008),
    "2x2 in, 1x1 out, 0.008": (("encode=thin", "readout=thin"), 0.008),
    "3x3 in, 1x1 out, block, no penalty": (CHEAP, 0.0),
    "3x3 in, 1x1 out, block, 0.008": (CHEAP, 0.008),
    "3x3 in, 1x1 out, block, 0.016": (CHEAP, 0.016),
    "3x3 in, 1x1 out, block, 0.032": (CHEAP, 0.032),
    "3x3 in, 1x1 out, block, 0.064": (CHEAP, 0.064),
    "3x3 in, 1x1 out, block, T = 2, 0.016": ((*CHEAP, "time_steps=2"), 0.016),
}
COLUMNS = (
    "point", "architecture", "penalty", "parameters", "steps", "seconds",
    *(f"psnr_{sigma}" for sigma in SIGMAS), "psnr", *(f"rate_{sigma}" for sigma in SIGMAS), "rate",
    "ms", "synops", "macs", "energy_uj", "ann_energy_uj", "energy_of_ann",
)  # fmt: skip
Row = dict[str, str | float]


def folder(out: Path, point: str) -> Path:
    """The folder of a point's run; its name is the point's, in letters that every file system takes."""
    words = "".join(c if c.isalnum() or c == "." else " " for c in point).split()
    return out / "-".join(words)


def times_ms(networks: list[Network], picture: np.ndarray, repeats: int) -> list[float]:
    """Median wall time of `Network.run` in ms for each network, repetitions interleaved."""
    taken: list[list[float]] = [[] for _ in networks]
    for turn in range(repeats + 2):
        for network, times in zip(networks, taken, strict=True):
            begin = time.perf_counter()
            network.run(picture)
            if turn >= 2:  # the first two warm up
                times.append(1e3 * (time.perf_counter() - begin))
    return [median(times) for times in taken]


def measure(runs: dict[str, Path], images: list[np.ndarray], seed: int, repeats: int) -> list[Row]:
    """One row per point; runs: {point: folder}, images: clean uint8 RGB [H, W, 3], at least one of SIDE x SIDE."""
    large = [image for image in images if min(image.shape[:2]) >= SIDE]
    if not large:
        raise DataError(f"No image of the test set has {SIDE}x{SIDE} pixels, which the time is measured on.")
    picture = add_noise(large[0][:SIDE, :SIDE], 25, seed, True, 0)
    contents = {point: read_checkpoint(run) for point, run in runs.items()}
    networks = [Network(freeze_run(runs[point]), threads=1) for point in runs]
    milliseconds = times_ms(networks, picture, repeats)
    rows: list[Row] = []
    for (point, checkpoint), network, ms in zip(contents.items(), networks, milliseconds, strict=True):
        stats = network.run(picture).stats
        scores = [score(network, validation_pairs("denoise", images, seed, sigma, WHOLE)) for sigma in SIGMAS]
        row: Row = {
            "point": point,
            "architecture": " ".join(checkpoint.settings.architecture),
            "penalty": checkpoint.settings.penalty,
            "parameters": network.params,
            "steps": checkpoint.step,
            "seconds": round(checkpoint.seconds),
            "psnr": round(float(np.mean([quality for quality, _ in scores])), 3),
            "rate": round(float(np.mean([rate for _, rate in scores])), 4),
            "ms": round(ms, 2),
            "synops": stats.synops,
            "macs": stats.macs,
            "energy_uj": round(stats.estimated_uj(), 1),
            "ann_energy_uj": round(stats.ann_uj(), 1),
            "energy_of_ann": round(stats.estimated_uj() / stats.ann_uj(), 4),
        }
        for sigma, (quality, rate) in zip(SIGMAS, scores, strict=True):
            row[f"psnr_{sigma}"], row[f"rate_{sigma}"] = round(quality, 3), round(rate, 4)
        rows.append(row)
        print(f"{point}: {row['psnr']} dB, rate {row['rate']}, {row['ms']} ms, {row['energy_uj']} uJ", file=sys.stderr)
    return rows


def table(rows: list[Row]) -> str:
    """The sweep as Markdown."""
    lines = [
        "| point | parameters | PSNR 15 / 25 / 50 [dB] | mean [dB] | spike rate | ms | energy [uJ] | of the ANN's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        quality = " / ".join(f"{float(row[f'psnr_{sigma}']):.2f}" for sigma in SIGMAS)
        lines.append(
            f"| {row['point']} | {int(row['parameters']):,} | {quality} | {float(row['psnr']):.2f} | "
            f"{float(row['rate']):.3f} | {float(row['ms']):.1f} | {float(row['energy_uj']):.0f} | "
            f"{100 * float(row['energy_of_ann']):.1f} % |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[Row]) -> bytes:
    """PNG: mean PSNR over spike rate, over milliseconds and over energy, one mark per point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(14, 4.6), sharey=True)
    axes = (
        ("rate", "spike rate (SyOps / SyOps if all fired)"),
        ("ms", f"milliseconds, {SIDE}x{SIDE}, one thread"),
        ("energy_uj", f"energy, {SIDE}x{SIDE}, sigma 25 [uJ], estimated by Eq. (1)"),
    )
    marks = "os^Dv<>Pp*hX"
    for panel, (column, label) in zip(panels, axes, strict=True):
        for i, row in enumerate(rows):
            panel.plot(float(row[column]), float(row["psnr"]), marks[i % len(marks)], ms=8, label=str(row["point"]))
        panel.set(xlabel=label, xlim=(0, None))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR [dB], mean over sigma 15, 25, 50")
    panels[2].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    content = io.BytesIO()
    figure.savefig(content, dpi=110, bbox_inches="tight", format="png")
    plt.close(figure)
    return content.getvalue()


def write_results(out: Path, rows: list[Row]) -> None:
    """sweep.csv, sweep.md and sweep.png."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out / "sweep.csv", text.getvalue().encode())
    write_atomically(out / "sweep.md", table(rows).encode())
    write_atomically(out / "sweep.png", plot(rows))


def main(arguments: list[str] | None = None) -> int:
    """The command; exit codes as `train.hkd`."""
    parser = argparse.ArgumentParser(
        prog="python -m train.sweep",
        description="Train the points of the sparsity sweep and measure them; other options go to train.hkd.",
    )
    parser.add_argument("--points", nargs="+", choices=tuple(POINTS), default=list(POINTS), metavar="NAME")
    parser.add_argument("--test-data", type=Path, required=True, metavar="DIR", help="clean images of the test set")
    parser.add_argument("--limit", type=int, help="only the first N images of the test set")
    parser.add_argument("--repeats", type=int, default=21, help="timed runs per point (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    options, passed = parser.parse_known_args(arguments)
    for name in ("limit", "repeats"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    try:
        images = [load_image(path) for path in image_paths(options.test_data)[: options.limit]]
        runs = {point: folder(options.out, point) for point in options.points}
        for point, run in runs.items():
            architecture, penalty = POINTS[point]
            print(f"--- {point}", file=sys.stderr)
            command = [*passed, "--stages", "none", "--penalty", str(penalty), "--out", str(run), "--resume"]
            code = hkd.main([*command, "--architecture", *architecture] if architecture else command)
            if code:
                return code
        seed = hkd.parse_arguments([*passed, "--stages", "none"]).seed
        rows = measure(runs, images, seed, options.repeats)
        write_results(options.out, rows)
        print(table(rows), end="")
    except (BundleError, DataError, OSError, TrainingError, ValueError) as error:
        print(f"train.sweep: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
