"""Figures 3 to 9: pictures as they came, restored, and clean, with a part of each enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import simulator
from train.data import image_paths, load_image
from train.datasets import check_pixels, find_synthetic
from train.degradations.pictures import Picture
from train.figures.canvas import FigureError, caption, pyplot, save
from train.metrics import psnr
from train.patches import fixed
from train.tasks import TASKS, parts_of

WINDOW = (60, 90)  # height and width of the enlarged part, pixels


def most_detail(clean: Picture, window: tuple[int, int] = WINDOW) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the window with the strongest gradients in the clean picture.

    The clean picture alone decides, so that nobody chooses where the restored one looks best.
    """
    height, width = (min(a, b) for a, b in zip(window, clean.shape[:2], strict=True))
    grey = clean.mean(2)
    gradient = np.abs(np.gradient(grey, axis=0)) if grey.shape[0] > 1 else np.zeros_like(grey)
    if grey.shape[1] > 1:
        gradient = gradient + np.abs(np.gradient(grey, axis=1))
    sums = np.pad(gradient, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return int(top), int(left), height, width


def pairs_of(
    task: str, variant: str | None, data: Path, limit: int, seed: int
) -> tuple[str, list[tuple[str, Picture, Picture]]]:
    """(what they are, [(name, degraded, clean)]), evenly spread over the folder.

    data: a set of `train.degradations` (or a folder of such sets, of which the first for the task is taken), or a
    folder of clean images, which are degraded here. Raises DataError or FigureError.
    """
    sets = [(one, samples) for one, samples in find_synthetic(data) if one.task == task]
    if variant:
        sets = [(one, samples) for one, samples in sets if one.synthetic.split(",")[0] == variant]
    if sets:
        one, samples = sets[0]
        check_pixels(one, samples)
        return f"{one.name} ({one.synthetic})", [(samples[i].name, *samples[i].load()) for i in _spread(samples, limit)]
    variants = TASKS[task].variants
    variant = variant or next(iter(variants))
    if variant not in variants:
        raise FigureError(f"--variant of {task} is one of {', '.join(variants)}, not {variant}.")
    paths = image_paths(data)
    pairs = []
    for index in _spread(paths, limit):
        clean = load_image(paths[index])
        pairs.append((paths[index].stem, fixed(task, variant, clean, seed, index), clean))
    return f"synthetic {task} {variant}, seed {seed}, from {data.name}", pairs


def _spread(items: Sequence[object], limit: int) -> list[int]:
    """Indices of at most `limit` items, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, len(items) - 1, min(limit, len(items))).round()})


def draw(bundle: Path, variant: str | None, data: Path, limit: int, seed: int, out: Path) -> list[str]:
    """Write strips_<bundle>_<variant>.png into the folder `out`; PSNR of each picture, in lines.

    Raises BundleError, DataError or FigureError.
    """
    network = simulator.load(bundle)
    task = parts_of(network.task)[0]
    what, pairs = pairs_of(task, variant, data, limit, seed)
    plt = pyplot()
    ratios = []
    for _, _, clean in pairs:
        _, _, height, width = most_detail(clean)
        ratios += [clean.shape[0] / clean.shape[1], height / width]
    column = 3.4  # inches
    figure, axes = plt.subplots(
        2 * len(pairs), 3, figsize=(3 * column + 0.3, column * sum(ratios) + 0.42 * len(pairs) + 0.5), squeeze=False,
        height_ratios=ratios, layout="constrained",
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.02, w_pad=0.02, hspace=0.01, wspace=0.01)
    lines = []
    for row, (name, degraded, clean) in enumerate(pairs):
        restored = network.run(degraded).image
        before, after = psnr(degraded, clean), psnr(restored, clean)
        top, left, height, width = most_detail(clean)
        titles = {"degraded": f"{before:.2f} dB", "restored": f"{after:.2f} dB", "clean": name}
        for i, (image, (title, words)) in enumerate(zip((degraded, restored, clean), titles.items(), strict=True)):
            whole, part = axes[2 * row, i], axes[2 * row + 1, i]
            whole.imshow(image, interpolation="antialiased")
            whole.add_patch(plt.Rectangle((left, top), width, height, fill=False, color="yellow", linewidth=1.2))
            crop = image[top : top + height, left : left + width]
            part.imshow(
                cv2.resize(crop, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST), interpolation="antialiased"
            )
            part.set_xlabel(words, fontsize=10)
            if row == 0:
                whole.set_title(title, fontsize=11)
            for panel in (whole, part):
                panel.set(xticks=[], yticks=[])
        lines.append(f"{bundle.stem}, {name}: {before:.2f} -> {after:.2f} dB")
    caption(
        figure,
        f"{bundle.name} ({network.params:,} parameters) on {what}. PSNR: RGB, whole picture, 8-bit input and output. "
        "Enlarged: the window with most detail in the clean picture.",
        120,
    )
    words = "_".join("".join(c if c.isalnum() else " " for c in what.split(",")[0].split("(")[0]).split())
    path = save(figure, out / f"strips_{bundle.stem}_{words}.png")
    return [*lines, f"wrote {path}"]
