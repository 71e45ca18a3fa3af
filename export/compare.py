"""`python -m export.compare BUNDLE --data DIR`: every backend against the first one, whole images, pixel by pixel.

Each clean image gets seeded noise, clipped to 8 bits as on a device, and is restored by every backend. What is printed
per sigma and backend: how many pixels differ in at least one channel (0 is expected), and the seconds that it took. At
the first image that differs, traces of the two backends name the layer and time step where they part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from export.files import ExportError
from export.onnx import OnnxBackend, inexact_nodes
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.trace import first_difference
from train import backends
from train.backends import Restorer, whole_pictures
from train.data import DataError, add_noise, image_paths, load_image

Image = npt.NDArray[np.uint8]


def _onnx(bundle: Bundle, threads: int | None) -> Restorer:
    backend = OnnxBackend(bundle.analysis, bundle.tensors, threads)
    return whole_pictures(backend.name, backend, bundle.analysis, eight_bits=True)


BACKENDS = {"reference": backends.BACKENDS["reference"], **backends.BACKENDS, "onnx": _onnx}


def restorer(name: str, bundle: Bundle, threads: int | None = None) -> Restorer:
    """The backend `name` for a bundle; ExportError if a package that it needs is missing."""
    return BACKENDS[name](bundle, threads)


@dataclass
class Comparison:
    """Backends against the first of them: pixels compared, pixels that differ, seconds, and where they part."""

    names: tuple[str, ...]
    pixels: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not any(self.differing.values())

    def lines(self) -> list[str]:
        """One sentence per backend."""
        first, *others = self.names
        text = [f"{first}: {self.pixels} pixels in {self.seconds[first]:.1f} s"]
        for name in others:
            place = f" ({self.places[name]})" if name in self.places else ""
            text.append(
                f"{name}: {self.differing[name]} of {self.pixels} pixels differ from {first}, "
                f"{self.seconds[name]:.1f} s{place}"
            )
        return text


def compare(restorers: Sequence[Restorer], images: Sequence[Image], bar: Any = None) -> Comparison:
    """Restore every image with every backend and compare with the first one. `bar`: updated once per image, if any."""
    first, *others = restorers
    result = Comparison(tuple(r.name for r in restorers), differing={r.name: 0 for r in others})

    def timed(one: Restorer, image: Image) -> Image:
        start = time.perf_counter()
        restored = one.restore(image)
        result.seconds[one.name] = result.seconds.get(one.name, 0.0) + time.perf_counter() - start
        return restored

    for image in images:
        expected = timed(first, image)
        result.pixels += image.shape[0] * image.shape[1]
        for other in others:
            different = int((timed(other, image) != expected).any(2).sum())
            if different and other.name not in result.places:
                place = first_difference(first.trace(image), other.trace(image))
                result.places[other.name] = f"first at {place}" if place else "the same when traced"
            result.differing[other.name] += different
        if bar is not None:
            bar.update()
    return result


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 if all backends agree, 1 if any pixel differs, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.compare", description="Compare the backends on a folder of clean images, bit for bit."
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .safetensors file of a bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder of clean images")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15, 25, 50], help="of the noise, 8-bit levels")
    parser.add_argument(
        "--backends", nargs="+", choices=tuple(BACKENDS), default=tuple(BACKENDS), help="the first one is the measure"
    )
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--threads", type=int, help="for every backend that has threads")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    options = parser.parse_args(arguments)
    for name in ("limit", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    if any(not 0 <= sigma <= 100 for sigma in options.sigma):
        parser.error("--sigma is in 8-bit levels, 0 to 100")
    if len(set(options.backends)) != len(options.backends) or len(options.backends) < 2:
        parser.error("--backends needs at least two different backends")
    try:
        bundle = read_bundle(options.bundle)
        if options.threads:
            torch.set_num_threads(options.threads)
        restorers = [restorer(name, bundle, options.threads) for name in options.backends]
        images = [load_image(path) for path in image_paths(options.data)[: options.limit]]
    except (BundleError, DataError, ExportError) as error:
        print(f"export.compare: {error}", file=sys.stderr)
        return 2
    inexact = inexact_nodes(bundle.analysis)
    print(f"{options.bundle} ({bundle.content_hash[:12]}), {len(images)} images, noise clipped to 8 bits")
    print(
        f"Float backends are not guaranteed to be exact in {', '.join(inexact)}: bounds reach 2^24."
        if inexact
        else "Every bound is below 2^24: the float backends must agree, too."
    )
    equal = True
    with tqdm(total=len(images) * len(options.sigma), unit="image", disable=not sys.stderr.isatty()) as bar:
        for sigma in options.sigma:
            noisy = [add_noise(image, sigma, options.seed, clip=True, index=i) for i, image in enumerate(images)]
            result = compare(restorers, noisy, bar)
            equal &= result.equal
            for line in result.lines():
                bar.write(f"sigma {sigma:g}  {line}", file=sys.stdout)
            sys.stdout.flush()
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
