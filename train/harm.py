"""Does a network do harm? `python -m train.evaluate --harm`: pictures that it was made for, and all others.

Clean pictures come degraded in every way that this project knows, and not at all; each network gets all of them. The
table says, for each way, the mean PSNR of the input and of what comes back, the mean change, the picture that fared
worst, and how many came back worse than they went in. A clean picture can only get worse, so there the worst is the
lowest PSNR. A PSNR above 60 dB counts as 60 dB: equal pictures have no number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from train.contenders import Contender
from train.data import add_noise
from train.degradations.jpeg import jpeg
from train.metrics import psnr
from train.patches import fixed
from train.tables import Table

MOST_DB = 60.0
Degrade = Callable[[np.ndarray, int, int], np.ndarray]  # clean picture, seed, its place in the set -> degraded


def _noise(sigma: float) -> Degrade:
    return lambda clean, seed, index: add_noise(clean, sigma, seed, True, index)


def _synthetic(task: str, variant: str) -> Degrade:
    return lambda clean, seed, index: fixed(task, variant, clean, seed, index)


def _jpeg(quality: int) -> Degrade:
    return lambda clean, seed, index: jpeg(clean, quality)


CLEAN = "clean"
CASES: dict[str, Degrade] = {
    CLEAN: lambda clean, seed, index: clean,
    **{f"noise, sigma {sigma}": _noise(sigma) for sigma in (15, 25, 50)},
    **{f"rain, {variant}": _synthetic("derain", variant) for variant in ("light", "heavy")},
    "haze": _synthetic("dehaze", "outdoor"),
    **{f"shake, {variant}": _synthetic("deblur", variant) for variant in ("slight", "strong")},
    **{f"defocus, {variant}": _synthetic("defocus", variant) for variant in ("slight", "strong")},
    **{f"JPEG, quality {quality}": _jpeg(quality) for quality in (30, 60, 90)},
}


def measure(
    contenders: Sequence[Contender], images: Sequence[np.ndarray], names: Sequence[str], seed: int
) -> dict[str, Any]:
    """{network: {case: [{"picture", "input", "back"}]}}, PSNR in dB; images: clean, uint8 RGB [H, W, 3]."""
    found: dict[str, Any] = {one.name: {case: [] for case in CASES} for one in contenders}
    with tqdm(total=len(CASES) * len(images), unit="picture", disable=not sys.stderr.isatty()) as bar:
        for case, degrade in CASES.items():
            bar.set_postfix_str(case)
            for index, (clean, name) in enumerate(zip(images, names, strict=True)):
                degraded = degrade(clean, seed, index)
                before = _capped(degraded, clean)
                for one in contenders:
                    back = _capped(one.restore(degraded)[0], clean)
                    found[one.name][case].append({"picture": name, "input": before, "back": back})
                bar.update()
    return found


def _capped(image: np.ndarray, clean: np.ndarray) -> float:
    return min(psnr(image, clean), MOST_DB)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One case of one network: means, the picture that fared worst, and how many came back worse."""
    changes = [row["back"] - row["input"] for row in rows]
    worst = rows[int(np.argmin(changes))]
    return {
        "input": float(np.mean([row["input"] for row in rows])),
        "back": float(np.mean([row["back"] for row in rows])),
        "change": float(np.mean(changes)),
        "worst": {**worst, "change": worst["back"] - worst["input"]},
        "worse": sum(change < 0 for change in changes),
        "images": len(rows),
    }


def tables(found: dict[str, Any], dataset: str, seed: int) -> list[Table]:
    """One table for each network."""
    made = []
    for network, cases in found.items():
        lines = []
        for case, rows in cases.items():
            own = summary(rows)
            worst = own["worst"]
            clean = case == CLEAN
            lines.append(
                (
                    case,
                    [
                        "-" if clean else f"{own['input']:.2f}",
                        f"{own['back']:.2f}",
                        "-" if clean else f"{own['change']:+.2f}",
                        f"{worst['picture']}: " + (f"{worst['back']:.2f}" if clean else f"{worst['change']:+.2f}"),
                        f"{own['worse']} of {own['images']}",
                    ],
                )
            )
        caption = (
            f"{dataset}, {own['images']} images, whole, degraded as named (noise clipped to 8 bits; rain, haze, shake "
            f"and defocus synthetic; seed {seed}), 8 bits in and out, RGB PSNR [dB], capped at {MOST_DB:g}."
        )
        columns = ["input", "comes back", "change", "worst picture", "got worse"]
        made.append(Table(f"What {network} does to pictures of every sort", caption, columns, lines))
    return made


def overview(found: dict[str, Any], dataset: str, seed: int) -> Table:
    """One row for each network, one column for each case: mean change; of clean pictures mean and worst."""
    lines = []
    for network, cases in found.items():
        own = {case: summary(rows) for case, rows in cases.items()}
        cells = [
            f"{one['back']:.2f} ({one['worst']['back']:.2f})" if case == CLEAN else f"{one['change']:+.2f}"
            for case, one in own.items()
        ]
        lines.append((network, cells))
    images = len(next(iter(next(iter(found.values())).values())))
    caption = (
        f"{dataset}, {images} images, seed {seed}: mean gain or loss in RGB PSNR [dB]; of clean pictures at what they "
        f"come back, the worst in brackets, capped at {MOST_DB:g}."
    )
    return Table("All networks", caption, list(CASES), lines)
