"""`python -m export.float16 [BUNDLE ...] --data CBSD68`: what a card that computes in float16 changes, by network.

Head and tail of a network are computed in integers, its body in emulated float16 (`export.half`), as it is and on grids
that fit float16 (`export.fit`); each beside the simulator with the same network. Printed per network: the pixels that
differ, for both roundings; and what the grids and float16 together cost in PSNR, which is what a user of a card pays.

The pictures are parts of clean images that are degraded as the network's task wants it. No card's own rounding is
known: `python -m firmware_bridge.compare --board lynxi://0` counts on the card.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from export.emulated import emulated
from export.files import ExportError, write_atomically
from export.fit import fitted, sample
from export.half import ROUNDINGS
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.cut import CutError
from simulator.network import Network
from train.data import DataError, image_paths, load_image
from train.harm import CASES, Degrade
from train.metrics import psnr

Image = npt.NDArray[np.uint8]
BUNDLES = Path(__file__).resolve().parents[1] / "edge" / "bundles"
# Of the network as it is in the simulator and in float16 (stored), and of the network on fitted grids in both.
PSNR = ("simulator", "float16", "fitted", "fitted float16")
# What the names of a task's cases in `train.harm` begin with.
CASE_OF_TASK = {
    "denoise": "noise", "derain": "rain", "dehaze": "haze", "deblur": "shake", "defocus": "defocus", "dejpeg": "JPEG",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A network. differing, fitted: share of the pixels by rounding, as it is and on fitted grids. psnr: dB, by the
    names in PSNR. shifted, streams: grids that became coarser, of how many. proven, layers: that fit 11 bits whatever
    the picture, of how many."""

    name: str
    pixels: int
    differing: dict[str, float]
    fitted: dict[str, float]
    psnr: dict[str, float]
    shifted: int
    streams: int
    proven: int
    layers: int


def measure(name: str, bundle: Bundle, pictures: Sequence[Image], degraded: Sequence[Image]) -> Row:
    """pictures, degraded: clean and not, uint8 RGB [H, W, 3], all of one size, multiples of the network's stride."""
    fit = fitted(bundle, sample(bundle.task))
    shares: list[dict[str, float]] = []
    quality: list[float] = []
    height, width = degraded[0].shape[:2]
    for one in (bundle, fit.bundle):
        network = Network(one)
        exact = [network.run(image).image for image in degraded]
        quality.append(_mean_psnr(exact, pictures))
        shares.append({})
        for rounding in ROUNDINGS:
            restore = emulated(one, height, width, rounding)
            found = [restore(image) for image in degraded]
            wrong = [(one != other).any(2).mean() for one, other in zip(found, exact, strict=True)]
            shares[-1][rounding] = float(np.mean(wrong))
            if rounding == "stored":
                quality.append(_mean_psnr(found, pictures))
    return Row(
        name,
        height * width * len(degraded),
        differing=shares[0],
        fitted=shares[1],
        psnr=dict(zip(PSNR, quality, strict=True)),
        shifted=sum(shift > 0 for shift in fit.shifts.values()),
        streams=len(fit.shifts),
        proven=fit.proven,
        layers=fit.of,
    )


def parts_of(images: Sequence[Image], task: str, side: int, seed: int) -> tuple[list[Image], list[Image]]:
    """The middle of clean images, and that of the images degraded for a task; cases take turns."""
    cases: list[Degrade] = [case for name, case in CASES.items() if name.startswith(CASE_OF_TASK[task])]
    clean, degraded = [], []
    for index, image in enumerate(images):
        top, left = ((length - side) // 2 for length in image.shape[:2])
        if min(top, left) < 0:
            raise DataError(f"image {index} is smaller than {side}x{side} pixels; give a smaller --size")
        place = slice(top, top + side), slice(left, left + side)
        clean.append(image[place])
        degraded.append(np.ascontiguousarray(cases[index % len(cases)](image, seed, index)[place]))
    return clean, degraded


def as_markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| network | as it is: stored | every | PSNR | in float16 | fitted: stored | every | PSNR | grids | proven |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        before, half, _, fitted_half = (row.psnr[name] for name in PSNR)
        shares = [" | ".join(f"{one[rounding]:.3%}" for rounding in ROUNDINGS) for one in (row.differing, row.fitted)]
        lines.append(
            f"| {row.name} | {shares[0]} | {before:.3f} | {half - before:+.3f} | {shares[1]} "
            f"| {fitted_half - before:+.3f} | {row.shifted} of {row.streams} | {row.proven} of {row.layers} |"
        )
    return "\n".join(lines)


def _mean_psnr(found: Sequence[Image], clean: Sequence[Image]) -> float:
    return float(np.mean([psnr(one, other) for one, other in zip(found, clean, strict=True)]))


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.float16", description="Count what a card that computes in float16 changes."
    )
    parser.add_argument("bundles", type=Path, metavar="BUNDLE", nargs="*", help="default: all that ship")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="clean images, such as CBSD68")
    parser.add_argument("--count", type=int, default=6, help="images, the first ones (6)")
    parser.add_argument("--size", type=int, default=128, help="side of the part of each image, pixels (128)")
    parser.add_argument("--seed", type=int, default=0, help="of what degrades them (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures as JSON, too")
    options = parser.parse_args(arguments)
    if min(options.count, options.size) < 1:
        parser.error("--count and --size must be at least 1")
    rows = []
    try:
        images = [load_image(path) for path in image_paths(options.data)[: options.count]]
        paths = options.bundles or sorted(BUNDLES.glob("*.safetensors"))
        for path in tqdm(paths, unit="network", disable=not sys.stderr.isatty()):
            bundle = read_bundle(path)
            if bundle.task not in CASE_OF_TASK:
                raise ExportError(f"{path} is for {bundle.task}; pictures can be made for {', '.join(CASE_OF_TASK)}.")
            rows.append(measure(path.stem, bundle, *parts_of(images, bundle.task, options.size, options.seed)))
        if options.json:
            write_atomically(options.json, (json.dumps([asdict(row) for row in rows], indent=2) + "\n").encode())
    except (BundleError, CutError, DataError, ExportError) as error:
        print(f"export.float16: {error}", file=sys.stderr)
        return 2
    print(as_markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
