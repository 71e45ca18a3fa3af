"""`python -m train.ablate`: do the hints pay? The paper's Table 6, per teacher, and its claim of faster convergence.

The same training (settings, seed, batches) with hints at stages 1-7, 3-5, 4-7 of each teacher, and without hints once
per seed. Every run ends after --steps or --minutes; what `train.hkd` takes (--task, --data, --rate, ...) is passed on.
With --steps, --equal-seconds adds one more run without hints per seed, as long in seconds as the hinted ones are.
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

from simulator.bundle import Bundle, BundleError
from simulator.files import write_atomically
from simulator.network import Network
from train import hkd
from train import teacher as training
from train.checkpoint import Settings, build_student, read_checkpoint
from train.data import DataError, image_paths, load_image, load_images
from train.figures.membrane import SIDE, layers_of, membranes
from train.frozen import freeze_run, score
from train.hint_tables import LONGER, NO_HINTS, Group, Rows, Story, document, plot, targets
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
CLOCKS = {"wall": "by the wall's clock", "processor": "of the processor, all threads of the run together"}


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


def train_students(
    runs: Mapping[tuple[Group, int], Path], teachers: Mapping[str, Teacher], options: argparse.Namespace,
    passed: list[str],
) -> int:  # fmt: skip
    """Train what is not trained yet, in the order of `runs`; the exit code of the first that stops.

    Raises TrainingError where a folder holds a run of another length.
    """
    for (group, seed), folder in runs.items():
        name, stages = group
        steps = options.steps
        if group == LONGER:
            others = {other: path for (other, i), path in runs.items() if i == seed and other != LONGER}
            own = {other: read_log(path, options.clock)[-1] for other, path in others.items()}
            plain = own.pop(NO_HINTS)["seconds"]
            steps = round(steps * mean(row["seconds"] for row in own.values()) / plain)
        print(f"--- {folder.name}", file=sys.stderr)
        command = [*passed, "--stages", "none" if group == LONGER else stages, "--seed", str(seed)]
        command += ["--out", str(folder), "--resume"]
        command += ["--teacher", name, "--teacher-weights", teachers[name].weights] if name in teachers else []
        command += ["--steps", str(steps)] if steps else []
        if code := hkd.main(command):
            return code
        if steps and (found := read_checkpoint(folder).step) != steps:
            raise TrainingError(f"{folder} already holds {found} steps, not {steps}; pass another --out.")
    return 0


# What the runs did


def compile_kernels(settings: Settings) -> None:
    """Run every phase of the training once, so that the first run's seconds hold no compilation."""
    run = hkd.Run(settings, World(0, 1, torch.device("cpu")))
    pixels = torch.zeros(2, settings.batch, 3, settings.patch, settings.patch, dtype=torch.uint8)
    for progress in (0.0, 1.0):
        run.train_step(pixels[0], pixels[1], {}, progress)


def read_log(folder: Path, clock: str = "wall") -> Rows:
    """The validations of a run: step, seconds, rounded, psnr_* or psnr (floats), and their mean as `mean`."""
    path = folder / "log.csv"
    rows: Rows = []
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            row = {k: float(v) for k, v in line.items() if v and k.startswith(("step", "seconds", "rounded", "psnr"))}
            if clock == "processor":
                if not line.get("processor_seconds"):
                    raise TrainingError(f"{path} does not say the processor's seconds; leave --clock processor out.")
                row["seconds"] = float(line["processor_seconds"])
            rows.append({**row, "mean": mean(value for key, value in row.items() if key.startswith("psnr"))})
    if not rows:
        raise TrainingError(f"{path} holds no validation yet.")
    return rows


def density(bundle: Bundle, image: np.ndarray) -> float:
    """Share of the neurons with |v| above half a threshold: mean over the steps and layers, all of one weight.

    image: uint8 [H, W, 3]; its upper left part is looked at, of about SIDE pixels per side, because that is slow.
    """
    stride = bundle.analysis.stride
    height, width = (max(min(SIDE, side) // stride, 1) * stride for side in image.shape[:2])
    pixels = np.ascontiguousarray(image[:height, :width].transpose(2, 0, 1))
    return mean(float(one.density(0.5).mean()) for one in membranes("", bundle, layers_of(bundle), pixels).values())


def measure(
    runs: Mapping[tuple[Group, int], Path],
    logs: Mapping[tuple[Group, int], Rows],
    crops: Mapping[str, Pairs],
    pairs: Mapping[str, Pairs],
) -> Rows:
    """One row per run: its length, best PSNR of its log at equal steps, and frozen: PSNR on the held-out crops and on
    `pairs`, spike rate on these, membranes on the first crop."""
    first = next(iter(crops.values()))[0][0]
    shortest = min(rows[-1]["step"] for rows in logs.values())
    result: Rows = []
    for (group, seed), folder in runs.items():
        rows = logs[group, seed]
        step, seconds = int(rows[-1]["step"]), rows[-1]["seconds"]
        equal = [row["mean"] for row in rows if row["step"] <= shortest]
        row: dict[str, Any] = {"teacher": group[0], "stages": group[1], "seed": seed, "steps": step}
        row |= {"seconds": round(seconds, 1), "ms_per_step": round(1e3 * seconds / step, 1)}
        row |= {"equal_steps": max(equal) if equal else None}
        bundle = freeze_run(folder)
        network = Network(bundle, threads=1)
        scores = {column: score(network, some) for column, some in pairs.items()}
        row |= {column: round(quality, 3) for column, (quality, _) in scores.items()}
        row |= {"psnr": round(mean(quality for quality, _ in scores.values()), 3)}
        row |= {"end": round(mean(score(network, some)[0] for some in crops.values()), 3)}
        row |= {"spike_rate": round(mean(rate for _, rate in scores.values()), 4)}
        row |= {"dense": round(density(bundle, first), 4)}
        result.append(row)
        print(f"{folder.name}: {step} steps, {row['psnr']:.2f} dB frozen", file=sys.stderr)
    return result


def student_words(settings: argparse.Namespace) -> str:
    """The student that train.hkd's options describe, and its size."""
    student = build_student(hkd.settings_of(settings))
    recipe = "Muon" if settings.optimizer == "muon" else "AdamW"
    return f"{settings.student} student of {student.deployed_parameters:,} parameters, {recipe}"


def teacher_words(name: str, teacher: Teacher, best: float) -> str:
    """A teacher, its training, and how far it is ahead of the best student (`best`, dB on the held-out crops)."""
    trained = "its training is not stated in the file"
    if teacher.steps is not None and teacher.seconds is not None:
        trained = f"trained for {teacher.steps:,} steps in {teacher.seconds / 60:.1f} minutes"
    ahead = teacher.psnr - best
    return (
        f"{name} ({teacher.parameters:,} parameters, {trained}, {teacher.psnr:.2f} dB on the held-out crops, "
        f"{abs(ahead):.2f} dB {'above' if ahead > 0 else 'below'} the best student)"
    )


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
    add("--equal-seconds", action="store_true", help="per seed one more run without hints, as long as the hinted ones")
    add(
        "--clock", choices=CLOCKS, default="wall",
        help="whose seconds: the wall's, or this process's on the processor, where others use the machine as well",
    )  # fmt: skip
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
    if options.minutes and (options.equal_seconds or options.clock == "processor"):
        parser.error("--minutes gives every run the same time by the wall's clock; take --steps instead")
    if options.equal_seconds and not {"none"} < set(options.stages):
        parser.error("--equal-seconds compares runs with hints and without; --stages must name none and another")
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
    groups += [LONGER] if options.equal_seconds else []
    # Seed by seed, so that a stop leaves a whole comparison.
    runs = {(group, seed): run_folder(options.out, group, seed) for seed in options.seeds for group in groups}
    compile_kernels(hkd.settings_of(settings))
    if code := train_students(runs, teachers, options, passed):
        return code
    runs = {(group, seed): runs[group, seed] for group in groups for seed in options.seeds}
    logs = {key: read_log(folder, options.clock) for key, folder in runs.items()}
    validations = [
        {"teacher": group[0], "stages": group[1], "seed": seed, **row}
        for (group, seed), rows in logs.items()
        for row in rows
    ]
    rows, reached = measure(runs, logs, crops, pairs), targets(logs, untouched)
    best = max(row["end"] for row in rows)
    story = Story(
        settings.task,
        student_words(settings),
        f"batch {settings.batch} of {settings.patch}x{settings.patch} pixels, peak rate {settings.rate:g}, hint weight "
        f"{settings.hint_weight:g}",
        [teacher_words(*item, best) for item in teachers.items()],
        f"{settings.steps:,} steps" if settings.steps else f"{settings.minutes:g} minutes",
        not settings.steps,
        CLOCKS[options.clock],
        tested,
        sigmas,
        untouched,
    )
    text = document(rows, reached, story)
    title = f"{settings.task}, {student_words(settings)}, batch {settings.batch} of {settings.patch}x{settings.patch}"
    write_csv(options.out / "convergence.csv", validations)
    write_csv(options.out / "table6.csv", rows)
    if reached:
        write_csv(options.out / "targets.csv", reached)
    write_atomically(options.out / "table6.md", text.encode())
    write_atomically(options.out / "convergence.png", plot(logs, title, CLOCKS[options.clock]))
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
