"""`python -m train.hkd`: H-KD, the training of a spiking student with hints from an ANN teacher's feature maps.

Each step, as the paper words it (arXiv 2504.01755):

    restored = student(degraded)                                    T time steps, spikes inside
    L = L1(restored, clean) + 0.1 L1(FFT restored, FFT clean)       restoration
      + 0.12 mean over stages MSE(student map, aligned teacher map) hints, stages 4-7 by default
      + psnr_weight * mean over pictures ln MSE                     optional, off reproduces the paper
      + penalty * total spike rate                                  optional, off reproduces the paper

with AdamW and a cosine learning rate, or with Muon for the weights of convolutions (--recipe). The student's forward
pass is the numerics contract; its roundings are switched on for the last part of the run (--rounding-phase), so that
what is validated then is what the device computes.

`torchrun --nproc-per-node N -m train.hkd ...` shares each batch among N processes or GPUs (`train.processes`).

In --out: checkpoint.pt (survives a kill at any moment; --resume continues with the same batches), log.csv.
An epoch is as many patches as would cover the training images once.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from simulator.bundle import COARSE_SIDES
from simulator.coarse import shrinking, shrunk
from simulator.kinds import kind_of
from train import prepare
from train.architectures import NIR_LEAK, PAPER_UNIT, STUDENTS
from train.awake import keep_awake
from train.batches import Batches
from train.calibrate import calibrate
from train.checkpoint import Settings, build_student, read_checkpoint
from train.data import DataError, load_images, to_network
from train.losses import hint_loss, psnr_loss, restoration_loss, synapse_share
from train.muon import Muon, weights_of
from train.patches import EXTENT, PatchSampler
from train.processes import World, join
from train.run import (
    Budget,
    Log,
    TrainingError,
    check_settings,
    cosine_rate,
    hold_out,
    load_checkpoint,
    mean_psnr,
    save_checkpoint,
    stop_on_signals,
    validation_sets,
)
from train.student import Student, on_cpu, restore_image
from train.tasks import TASKS
from train.teachers import TEACHERS, TeacherError, build_teacher, read_header
from train.teachers.unet import UNet

HINT_STAGES = {"4-7": (4, 5, 6, 7), "3-5": (3, 4, 5), "1-7": (1, 2, 3, 4, 5, 6, 7), "none": ()}
CALIBRATION_STEPS = (10**9, 10**9 + 1)  # no run gets there, so these batches are seen once
PENALTY_RAMP = 0.1  # part of the run over which the spike penalty grows to its full weight


def optimizers(student: Student, settings: Settings) -> list[tuple[torch.optim.Optimizer, float]]:
    """What trains the student's parameters, each with its peak learning rate."""
    if settings.optimizer == "adamw":
        decay = settings.weight_decay
        adamw = torch.optim.AdamW(
            student.parameters(), settings.rate, betas=(0.9, 0.999), weight_decay=decay, fused=True
        )
        return [(adamw, settings.rate)]
    matrices, others = weights_of(student)
    adamw = torch.optim.AdamW(others, settings.other_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay)
    return [(Muon(matrices, settings.rate), settings.rate), (adamw, settings.other_rate)]


def softness(progress: float, begin: float, end: float) -> float:
    """How soft window neurons are at a part of the run: 1 up to `begin`, 0 from `end` on, a line between."""
    return 0.0 if progress >= end else min(1.0, (end - progress) / (end - begin))


def averaged(student: Student, decay: float) -> AveragedModel:
    """An exponential moving average of a student's weights that forgets its start quickly."""

    def mix(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (float(count) + 1) / (float(count) + 10))
        return average.lerp(current, 1 - kept)

    return AveragedModel(student, avg_fn=mix)


class Run:
    """One training run: student, optimiser, and where it stands (step, seconds spent, those of processors)."""

    def __init__(self, settings: Settings, world: World, sample: Tensor | None = None):
        """sample: degraded patches, uint8 [B, 3, P, P], that starting values are calibrated by if the settings ask."""
        self.settings = settings
        self.world = world
        self.device = device = world.device
        self.student = build_student(settings).to(device)
        if settings.init:
            self.student.load_state_dict(dict(read_checkpoint(Path(settings.init)).student))
        elif settings.calibrate and sample is not None:
            calibrate(self.student, to_network(sample.to(device)))
        self.average = averaged(self.student, settings.average) if settings.average else None
        self.parallel = world.wrap(self.student)
        self.share = synapse_share(self.student.analysis)
        self.stages = HINT_STAGES[settings.stages]
        self.optimizers = optimizers(self.student, settings)
        self.step = 0
        self.seconds = 0.0
        self.processor_seconds = 0.0  # of this process, all threads: what others do on the machine leaves it alone

    def phase(self, progress: float) -> None:
        """Switch the contract's roundings on for the last part of the run; bfloat16 currents only before that."""
        self.student.rounded = not self.settings.ann and progress >= 1 - self.settings.rounding_phase
        self.student.bfloat16_currents = self.settings.bfloat16 and not self.student.rounded
        self.trained.rounded = self.student.rounded
        self.student.soft = self.trained.soft = softness(progress, *self.settings.harden)
        # TF32 keeps eleven bits of a number: enough to learn with, not for the contract's roundings.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not self.student.rounded

    @property
    def trained(self) -> Student:
        """What is validated and exported: the student, or the average of its weights over the last steps."""
        if self.average is None:
            return self.student
        assert isinstance(self.average.module, Student)
        return self.average.module

    def penalty_share(self, progress: float) -> float:
        """The penalty sets in late and gradually: neurons that fall silent early on never learn to speak."""
        return min(1.0, max(0.0, (progress - self.settings.penalty_start) / PENALTY_RAMP))

    def train_step(
        self, degraded: Tensor, clean: Tensor, hints: dict[int, Tensor], progress: float
    ) -> dict[str, float]:
        """One step on uint8 [B, 3, P, P] patches; returns the loss's parts and the spike rates."""
        s = self.settings
        self.phase(progress)
        part = cosine_rate(1.0, s.final_rate / s.rate, s.warmup, self.step, progress)
        for optimizer, peak in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * part
        pixels = to_network(degraded)
        output = self.parallel(pixels, self.stages)
        restored, wanted = (pixels + output.change) / 2, to_network(clean) / 2
        l1, fft = restoration_loss(restored, wanted, s.fft_weight)
        rate = torch.stack([output.rates[name] * share for name, share in self.share.items()]).sum()
        loss = l1 + s.fft_weight * fft + s.penalty * self.penalty_share(progress) * rate
        if s.psnr_weight:
            loss = loss + s.psnr_weight * psnr_loss(restored, wanted)
        parts = {"l1": l1, "fft": fft, "rate": rate}
        if hints:
            parts["hint"] = hint_loss(output.features, hints)
            loss = loss + s.hint_weight * parts["hint"]
        self.student.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), s.clip_norm)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        if s.awake:
            rates = {name: self.world.mean(each.detach()) for name, each in output.channel_rates.items()}
            keep_awake(self.student, rates, part)
        self.student.clamp()
        if self.average is not None:
            self.average.update_parameters(self.student)
        self.step += 1
        logged = {"loss": loss, **parts, **{f"rate:{name}": rate for name, rate in output.rates.items()}}
        means = self.world.mean(torch.stack([value.detach() for value in logged.values()]))
        values = dict(zip(logged, means.tolist(), strict=True))
        if not np.isfinite(values["loss"]):
            raise TrainingError(f"The loss is no longer finite at step {self.step}; resume with a lower --rate.")
        return values

    def save(self, path: Path, finished: bool) -> None:
        content = {
            "settings": asdict(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "finished": finished,
            "student": self.student.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
        }
        if self.average is not None:
            content["average"] = self.trained.state_dict()
        save_checkpoint(path, content)

    def load(self, path: Path) -> None:
        content = load_checkpoint(path, self.device)
        check_settings(path, content["settings"], asdict(self.settings))
        self.student.load_state_dict(content["student"])
        states = content["optimizers"] if "optimizers" in content else [content["optimizer"]]  # older ones had one
        for (optimizer, _), state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        if self.average is not None:
            self.trained.load_state_dict(content["average"])
            self.average.n_averaged.fill_(content["step"])
        self.step, self.seconds = content["step"], content["seconds"]
        self.processor_seconds = content.get("processor_seconds", 0.0)  # older ones did not count them


def train(
    settings: Settings,
    images: list[np.ndarray],
    teacher: nn.Module | None,
    out: Path,
    budget: Budget,
    epochs: int | None,
    world: World,
    resume: bool = False,
    validate_every: int = 1000,
    save_every: float = 60.0,
) -> bool:
    """Train until the budget is used; True if it finished, False if a signal stopped it (its state is saved).

    world: this process and those it trains with (`train.processes`); the batch must be a multiple of their number.
    images: uint8 RGB [H, W, 3]. `epochs` overrides the budget's steps. validate_every: steps; save_every: seconds.
    Raises DataError or TrainingError.
    """
    if settings.batch % world.size:
        raise TrainingError(f"A batch of {settings.batch} cannot be shared by {world.size} processes; change --batch.")
    if side := settings.coarse:
        images = [shrunk(image, shrinking(image, side)) for image in images]
    training, held_out = hold_out(images)
    sampler = PatchSampler(
        training,
        settings.patch,
        settings.batch,
        settings.seed,
        settings.sigma,
        settings.task,
        settings.sigma_power,
        settings.clean,
        settings.camera,
        settings.colour,
        settings.foreign,
        extent=None if settings.coarse else EXTENT,
    )
    patches = sum((im.shape[0] // settings.patch) * (im.shape[1] // settings.patch) for im in training)
    epoch = max(1, patches // settings.batch)  # steps
    if epochs is not None:
        budget = Budget(epochs * epoch, budget.seconds)
    pairs = validation_sets(settings.task, held_out, 0)  # of every seed the same, so that they can be compared
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    sample = torch.cat([sampler.batch(step)[0] for step in CALIBRATION_STEPS]) if settings.calibrate else None
    run = Run(settings, world, sample)
    if checkpoint.exists():
        if not resume:
            raise TrainingError(f"{out} already holds a run; pass --resume to continue it, or another --out.")
        run.load(checkpoint)
    batches = Batches(sampler, teacher if run.stages else None, run.stages, world)
    batches.bfloat16 = settings.bfloat16
    columns = ["step", "epoch", "seconds", "processor_seconds", "seconds_per_epoch", "learning_rate", "rounded"]
    columns += ["loss", "l1", "fft", "hint", "rate", *pairs]
    columns += [f"rate:{node.name}" for node in run.student.graph.nodes if kind_of(node).neurons]
    log = Log(out / "log.csv", run.step, columns) if world.first else None
    bar = tqdm(total=budget.steps, initial=run.step, unit="step", disable=not (world.first and sys.stderr.isatty()))
    untouched = [mean_psnr(some) for some in pairs.values()]
    introduction = (
        f"{settings.student} student, {sum(p.numel() for p in run.student.parameters()):,} trained parameters, "
        f"{len(training)} training and {len(held_out)} validation images, {epoch} steps per epoch, "
        f"from step {run.step}; "
        f"untouched input {' / '.join(f'{value:.2f}' for value in untouched)} dB"
    )
    if world.first:
        bar.write(introduction, file=sys.stderr)
    sums: dict[str, float] = {}
    counted, began = 0, run.seconds

    def validate() -> None:
        if log is None:
            return
        values = {name: total / counted for name, total in sums.items()}
        student = on_cpu(run.trained)
        psnrs = [mean_psnr([(restore_image(student, bad), good) for bad, good in some]) for some in pairs.values()]
        per_epoch = (run.seconds - began) / counted * epoch
        rate = run.optimizers[0][0].param_groups[0]["lr"]
        log.add(
            step=run.step,
            epoch=round(run.step / epoch, 3),
            seconds=round(run.seconds, 3),
            processor_seconds=round(run.processor_seconds, 3),
            seconds_per_epoch=round(per_epoch, 1),
            learning_rate=float(f"{rate:.4g}"),
            rounded=int(run.student.rounded),
            **{name: round(score, 3) for name, score in zip(pairs, psnrs, strict=True)},
            **{name: float(f"{value:.5g}") for name, value in values.items()},
        )
        bar.write(
            f"step {run.step}  {run.seconds:.0f} s  rate {rate:.1e}  loss {values['loss']:.5f}  "
            f"hint {values.get('hint', 0):.4f}  spikes {values['rate']:.3f}  "
            f"PSNR {' / '.join(f'{score:.2f}' for score in psnrs)} dB{'  rounded' if run.student.rounded else ''}",
            file=sys.stderr,
        )

    last_saved = run.seconds
    with stop_on_signals() as signals, bar:
        clock, processor_clock = time.monotonic(), time.process_time()
        while True:
            progress, stop = world.agree(budget.progress(run.step, run.seconds), bool(signals))
            if progress >= 1 or stop:
                break
            for name, value in run.train_step(*batches[run.step], progress).items():
                sums[name] = sums.get(name, 0.0) + value
            counted += 1
            run.seconds += time.monotonic() - clock
            run.processor_seconds += time.process_time() - processor_clock
            bar.update()
            if run.step % validate_every == 0:
                validate()
                sums, counted, began = {}, 0, run.seconds
            if world.first and run.seconds - last_saved >= save_every:
                run.save(checkpoint, False)
                last_saved = run.seconds
            clock, processor_clock = time.monotonic(), time.process_time()
        finished = progress >= 1
        run.phase(progress)
        if counted:
            validate()
        if world.first:
            run.save(checkpoint, finished)
    return finished


def newest_teacher(task: str, name: str) -> Path:
    """The file that `python -m train.teacher` left for this task and architecture (`name`) last.

    Raises TrainingError, with what to do, if there is none.
    """
    files = Path("runs").glob(f"teacher_{task}*/teacher.safetensors")
    for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
        if read_header(path).get("teacher.arch") == name:
            return path
    raise TrainingError(
        f"There is no {name} teacher for {task}: pass --teacher-weights FILE (an official checkpoint works), train one "
        f"with `python -m train.teacher --arch {name} --task {task} ...`, or train without hints with --stages none."
    )


def _teacher(options: argparse.Namespace, data: list[Path], world: World) -> Path:
    """The newest teacher, or one that is trained now. Raises TrainingError, or Ended where that training is stopped."""
    try:
        return newest_teacher(options.task, options.teacher)
    except TrainingError:
        if world.size > 1:
            raise
        minutes, device, threads = options.teacher_minutes, options.device, options.threads
        weights = prepare.own_teacher(options.task, options.teacher, data, minutes, device, threads)
        if weights is None:
            raise
        return weights


def load_teacher(name: str, weights: Path) -> UNet:
    """The teacher in a file. Raises TeacherError, or TrainingError if it takes no RGB images, as the student does."""
    teacher = build_teacher(name, weights=weights)
    if teacher.config.in_channels != 3:
        raise TrainingError(
            f"The teacher in {weights} takes {teacher.config.in_channels} channels, but hints are for RGB images with "
            "3; pass the weights of a colour network."
        )
    return teacher


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m train.hkd", description="Train a spiking student with hints from an ANN teacher (H-KD)."
    )
    add = parser.add_argument
    add("--task", choices=tuple(TASKS), required=True, help="auto: one network for several of them")
    add("--teacher", choices=TEACHERS, default="restormer")
    add("--teacher-weights", type=Path, metavar="FILE", help="default: the newest of --teacher in runs/teacher_<task>*")
    add(
        "--teacher-minutes", type=float, default=prepare.TEACHER_MINUTES, metavar="N",
        help="where there is none, train a narrow one for so long (default: %(default)g)",
    )  # fmt: skip
    add("--student", choices=tuple(STUDENTS), default="edge")
    add("--channels", type=int, nargs=4, metavar="N", help="channels of the four levels, if not the student's own")
    add(
        "--architecture", nargs="+", default=(), metavar="NAME=VALUE",
        help="other options of the student (train/architectures.py), such as time_steps=2 encode=thin readout=spikes",
    )  # fmt: skip
    add("--ann", action="store_true", help="train the equivalent ANN (ReLU, one pass) as an upper mark")
    add("--stages", choices=tuple(HINT_STAGES), default="4-7", help="where the hints are (default: 4-7)")
    add(
        "--data", type=Path, nargs="+", metavar="DIR",
        help="folders of clean images (default: data/bsds500/train, or where else BSDS500 is found)",
    )  # fmt: skip
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int)
    length.add_argument("--epochs", type=int)
    length.add_argument("--minutes", type=float)
    add("--out", type=Path, help="folder of the run (default: runs/<task>)")
    add("--resume", action="store_true", help="continue the run in --out, as is done with an interrupted one unasked")
    add("--init", type=str, default="", metavar="RUN", help="start from the weights of this run, with a new schedule")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--threads", type=int, help="CPU threads (default: PyTorch's)")
    add("--patch", type=int, default=64, help="side of the training patches, pixels")
    add("--batch", type=int, default=8, help="patches per step")
    add("--sigma", type=float, nargs=2, default=(0.0, 55.0), metavar="S", help="noise range of denoise, 8-bit levels")
    add("--sigma-power", type=float, default=1.0, metavar="P", help="above 1: weak noise is drawn more often")
    add("--clean", type=float, default=0.0, metavar="SHARE", help="of the patches that are not degraded")
    add(
        "--foreign", type=float, default=0.0, metavar="SHARE",
        help="of the patches that are degraded as another task's are, in the target too: to be left alone",
    )  # fmt: skip
    add(
        "--coarse", type=int, default=0, metavar="SIDE",
        help="train on pictures that are shrunk until no side is longer: for what is judged by the whole picture; the "
        "bundle says so, and whoever runs it carries what the network did over to the full picture",
    )  # fmt: skip
    add("--camera", action="store_true", help="denoise: seven patches in eight have a photograph's noise")
    add(
        "--recipe", choices=tuple(RECIPES),
        help="what everything below is that is not given: muon for the edge student (default there), with window "
        "neurons, Muon and averaged weights; paper: AdamW and neurons that fire step by step, as the paper trains",
    )  # fmt: skip
    add("--optimizer", choices=("adamw", "muon"), help="of the weights of convolutions; AdamW has all others")
    add("--rate", type=float, help="peak learning rate (paper: 5e-4)")
    add("--final-rate", type=float, help="last learning rate (paper: 1e-5)")
    add("--other-rate", type=float, help="with Muon: peak rate of what AdamW trains")
    add("--average", type=float, metavar="DECAY", help="of the average of the weights, per step; 0: none")
    add(
        "--calibrate", action=argparse.BooleanOptionalAction, default=None,
        help="scale starting values by what two batches make of them",
    )  # fmt: skip
    add(
        "--awake", action=argparse.BooleanOptionalAction, default=None,
        help="raise the biases of channels of window neurons that have fallen silent",
    )  # fmt: skip
    add("--colour", type=float, default=0.0, metavar="SHARE", help="of the patches that are recoloured first")
    add("--warmup", type=int, default=200, help="steps of linear warm-up")
    add("--weight-decay", type=float, help="of AdamW (paper: 0.05)")
    add("--clip-norm", type=float, help="largest norm of a step's gradient")
    add("--hint-weight", type=float, help="gamma (default: the task's; paper: 0.12)")
    add("--fft-weight", type=float, help="lambda (default: the task's; paper: 0.1)")
    add("--psnr-weight", type=float, help="of the mean of ln MSE over a batch's patches (default: the task's)")
    add("--penalty", type=float, default=0.0, help="weight of the total spike rate in the loss")
    add("--penalty-start", type=float, default=0.3, help="part of the run after which the penalty sets in")
    add("--rounding-phase", type=float, default=0.25, help="last part of the run with the contract's roundings")
    add(
        "--harden", type=float, nargs=2, metavar=("BEGIN", "END"),
        help="parts of the run between which window neurons change from real numbers of spikes to whole ones",
    )  # fmt: skip
    add("--bfloat16", action="store_true", help="bfloat16 currents before the rounding phase: faster on recent CPUs")
    own = {key: ", ".join(f"{name} {n[key]:g}" for name, n in NEURONS.items()) for key in NEURONS["edge"]}
    add("--threshold", type=float, help=f"initial threshold of the neurons ({own['threshold']})")
    add("--leak", type=int, help=f"k of the neuron's leak v - (v >> k) or v >> k ({own['leak']})")
    add(
        "--surrogate-width", type=float,
        help=f"half-width of the surrogate's triangle, in thresholds ({own['surrogate_width']})",
    )  # fmt: skip
    add("--seed", type=int, default=0)
    add("--validate-every", type=int, default=1000, metavar="STEPS")
    add("--save-every", type=float, default=60.0, metavar="SECONDS", help="between checkpoints")
    options = parser.parse_args(arguments)
    task = TASKS[options.task]
    recipe = RECIPES[options.recipe or ("muon" if options.student == "edge" else "paper")]
    if recipe["optimizer"] == "muon" and not any(word.startswith("neuron=") for word in options.architecture):
        if options.student == "edge":
            options.architecture = (*options.architecture, "neuron=window")
    for name, value in {**NEURONS[options.student], **asdict(task.losses), **recipe}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    for name in (
        "steps",
        "epochs",
        "minutes",
        "patch",
        "batch",
        "rate",
        "threads",
        "validate_every",
        "save_every",
        "teacher_minutes",
    ):
        value = getattr(options, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be above zero, not {value}")
    if options.camera and not task.noise_levels:
        noisy = " or ".join(name for name, other in TASKS.items() if other.noise_levels)
        parser.error(f"--camera is about the noise of --task {noisy}, not of {options.task}")
    if not 0 <= options.rounding_phase <= 1:
        parser.error(f"--rounding-phase is a part of the run, 0 to 1, not {options.rounding_phase}")
    if options.coarse and task.noise_levels:
        parser.error(f"--coarse would take the noise away that --task {options.task} is about")
    least, most = COARSE_SIDES
    if options.coarse and not least <= options.coarse <= most:
        parser.error(f"--coarse is a number of pixels from {least} to {most}, not {options.coarse}")
    begin, end = options.harden
    if not (0 <= begin < end <= 1 or begin == end == 0):
        parser.error(f"--harden takes two parts of the run, 0 to 1, the second above the first, not {begin} {end}")
    if options.steps is None and options.epochs is None and options.minutes is None:
        options.epochs = task.epochs
    return options


def settings_of(options: argparse.Namespace) -> Settings:
    """The part of the command's options that decides the weights."""
    names = {field: getattr(options, field) for field in Settings.__dataclass_fields__}
    names |= {"channels": tuple(options.channels or ()), "sigma": tuple(options.sigma), "harden": tuple(options.harden)}
    names["architecture"] = tuple(options.architecture)
    names["teacher"] = options.teacher if HINT_STAGES[options.stages] else "none"
    return Settings(**names)


# What the options of training are, if not given.
RECIPES: dict[str, dict[str, Any]] = {
    "muon": {
        "optimizer": "muon", "rate": 3e-3, "final_rate": 3e-5, "other_rate": 1.5e-3, "weight_decay": 0.0,
        "clip_norm": 0.2, "average": 0.998, "calibrate": True, "awake": True, "harden": (0.03, 0.45),
    },
    "paper": {
        "optimizer": "adamw", "rate": 5e-4, "final_rate": 1e-5, "other_rate": 0.0, "weight_decay": 0.05,
        "clip_norm": 1.0, "average": 0.0, "calibrate": False, "awake": False, "harden": (0.0, 0.0),
    },
}  # fmt: skip
# What --threshold, --leak and --surrogate-width are, if not given.
NEURONS: dict[str, dict[str, Any]] = {
    "edge": {"threshold": 0.5, "leak": 2, "surrogate_width": 1.0},
    "paper": {"threshold": 0.15 * PAPER_UNIT, "leak": 1, "surrogate_width": 1.0},
    "nir": {"threshold": 1.0, "leak": NIR_LEAK, "surrogate_width": 1.0},
}


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when finished, 130 when a signal stopped it (resumable), 2 for a mistake the user can mend."""
    options = parse_arguments(arguments)
    out = options.out or Path("runs") / options.task
    try:
        if options.threads:
            torch.set_num_threads(options.threads)
        world = join(options.device)
        data = options.data or prepare.photographs()
        resume = options.resume or prepare.interrupted(out)
        teacher = None
        if HINT_STAGES[options.stages]:
            weights = options.teacher_weights or _teacher(options, data, world)
            teacher = load_teacher(options.teacher, weights).to(world.device).channels_last()
        finished = train(
            settings_of(options),
            load_images(*data),
            teacher,
            out,
            Budget(options.steps, options.minutes * 60 if options.minutes else None),
            options.epochs,
            world,
            resume,
            options.validate_every,
            options.save_every,
        )
    except prepare.Ended as ended:
        return ended.code
    except (DataError, TeacherError, TrainingError, ValueError) as error:
        print(f"train.hkd: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"train.hkd: cannot write to {out}: {error}.", file=sys.stderr)
        return 2
    world.leave()
    if not world.first:
        return 0 if finished else 130
    if not finished:
        print(f"Stopped; the run is saved in {out}, continue it with --resume.", file=sys.stderr)
        return 130
    print(
        f"Finished: {out / 'checkpoint.pt'}; `python -m export.bundle --checkpoint {out}` freezes it.", file=sys.stderr
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
