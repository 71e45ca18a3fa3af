"""What several tests of training share."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from train.teachers import build_teacher, save_teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    """The file of an untrained Restormer of 8 channels, as `train.teacher` writes it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    module = build_teacher("restormer", dim=8, blocks=(1, 1, 1, 1), heads=(1, 1, 1, 1), refinement=0, expansion=1.0)
    save_teacher(module, path, {"teacher.steps": "7", "teacher.seconds": "90"})
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two pictures of 40x56 and 33x47 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, size in enumerate([(40, 56), (33, 47)]):
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return folder
