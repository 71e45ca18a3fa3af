"""What every training command shares: budget, learning rate, held-out images, checkpoints, log, clean stops."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simulator.files import reason, write_atomically
from train.data import add_noise
from train.metrics import psnr
from train.patches import fixed
from train.tasks import TASKS, parts_of

Pairs = list[tuple[np.ndarray, np.ndarray]]  # (degraded, clean), uint8 RGB [H, W, 3] both

VALIDATION_IMAGES = 10
VALIDATION_CROP = 160  # pixels
WHOLE = 1 << 30  # pixels of a crop that no image reaches
MOST_PSNR = 60.0  # dB, of one picture in a validation


class TrainingError(ValueError):
    """A run that cannot start or go on; the message is a sentence for the person at the keyboard."""


@dataclass(frozen=True)
class Budget:
    """When a run ends: after `steps` or `seconds` of training, whichever comes first; None is no limit."""

    steps: int | None
    seconds: float | None

    def progress(self, step: int, seconds: float) -> float:
        """How much of the budget is used, 0 ... 1."""
        parts = [step / self.steps] if self.steps else []
        parts += [seconds / self.seconds] if self.seconds else []
        return min(1.0, max(parts))


def cosine_rate(peak: float, final: float, warmup: int, step: int, progress: float) -> float:
    """Linear warm-up over the first steps, times a cosine from `peak` to `final` over the run's progress (0 ... 1)."""
    cosine = final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2
    return cosine * min(1.0, (step + 1) / max(1, warmup))


def hold_out(images: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split images into (training, validation): a tenth, but 1 to VALIDATION_IMAGES, evenly spread, is held out.

    Raises TrainingError for fewer than 2 images.
    """
    if len(images) < 2:
        raise TrainingError("Training needs at least 2 images: one of them is held out for validation.")
    count = min(VALIDATION_IMAGES, max(1, len(images) // 10))
    held = set(np.linspace(0, len(images) - 1, count + 2).round().astype(int)[1:-1].tolist())
    return [im for i, im in enumerate(images) if i not in held], [im for i, im in enumerate(images) if i in held]


def validation_pairs(
    task: str, images: Sequence[np.ndarray], seed: int, sigma: float | None = None, crop: int = VALIDATION_CROP
) -> Pairs:
    """(degraded, clean) centre crops, uint8 [h, w, 3]; of an all-in-one, the pairs of each of its tasks.

    sigma: of white Gaussian noise where that is the task, 8-bit levels, clipped to 8 bits (default: the middle one of
    the task's levels). Other tasks degrade the whole image as `train.tasks` says; their variants take turns.
    """
    parts = parts_of(task)
    if len(parts) > 1:
        return [pair for part in parts for pair in validation_pairs(part, images, seed, sigma, crop)]
    entry, pairs = TASKS[task], []
    for index, image in enumerate(images):
        top, left = (max(0, side - crop) // 2 for side in image.shape[:2])
        window = (slice(top, top + crop), slice(left, left + crop))
        clean = np.ascontiguousarray(image[window])
        if levels := entry.noise_levels:
            strength = levels[len(levels) // 2] if sigma is None else sigma
            degraded = add_noise(clean, strength, seed=seed, index=index, clip=True)
        else:
            variants = tuple(entry.variants)
            degraded = fixed(task, variants[index % len(variants)], image, seed, index)[window]
        pairs.append((np.ascontiguousarray(degraded), clean))
    return pairs


def validation_sets(
    task: str, images: Sequence[np.ndarray], seed: int, crop: int = VALIDATION_CROP
) -> dict[str, Pairs]:
    """What a student is validated on, by the column of the log that its PSNR goes to: one set per level of the noise
    ("psnr_15"), or one of all pairs ("psnr")."""
    levels = TASKS[task].noise_levels
    if not levels:
        return {"psnr": validation_pairs(task, images, seed, crop=crop)}
    return {f"psnr_{sigma}": validation_pairs(task, images, seed, sigma, crop) for sigma in levels}


def mean_psnr(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean PSNR in dB of pairs of uint8 pictures, each counted as at most MOST_PSNR: a crop may be untouched."""
    return float(np.mean([min(psnr(picture, clean), MOST_PSNR) for picture, clean in pairs]))


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """torch.save, atomically: a kill at any moment leaves the old file or the new one, never half a file."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """The content of a checkpoint; TrainingError if it is none. Tensors and plain data are loaded, nothing is run."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {reason(error)}.") from error
    except Exception as error:  # torch.load raises many kinds; all of them mean the same to the user
        raise TrainingError(
            f"{path} is not a checkpoint of this project's training: it is damaged, or it holds more than tensors and "
            "plain data, which is not loaded. To start a run anew, delete it."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise TrainingError(f"{path} is not a checkpoint of this project's training: it holds no settings.")
    return content


def check_settings(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise TrainingError unless the run whose checkpoint is `path` was started with these settings.

    A setting that an older checkpoint does not know had no effect then: it was what is empty now.
    """
    different = [name for name in settings if (found.get(name) or None) != (settings[name] or None)]
    if different:
        changes = ", ".join(f"{name} {found.get(name)} (now {settings[name]})" for name in different)
        raise TrainingError(f"The run in {path.parent} was started with other settings: {changes}.")


class Log:
    """log.csv of a run; rows beyond the step that a run resumes at are dropped, because it will write them again."""

    def __init__(self, path: Path, step: int, columns: Sequence[str]):
        self.path = path
        self.columns = columns
        rows = []
        if path.exists() and step:
            with open(path, newline="") as file:
                whole = [row for row in csv.DictReader(file) if row[columns[-1]]]  # a kill may have left half a row
                rows = [row for row in whole if int(row["step"]) <= step]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue().encode())

    def add(self, **values: float | str) -> None:
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(values)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM append to the yielded list instead of interrupting, so that a step is never cut in half."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
