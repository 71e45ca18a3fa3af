"""Who is scored by `python -m train.evaluate`: bundles, checkpoints and others, each as one function of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulator import coarse
from simulator.bundle import COARSE, Bundle, read_bundle
from simulator.network import Network
from simulator.statistics import Counter, Population
from train.backends import BACKENDS, onnx_file
from train.checkpoint import read_checkpoint, trained_student
from train.frozen import freeze_run
from train.peers import Peer
from train.run import TrainingError
from train.student import restore_image

# Image [H, W, 3] (uint8, or int16 in the same units and not clipped) -> (restored uint8, total spike rate or None).
Restore = Callable[[np.ndarray], tuple[np.ndarray, float | None]]


@dataclass(frozen=True)
class Contender:
    """One row of the tables.

    about: what its report says of it: parameters (None where that means nothing), task, where it comes from.
    restore: of a picture whose degradation is not told. at: from a noise level (8-bit levels) to what is told it; None
    for those who are not told. needs_level: it does nothing useful untold. eight_bits: it takes no unclipped pictures.
    tasks: whose sets it takes part in; empty: every set that a network is scored on.
    energy_uj: of one picture uint8 [H, W, 3], estimated by Eq. (1); None where operations are not counted.
    """

    name: str
    backend: str
    about: dict[str, Any]
    restore: Restore
    energy_uj: Callable[[np.ndarray], float | None]
    at: Callable[[float], Restore] | None = None
    needs_level: bool = False
    eight_bits: bool = False
    tasks: tuple[str, ...] = ()


def bundle_contender(path: Path, name: str, backend: str, threads: int | None) -> Contender:
    """A bundle in one of the backends. Raises BundleError or BackendError."""
    bundle = read_bundle(path)
    about = {"bundle": bundle.content_hash, "task": bundle.task, "parameters": bundle.analysis.parameters}
    if backend == "onnx":
        restore = onnx_file(path.with_suffix(".onnx"), bundle, threads).run
    else:
        restore = BACKENDS[backend](bundle, threads).run
    return Contender(name, backend, about, _whole(bundle.meta, restore), lambda image: _spiking_uj(bundle, image))


def _whole(meta: Mapping[str, str], restore: Restore) -> Restore:
    """`restore`, which runs the network alone, by the coarse path over the whole picture if the bundle has one."""
    return restore if coarse.side_of(meta) is None else lambda image: coarse.restore(meta, image, restore)


def _spiking_uj(bundle: Bundle, image: np.ndarray) -> float:
    return Network(bundle).run(image).stats.estimated_uj()


def checkpoint_restorer(path: Path) -> tuple[Restore, dict[str, Any]]:
    """The student of a checkpoint of `train.hkd`, in PyTorch with the contract's roundings."""
    checkpoint = read_checkpoint(path)
    student = trained_student(checkpoint)
    about = {"checkpoint": str(checkpoint.path), "step": checkpoint.step, "task": checkpoint.settings.task}
    about["parameters"] = student.deployed_parameters
    side = checkpoint.settings.coarse
    return _whole({COARSE: str(side)} if side else {}, lambda image: (restore_image(student, image), None)), about


def checkpoint_contender(path: Path, name: str) -> Contender:
    """A run of `train.hkd` before it is frozen. Raises TrainingError."""
    restore, about = checkpoint_restorer(path)
    checkpoint = read_checkpoint(path)

    def energy_uj(image: np.ndarray) -> float | None:
        if checkpoint.settings.ann:
            population = Population(trained_student(checkpoint).analysis, *image.shape[:2])
            return Counter(population).finish(0.0).ann_uj()
        try:
            return _spiking_uj(freeze_run(path), image)
        except TrainingError:  # it breaks the contract as yet, so that nothing counts its spikes
            return None

    return Contender(name, "torch", about, restore, energy_uj)


def peer_contender(peer: Peer) -> Contender:
    """One of `train.peers`."""

    def at(sigma: float | None) -> Restore:
        return lambda image: (peer.restore(image, sigma), None)

    return Contender(
        peer.name, peer.backend, {"parameters": peer.parameters}, at(None),
        lambda image: peer.energy_uj(*image.shape[:2]), at, peer.told, True, peer.tasks,
    )  # fmt: skip
