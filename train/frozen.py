"""A trained network as the device will run it: a bundle file as it is, a run of `train.hkd` frozen; and its scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

import simulator
from simulator.bundle import Bundle, parse, read_bundle, serialise
from train import hkd
from train.metrics import psnr
from train.run import TrainingError, validation_pairs
from train.student import Student

WHOLE = 1 << 30  # pixels of a crop that no image reaches
UNSTATED = "not stated: frozen for a measurement, not for use"


def read_network(path: Path) -> Bundle:
    """The network in a bundle file, a checkpoint or the folder of a run. Raises BundleError or TrainingError."""
    return freeze_run(path) if path.is_dir() or path.suffix == ".pt" else read_bundle(path)


def freeze_run(path: Path) -> Bundle:
    """The spiking student of a checkpoint (file, or the folder of a run), with the contract's roundings.

    Raises TrainingError if it is none.
    """
    settings, _, _ = hkd.read_run(path)
    if settings.ann:
        raise TrainingError(f"{path} is a run of the equivalent ANN, which cannot be frozen; give a spiking student's.")
    student: Student = hkd.build_student(settings)
    student.load_state_dict(hkd.weights_of(path, torch.device("cpu")))
    student.rounded = True
    unknown = dict.fromkeys(("training.data", "training.terms", "weights.licence"), UNSTATED)
    content, _ = serialise(student.graph, student.freeze(), {"network.task": settings.task, **unknown})
    return parse(content)


def whole_pairs(
    task: str, images: Sequence[np.ndarray], seed: int, sigma: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(degraded, clean) of whole test images, uint8 [H, W, 3]; denoise at `sigma` (8-bit levels), clipped to 8 bits."""
    return validation_pairs(task, list(images), seed, sigma, WHOLE)


def score(network: simulator.Network, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Mean PSNR in dB and mean spike rate over (degraded, clean) pictures, uint8 [H, W, 3]."""
    results = []
    for degraded, clean in pairs:
        result = network.run(degraded)
        results.append((psnr(result.image, clean), result.stats.spike_rate))
    quality, rate = np.mean(results, axis=0)
    return float(quality), float(rate)
