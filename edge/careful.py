"""What `edge-restore` does around a network, so that a picture comes back better or as it came.

A network sees mid-grey beyond a picture's border, and changes what needs no change by a level or two. So the picture is
mirrored beyond its border first (`mirrored`, `inner`), flat areas and the edges between them keep what they were
(`calmed`, `drawn`), and colours that hardly show are changed less (`veiled`): integers, the same on every board.
Whether there is anything to restore at all is estimated afterwards (`judge`), for single pictures. The thresholds, and
how often they are wrong, are measured by `python -m tests.edge.alarms`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.images import Pixels
from simulator.network import Result

MARGIN = 4  # pixels on each side; 8 and 16 are no better
LEAST_MIRRORED = 192  # pixels; with a shorter side, as on microcontrollers, 20 to 56 % more would be computed
CALM_TASKS = ("denoise", "derain", "deblur", "defocus")  # of which what is flat shows nothing; haze is flat itself
DRAWN_TASKS = ("denoise", "deblur", "defocus")  # a streak of rain may be of one colour on another
FLAT, LIVELY = 1, 5  # range of grey levels around a pixel: up to FLAT it keeps its value, from LIVELY on it is restored
AROUND = np.ones((5, 5), np.uint8)
# By alpha: so many levels of a change show as less than half a level.
HIDDEN = np.array([255, *(127 // alpha for alpha in range(1, 128))], np.int16)

LEAST_SIDE = 64  # pixels: there is too little to see in smaller pictures
BLOCK = 8  # pixels a side, for the estimate of noise
WHITE = 0.83  # of the standard deviation of white noise is what the calmest tenth of the blocks shows
LEAST_NOISE = 1.2  # grey levels; what `denoise` does pays from about 2.5 on
LEAST_RAIN = 3.0  # grey levels by which a picture with rain is changed
LEAST_HAZE = 40  # grey levels of the darkest channel, of a quarter of all neighbourhoods
MOST_HAZELESS = 12.0  # grey levels; a picture that would change by more has haze, dark places or not
LEAST_BLUR = 0.22  # of the steps between pixels is left when a picture is blurred again


def restore(task: str, pixels: Pixels, run: Callable[[Pixels], Result]) -> Result:
    """`run(pixels)`, by a network for `task`, with that care; its statistics are of the mirrored picture."""
    given = surrounded(pixels)
    result = run(given)
    image = result.image if given is pixels else inner(result.image)
    return Result(veiled(pixels, calmed(task, pixels, image)), result.stats)


def surrounded(pixels: Pixels) -> Pixels:
    """What a network is given of a picture: that picture, or, if it is large enough, the mirrored one."""
    return pixels if min(pixels.shape[:2]) < LEAST_MIRRORED else mirrored(pixels)


def mirrored(pixels: Pixels) -> Pixels:
    """The picture [H, W] or [H, W, C] with MARGIN more pixels on each side, which mirror those inside."""
    margins = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))[: pixels.ndim]
    return np.pad(pixels, margins, mode="symmetric")


def inner(pixels: Pixels) -> Pixels:
    """What `mirrored` was given, of its result."""
    return np.ascontiguousarray(pixels[MARGIN:-MARGIN, MARGIN:-MARGIN])


def calmed(task: str, came: Pixels, restored: Pixels) -> Pixels:
    """`restored` with the pixels of `came` where that is flat; both uint8 of one shape.

    With r the largest range of a colour channel in the 5x5 pixels around one, w = clip(r - FLAT, 0, LIVELY - FLAT) of
    LIVELY - FLAT parts of the change are kept: came + floor((w (restored - came) + half) / (LIVELY - FLAT)). For the
    tasks of DRAWN_TASKS, what is `drawn` is kept as well.
    """
    if task not in CALM_TASKS:
        return restored
    height, width = came.shape[:2]
    colours = came.reshape(height, width, -1)[..., :3]
    lowest, highest = (np.asarray(f(colours, AROUND), np.uint8).reshape(colours.shape) for f in (cv2.erode, cv2.dilate))
    spread = largest(cv2.subtract(highest, lowest))
    calm = np.flatnonzero(spread < LIVELY)
    kept = drawn(colours, lowest, highest, spread) if task in DRAWN_TASKS else calm[:0]
    if not len(calm) and not len(kept):
        return restored
    result = restored.copy()
    before, after = came.reshape(height * width, -1), result.reshape(height * width, -1)
    after[kept] = before[kept]
    weights = spread.ravel()[calm].astype(np.int32)
    flat = calm[weights <= FLAT]
    after[flat] = before[flat]
    calm, weights = calm[weights > FLAT], weights[weights > FLAT] - FLAT
    parts = LIVELY - FLAT
    change = after[calm].astype(np.int32) - before[calm]
    after[calm] = before[calm] + (weights[:, None] * change + parts // 2) // parts
    return result


def drawn(colours: Pixels, lowest: Pixels, highest: Pixels, spread: Pixels) -> npt.NDArray[np.int64]:
    """Places (row * width + column) where two flat colours meet, as in charts, letters and drawn pictures.

    There each channel of the 5x5 pixels around one is within FLAT of the channel's `lowest` or `highest` value among
    them, and two of the four pixels beside it have its colour. Noise of sigma 1 and more hardly leaves such places.
    colours, lowest, highest: uint8 [H, W, C]. spread: the largest of the channels' ranges; below LIVELY it is no edge.
    """
    height, width = spread.shape
    outer = largest(cv2.min(cv2.subtract(colours, lowest), cv2.subtract(highest, colours)))
    places = np.flatnonzero((outer <= FLAT) & (spread >= LIVELY))
    low, high, middle = (pixels.reshape(height * width, -1)[places] for pixels in (lowest, highest, colours))
    wide = cv2.copyMakeBorder(colours, 2, 2, 2, 2, cv2.BORDER_REPLICATE).reshape((height + 4) * (width + 4), -1)
    at = places + 4 * (places // width)  # the first of the 5x5, in `wide`
    alike = np.zeros(len(places), np.int64)
    for down, right in sorted(np.ndindex(AROUND.shape), key=lambda place: abs(place[0] - 2) + abs(place[1] - 2)):
        there = wide[at + (width + 4) * down + right]
        if abs(down - 2) + abs(right - 2) == 1:
            alike += (np.maximum(there, middle) - np.minimum(there, middle) <= FLAT).all(1)
        left = (np.minimum(there - low, high - there) <= FLAT).all(1)
        places, at, alike = places[left], at[left], alike[left]
        low, high, middle = low[left], high[left], middle[left]
    return places[alike >= 2]


def largest(pixels: npt.NDArray[Any]) -> Pixels:
    """The largest channel of each pixel of uint8 [H, W, C]."""
    return np.asarray(functools.reduce(cv2.max, cv2.split(pixels)), np.uint8)


def veiled(came: Pixels, restored: Pixels) -> Pixels:
    """`restored` with less of each change where transparency hides most of it; both uint8 of one shape.

    Over any background a colour shows by a parts of 255, a its alpha. So each change is shortened by floor(127 / a)
    levels, which would show as less than half a level: by none from a = 128 on. Where a = 0 nothing changes.
    """
    if came.ndim != 3 or came.shape[2] != 4:
        return restored
    faint = came[..., 3] < len(HIDDEN)
    if not faint.any():
        return restored
    before = came[faint].astype(np.int16)
    change = restored[faint] - before
    hidden = HIDDEN[before[:, 3:]]
    result = restored.copy()
    result[faint] = before + change - np.clip(change, -hidden, hidden)
    return result


@dataclass(frozen=True)
class Judgement:
    """reason: why a picture needs no restoring, a part of a sentence. keep: it should be returned as it came."""

    reason: str
    keep: bool


def judge(task: str, meta: Mapping[str, str], came: Pixels, restored: Pixels) -> Judgement | None:
    """Why the picture `came` is plainly none that a network for `task` was made for; None where it may be one.

    meta: of the bundle. Where it says that the network was trained on the noise of cameras, nothing is said of noise:
    grain cannot be told from texture.
    """
    came = came if came.ndim == 3 else came[..., None]
    restored = restored.reshape(came.shape)
    came, restored = came[..., :3], restored[..., :3]
    if min(came.shape[:2]) < LEAST_SIDE:
        return None
    change = math.sqrt(float(np.mean((restored.astype(np.int32) - came) ** 2)))
    if task == "denoise" and '"camera": true' not in meta.get("training.settings", ""):
        level = noise(came)
        if level is not None and level < LEAST_NOISE:
            return Judgement(
                f"has hardly any noise from pixel to pixel (about {level:.1f} grey levels): there is little to gain, "
                "and letters and thin lines may be blurred; for the grain that cameras leave there is "
                "--bundle denoise-camera",
                keep=False,
            )
    elif task == "derain":
        if change < LEAST_RAIN:
            return Judgement(f"shows no rain (what would change are {change:.1f} grey levels)", keep=True)
    elif task == "dehaze":
        dark = darkness(came)
        if dark < LEAST_HAZE and change < MOST_HAZELESS:
            return Judgement(f"shows no haze (a quarter of it is darker than {dark:.0f} in some channel)", keep=True)
    elif task == "deblur":
        blur = blurredness(came)
        if blur < LEAST_BLUR:
            return Judgement(f"is sharp (blurring it takes {1 - blur:.0%} of the steps between pixels)", keep=True)
    return None


def noise(pixels: Pixels) -> float | None:
    """Standard deviation of white noise, grey levels, in the channel that has most; None if all is black or white.

    The second differences along both axes (Immerkaer, Fast noise variance estimation, 1996) of the calmest tenth of all
    blocks, without those near black or white, where noise is clipped.
    """
    kernel = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32) / 6
    found = []
    for c in range(pixels.shape[2]):
        channel = np.ascontiguousarray(pixels[..., c], np.float32)
        means = _blocks(channel)
        energy = _blocks(
            np.square(cv2.filter2D(channel, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT), dtype=np.float32)
        )
        seen = energy[(means >= 8) & (means <= 247)]
        if len(seen):
            found.append(math.sqrt(float(np.quantile(seen, 0.1))) / WHITE)
    return max(found, default=None)


def _blocks(channel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The means over whole blocks, flat."""
    rows, columns = (side // BLOCK for side in channel.shape)
    whole = channel[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    means: npt.NDArray[np.float32] = whole.mean((1, 3)).ravel()
    return means


def darkness(pixels: Pixels) -> float:
    """The grey level below which the darkest channel of the 15x15 pixels around one lies for a quarter of all pixels.

    Without haze some channel is dark nearly everywhere (He et al., Single image haze removal using dark channel prior,
    2009).
    """
    darkest = cv2.erode(np.ascontiguousarray(pixels.min(2)), np.ones((15, 15), np.uint8))
    return float(np.quantile(darkest, 0.25))


def blurredness(pixels: Pixels) -> float:
    """What is left of the steps between neighbours when a picture is blurred again, along the worse axis, 0 to 1.

    Blurring hardly changes what is blurred (Crete et al., The blur effect, 2007).
    """
    grey = pixels.astype(np.float32).mean(2)
    worst = 0.0
    for axis, window in ((0, (1, 9)), (1, (9, 1))):
        steps = np.abs(np.diff(grey, axis=axis))
        after = np.abs(np.diff(cv2.blur(grey, window), axis=axis))
        total = float(steps.sum(dtype=np.float64))
        lost = float(np.maximum(steps - after, 0).sum(dtype=np.float64))
        worst = max(worst, 1 - lost / total if total else 1.0)
    return worst
