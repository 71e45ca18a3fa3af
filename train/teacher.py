"""`python -m train.teacher`: train a narrow teacher of one's own (Restormer, PromptIR or AdaIR), on a CPU if need be.

L1 loss on random degraded patches, AdamW, a cosine learning rate, an exponential moving average of the weights. The run
ends after --steps or after --minutes, whichever comes first, and the learning rate follows whichever is further along.
A checkpoint is written every --save-every seconds and survives a kill at any moment; --resume continues from it (or
starts, if there is none yet) with the same batches in the same order, and counts the minutes that were already spent.

In --out: checkpoint.pt (to resume), log.csv (loss and PSNR over steps and seconds), teacher.safetensors (the averaged
weights with their configuration; `build_teacher(None, weights=...)` loads it).
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from train.data import DataError, load_images
from train.patches import PatchSampler
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
    validation_pairs,
)
from train.tasks import SINGLE
from train.teachers import TEACHERS, TeacherError, build_narrow_teacher, save_teacher
from train.teachers.unet import UNet

FINAL_RATE = 0.005  # the learning rate's last value, as a fraction of its peak
AVERAGE_DECAY = 0.999  # of the moving average of the weights, per step
LOG_COLUMNS = ("step", "seconds", "learning_rate", "loss", "psnr_input", "psnr")


@dataclass(frozen=True)
class Settings:
    """What decides the weights that come out; a resumed run must have the same. sigma: 8-bit levels; patch: pixels."""

    arch: str
    task: str
    width: int
    blocks: tuple[int, ...]
    heads: tuple[int, ...]
    refinement: int
    expansion: float
    norm: str
    patch: int
    batch: int
    sigma: tuple[float, float]
    rate: float
    warmup: int
    weight_decay: float
    clip_norm: float
    bfloat16: bool
    seed: int


def build(settings: Settings) -> UNet:
    """The untrained teacher, its weights drawn from the seed."""
    torch.manual_seed(settings.seed)
    teacher = build_narrow_teacher(
        settings.arch,
        settings.patch,
        dim=settings.width,
        blocks=settings.blocks,
        heads=settings.heads,
        refinement=settings.refinement,
        expansion=settings.expansion,
        norm=settings.norm,
    )
    return teacher.channels_last()


def restore(teacher: nn.Module, image: np.ndarray, device: torch.device) -> np.ndarray:
    """Restore one uint8 RGB image [H, W, 3] with the teacher in float32; uint8 [H, W, 3]."""
    with torch.no_grad():
        x = _unit(torch.from_numpy(image).permute(2, 0, 1)[None], device)
        output = teacher(x)[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    restored: np.ndarray = output.permute(1, 2, 0).cpu().numpy()
    return restored


def _unit(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in [0, 1], the teachers' input, in the layout that convolves fastest."""
    return pixels.to(device).to(torch.float32, memory_format=torch.channels_last) / 255.0


class Run:
    """One training run: the weights, their average, the optimiser, and where it stands (step, seconds spent)."""

    def __init__(self, settings: Settings, device: torch.device):
        self.settings = settings
        self.device = device
        self.teacher = build(settings).to(device).train()
        self.average = copy.deepcopy(self.teacher).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.teacher.parameters(), settings.rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay, fused=True
        )
        self.step = 0
        self.seconds = 0.0

    def train_step(self, degraded: Tensor, clean: Tensor, progress: float) -> float:
        """One step on uint8 [B, 3, P, P] patches; returns the L1 loss (0 ... 1 scale)."""
        peak = self.settings.rate
        rate = cosine_rate(peak, peak * FINAL_RATE, self.settings.warmup, self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            restored = self.teacher(_unit(degraded, self.device))
        loss = (restored.float() - _unit(clean, self.device)).abs().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.teacher.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        # The average forgets its random start quickly: the decay grows to its final value over the first steps.
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, current in zip(self.average.parameters(), self.teacher.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
        self.step += 1
        value = float(loss.item())
        if not math.isfinite(value):
            raise TrainingError(f"The loss is no longer finite at step {self.step}; resume with a lower --rate.")
        return value

    def save(self, path: Path) -> None:
        """Write everything that --resume needs, atomically: a kill leaves the old file or the new one, never half."""
        content = {
            "settings": asdict(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "teacher": self.teacher.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises TrainingError if it is damaged or was made with other settings."""
        content = load_checkpoint(path, self.device)
        check_settings(path, content["settings"], asdict(self.settings))
        self.teacher.load_state_dict(content["teacher"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]


def train(
    settings: Settings,
    images: list[np.ndarray],
    out: Path,
    budget: Budget,
    device: torch.device,
    resume: bool = False,
    validate_every: float = 120.0,
    save_every: float = 60.0,
) -> bool:
    """Train until the budget is used; True if it finished, False if a signal stopped it (its state is saved).

    images: uint8 RGB [H, W, 3]. validate_every, save_every: seconds. Writes the files named at the top into `out`.
    Raises DataError, TeacherError or TrainingError.
    """
    training, held_out = hold_out(images)
    pairs = validation_pairs(settings.task, held_out, settings.seed)
    sampler = PatchSampler(training, settings.patch, settings.batch, settings.seed, settings.sigma, settings.task)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    run = Run(settings, device)
    if checkpoint.exists():
        if not resume:
            raise TrainingError(f"{out} already holds a run; pass --resume to continue it, or another --out.")
        run.load(checkpoint)
    log = Log(out / "log.csv", run.step, LOG_COLUMNS)
    psnr_input = mean_psnr(pairs)
    terminal = sys.stderr.isatty()
    bar = tqdm(total=budget.steps, initial=run.step, unit="step", disable=not terminal)
    count = sum(parameter.numel() for parameter in run.teacher.parameters())
    bar.write(
        f"{settings.arch}, {count:,} parameters, {len(training)} training and {len(held_out)} validation images, "
        f"from step {run.step}; held-out input {psnr_input:.2f} dB",
        file=sys.stderr,
    )

    def validate(loss: float) -> None:
        value = mean_psnr([(restore(run.average, degraded, device), clean) for degraded, clean in pairs])
        rate = run.optimizer.param_groups[0]["lr"]
        log.add(
            step=run.step,
            seconds=round(run.seconds, 1),
            learning_rate=float(f"{rate:.4g}"),
            loss=round(loss, 6),
            psnr_input=round(psnr_input, 3),
            psnr=round(value, 3),
        )
        bar.write(
            f"step {run.step}  {run.seconds:.0f} s  rate {rate:.2e}  loss {loss:.5f}  PSNR {value:.2f} dB",
            file=sys.stderr,
        )

    losses: list[float] = []
    clock, last_saved, last_validated = time.monotonic(), run.seconds, run.seconds
    with stop_on_signals() as signals, bar:
        while (progress := budget.progress(run.step, run.seconds)) < 1 and not signals:
            losses.append(run.train_step(*sampler.batch(run.step), progress))
            now = time.monotonic()
            run.seconds += now - clock
            clock = now
            bar.update()
            if run.seconds - last_validated >= validate_every:
                validate(float(np.mean(losses)))
                losses.clear()
                last_validated = run.seconds
            if run.seconds - last_saved >= save_every:
                run.save(checkpoint)
                last_saved = run.seconds
        if losses:
            validate(float(np.mean(losses)))
        run.save(checkpoint)
        if progress < 1:
            return False
    data = {"teacher.task": settings.task, "teacher.steps": str(run.step), "teacher.seconds": str(round(run.seconds))}
    save_teacher(run.average, out / "teacher.safetensors", data)
    return True


def _number(kind: Callable[[str], float], zero: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number of this kind above zero, or zero too if `zero`."""

    def parse(text: str) -> float:
        value = kind(text)
        if not (0 < value < math.inf or (zero and value == 0)):
            raise argparse.ArgumentTypeError(f"must be {'zero or more' if zero else 'above zero'}, not {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.teacher", description=__doc__.split("\n\n")[0])
    whole, real = _number(int), _number(float)
    whole_or_zero, real_or_zero = _number(int, zero=True), _number(float, zero=True)
    parser.add_argument("--arch", choices=TEACHERS, default="restormer")
    parser.add_argument("--task", choices=SINGLE, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="folders of clean images")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/teacher_<task>_<arch>)")
    parser.add_argument("--steps", type=whole, help="end after this many steps")
    parser.add_argument("--minutes", type=real, help="end after this many minutes of training")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--width", type=whole, default=16, help="channels of the first level (published: 48)")
    parser.add_argument("--blocks", type=whole, nargs=4, default=(1, 1, 2, 2), help="per level (published: 4 6 6 8)")
    parser.add_argument("--heads", type=whole, nargs=4, default=(1, 2, 4, 8), help="attention heads per level")
    parser.add_argument("--refinement", type=whole_or_zero, default=0, help="blocks after the decoder (published: 4)")
    parser.add_argument("--expansion", type=real, default=2.0, help="feed-forward expansion (published: 2.66)")
    parser.add_argument("--norm", choices=("WithBias", "BiasFree"), default="WithBias")
    parser.add_argument("--patch", type=whole, default=64, help="side of the training patches, pixels")
    parser.add_argument("--batch", type=whole, default=8, help="patches per step")
    parser.add_argument("--sigma", type=real_or_zero, nargs=2, default=(0.0, 55.0), help="noise range, 8-bit levels")
    parser.add_argument("--rate", type=real, default=1e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=whole_or_zero, default=200, help="steps of linear warm-up")
    parser.add_argument("--weight-decay", type=real_or_zero, default=1e-4)
    parser.add_argument("--clip-norm", type=real, default=0.1, help="largest norm of a step's gradient")
    parser.add_argument("--bfloat16", action="store_true", help="bfloat16 autocast: faster on recent CPUs and GPUs")
    parser.add_argument("--seed", type=whole_or_zero, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=whole, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--validate-every", type=real, default=120.0, metavar="SECONDS")
    parser.add_argument("--save-every", type=real, default=60.0, metavar="SECONDS", help="between checkpoints")
    options = parser.parse_args(arguments)
    if options.steps is None and options.minutes is None:
        parser.error("say how long to train, with --steps or --minutes")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when finished, 130 when a signal stopped it (resumable), 2 for a mistake the user can mend."""
    options = parse_arguments(arguments)
    out = options.out or Path("runs") / f"teacher_{options.task}_{options.arch}"
    settings = Settings(
        arch=options.arch,
        task=options.task,
        width=options.width,
        blocks=tuple(options.blocks),
        heads=tuple(options.heads),
        refinement=options.refinement,
        expansion=options.expansion,
        norm=options.norm,
        patch=options.patch,
        batch=options.batch,
        sigma=tuple(options.sigma),
        rate=options.rate,
        warmup=options.warmup,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
        bfloat16=options.bfloat16,
        seed=options.seed,
    )
    try:
        if options.device == "cuda" and not torch.cuda.is_available():
            raise TrainingError("There is no CUDA device here; use --device cpu.")
        if options.threads:
            torch.set_num_threads(options.threads)
        device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
        budget = Budget(options.steps, options.minutes * 60 if options.minutes else None)
        finished = train(
            settings,
            load_images(*options.data),
            out,
            budget,
            device,
            options.resume,
            options.validate_every,
            options.save_every,
        )
    except (DataError, TeacherError, TrainingError) as error:
        print(f"train.teacher: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"train.teacher: cannot write to {out}: {error}.", file=sys.stderr)
        return 2
    if not finished:
        print(f"Stopped; the run is saved in {out}, continue it with --resume.", file=sys.stderr)
        return 130
    print(f"Finished: {out / 'teacher.safetensors'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
