"""Trained students as the device computes them: frozen into a bundle and scored by the clipped protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

import simulator
from simulator.bundle import write_bundle
from train import hkd
from train.metrics import psnr
from train.run import validation_pairs
from train.student import Student

WHOLE = 1 << 30  # pixels of a crop that no image reaches


def freeze(run: Path, settings: hkd.Settings) -> Path:
    """Write the network of a finished run as a bundle beside its checkpoint; the bundle's path."""
    student: Student = hkd.build_student(settings)
    student.load_state_dict(hkd.weights_of(run, torch.device("cpu")))
    student.rounded = True
    path = run / f"{settings.task}.safetensors"
    unknown = dict.fromkeys(("training.data", "training.terms", "weights.licence"), "not stated: a trial run")
    write_bundle(path, student.graph, student.freeze(), {"network.task": settings.task, **unknown})
    return path


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
