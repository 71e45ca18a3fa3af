"""What several tests of training share."""

from pathlib import Path

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
