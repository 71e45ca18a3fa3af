"""`python -m train.ablate`: do the hints pay? The paper's Table 6, per teacher, and its claim of faster convergence.

The same training (settings, seed, batches) with hints at stages 1-7, 3-5, 4-7 of each teacher, and without hints once
per seed. Every run ends after --steps or --minutes; what `train.hkd` takes (--task, --data, --rate, ...) is passed on.
A teacher is the file given by --teacher-weights NAME=FILE (an official checkpoint works), else the newest that
`python -m train.teacher` left for the task, else a narrow one (NARROW) that is trained here first. Then every student
is frozen and scored as the device computes it: on --test-data, or on the held-out crops.

In --out, which the same command continues after a stop: one folder per run and per teacher trained here, and

    table6.md, table6.csv   PSNR per row, beside the paper's, with the budget in the caption
    convergence.csv, .png   PSNR on the held-out crops over steps and seconds, every validation of every run
    targets.csv             steps and seconds to reach given PSNR, with hints and without
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from simulator.bundle import BundleError
from simulator.files import write_atomically
from simulator.network import Network
from train import hkd
from train import teacher as training
from train.checkpoint import Settings, read_checkpoint
from train.data import DataError, image_paths, load_image, load_images
from train.frozen import freeze_run, score
from train.metrics import psnr
from train.processes import World
from train.run import WHOLE, Pairs, TrainingError, hold_out, validation_sets
from train.tasks import TASKS
from train.teachers import TEACHERS, TeacherError, read_header

# Teachers of one's own: width, blocks per level, heads; all take patches of 64 pixels and less.
NARROW = {
    "restormer": "--width 16 --blocks 1 1 2 2 --heads 1 2 4 8 --refinement 0 --expansion 2",
    "promptir": "--width 16 --blocks 1 1 1 1 --heads 1 2 4 8 --refinement 0 --expansion 2",
    "adair": "--width 16 --blocks 1 1 1 1 --heads 1 2 4 8 --refinement 0 --expansion 2",
}
NARROW_TRAINING = "--batch 4 --rate 1.5e-3"
# Table 6 (Restormer teacher) as printed, its second "3->5" read as 4->7; for the other teachers 4->7 is in Table 1.
PAPER = {
    ("none", "none"): (30.46, 27.91, 22.35),
    ("restormer", "1-7"): (32.45, 29.65, 25.68),
    ("restormer", "3-5"): (31.36, 29.00, 25.07),
    ("restormer", "4-7"): (32.35, 29.72, 26.13),
    ("promptir", "4-7"): (32.48, 29.70, 25.59),
    ("adair", "4-7"): (32.29, 29.53, 25.34),
}
PAPER_SPEEDUP = "more than 5 times faster"
SHARES = (0.8, 0.9, 0.95, 1.0)  # targets: parts of what the run without hints gains over its input
NO_HINTS = ("none", "none")
Rows = list[dict[str, Any]]
Group = tuple[str, str]  # teacher and stages


@dataclass(frozen=True)
class Teacher:
    """psnr: mean on the held-out crops, dB; steps, seconds: of its training, None if the file does not say."""

    weights: str
    sha256: str
    parameters: int
    psnr: float
    steps: int | None
    seconds: float | None


def run_folder(out: Path, group: Group, seed: int) -> Path:
    return out / ("-".join(dict.fromkeys(group)) + f"-seed{seed}")


# Teachers


def find_weights(name: str, task: str, given: Mapping[str, Path], out: Path) -> Path | None:
    """The file of a teacher's weights: given, trained here before, or left by train.teacher; None if there is none."""
    own = out / f"teacher-{name}" / "teacher.safetensors"
    if name in given or own.exists():
        return given.get(name, own)
    try:
        return hkd.newest_teacher(task, name)
    except TrainingError:
        return None


def train_teacher(name: str, settings: argparse.Namespace, budget: list[str], out: Path) -> int:
    """Train the narrow teacher; the exit code of `train.teacher`."""
    passed = ["--task", settings.task, "--data", *map(str, settings.data), "--patch", str(settings.patch)]
    passed += ["--seed", "0"]
    passed += ["--sigma", *map(str, settings.sigma), "--device", settings.device, "--out", str(out / f"teacher-{name}")]
    passed += ["--threads", str(settings.threads)] if settings.threads else []
    passed += ["--bfloat16"] if settings.bfloat16 else []
    own = [*NARROW[name].split(), *NARROW_TRAINING.split()]
    return training.main(["--arch", name, *own, *passed, *budget, "--resume"])


def describe_teacher(name: str, weights: Path, pairs: Mapping[str, Pairs]) -> Teacher:
    """Load a teacher, count and score it. Raises TeacherError or TrainingError."""
    module = hkd.load_teacher(name, weights).channels_last()
    device = torch.device("cpu")
    values = [psnr(training.restore(module, bad, device), good) for some in pairs.values() for bad, good in some]
    header = read_header(weights) if weights.suffix == ".safetensors" else {}
    steps, seconds = (header.get(f"teacher.{key}") for key in ("steps", "seconds"))
    return Teacher(
        str(weights),
        hashlib.sha256(weights.read_bytes()).hexdigest(),
        sum(parameter.numel() for parameter in module.parameters()),
        float(np.mean(values)),
        int(steps) if steps else None,
        float(seconds) if seconds else None,
    )


def settle_teachers(
    names: Sequence[str], found: Mapping[str, Path], pairs: Mapping[str, Pairs], out: Path
) -> dict[str, Teacher]:
    """The teachers in full, kept in teachers.json, so that a continued ablation cannot change them unnoticed."""
    path = out / "teachers.json"
    try:
        known = {name: Teacher(**row) for name, row in json.loads(path.read_text()).items()} if path.exists() else {}
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"{path} cannot be read; pass another --out.") from error
    for name in names:
        weights = found[name]
        if name not in known:
            known[name] = describe_teacher(name, weights, pairs)
        elif hashlib.sha256(weights.read_bytes()).hexdigest() != known[name].sha256:
            raise TrainingError(
                f"The runs in {out} were made with the {name} teacher {known[name].weights}, which is not {weights} as "
                "it is now; pass that one, or another --out."
            )
    write_atomically(path, (json.dumps({name: asdict(row) for name, row in known.items()}, indent=1) + "\n").encode())
    return {name: known[name] for name in names}


# What the runs did


def compile_kernels(settings: Settings) -> None:
    """Run every phase of the training once, so that the first run's seconds hold no compilation."""
    run = hkd.Run(settings, World(0, 1, torch.device("cpu")))
    pixels = torch.zeros(2, settings.batch, 3, settings.patch, settings.patch, dtype=torch.uint8)
    for progress in (0.0, 1.0):
        run.train_step(pixels[0], pixels[1], {}, progress)


def read_log(folder: Path) -> Rows:
    """The validations of a run: step, seconds, rounded, psnr_* or psnr (floats), and their mean as `mean`."""
    path = folder / "log.csv"
    rows: Rows = []
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            row = {k: float(v) for k, v in line.items() if v and k.startswith(("step", "seconds", "rounded", "psnr"))}
            rows.append({**row, "mean": mean(value for key, value in row.items() if key.startswith("psnr"))})
    if not rows:
        raise TrainingError(f"{path} holds no validation yet.")
    return rows


def when(rows: Rows, target: float, column: str) -> float | None:
    """`column` (step or seconds) where the run first reaches `target` dB, between validations by interpolation.

    None if it never does. What the first validation has reached already is given that validation's value.
    """
    for before, row in zip([None, *rows], rows, strict=False):
        if row["mean"] >= target - 1e-9:
            if before is None:
                return float(row[column])
            part = (target - before["mean"]) / (row["mean"] - before["mean"])
            return float(before[column] + min(1.0, part) * (row[column] - before[column]))
    return None


def targets(logs: Mapping[tuple[Group, int], Rows], untouched: float) -> Rows:
    """Steps and seconds to reach given PSNR, each hinted run beside the one of its seed without hints."""
    result: Rows = []
    for (group, seed), hinted in logs.items():
        plain = logs.get((NO_HINTS, seed))
        if group == NO_HINTS or plain is None:
            continue
        best = max(row["mean"] for row in plain)
        wanted = {"weaker run's best": min(best, max(row["mean"] for row in hinted))}
        wanted |= {f"{share:.0%} of the gain": untouched + share * (best - untouched) for share in SHARES}
        for label, target in wanted.items():
            row: dict[str, Any] = {"teacher": group[0], "stages": group[1], "seed": seed}
            row |= {"target": label, "target_db": round(target, 3)}
            for column in ("step", "seconds"):
                without, with_hints = when(plain, target, column), when(hinted, target, column)
                row[f"{column}_without"], row[f"{column}_with"] = without, with_hints
                row[f"{column}_ratio"] = without / with_hints if without and with_hints else None
            result.append(row)
    return result


def measure(
    runs: Mapping[tuple[Group, int], Path],
    logs: Mapping[tuple[Group, int], Rows],
    pairs: Mapping[str, Pairs],
) -> Rows:
    """One row per run: its length, PSNR on the held-out crops (best at equal steps, last), and on `pairs` frozen."""
    shortest = min(rows[-1]["step"] for rows in logs.values())
    result: Rows = []
    for (group, seed), folder in runs.items():
        checkpoint = read_checkpoint(folder)
        step, seconds = checkpoint.step, checkpoint.seconds
        rows = logs[group, seed]
        equal = [row["mean"] for row in rows if row["step"] <= shortest]
        row: dict[str, Any] = {"teacher": group[0], "stages": group[1], "seed": seed, "steps": step}
        row |= {"seconds": round(seconds, 1), "ms_per_step": round(1e3 * seconds / step, 1)}
        row |= {"equal_steps": max(equal) if equal else None, "end": rows[-1]["mean"]}
        network = Network(freeze_run(folder), threads=1)
        scores = {column: score(network, some) for column, some in pairs.items()}
        row |= {column: round(quality, 3) for column, (quality, _) in scores.items()}
        row |= {"psnr": round(mean(quality for quality, _ in scores.values()), 3)}
        row |= {"spike_rate": round(mean(rate for _, rate in scores.values()), 4)}
        result.append(row)
        print(f"{folder.name}: {step} steps, {row['psnr']:.2f} dB frozen", file=sys.stderr)
    return result


# Tables and plot


def groups_of(rows: Rows) -> dict[Group, Rows]:
    """Rows by teacher and stages, in their order."""
    groups: dict[Group, Rows] = {}
    for row in rows:
        groups.setdefault((row["teacher"], row["stages"]), []).append(row)
    return groups


def _range(values: Sequence[float], digits: int = 0) -> str:
    low, high = (f"{end:,.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low}-{high}"


def _spread(values: Sequence[float | None]) -> str:
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return "-"
    return f"{mean(present):.2f} ± {max(present) - min(present):.2f}" if len(present) > 1 else f"{present[0]:.2f}"


def table6(rows: Rows, sigmas: Sequence[int], task: str) -> str:
    """Table 6 as Markdown, ours beside the paper's."""
    noises = len(sigmas) > 1
    head = [f"PSNR {sigma} [dB]" for sigma in sigmas] + ["mean [dB]"] if noises else ["PSNR [dB]"]
    head = ["teacher", "hints", "steps", "seconds", "ms per step", *head]
    head += ["best at equal steps [dB]", "end of budget [dB]"] + (["paper 15 / 25 / 50 [dB]"] if noises else [])
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for group, some in groups_of(rows).items():
        cells = ["-" if group == NO_HINTS else group[0], group[1]]
        cells += [_range([row[name] for row in some]) for name in ("steps", "seconds", "ms_per_step")]
        columns = [f"psnr_{sigma}" for sigma in sigmas] if noises else []
        cells += [_spread([row[name] for row in some]) for name in (*columns, "psnr", "equal_steps", "end")]
        if noises:
            printed = PAPER.get(group)
            cells.append(" / ".join(f"{value:.2f}" for value in printed) if printed else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def convergence_table(rows: Rows) -> str:
    """Ratios of steps and of seconds to the targets, without hints by with hints, mean over seeds, as Markdown."""
    labels = list(dict.fromkeys(row["target"] for row in rows))
    lines = ["| teacher | hints | " + " | ".join(labels) + " |", "|---" * (len(labels) + 2) + "|"]
    for group, some in groups_of(rows).items():
        cells = []
        for label in labels:
            reached = [row for row in some if row["target"] == label]
            ratios = [[row[f"{column}_ratio"] for row in reached] for column in ("step", "seconds")]
            missed = sum(ratio is None for ratio in ratios[0])
            cells.append(
                f"not reached by {missed} of {len(reached)}"
                if missed
                else " / ".join(
                    "-" if None in values else f"{mean(values):.2f}" for values in ratios
                )  # 0.0 seconds: no ratio
            )
        lines.append("| " + " | ".join([*group, *cells]) + " |")
    return "\n".join(lines)


def teacher_words(name: str, teacher: Teacher) -> str:
    trained = "its training is not stated in the file"
    if teacher.steps is not None and teacher.seconds is not None:
        trained = f"trained for {teacher.steps:,} steps in {teacher.seconds / 60:.1f} minutes"
    return f"{name} ({teacher.parameters:,} parameters, {trained}, {teacher.psnr:.2f} dB on the held-out crops)"


def document(
    rows: Rows, reached: Rows, teachers: Mapping[str, Teacher], settings: argparse.Namespace, sigmas: Sequence[int],
    tested: str, untouched: float,
) -> str:  # fmt: skip
    """table6.md: both tables and how they came about."""
    seeds = sorted({row["seed"] for row in rows})
    budget = f"{settings.steps:,} steps" if settings.steps else f"{settings.minutes:g} minutes"
    schedule = (
        "Every run has the same number of steps, so the teacher's forward pass makes hinted runs longer in seconds."
        if settings.steps
        else "Every run has the same time, so hinted runs take fewer steps; the learning rate follows the time, and at "
        "equal steps that of the faster runs is still higher, which puts them at a disadvantage there."
    )
    taught = "; ".join(teacher_words(*item) for item in teachers.items())
    return f"""# Table 6: where the hints are

{settings.task}, {settings.student} student, {budget} per run, batch {settings.batch} of {settings.patch}x\
{settings.patch} pixels, peak rate {settings.rate:g}, hint weight {settings.hint_weight:g}; \
{len(seeds)} seed{"s" if len(seeds) > 1 else ""}: {", ".join(map(str, seeds))}. \
{"Mean ± spread, which is largest less smallest. " if len(seeds) > 1 else ""}{schedule}

Teachers: {taught or "none"}.

PSNR columns: {tested}, as the device computes it. "Best at equal steps" (up to the last step of the shortest run) and \
"end of budget": the held-out crops, whose untouched input has {untouched:.2f} dB{
        ", mean over the noise levels" if len(sigmas) > 1 else ""
    }.\
{" The paper's figures are for its own student, whole CBSD68, much longer training." if len(sigmas) > 1 else ""}

{table6(rows, sigmas, settings.task)}
""" + (f"""
# Convergence

How many times fewer steps / seconds a hinted run needs to a PSNR on the held-out crops: (run without hints) / (hinted \
run of the same seed), mean over seeds; below 1 the hints are slower. "Gain": of the run without hints over the \
untouched input. Between validations by linear interpolation. The paper claims: {PAPER_SPEEDUP}.

{convergence_table(reached)}
""" if reached else "")  # fmt: skip


def plot(logs: Mapping[tuple[Group, int], Rows], title: str) -> bytes:
    """PNG: PSNR over steps and over seconds; colour: stages, line: teacher; mean over seeds, in a band of them all."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    colours = {"none": "black", "1-7": "tab:blue", "3-5": "tab:orange", "4-7": "tab:green"}
    styles: dict[str, Any] = {"none": "-", "restormer": "-", "promptir": "--", "adair": ":"}
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), sharey=True, layout="constrained")
    groups = list(dict.fromkeys(group for group, _ in logs))
    lowest = []
    for group in groups:
        runs = [rows for (other, _), rows in logs.items() if other == group]
        turns = list(zip(*runs, strict=False))  # the same validation of every seed
        quality = np.array([[row["mean"] for row in turn] for turn in turns])
        lowest += quality[len(quality) // 4 :].min(axis=1, initial=np.inf).tolist()
        look = {"color": colours[group[1]], "linestyle": styles[group[0]]}
        for panel, column in zip(panels, ("step", "seconds"), strict=True):
            x = [mean(row[column] for row in turn) for turn in turns]
            panel.plot(x, quality.mean(1), lw=2 if group == NO_HINTS else 1.4, zorder=3, **look)
            if len(runs) > 1:
                panel.fill_between(x, quality.min(1), quality.max(1), color=colours[group[1]], alpha=0.12, lw=0)
    highest = max(row["mean"] for rows in logs.values() for row in rows)
    for panel, label in zip(panels, ("step", "seconds of training, the teacher's forward pass included"), strict=True):
        panel.set(xlabel=label, xlim=(0, None))
        panel.grid(alpha=0.3)
    # The first quarter would flatten everything else.
    panels[0].set(ylim=(min(lowest) - 0.1, highest + 0.1), ylabel="PSNR on held-out images [dB]")
    stages = [stage for stage in colours if any(group[1] == stage for group in groups)]
    taught = [name for name in TEACHERS if any(group[0] == name for group in groups)]
    keys = [
        Line2D([], [], color=colours[s], lw=2, label="no hints" if s == "none" else f"hints at stages {s}")
        for s in stages
    ]
    keys += [Line2D([], [], color="grey", linestyle=styles[name], label=f"teacher: {name}") for name in taught]
    panels[1].legend(handles=keys, loc="lower right")
    figure.suptitle(title)
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    plt.close(figure)
    return content.getvalue()


def write_csv(path: Path, rows: Rows) -> None:
    """All rows, under the columns of any of them; nothing for None."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} for row in rows
    )
    write_atomically(path, text.getvalue().encode())


# The command


def _weights(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if name not in TEACHERS or not file:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE with a name of {', '.join(TEACHERS)}, not {text}")
    if not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"the teacher's weights {file} do not exist")
    return name, Path(file)


def parse_arguments(
    arguments: list[str] | None,
) -> tuple[argparse.Namespace, list[str], argparse.Namespace]:
    """(own options, what is passed on to train.hkd, that as train.hkd reads it)."""
    parser = argparse.ArgumentParser(
        prog="python -m train.ablate",
        description="Hints at different stages of different teachers, or none; other options go to train.hkd.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--teachers", nargs="+", choices=TEACHERS, default=list(TEACHERS))
    add("--stages", nargs="+", choices=tuple(hkd.HINT_STAGES), default=["none", "1-7", "3-5", "4-7"])
    add("--seeds", nargs="+", type=int, default=[0, 1])
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="of every run")
    length.add_argument("--minutes", type=float, help="of every run")
    add("--teacher-weights", nargs="+", type=_weights, default=[], metavar="NAME=FILE")
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--teacher-minutes", type=float, default=8.0, help="of a teacher trained here (default: 8)")
    own.add_argument("--teacher-steps", type=int, help="of a teacher trained here, in place of minutes")
    add("--test-data", type=Path, metavar="DIR", help="clean images of a test set (default: the held-out crops)")
    add("--limit", type=int, help="only the first N images of the test set")
    add("--validate-every", type=int, default=250, metavar="STEPS")
    add("--out", type=Path, default=Path("runs/ablation"))
    options, passed = parser.parse_known_args(arguments)
    for name in ("steps", "minutes", "teacher_minutes", "teacher_steps", "limit", "validate_every"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be above zero, not {value}")
    chosen = {"--teacher": "--teachers", "--seed": "--seeds", "--resume": "the same command", "--init": "--out"}
    for argument in passed:
        if argument.partition("=")[0] in chosen:
            parser.error(f"{argument} is not for an ablation, which decides it by {chosen[argument.partition('=')[0]]}")
    if "--ann" in passed:
        parser.error("the equivalent ANN cannot be frozen for the test; leave --ann out")
    budget = ["--steps", str(options.steps)] if options.steps else ["--minutes", str(options.minutes)]
    passed += [*budget, "--validate-every", str(options.validate_every)]
    options.stages = list(dict.fromkeys(options.stages))
    return options, passed, hkd.parse_arguments([*passed, "--stages", "none"])


def ablate(options: argparse.Namespace, passed: list[str], settings: argparse.Namespace) -> int:
    """Teachers, runs, tables; an exit code. Raises what `main` turns into a sentence."""
    held_out = hold_out(load_images(*settings.data))[1]
    sigmas = TASKS[settings.task].noise_levels
    crops = validation_sets(settings.task, held_out, 0)
    untouched = float(np.mean([psnr(bad, good) for some in crops.values() for bad, good in some]))
    tested, pairs = f"the {len(held_out)} held-out crops of the training images' folder", crops
    if options.test_data:
        images = [load_image(path) for path in image_paths(options.test_data)[: options.limit]]
        pairs = validation_sets(settings.task, images, 0, WHOLE)
        noise = ", noise clipped to 8 bits" if sigmas else ", degraded by train.degradations"
        tested = f"{options.test_data.name}, {len(images)} whole images{noise}"
    if settings.threads:
        torch.set_num_threads(settings.threads)
    hinted = [stage for stage in options.stages if stage != "none"]
    names = [name for name in TEACHERS if name in options.teachers] if hinted else []
    options.out.mkdir(parents=True, exist_ok=True)
    budget = ["--steps" if options.teacher_steps else "--minutes"]
    budget += [str(options.teacher_steps or options.teacher_minutes)]
    found: dict[str, Path] = {}
    for name in names:
        weights = find_weights(name, settings.task, dict(options.teacher_weights), options.out)
        if weights is None:
            print(f"--- teacher {name}", file=sys.stderr)
            if code := train_teacher(name, settings, budget, options.out):
                return code
            weights = options.out / f"teacher-{name}" / "teacher.safetensors"
        found[name] = weights
    teachers = settle_teachers(names, found, crops, options.out)
    groups = [NO_HINTS] if "none" in options.stages else []
    groups += [(name, stage) for name in names for stage in hinted]
    runs = {(group, seed): run_folder(options.out, group, seed) for group in groups for seed in options.seeds}
    compile_kernels(hkd.settings_of(settings))
    for seed in options.seeds:  # seed by seed, so that a stop leaves a whole comparison
        for group in groups:
            name, stage = group
            folder = runs[group, seed]
            print(f"--- {folder.name}", file=sys.stderr)
            teacher = [] if group == NO_HINTS else ["--teacher", name, "--teacher-weights", teachers[name].weights]
            command = [*passed, *teacher, "--stages", stage, "--seed", str(seed), "--out", str(folder), "--resume"]
            if code := hkd.main(command):
                return code
            if settings.steps and (steps := read_checkpoint(folder).step) != settings.steps:
                raise TrainingError(f"{folder} already holds {steps} steps, not {settings.steps}; pass another --out.")
    logs = {key: read_log(folder) for key, folder in runs.items()}
    validations = [
        {"teacher": group[0], "stages": group[1], "seed": seed, **row}
        for (group, seed), rows in logs.items()
        for row in rows
    ]
    rows, reached = measure(runs, logs, pairs), targets(logs, untouched)
    text = document(rows, reached, teachers, settings, sigmas, tested, untouched)
    title = f"{settings.task}, {settings.student} student, batch {settings.batch} of {settings.patch}x{settings.patch}"
    write_csv(options.out / "convergence.csv", validations)
    write_csv(options.out / "table6.csv", rows)
    if reached:
        write_csv(options.out / "targets.csv", reached)
    write_atomically(options.out / "table6.md", text.encode())
    write_atomically(options.out / "convergence.png", plot(logs, title))
    print(text, end="")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when finished, 130 when a signal stopped it (resumable), 2 for a mistake the user can mend."""
    options, passed, settings = parse_arguments(arguments)
    try:
        return ablate(options, passed, settings)
    except KeyboardInterrupt:
        print("Stopped; the same command continues.", file=sys.stderr)
        return 130
    except (BundleError, DataError, OSError, TeacherError, TrainingError, ValueError) as error:
        print(f"train.ablate: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
