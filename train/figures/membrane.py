"""Figure 10c and d: membrane potentials with and without hints. Are they denser with them? Tested with figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.bundle import Bundle
from simulator.kinds import kind_of
from simulator.kinds.layer import Array
from simulator.kinds.lif import lif
from simulator.kinds.window import window
from simulator.pictures import noisy_picture
from simulator.reference import Reference
from train.data import load_image
from train.figures.canvas import FigureError, caption, pyplot, save
from train.frozen import read_network

SIDE = 128  # pixels of the picture; the reference is slow
RANGE = (-3.0, 3.0)  # thresholds that the histograms show


@dataclass(frozen=True)
class Membranes:
    """One layer of one network on one picture.

    v: membrane potentials in thresholds, float32 [T, C, H, W], as they are compared, before the reset. A spike is
    v >= 1. name: the network's.
    """

    name: str
    v: npt.NDArray[np.float32]

    def density(self, part: float) -> npt.NDArray[np.float64]:
        """Share of neurons with |v| above `part` thresholds, per step [T]."""
        share: npt.NDArray[np.float64] = (np.abs(self.v) > part).mean((1, 2, 3))
        return share

    def spike_rate(self) -> npt.NDArray[np.float64]:
        """Share of neurons that fire, per step [T]."""
        share: npt.NDArray[np.float64] = (self.v >= 1).mean((1, 2, 3))
        return share


def layers_of(bundle: Bundle) -> list[str]:
    """The network's layers of neurons, in order."""
    return [node.name for node in bundle.graph.nodes if kind_of(node).neurons]


def membranes(name: str, bundle: Bundle, layers: Sequence[str], pixels: npt.NDArray[np.uint8]) -> dict[str, Membranes]:
    """{layer: its potentials} on a picture uint8 [3, H, W], sides multiples of the stride, in the NumPy reference."""
    nodes = {layer: bundle.graph.node(layer) for layer in layers}
    wanted = {node.inputs[0] for node in nodes.values()}
    reference = Reference(bundle.analysis, bundle.tensors)
    currents: dict[str, Array] = {}

    def observe(seen: str, value: Array) -> None:
        if seen in wanted:
            currents[seen] = value

    reference.run_padded(pixels.astype(np.int16) - np.int16(128), observe)
    steps, found = bundle.graph.time_steps, {}
    for layer, node in nodes.items():
        own, current = reference.own[layer], currents[node.inputs[0]]
        v = np.empty((steps, *current.shape[1:]), np.int64)
        if node.kind == "lif":
            kinds = node["leak"], node["reset"]
            lif(current, own["threshold"], own["bias"], own["leak"], steps, *kinds, v, node["fine"], node["above"])
            v >>= node["fine"]
        elif node.kind == "window":
            window(current, own["threshold"], own["bias"], steps, v)
        else:
            raise FigureError(
                f"The membrane potentials of {layer}, which is of the kind {node.kind}, are not known here."
            )
        found[layer] = Membranes(name, (v / own["threshold"][:, None, None]).astype(np.float32))
    return found


def picture(path: Path | None, bundles: Sequence[Bundle]) -> tuple[str, npt.NDArray[np.uint8]]:
    """(what it is, uint8 [3, h, w]): the middle of the file, or of the noisy sample; about SIDE pixels per side."""
    stride = int(np.lcm.reduce([bundle.analysis.stride for bundle in bundles]))
    side = max(SIDE // stride, 1) * stride
    if path is None:
        return noisy_picture(side, side)
    if not path.is_file():
        raise FigureError(f"The picture {path} does not exist.")
    load_image(path)  # says what is wrong with a file that is no picture
    return path.name, noisy_picture(side, side, path)[1]


def draw(with_hints: Path, without: Path, layer: str | None, part: float, source: Path | None, out: Path) -> list[str]:
    """Write membrane.png into the folder `out`; density figures and the verdict, in lines.

    with_hints, without: bundles or runs. layer: None takes the first neurons of the last block that both have. part:
    in thresholds. source: a degraded picture, None for the noisy sample. Raises FigureError, BundleError, DataError or
    TrainingError.
    """
    bundles = {"with H-KD": read_network(with_hints), "without H-KD": read_network(without)}
    if layer is None:
        first, second = (layers_of(bundle) for bundle in bundles.values())
        both = [name for name in first if name in second]
        if not both:
            raise FigureError(f"{with_hints} and {without} have no layer of one name; they are different students.")
        layer = next((name for name in reversed(both) if name.endswith("lif1")), both[-1])
    for path, bundle in zip((with_hints, without), bundles.values(), strict=True):
        if layer not in layers_of(bundle):
            raise FigureError(f"{path} has no neurons called {layer}; it has {', '.join(layers_of(bundle))}.")
    what, pixels = picture(source, list(bundles.values()))
    everything = [membranes(name, bundle, layers_of(bundle), pixels) for name, bundle in bundles.items()]
    found = [layers[layer] for layers in everything]
    steps = max(len(one.v) for one in found)
    plt = pyplot()
    figure, axes = plt.subplots(
        3, steps, figsize=(2.5 * steps + 1.5, 8.2), squeeze=False, layout="constrained", height_ratios=(1, 1, 0.9)
    )
    top = float(np.quantile(np.concatenate([np.abs(one.v).mean(1).ravel() for one in found]), 0.995))
    for row, one in enumerate(found):
        for t, v in enumerate(one.v):
            image = axes[row, t].imshow(np.abs(v).mean(0), vmin=0, vmax=top, cmap="viridis", interpolation="nearest")
            axes[row, t].set_title(f"step {t + 1}: {one.density(part)[t]:.3f}", fontsize=9)
            axes[row, t].set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(one.name, fontsize=11)
    figure.colorbar(image, ax=axes[:2].ravel().tolist(), label="mean |v| over channels [thresholds]", shrink=0.8)
    edges = np.linspace(*RANGE, 61)
    for t in range(steps):
        panel = axes[2, t]
        for i, one in enumerate(found):
            if t < len(one.v):
                weights = np.full(one.v[t].size, 100 / one.v[t].size)
                panel.hist(
                    one.v[t].ravel(), edges, weights=weights, histtype="step", color=f"C{i}", label=one.name, log=True
                )
        panel.axvline(1, color="black", linewidth=0.8, linestyle=":")
        panel.set_xlabel("v [thresholds]", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
        if t:
            panel.sharey(axes[2, 0])
            panel.tick_params(labelleft=False)
    axes[2, 0].set_ylabel("neurons per bin [%]", fontsize=9)
    axes[2, 0].legend(fontsize=7, loc="upper left")
    figure.suptitle(f"Membrane potentials of {layer} (Figure 10c, d)", fontsize=12)
    caption(
        figure,
        f"{with_hints.name} and {without.name} on {what}, {pixels.shape[2]}x{pixels.shape[1]} pixels. v as it is "
        "compared with the threshold, before the reset, each channel in its own thresholds (dotted: 1, a spike). Above "
        f"each map: the share of neurons with |v| > {part:g}. Values beyond {RANGE[0]:g} and {RANGE[1]:g} are not in "
        "the histograms.",
    )
    path = save(figure, out / "membrane.png")
    return [*figures(found, layer, part), *verdict(everything, part), f"wrote {path}"]


def figures(found: Sequence[Membranes], layer: str, part: float) -> list[str]:
    """Density, mean, standard deviation and spike rate of each network's layer, per step."""
    lines = [f"{layer}: network, step, share of |v| > {part:g}, mean v, std of v [thresholds], spike rate"]
    for one in found:
        for t, v in enumerate(one.v):
            numbers = (one.density(part)[t], v.mean(), v.std(), one.spike_rate()[t])
            lines.append(f"  {one.name:14s} {t + 1:3d}" + "".join(f"{number:9.3f}" for number in numbers))
    return lines


def verdict(everything: Sequence[dict[str, Membranes]], part: float) -> list[str]:
    """Is the first network the denser one? Over the layers that both have, every layer the same weight."""
    hinted, plain = everything
    both = [layer for layer in hinted if layer in plain]
    shares = np.array([[own[layer].density(part).mean() for layer in both] for own in everything])
    rates = [np.mean([own[layer].spike_rate().mean() for layer in both]) for own in everything]
    denser = int((shares[0] > shares[1]).sum())
    mean = shares.mean(1)
    return [
        f"all {len(both)} layers, mean over steps and layers: share of |v| > {part:g} {mean[0]:.3f} with H-KD, "
        f"{mean[1]:.3f} without; mean spike rate of the layers {rates[0]:.3f} and {rates[1]:.3f}",
        f"with H-KD {'denser' if mean[0] > mean[1] else 'not denser'} on this picture, layer by layer in {denser} of "
        f"{len(both)}; one pair of runs says nothing about another seed",
    ]
