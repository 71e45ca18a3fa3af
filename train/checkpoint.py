"""A run of `train.hkd` as it lies on disk: what decided its weights, the weights, and how far it got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from train.architectures import build_graph
from train.run import TrainingError, load_checkpoint
from train.student import EquivalentAnn, Student
from train.tasks import TASKS


@dataclass(frozen=True)
class Settings:
    """What decides the weights that come out; a resumed run must have the same. Rates and weights without unit."""

    task: str
    student: str
    channels: tuple[int, ...]
    teacher: str
    stages: str
    hint_weight: float
    fft_weight: float
    penalty: float
    penalty_start: float
    patch: int
    batch: int
    sigma: tuple[float, float]
    sigma_power: float
    rate: float
    final_rate: float
    warmup: int
    weight_decay: float
    clip_norm: float
    bfloat16: bool
    rounding_phase: float
    threshold: float
    surrogate_width: float
    leak: int
    seed: int
    # Settings that older checkpoints do not have; what is here was the only way then.
    init: str = ""  # the run whose weights this one starts from
    architecture: tuple[str, ...] = ()  # options of the student, "name=value"
    ann: bool = False  # the equivalent ANN in place of the spiking student
    psnr_weight: float = 0.0  # of ln MSE: every picture counts alike, however weak its degradation
    clean: float = 0.0  # share of the patches that are not degraded
    camera: bool = False  # denoise: most patches have a camera's noise in place of white Gaussian noise
    optimizer: str = "adamw"  # or "muon", for the weights of convolutions
    other_rate: float = 0.0  # with muon: AdamW's peak rate for all other parameters
    average: float = 0.0  # decay per step of the average of the weights that is validated and exported; 0: none
    calibrate: bool = False  # scale the starting values by a batch's (`train.calibrate`)
    awake: bool = False  # raise the biases of channels that have fallen silent (`train.awake`)
    colour: float = 0.0  # share of the patches whose colours and exposure are changed
    harden: tuple[float, float] = (0.0, 0.0)  # parts of the run between which numbers of spikes become whole
    foreign: float = 0.0  # share of the patches that are degraded as another task's, in the target too
    coarse: int = 0  # longest side to which pictures are shrunk, pixels: the network works on those; 0: on whole ones


@dataclass(frozen=True)
class Checkpoint:
    """What checkpoint.pt holds. step: optimiser steps; seconds, processor_seconds: of training; student: its state, on
    the CPU, or that of the average of its weights if the run kept one."""

    path: Path
    settings: Settings
    step: int
    seconds: float
    finished: bool
    student: Mapping[str, Tensor]
    processor_seconds: float = 0.0


def read_checkpoint(path: Path) -> Checkpoint:
    """Read checkpoint.pt, or the one of a run's folder; TrainingError for anything that train.hkd did not write."""
    file = path / "checkpoint.pt" if path.is_dir() else path
    if not file.is_file():
        what = "holds no checkpoint.pt" if path.is_dir() else "does not exist or is not a file"
        raise TrainingError(f"{path} {what}; give the checkpoint or the folder of a run of train.hkd.")
    content = load_checkpoint(file, torch.device("cpu"))
    try:
        numbers = int(content["step"]), float(content["seconds"]), bool(content["finished"])
        weights = dict(content.get("average", content["student"]))
        processor_seconds = float(content.get("processor_seconds", 0.0))
        checkpoint = Checkpoint(file, Settings(**content["settings"]), *numbers, weights, processor_seconds)
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{file} is not a checkpoint of train.hkd as this version writes it; use the version that it is of."
        ) from error
    if checkpoint.settings.task not in TASKS:
        raise TrainingError(f"{file} is of the task {checkpoint.settings.task!r}; known are {', '.join(TASKS)}.")
    return checkpoint


def build_student(settings: Settings) -> Student:
    """The untrained student, its weights drawn from the seed. Raises ValueError for an unknown architecture option."""
    if settings.ann:
        options = (*settings.architecture, "time_steps=1")
        return EquivalentAnn(build_graph(settings.student, settings.channels or None, options), seed=settings.seed)
    graph = build_graph(settings.student, settings.channels or None, settings.architecture)
    student = Student(graph, leak=settings.leak, threshold=settings.threshold, seed=settings.seed)
    student.width = settings.surrogate_width
    return student


def trained_student(checkpoint: Checkpoint) -> Student:
    """The student with the checkpoint's weights, as the device computes it; an equivalent ANN has no roundings.

    Raises TrainingError if the weights do not fit the student of the settings, or are not finite.
    """
    try:
        student = build_student(checkpoint.settings)
        student.load_state_dict(dict(checkpoint.student))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{checkpoint.path}: its weights do not fit the {checkpoint.settings.student!r} student of this version."
        ) from error
    broken = [name for name, tensor in student.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise TrainingError(
            f"{checkpoint.path}: {broken[0]} holds numbers that are not finite, so the training diverged."
        )
    student.rounded = not checkpoint.settings.ann
    return student
