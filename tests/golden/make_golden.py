"""Golden vectors: two tiny bundles, one input, and what they must make of it, on every machine and for ever.

`python -m tests.golden.make_golden` makes them anew. That is right only after a deliberate change of the numerics
contract or of the bundle format, together with a new semantics or structure version (simulator/BUNDLE.md).

    input.png              rows 215-259, columns 290-350 of edge/samples/noisy.png, RGB
    <name>.safetensors     edge: the default student, narrow, with attention; kinds: every kind of node and neuron
    <name>.png             the restored picture
    <name>.json            content hash, spikes and operations per layer, trace
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from simulator.builder import Builder
from simulator.bundle import write_bundle
from simulator.graph import Graph
from simulator.network import Network, load
from tests.simulator.networks import META, random_tensors
from train.architectures import edge

FOLDER = Path(__file__).parent
NAMES = ("edge", "kinds")


def kinds() -> Graph:
    """Every kind of node, all three attentions, both leaks and resets, strides 2 and 3, grids that differ."""
    b = Builder(2)
    x = b.dense_conv("head", b.space_to_depth("pixels", b.image(), 3), 6, 3, q=8, bias=True)
    x = b.requantise("head.round", x, 5, 1 << 14)
    x = b.attend("time", x, "time", 4, 2)
    first = b.lif("lif1", x, "shift", "zero")
    shortcut = b.requantise("shortcut.round", b.dense_conv("shortcut", x, 6, 1, q=6), 6, 1 << 13)
    x = b.sum("add1", shortcut, b.conv("conv1", first, 6, 5, groups=3, q=8, bias=True))
    x = b.attend("space", x, "space")
    down = b.conv("down", b.lif("lif2", x, "decay", "subtract"), 8, 3, stride=2)
    down = b.attend("channel", down, "channel", 2, 3)
    deep = b.lif("lif3", down, "decay", "zero")
    both = b.concat("join", b.lif("lif4", x, "shift", "subtract"), b.upsample("nearest", deep, 2))
    up = b.upsample("shuffle", b.conv("conv2", deep, 24, 1, q=9), 2, "depth_to_space")
    x = b.sum("add2", x, b.conv("conv3", both, 6, 3, groups=2, q=11), up)
    x = b.requantise("readout.round", b.time_sum("readout.sum", x), 5, 1 << 12)
    x = b.dense_conv("readout.conv", x, 27, 3, q=9, bias=True)
    return b.finish(b.upsample("readout.pixels", x, 3, "depth_to_space"))


def graph(name: str) -> Graph:
    if name == "kinds":
        return kinds()
    return edge((8, 8, 8, 8), blocks=(1, 1, 1, 1, 1, 1, 1), attention=True)


def read_picture(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def facts(network: Network, picture: np.ndarray) -> tuple[dict, np.ndarray]:
    """(what the JSON file holds, the restored picture)."""
    result = network.run(picture)
    layers = {layer.name: [layer.spikes, layer.synops, layer.macs] for layer in result.stats.layers}
    return {
        "content_hash": network.bundle_hash,
        "spikes_synops_macs": layers,
        "trace": network.trace(picture),
    }, result.image


def main() -> None:
    picture = read_picture(FOLDER / "input.png")
    for name in NAMES:
        structure = graph(name)
        tensors = random_tensors(structure, np.random.default_rng(4))
        write_bundle(FOLDER / f"{name}.safetensors", structure, tensors, META)
        found, restored = facts(load(FOLDER / f"{name}.safetensors", "reference"), picture)
        cv2.imwrite(str(FOLDER / f"{name}.png"), cv2.cvtColor(restored, cv2.COLOR_RGB2BGR))
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        change = np.abs(restored.astype(int) - picture).mean()
        parameters = sum(tensor.size for tensor in tensors.values())
        print(f"{name}: {parameters} parameters, changes the picture by {change:.1f} grey levels on average")


if __name__ == "__main__":
    main()
