"""Real files to give to the command, and what a run of it left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from simulator.analysis import analyse
from simulator.bundle import write_bundle
from simulator.graph import Graph, Node
from simulator.structure import with_defaults


@dataclass(frozen=True)
class Run:
    """What a run of the command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def picture(height: int = 24, width: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A noisy uint8 picture, RGB or RGBA, or [H, W] for one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def store(path: Path, pixels: np.ndarray) -> Path:
    """Writes an image file with OpenCV, which wants blue first."""
    if pixels.ndim == 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = np.ascontiguousarray(pixels[..., order])
    assert cv2.imwrite(str(path), pixels)
    return path


def load(path: Path) -> np.ndarray:
    """Reads an image file as it is, red first."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def store_video(path: Path, count: int = 12, size: tuple[int, int] = (32, 24), fps: float = 24.0) -> list[np.ndarray]:
    """A lossless video of noise, size (width, height); returns its frames, RGB."""
    frames = [picture(size[1], size[0], seed=seed) for seed in range(count)]
    store_frames(path, frames, fps)
    return frames


def store_frames(path: Path, frames: list[np.ndarray], fps: float = 24.0, codec: str = "FFV1") -> Path:
    """A video of RGB frames of one even size, without loss unless another codec is named."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def load_video(path: Path) -> tuple[list[np.ndarray], float]:
    """(frames, RGB; frame rate) of a video."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame[..., ::-1])


def frame_times(path: Path) -> list[float]:
    """When each frame of a video is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def store_network(path: Path) -> Path:
    """A bundle for denoising: one layer of 16 kinds of neurons, random weights."""
    conv = {"kernel": 3, "stride": 1, "padding": 1, "groups": 1, "bias": 0}
    graph = Graph(
        tuple(
            with_defaults(node)
            for node in (
                Node("image", "image"),
                Node("blocks", "space_to_depth", ("image",), {"factor": 2}),
                Node("encode", "dense_conv", ("blocks",), {"channels": 16, "q": 6, **conv}),
                Node("current", "requantise", ("encode",), {"shift": 5, "lo": -2048, "hi": 2047}),
                Node("neurons", "lif", ("current",), {"leak": "shift", "reset": "zero"}),
                Node("decode", "conv", ("neurons",), {"channels": 12, "q": 10, **conv}),
                Node("pixels", "upsample", ("decode",), {"factor": 2, "mode": "depth_to_space"}),
                Node("total", "time_sum", ("pixels",)),
                Node("restored", "readout", ("total",)),
            )
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
    meta = {
        "network.task": "denoise",
        "training.data": "none, random weights",
        "training.terms": "none",
        "weights.licence": "Apache-2.0",
    }
    write_bundle(path, graph, tensors, meta)
    return path


def names(folder: Path) -> list[str]:
    """Everything in `folder`, hidden files too: what is half-written shows."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def statuses(run: Run) -> dict[str, str]:
    return {line["source"]: line["status"] for line in map(json.loads, run.out.splitlines())}


def assert_refused(run: Run, *words: str) -> None:
    """One sentence on standard error with each of `words` in it, exit code 2, nothing else said."""
    assert run.code == 2, run
    assert run.out == ""
    lines = run.err.splitlines()
    assert len(lines) == 1, run.err
    assert lines[0].startswith("edge-restore: ") and lines[0].endswith("."), lines[0]
    for word in words:
        assert word in lines[0], (word, lines[0])


def mux_tone(film: av.container.OutputContainer, audio: av.AudioStream, samples: int) -> None:
    """So many samples of a tone, 48,000 a second, in frames of 1,024; what does not fill one is left out."""
    tone = (np.sin(np.arange(samples) / 20) * 8000).astype(np.int16)
    for at in range(0, samples - 1024, 1024):
        sound = av.AudioFrame.from_ndarray(tone[None, at : at + 1024], format="s16", layout="mono")
        sound.sample_rate, sound.pts = 48000, at
        film.mux(audio.encode(sound))
