"""`python loihi2.py LAVA BODY SPIKES`: a body's neurons in the fixed-point models of lava-nc, Loihi 2's arithmetic.

A process of its own: lava-nc starts others, and lies in a folder of its own, LAVA. BODY, SPIKES: .npz files as
`tests/export/test_lava.py` writes and reads them.

Layers are computed one after another, each from the spikes that lava-nc gave for those before: Sources of spikes with a
Conv each, and a Source of currents -> LIF -> Sink. A Conv answers one step later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from typing import Any

import numpy as np

sys.path.append(sys.argv[1])

# lava-nc is for Python 3.10, where a dataclass could be the default of a field; since then only one with a hash can.
_dataclass = dataclasses.dataclass


def _hashable(cls: Any = None, /, **options: Any) -> Any:
    if cls is None:
        return functools.partial(_hashable, **options)
    return _dataclass(cls, **options if cls.__dict__.get("__hash__") else {"unsafe_hash": True, **options})


dataclasses.dataclass = _hashable  # type: ignore[assignment]

from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.conv.process import Conv  # noqa: E402
from lava.proc.io.sink import RingBuffer as Sink  # noqa: E402
from lava.proc.io.source import RingBuffer as Source  # noqa: E402
from lava.proc.lif.process import LIF  # noqa: E402

UNITY = 4096  # of decays: du = UNITY - 1 keeps nothing of the current, dv = UNITY / 4 loses a quarter of the membrane


def late(steps: np.ndarray) -> np.ndarray:
    """[T, C, H, W] as lava-nc takes it, [H, W, C, T + 1], one step later."""
    return np.concatenate([np.zeros_like(steps[:1]), steps]).transpose(2, 3, 1, 0).astype(np.int32)


def fire(current: np.ndarray, inputs: list[tuple[np.ndarray, np.ndarray, dict[str, int]]], vth: int, k: int) -> Any:
    """Spikes [T, C, H, W] of a layer. current [T, C, H, W]: what it gets beside `inputs`, each spikes [T, C, H, W] of
    other neurons, weights [C_out, C_in, k, k] and the convolution's padding, stride and dilation."""
    steps, channels, height, width = current.shape
    neurons = LIF(shape=(height, width, channels), du=UNITY - 1, dv=UNITY >> k, vth=vth, bias_mant=0)
    Source(data=late(current)).s_out.connect(neurons.a_in)
    for spikes, weight, attributes in inputs:
        early = np.concatenate([spikes, np.zeros_like(spikes[:1])]).transpose(2, 3, 1, 0).astype(np.int32)
        source = Source(data=early)
        flipped = weight.transpose(0, 2, 3, 1)[:, ::-1, ::-1]
        convolution = Conv(weight=flipped, input_shape=early.shape[:3], **attributes)
        source.s_out.connect(convolution.s_in)
        convolution.a_out.connect(neurons.a_in)
    sink = Sink(shape=(height, width, channels), buffer=steps + 1)
    neurons.s_out.connect(sink.a_in)
    neurons.run(condition=RunSteps(steps + 1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = sink.data.get()
    neurons.stop()
    return found.transpose(3, 2, 0, 1)[1:].astype(np.uint8)


def main() -> None:
    body = np.load(sys.argv[2])
    spikes: dict[str, np.ndarray] = {}
    for layer in json.loads(str(body["layers"])):
        inputs = [
            (spikes[one["neurons"]], body[one["name"] + ".weight"], one["attributes"]) for one in layer["convolutions"]
        ]
        name = layer["name"]
        spikes[name] = fire(body[name + ".current"], inputs, layer["threshold"], layer["leak"])
    np.savez(sys.argv[3], **spikes)


if __name__ == "__main__":
    main()
