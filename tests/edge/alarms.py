"""`python -m tests.edge.alarms FOLDER`: how often `edge-restore` says of pictures that they need no restoring.

FOLDER holds clean photographs. Of each task with a judgement: the share of the photographs of which it is said, as they
are (right, more or less) and with each degradation that the task is for (false alarms). Rain and haze are judged by
what the network would change, too, so for these the task's networks are asked, that for images and that for videos.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

import simulator
from edge import careful, shipped
from edge.images import Pixels
from train.data import add_noise, load_images
from train.tasks import TASKS

JUDGED = ("denoise", "derain", "dehaze", "deblur")
NOISE = (2, 3, 5, 15, 50)


def degradations(task: str) -> dict[str, Callable[[Pixels, int], Pixels]]:
    """What makes a picture, by its number, one that a network for `task` is for; first the picture as it is."""
    found: dict[str, Callable[[Pixels, int], Pixels]] = {"as it is": lambda clean, number: clean}
    for sigma in NOISE if task == "denoise" else ():
        found[f"sigma {sigma}"] = functools.partial(_noisy, sigma)
    for name, degrade in TASKS[task].variants.items():
        found[name] = functools.partial(_degraded, degrade)
    return found


def _noisy(sigma: float, clean: Pixels, number: int) -> Pixels:
    return add_noise(clean, sigma, 0, True, number)


def _degraded(degrade: Callable[..., Pixels], clean: Pixels, number: int) -> Pixels:
    return degrade(clean, np.random.default_rng(number), None)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often edge-restore says that a picture needs no restoring.")
    parser.add_argument("folder", type=Path, help="clean photographs")
    parser.add_argument("--task", nargs="*", choices=JUDGED, default=JUDGED, help="default: all")
    args = parser.parse_args()
    images = load_images(args.folder)
    for task in args.task:
        for name, degrade in degradations(task).items():
            pictures = [degrade(clean, number) for number, clean in enumerate(images)]
            if task in ("denoise", "deblur"):
                said = sum(careful.judge(task, {}, came, came) is not None for came in pictures)
                print(f"{task}, {name}: {said} of {len(images)}", flush=True)
                continue
            for path in dict.fromkeys(shipped.of_task(task, quality) for quality in shipped.QUALITIES):
                loaded = simulator.load(path)
                said = sum(
                    careful.judge(task, loaded.meta, came, careful.restore(task, came, loaded.run).image) is not None
                    for came in pictures
                )
                print(f"{path.stem}, {name}: {said} of {len(images)}", flush=True)


if __name__ == "__main__":
    main()
