"""`python -m export.grids BUNDLE --data DIR`: which grids make a network's bounds fit int16, and what they cost.

The spiking part of a network, between the rounding of its first convolution and the one before its readout, is brought
to coarser grids, without training: weights, biases and thresholds become the nearest multiples, and so does the first
rounding. For each grid the table says how many convolutions, sums and layers of neurons have a bound of at most 32,767,
and the PSNR of noisy pictures (for networks that remove noise).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.analysis import INT16_LIMIT, Analysis, analyse
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.graph import GraphError
from simulator.kinds import kind_of
from simulator.network import Network
from train.data import DataError, add_noise, image_paths, load_image
from train.metrics import psnr

KINDS = {"convolutions": ("conv",), "sums": ("sum",), "neurons": ("lif", "window")}
BRINGS_ALONG = ("sum", "concat", "upsample", "time_sum")  # their grid is their inputs'


def coarser(bundle: Bundle, bits: int) -> Bundle:
    """The network with the grid of its spiking part so many bits coarser.

    Raises GraphError for what is no longer a network, and for nodes whose grids this does not know.
    """
    tensors, nodes = dict(bundle.tensors), []
    moved: dict[str, bool] = {}  # whether a node's grid became coarser

    def rounded(name: str, least: int | None = None) -> None:
        if name in tensors:  # ties go to even numbers: half up would shift sums of many weights
            units = np.rint(tensors[name] / (1 << bits)).astype(np.int32)
            tensors[name] = units if least is None else np.maximum(units, least)

    for node in bundle.graph.nodes:
        attrs, inputs = dict(node.attrs), [moved[name] for name in node.inputs]
        moved[node.name] = False
        if node.kind == "conv":
            attrs["q"] -= bits
            rounded(f"{node.name}.weight")
            rounded(f"{node.name}.bias")
            moved[node.name] = True
        elif kind_of(node).neurons:
            rounded(f"{node.name}.threshold", least=1)
            rounded(f"{node.name}.bias")
        elif node.kind == "requantise" and inputs[0]:
            attrs["shift"] -= bits
        elif node.kind == "requantise":
            attrs |= {"shift": attrs["shift"] + bits, "lo": attrs["lo"] >> bits, "hi": attrs["hi"] >> bits}
            moved[node.name] = True
        elif node.kind in BRINGS_ALONG:
            moved[node.name] = all(inputs)
        elif any(inputs):
            raise GraphError(f"layer {node.name!r} ({node.kind}): how to make its grid coarser is not known here")
        nodes.append(dataclasses.replace(node, attrs=attrs))
    changed = dataclasses.replace(bundle.graph, nodes=tuple(nodes))
    return dataclasses.replace(bundle, graph=changed, tensors=tensors, analysis=analyse(changed, tensors))


def narrow(analysis: Analysis, *kinds: str) -> tuple[int, int]:
    """How many nodes of these kinds have a bound that fits int16, and how many there are."""
    bounds = [analysis.bounds[node.name] for node in analysis.graph.nodes if node.kind in kinds]
    return sum(bound <= INT16_LIMIT for bound in bounds), len(bounds)


def mean_psnr(network: Network, images: list[npt.NDArray[np.uint8]], sigma: float, seed: int) -> float:
    """Over clean images uint8 RGB [H, W, 3] with that noise, clipped to 8 bits; dB."""
    noisy = [add_noise(image, sigma, seed, clip=True, index=i) for i, image in enumerate(images)]
    return float(np.mean([psnr(network.run(given).image, image) for given, image in zip(noisy, images, strict=True)]))


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when done, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.grids", description="Which grids make a network's bounds fit int16, and what they cost."
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .safetensors file of a bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder of clean images")
    parser.add_argument("--bits", type=int, nargs="+", default=[0, 1, 2], help="how many bits coarser (0 1 2)")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="of the noise, 8-bit levels")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options = parser.parse_args(arguments)
    for name in ("limit", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    if any(bits < 0 for bits in options.bits):
        parser.error("--bits says how many bits coarser, 0 or more")
    if any(not 0 <= sigma <= 100 for sigma in options.sigma):
        parser.error("--sigma is in 8-bit levels, 0 to 100")
    try:
        bundle = read_bundle(options.bundle)
        images = [load_image(path) for path in image_paths(options.data)[: options.limit]]
        print(f"{options.bundle} ({bundle.content_hash[:12]}), {len(images)} images, noise clipped to 8 bits")
        print("Bounds that fit int16, and PSNR at sigma " + " / ".join(f"{sigma:g}" for sigma in options.sigma))
        for bits in options.bits:
            network = coarser(bundle, bits)
            of = {name: narrow(network.analysis, *kinds) for name, kinds in KINDS.items()}
            widths = ", ".join(f"{name} {fit} of {count}" for name, (fit, count) in of.items())
            run = Network(network, threads=options.threads)
            scores = [mean_psnr(run, images, sigma, options.seed) for sigma in options.sigma]
            shown = " / ".join(f"{score:.2f}" for score in scores)
            print(f"{bits} bits coarser: {widths}; {shown} dB", flush=True)
    except (BundleError, DataError, GraphError) as error:
        print(f"export.grids: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
