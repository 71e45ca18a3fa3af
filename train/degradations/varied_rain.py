"""derain, for training: rain as several published generators make it, drawn anew for each picture.

How rain is put into photographs differs more between the sets that are published than within one, and a network that
saw one generator leaves the rain of another. What is drawn here, with wide ranges, follows descriptions, no pictures:

- single streaks whose light tapers off and is added to the picture (Garg and Nayar, Photorealistic Rendering of Rain
  Streaks, SIGGRAPH 2006; Yang et al., Deep Joint Rain Detection and Removal, CVPR 2017: one direction with small
  variations for light rain, several directions accumulated under a veil for heavy rain);
- noise, thresholded and motion-blurred, then screened: the recipe of picture editors by which Fu et al. (Removing Rain
  from Single Images via a Deep Detail Network, CVPR 2017) and Zhang and Patel (Density-aware Single Image De-raining,
  CVPR 2018) made theirs;
- transparency and mist that grow with the distance (Hu et al., Depth-attentional Features for Single-image Rain
  Removal, CVPR 2019; Li, Cheong, Tan, Heavy Rain Image Restoration, CVPR 2019);
- splashes, and rain at night that shows where lamps light it.
"""

from __future__ import annotations

import cv2
import numba
import numpy as np
import numpy.typing as npt

from train.degradations.pictures import Picture, log_uniform, smooth_field

Layer = npt.NDArray[np.float32]  # light 0..1 (or a little more), [H, W]

LENGTH = (8.0, 90.0)  # of a streak, pixels
WIDTH = (1.0, 7.0)  # across a streak, from where it is dark to where it is dark again, pixels
GAIN = (0.25, 1.6)  # light of a layer's brightest streaks
COVERED = (0.05, 0.5)  # share of the picture that a layer's streaks lie on
SOFTNESS = (0.4, 1.5)  # of most streaks' edges: standard deviation, pixels
SLANT = np.pi / 4  # of rain's main direction, from the vertical, at most, radians


@numba.njit(nogil=True)
def _draw(layer: Layer, drops: npt.NDArray[np.float64], taper: float, tail: float) -> None:
    """Add streaks to a layer, in place.

    drops: [N, 6], each y and x of the middle, length, width (pixels), angle from the vertical (radians), light.
    taper: 0 for streaks that end abruptly, 1 for spindles that fade and narrow towards both ends. tail: part of the
    light that is lost from the leading end to the other.
    """
    height, width = layer.shape
    for n in range(len(drops)):
        y0, x0, length, thickness, angle, light = drops[n]
        sine, cosine = np.sin(angle), np.cos(angle)
        half, radius = length / 2, thickness / 2
        top = max(0, int(np.ceil(y0 - half * cosine - radius)))
        bottom = min(height - 1, int(np.floor(y0 + half * cosine + radius)))
        reach = radius / cosine  # along a row
        for y in range(top, bottom + 1):
            middle = x0 + (y - y0) * sine / cosine
            for x in range(max(0, int(np.ceil(middle - reach))), min(width - 1, int(np.floor(middle + reach))) + 1):
                along = ((x - x0) * sine + (y - y0) * cosine) / half
                across = ((x - x0) * cosine - (y - y0) * sine) / radius
                bright = 1 - across * across - taper * along * along
                if abs(along) < 1 and bright > 0:
                    layer[y, x] += light * bright * (1 - tail * (1 - along) / 2)


def drawn_streaks(shape: tuple[int, ...], rng: np.random.Generator, angle: float, near: float) -> Layer:
    """A layer of single streaks about one direction, each with its own length, width, direction and light.

    near: 0 for far rain, thin, short and dense; 1 for near rain, broad, long and sparse.
    """
    height, width = shape[:2]
    longest, widest = LENGTH[1] ** (0.75 + near / 4), WIDTH[1] ** (0.4 + 0.6 * near)
    length = log_uniform(rng, (LENGTH[0], longest))
    thickness = min(log_uniform(rng, (WIDTH[0], widest)), length / 4)
    spread, wobble = rng.uniform(0.1, 0.8), rng.exponential(0.03)
    covered = log_uniform(rng, COVERED) * (1.0 - 0.5 * near)
    border = length / 2 + thickness
    count = rng.poisson(covered / (length * (thickness + 1)) * (height + 2 * border) * (width + 2 * border))
    drops = np.empty((count, 6))
    drops[:, 0] = rng.uniform(-border, height + border, count)
    drops[:, 1] = rng.uniform(-border, width + border, count)
    drops[:, 2] = length * np.exp(spread * rng.standard_normal(count))
    drops[:, 3] = 1 + thickness * np.exp(spread * rng.standard_normal(count))
    drops[:, 4] = np.clip(angle + wobble * rng.standard_normal(count), -1.2, 1.2)
    drops[:, 5] = rng.uniform(size=count) ** rng.uniform(0.3, 3)  # few bright ones among many faint ones, or all alike
    layer = np.zeros((height, width), np.float32)
    _draw(layer, drops, 1 - rng.uniform() ** 2, rng.uniform() * rng.integers(2))
    if rng.uniform() < 0.7:  # a lens draws no sharp edges
        layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), log_uniform(rng, SOFTNESS)), np.float32)
    return layer


def blurred_noise(shape: tuple[int, ...], rng: np.random.Generator, angle: float, near: float) -> Layer:
    """A layer of thresholded noise, smeared along one direction and stretched to full contrast.

    near: 0 for fine grains and 1 for coarse ones, so for thin and broad streaks.
    """
    height, width = shape[:2]
    grain = rng.uniform(1, 1.5 + 2 * near)  # pixels of the picture to one of the noise
    length = log_uniform(rng, LENGTH) / grain
    side = int(np.hypot(height, width) / grain) + 3
    noise = rng.random((side + 2 * int(length), side), dtype=np.float32)
    share = log_uniform(rng, COVERED) / length * rng.uniform(0.5, 2)
    np.maximum(noise - np.float32(1 - share), 0, out=noise)
    smeared = cv2.boxFilter(noise, -1, (1, max(3, int(length))))
    if rng.integers(2):  # twice: the light tapers off towards the ends
        smeared = cv2.boxFilter(smeared, -1, (1, max(3, int(length / 2))))
    sine, cosine = np.sin(angle) / grain, np.cos(angle) / grain
    middle = (noise.shape[1] / 2, noise.shape[0] / 2)
    from_picture = np.array(
        [
            [cosine, -sine, middle[0] - cosine * width / 2 + sine * height / 2],
            [sine, cosine, middle[1] - sine * width / 2 - cosine * height / 2],
        ]
    )
    layer = cv2.warpAffine(smeared, from_picture, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    brightest = float(layer.max())
    if brightest <= 0:
        return np.zeros((height, width), np.float32)
    low = rng.uniform(0, 0.3)
    stretched = np.clip((layer / brightest - low) * (rng.uniform(1, 2.5) / (1 - low)), 0, 1)
    return np.asarray(stretched, np.float32)


def splashes(shape: tuple[int, ...], rng: np.random.Generator) -> Layer:
    """A layer of drops that burst: short strokes that fan out from one place, and dots around it."""
    height, width = shape[:2]
    bursts = rng.poisson(height * width * log_uniform(rng, (2e-4, 2e-3)))
    strokes = rng.integers(2, 6)
    drops = np.empty((bursts, strokes, 6))
    size = rng.uniform(2, 6)
    angles = rng.uniform(-1.2, 1.2, (bursts, strokes))
    reach = size * rng.uniform(0.3, 1, (bursts, strokes))
    drops[..., 0] = rng.uniform(0, height, (bursts, 1)) - reach * np.cos(angles)
    drops[..., 1] = rng.uniform(0, width, (bursts, 1)) + reach * np.sin(angles)
    drops[..., 2] = reach * rng.uniform(0.4, 1.5, (bursts, strokes))
    drops[..., 3] = rng.uniform(1.2, 3, (bursts, strokes))
    drops[..., 4] = -angles  # upwards and outwards
    drops[..., 5] = rng.uniform(0.2, 1, (bursts, 1))
    layer = np.zeros((height, width), np.float32)
    _draw(layer, drops.reshape(-1, 6), 0.5, 0.0)
    return layer


def _lit_by_lamps(clean: Picture, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """How much light falls on rain at night, 0..1, [H, W, 3]: around what is bright in the picture, in its colour, and
    under a lamp beyond it."""
    glow = cv2.GaussianBlur(clean.astype(np.float32) / 255, (0, 0), rng.uniform(4, 12)) ** 1.5
    lamp = smooth_field(clean.shape, rng)[..., None] ** 3 * rng.uniform(0.6, 1.0, 3)
    return np.clip(glow + lamp, 0, 1).astype(np.float32)


def varied_rain(clean: Picture, rng: np.random.Generator, extent: float | None = None) -> Picture:
    """Rain of a kind drawn by chance: half of all pictures have layers of one direction whose light is added, without a
    veil; the others up to four layers, directions that differ, a veil, splashes, lamps, or all of these.

    extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    shape = clean.shape
    main = rng.uniform(-SLANT, SLANT) if rng.integers(2) else float(np.clip(rng.normal(0, 0.3), -SLANT, SLANT))
    plain = rng.uniform() < 0.5
    layers = int(rng.integers(1, 4 if plain else 5))
    crossing = 0.0 if plain or rng.uniform() < 0.5 else rng.uniform(0.05, 0.5)
    night = not plain and rng.uniform() < 0.2
    light = clean.astype(np.float32) * np.float32(1 / 255)
    lamps = _lit_by_lamps(clean, rng) if night else np.ones((1, 1, 3), np.float32)
    tint = 1 - rng.uniform(0, 0.15, 3).astype(np.float32) * (rng.uniform() < (0.1 if plain else 0.5))
    way = "added" if plain else ("added", "screened", "covering")[rng.integers(3)]
    gain = log_uniform(rng, GAIN)
    for _ in range(layers):
        make = drawn_streaks if rng.uniform() < (0.8 if plain else 0.5) else blurred_noise
        layer = make(shape, rng, main + crossing * rng.standard_normal(), rng.uniform())
        layer *= np.float32(gain * rng.uniform(0.4, 1))
        light = _over(light, layer[..., None] * tint * lamps, way)
    if not plain:
        if rng.uniform() < 0.2:
            light = _over(light, gain * splashes(shape, rng)[..., None] * tint * lamps, "added")
        if rng.uniform() < 0.4:
            veil = (rng.uniform(0.03, 0.3) * smooth_field(shape, rng, extent)[..., None]).astype(np.float32)
            light = light * (1 - veil) + veil * np.float32(rng.uniform(0.3, 0.6) if night else rng.uniform(0.6, 0.95))
    np.clip(light, 0, 1, out=light)
    return (light * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _over(light: Layer, rain: Layer, way: str) -> Layer:
    """Rain [H, W, 3] on a picture: its light is added or screened, or it hides what is behind it."""
    if way == "added":
        return light + rain
    rain = np.minimum(rain, 1)
    if way == "screened":
        return 1 - (1 - light) * (1 - rain)
    return light * (1 - rain) + np.float32(0.9) * rain  # covering: bright surroundings shine through each drop
