"""A trained network as the device will run it: a bundle file as it is, a run of `train.hkd` frozen in memory."""

from __future__ import annotations

from pathlib import Path

import torch

from simulator.bundle import Bundle, parse, read_bundle, serialise
from train import hkd
from train.run import TrainingError
from train.student import Student

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
