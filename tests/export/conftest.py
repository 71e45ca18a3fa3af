"""A run of train.hkd that takes a second, and bundles of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from simulator.bundle import write_bundle
from train import hkd
from train.checkpoint import read_checkpoint
from train.frozen import freeze

TRAINING = (
    "--task denoise --stages none --channels 8 8 8 8 --patch 16 --batch 2 --threads 1 --device cpu "
    "--warmup 2 --validate-every 6 --threshold 0.3"
).split()
META = {
    "network.task": "denoise",
    "training.data": "none",
    "training.terms": "none",
    "weights.licence": "CC0-1.0",
}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Three pictures of smooth patches with edges."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (51, 43), interpolation=cv2.INTER_CUBIC if i % 2 else cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


@pytest.fixture(scope="session")
def run(photos, tmp_path_factory) -> Path:
    """The folder of a finished run of 12 steps."""
    folder = tmp_path_factory.mktemp("run") / "denoise"
    assert hkd.main([*TRAINING, "--data", str(photos), "--out", str(folder), "--steps", "12"]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle_file(run, tmp_path_factory) -> Path:
    """The network of `run` in a bundle."""
    path = tmp_path_factory.mktemp("bundle") / "denoise.safetensors"
    graph, tensors, _ = freeze(read_checkpoint(run))
    write_bundle(path, graph, tensors, META)
    return path
