"""NIR files in the tools that read them: the spikes of every layer at every step, beside those of the reference.

snnTorch and SpikingJelly read a file by their own importers and with their own neurons; NIRTorch has no neurons, and
gets NIR's equation as it stands in `Euler`. All compute in PyTorch on the CPU, in float32, one step at a time.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.files import ExportError
from export.nir import DT, missing_package
from simulator.bundle import Bundle
from simulator.cut import Host, cut
from simulator.pictures import noisy_picture

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Spikes:
    """What a reader gave for one picture: spikes compared, spikes that differ, and the first layer where they do."""

    compared: int
    differing: int
    place: str
    output: int  # numbers of what leaves the body that differ

    def __add__(self, other: Spikes) -> Spikes:
        return Spikes(
            self.compared + other.compared,
            self.differing + other.differing,
            self.place or other.place,
            self.output + other.output,
        )

    def __str__(self) -> str:
        where = f", first in {self.place}" if self.place else ""
        return (
            f"{self.differing} of {self.compared} spikes differ{where}; of what leaves the body, {self.output} numbers"
        )


def _snntorch(graph: Any) -> Any:
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it looks for
        return import_from_nir(graph)


def _spikingjelly(graph: Any) -> Any:
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # without a GPU it warns that Triton is missing
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=DT)


def _nirtorch(graph: Any) -> Any:
    import nir
    import nirtorch
    import torch

    class Euler(torch.nn.Module):
        """v' = v + dt/tau ((v_leak - v) + r I); a spike where v' > v_threshold; then v' = v_reset."""

        def __init__(self, node: Any):
            super().__init__()
            self.node = {
                part: torch.from_numpy(np.asarray(getattr(node, part), np.float32))
                for part in ("r", "v_leak", "v_threshold", "v_reset")
            }
            self.rate = torch.from_numpy((DT / np.asarray(node.tau, np.float64)).astype(np.float32))

        def forward(self, x: Any, state: Any = None) -> Any:
            v = self.node["v_reset"] * 0 if state is None else state
            v = v + self.rate * ((self.node["v_leak"] - v) + self.node["r"] * x)
            spikes = v > self.node["v_threshold"]
            return spikes.to(x.dtype), torch.where(spikes, self.node["v_reset"], v)

    return nirtorch.nir_to_torch(graph, {nir.LIF: Euler})


READERS: Mapping[str, Callable[[Any], Any]] = {
    "snnTorch": _snntorch, "SpikingJelly": _spikingjelly, "NIRTorch": _nirtorch,
}  # fmt: skip


def run(content: bytes, reader: str, current: Array, steps: int) -> tuple[dict[str, Array], Array]:
    """A NIR file in a reader: ({layer of the bundle: spikes [T, C, H, W]}, what leaves [T, C, H, W]), float32.

    content: of the file. current: what enters, [T or 1, C, H, W] in real numbers. Raises ExportError if the reader is
    not installed.
    """
    try:
        import nir
        import torch

        graph = nir.read(io.BytesIO(content))
        neurons = [name for name, node in graph.nodes.items() if isinstance(node, nir.LIF)]
        layers = json.loads(graph.metadata["layers"])
        module = READERS[reader](graph)
    except ImportError as error:
        raise ExportError(missing_package(error.name or reader)) from error
    seen: dict[str, list[Array]] = {layers[name]: [] for name in neurons}

    def watch(layer: str) -> Callable[..., None]:
        def hook(_: Any, __: Any, result: Any) -> None:
            seen[layer].append((result[0] if isinstance(result, tuple) else result)[0].numpy())

        return hook

    for name in neurons:
        module.get_submodule(name).register_forward_hook(watch(layers[name]))
    state, leaving = None, []
    with torch.no_grad():
        for t in range(steps):
            x = torch.from_numpy(current[min(t, len(current) - 1)].astype(np.float32))[None]
            y, state = module(x, state)
            leaving.append(y[0].numpy())
    return {layer: np.stack(each) for layer, each in seen.items()}, np.stack(leaving)


def compare(bundle: Bundle, content: bytes, reader: str, size: tuple[int, int], image: Array | None = None) -> Spikes:
    """The spikes of a NIR file in a reader beside those of the reference, on a picture uint8 [H, W, 3] of that size.

    Without a picture the middle of the noisy sample is taken. Raises ExportError if the reader is not installed.
    """
    pixels = noisy_picture(*size)[1] if image is None else image.transpose(2, 0, 1)
    rows, columns = bundle.analysis.padded(*size)
    pixels = np.pad(pixels, ((0, 0), (0, rows - size[0]), (0, columns - size[1])), mode="edge")
    parts = cut(bundle.analysis)
    host = Host(parts, bundle.tensors)
    entering = host.head(pixels.astype(np.int16) - np.int16(128))
    expected: dict[str, Array] = {}
    leaving = host.body(entering, lambda name, value: expected.__setitem__(name, value))
    source, target = parts.entering[0], parts.leaving[0]
    steps = bundle.graph.time_steps
    spikes, output = run(content, reader, entering[source.name] * 2.0**-source.q, steps)
    compared = differing = 0
    place = ""
    for layer, found in spikes.items():
        wanted = np.broadcast_to(expected[layer], found.shape)
        wrong = found != wanted
        compared += wrong.size
        differing += int(wrong.sum())
        if wrong.any() and not place:
            place = f"layer {layer!r}, step {int(np.argwhere(wrong)[0][0])}"
    numbers = np.broadcast_to(leaving[target.name] * 2.0**-target.q, output.shape)
    return Spikes(compared, differing, place, int((output != numbers).sum()))
