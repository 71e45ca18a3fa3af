"""`python -m tests.edge.alarms FOLDER`: how often `edge-restore` says of pictures that they need no restoring.

FOLDER holds clean photographs. Of each network that ships for a task with a judgement: the share of the photographs of
which it is said, as they are (right, more or less) and with each degradation that the network is for (false alarms).
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

import simulator
from edge import careful
from edge.images import Pixels
from train.data import add_noise, load_images
from train.tasks import TASKS

BUNDLES = Path(__file__).resolve().parents[2] / "edge/bundles"
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
    images = load_images(parser.parse_args().folder)
    for task in ("denoise", "derain", "dehaze", "deblur"):
        network = simulator.load(BUNDLES / f"{task}.safetensors")
        for name, degrade in degradations(task).items():
            said = 0
            for number, clean in enumerate(images):
                came = degrade(clean, number)
                restored = careful.restore(task, came, network.run).image if task == "derain" else came
                said += careful.judge(task, network.meta, came, restored) is not None
            print(f"{task}, {name}: {said} of {len(images)}", flush=True)


if __name__ == "__main__":
    main()
