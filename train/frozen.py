"""A trained network as the device will run it: a bundle file as it is, a run of `train.hkd` frozen; and its scores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from simulator.analysis import Analysis, Tensors, analyse
from simulator.bundle import Bundle, parse, read_bundle, serialise
from simulator.graph import Graph, GraphError
from simulator.network import Network
from train.checkpoint import Checkpoint, read_checkpoint, trained_student
from train.metrics import psnr
from train.run import TrainingError

UNSTATED = "not stated: frozen for a measurement, not for use"


def freeze(checkpoint: Checkpoint) -> tuple[Graph, Tensors, Analysis]:
    """The trained student as graph and int32 tensors on their grids, all bounds checked.

    Raises TrainingError if it is an equivalent ANN, if its weights do not fit the student of the settings, or if they
    break the contract.
    """
    if checkpoint.settings.ann:
        raise TrainingError(
            f"{checkpoint.path} is of an equivalent ANN (--ann), which has no spikes and cannot be frozen; give a "
            "spiking student's."
        )
    student = trained_student(checkpoint)
    try:
        tensors = student.freeze()
        return student.graph, tensors, analyse(student.graph, tensors)
    except GraphError as error:
        raise TrainingError(f"{checkpoint.path}: {error}.") from error


def freeze_run(path: Path) -> Bundle:
    """The spiking student of a checkpoint (file, or the folder of a run), in memory. Raises TrainingError."""
    checkpoint = read_checkpoint(path)
    graph, tensors, _ = freeze(checkpoint)
    unknown = dict.fromkeys(("training.data", "training.terms", "weights.licence"), UNSTATED)
    content, _ = serialise(graph, tensors, {"network.task": checkpoint.settings.task, **unknown})
    return parse(content)


def read_network(path: Path) -> Bundle:
    """The network in a bundle file, a checkpoint or the folder of a run. Raises BundleError or TrainingError."""
    return freeze_run(path) if path.is_dir() or path.suffix == ".pt" else read_bundle(path)


def score(network: Network, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Mean PSNR in dB and mean spike rate over (degraded, clean) pictures, uint8 [H, W, 3]."""
    results = []
    for degraded, clean in pairs:
        result = network.run(degraded)
        results.append((psnr(result.image, clean), result.stats.spike_rate))
    quality, rate = np.mean(results, axis=0)
    return float(quality), float(rate)
