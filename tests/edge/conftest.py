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
from simulator.analysis import analyse
from simulator.bundle import read_bundle, write_bundle
from simulator.graph import Graph, Node
from simulator.network import Network, Result
from tests.edge.files import Run

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # as the command sets it; tests that store a video first come too early


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """A bundle for denoising: one layer of 16 kinds of neurons, random weights."""
    conv = {"kernel": 3, "stride": 1, "padding": 1, "groups": 1, "bias": 0}
    graph = Graph(
        (
            Node("image", "image"),
            Node("blocks", "space_to_depth", ("image",), {"factor": 2}),
            Node("encode", "dense_conv", ("blocks",), {"channels": 16, "q": 6, **conv}),
            Node("current", "requantise", ("encode",), {"shift": 5, "lo": -2048, "hi": 2047}),
            Node("neurons", "lif", ("current",), {"leak": "shift", "reset": "zero"}),
            Node("decode", "conv", ("neurons",), {"channels": 12, "q": 10, **conv}),
            Node("pixels", "upsample", ("decode",), {"factor": 2, "mode": "depth_to_space"}),
            Node("total", "time_sum", ("pixels",)),
            Node("restored", "readout", ("total",)),
        ),
        time_steps=4,
    )
    random = np.random.RandomState(1)
    tensors = {
        name: random.randint(-20, 20, shape).astype(np.int32)
        for name, shape in analyse(graph).shapes.items()
        if name.endswith("weight")
    }
    tensors["neurons.threshold"] = np.full(16, 200, np.int32)
    tensors["neurons.bias"] = np.zeros(16, np.int32)
    tensors["neurons.leak"] = np.ones(16, np.int32)
    path = tmp_path_factory.mktemp("bundle") / "denoise.safetensors"
    meta = {
        "network.task": "denoise",
        "training.data": "none, random weights",
        "training.terms": "none",
        "weights.licence": "Apache-2.0",
    }
    write_bundle(path, graph, tensors, meta)
    return path


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
