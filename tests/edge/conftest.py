"""A run of `edge-restore` inside the test process, with a small network of random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge import careful, cli
from firmware_bridge.power import recording
from firmware_bridge.power.sensors import Found
from simulator.bundle import read_bundle
from simulator.network import Network, Result
from tests.edge.files import Run, store_network

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # as the command sets it; tests that store a video first come too early


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """A bundle for denoising: one layer of 16 kinds of neurons, random weights."""
    return store_network(tmp_path_factory.mktemp("bundle") / "denoise.safetensors")


class Expected(Network):
    """A network whose `run` is what the command makes of a picture."""

    def run(self, image: np.ndarray, tile: int | None = None) -> Result:
        return careful.restore(self.task, image, super().run)


@pytest.fixture(scope="session")
def network(bundle) -> Expected:
    """The network of `bundle`, to compare with."""
    return Expected(read_bundle(bundle))


@pytest.fixture(autouse=True)
def no_sensors(monkeypatch) -> None:
    """The machine that runs the tests may have power sensors; what is tested is then not the same everywhere."""
    monkeypatch.setattr(recording, "find", lambda: Found((), ()))


@pytest.fixture
def restore(bundle, capfd) -> Callable[..., Run]:
    """restore(*arguments) runs the command for denoising with `bundle`; options given again win."""

    def run(*arguments: object) -> Run:
        capfd.readouterr()
        try:
            code = cli.main(["--task", "denoise", "--bundle", str(bundle), *map(str, arguments)])
        except SystemExit as stop:  # argparse leaves by itself
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Run(code, out, err)

    return run


@pytest.fixture
def work(tmp_path) -> Path:
    """An empty folder for inputs and outputs."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
