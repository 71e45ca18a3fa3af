"""Golden vectors: tiny bundles, one input, and the results that every machine must give, now and later.

`python -m tests.golden.make_golden` makes those that are missing: a new kind of node adds its files and changes none.
With `--all` it makes all anew. That is right only after a deliberate change of the numerics contract or of the bundle
format, together with a new semantics or structure version (simulator/BUNDLE.md).

    input.png              rows 215-259, columns 290-350 of edge/samples/noisy.png, RGB
    <name>.safetensors     edge: the default student, narrow, with attention; kinds: most kinds of nodes in one network;
                           <kind>: a small random network around that kind of node, one for every kind
    <name>.png             the restored picture
    <name>.json            content hash, spikes and operations per layer, trace
"""

from __future__ import annotations

import argparse
import itertools
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from simulator.builder import Builder
from simulator.bundle import parse, serialise, write_bundle
from simulator.graph import Graph
from simulator.kinds import KINDS
from simulator.network import Network, load
from simulator.random_networks import random_network
from tests.simulator.networks import META, random_tensors
from train.architectures import edge

FOLDER = Path(__file__).parent
NAMES = ("edge", "kinds", *KINDS)
MOST_PARAMETERS = 4000  # of a network around one kind


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


def network(name: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph and tensors of a network of that name; for a kind, the first lively one that chance makes."""
    if name == "kinds":
        graph = kinds()
    elif name == "edge":
        graph = edge((8, 8, 8, 8), blocks=(1, 1, 1, 1, 1, 1, 1), attention=True)
    else:
        seeds = itertools.count(zlib.crc32(name.encode()))
        return next(found for found in (random_network(seed, name) for seed in seeds) if lively(*found))
    return graph, random_tensors(graph, np.random.default_rng(4))


def lively(graph: Graph, tensors: dict[str, np.ndarray]) -> bool:
    """Whether the network is small and has several steps, all its neurons fire now and then, and it changes the
    picture, but not beyond recognition."""
    if graph.time_steps == 1 or sum(tensor.size for tensor in tensors.values()) > MOST_PARAMETERS:
        return False
    picture = read_picture(FOLDER / "input.png")
    result = Network(parse(serialise(graph, tensors, META)[0]), "reference").run(picture)
    rates = [layer.spike_rate for layer in result.stats.layers if layer.spike_rate is not None]
    return all(0.01 < rate < 0.6 for rate in rates) and 1 < cv2.absdiff(result.image, picture).mean() < 40


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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m tests.golden.make_golden", description="Make missing golden vectors.")
    parser.add_argument("--all", action="store_true", help="also those that exist: after a change of the contract")
    everything = parser.parse_args(arguments).all
    picture = read_picture(FOLDER / "input.png")
    for name in NAMES:
        bundle = FOLDER / f"{name}.safetensors"
        if bundle.exists() and not everything:
            continue
        graph, tensors = network(name)
        write_bundle(bundle, graph, tensors, META)
        found, restored = facts(load(bundle, "reference"), picture)
        cv2.imwrite(str(FOLDER / f"{name}.png"), cv2.cvtColor(restored, cv2.COLOR_RGB2BGR))
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        change = np.abs(restored.astype(int) - picture).mean()
        parameters = sum(tensor.size for tensor in tensors.values())
        print(f"{name}: {parameters} parameters, changes the picture by {change:.1f} grey levels on average")


if __name__ == "__main__":
    main()
