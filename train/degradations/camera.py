"""denoise, for training: the noise of photographs as they come out of many cameras, and of film.

Noise begins in the sensor and is then treated like the picture: demosaiced, white-balanced, mixed by a colour matrix,
bent by a tone curve, smoothed (in colour more than in light, in flat areas more than on edges), sharpened, resized,
and stored as JPEG. The order, the ranges of the sensor's noise, of the gains and of the colour matrix follow Brooks et
al., Unprocessing Images for Learned Raw Denoising, CVPR 2019, and Guo et al., Toward Convolutional Blind Denoising of
Real Photographs, CVPR 2019; what cameras do after that is drawn from wide ranges. The clean picture is the target,
so only the noise goes through all this, not the picture (JPEG apart).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from train.degradations.jpeg import compressed
from train.degradations.pictures import Picture, log_uniform

Image = npt.NDArray[np.float32]  # [H, W, 3]

SHOT = (1e-5, 1.2e-2)  # variance per light, of linear light 0..1
READ = (0.15, 1.6)  # standard deviation of read noise over that of shot noise in a tenth of full light
SCALE = (0.3, 1.5)  # the sensor's pixels to one of the picture's, along a side
QUALITY = (25, 100)

_LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)
_GRID = np.linspace(0, 1, 1024, dtype=np.float32)  # of light, to invert tone curves on
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4


def _tone(light: Image, gamma: float, contrast: float) -> Image:
    """Linear light to 0..1 as it is shown: a power, then part of a smoothstep, 3 x^2 - 2 x^3."""
    shown: Image = np.clip(light, 0, 1) ** np.float32(1 / gamma)
    return shown + np.float32(contrast) * (shown * shown * (3 - 2 * shown) - shown)


def _light(clean: Picture, gamma: float, contrast: float) -> Image:
    """The inverse of `_tone` on 8 bits, from a table."""
    table = np.interp(_LEVELS, _tone(_GRID, gamma, contrast), _GRID).astype(np.float32)
    return np.asarray(table[clean])


def _colour_matrix(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The camera's colours to the picture's, white stays white: each channel is told from the others' overlap."""
    overlap = rng.uniform(0.05, 0.45, (3, 3)) * (1 - np.eye(3))
    return np.asarray(np.eye(3) * (1 + overlap.sum(1, keepdims=True)) - overlap, np.float32)


def _demosaiced(noise: Image, rng: np.random.Generator) -> Image:
    """What demosaicing makes of noise of which each pixel has one channel: bilinear, or bilinear differences to green.

    The filter array is RGGB from any corner.
    """
    height, width = noise.shape[:2]
    rows, columns = (np.arange(side) + rng.integers(2) for side in (height, width))
    red = np.logical_and.outer(rows % 2 == 0, columns % 2 == 0)
    blue = np.logical_and.outer(rows % 2 == 1, columns % 2 == 1)
    green = cv2.filter2D(noise[..., 1] * ~(red | blue), -1, _CROSS)
    base = green if rng.integers(2) else np.zeros_like(green)
    found = np.empty_like(noise)
    found[..., 1] = green
    for channel, sites in ((0, red), (2, blue)):
        found[..., channel] = base + cv2.filter2D((noise[..., channel] - base) * sites, -1, _SQUARE)
    return found


def _sensor(clean: Picture, rng: np.random.Generator) -> Image:
    """A sensor's noise on its way through the camera's colours and tone curve, in 8-bit levels."""
    gamma, contrast = rng.uniform(1.8, 2.6), rng.uniform(0, 0.8)
    light = _light(clean, gamma, contrast)
    balance = np.array([rng.uniform(1.2, 2.4), 1.0, rng.uniform(1.2, 2.2)], np.float32)
    shot = log_uniform(rng, SHOT)
    read = np.sqrt(0.1 * shot) * log_uniform(rng, READ)
    deviation = np.sqrt(np.float32(shot) * light / balance + np.float32(read**2))
    noise = rng.standard_normal(light.shape, dtype=np.float32) * deviation
    if rng.uniform() < 0.1:  # rows that are read out together
        noise += np.float32(read * rng.uniform(0.1, 0.6)) * rng.standard_normal((len(noise), 1, 1), dtype=np.float32)
    if rng.uniform() < 0.9:
        noise = _demosaiced(noise, rng)
    noise = (noise * balance) @ _colour_matrix(rng).T
    return np.float32(255) * _tone(light + noise, gamma, contrast) - clean


def _film(clean: Picture, rng: np.random.Generator) -> Image:
    """Film's grain, in 8-bit levels, grey or coloured: all tones alike, or the middle ones more."""
    strength, middle = log_uniform(rng, (1, 25)), rng.uniform(0, 1)
    grain = rng.standard_normal(clean.shape, dtype=np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.3, 1.3)), np.float32)
    grey = np.float32(rng.uniform())
    grain = grey * grain.mean(2, keepdims=True) + (1 - grey) * grain
    grain *= np.float32(strength / max(float(grain.std()), 1e-6))
    return np.asarray(grain * (4 * _LEVELS * (1 - _LEVELS) * middle + (1 - middle)).astype(np.float32)[clean])


def _smoothed(noise: Image, clean: Picture, rng: np.random.Generator) -> Image:
    """What a camera's own denoising leaves: coarse grains of colour, finer ones of light, more of them on edges."""
    luma = (noise @ _LUMA)[..., None]
    chroma = np.float32(rng.uniform(0.3, 1.5)) * cv2.GaussianBlur(noise - luma, (0, 0), log_uniform(rng, (1.5, 8)))
    smooth = cv2.GaussianBlur(luma, (0, 0), log_uniform(rng, (0.5, 3)))[..., None]
    kept = np.full((1, 1, 1), rng.uniform() ** 4, np.float32)
    if rng.integers(2):
        detail = cv2.GaussianBlur(np.abs(cv2.Laplacian(clean @ _LUMA, -1)), (0, 0), 1.5)[..., None]
        kept = kept + (1 - kept) * detail / (detail + np.float32(log_uniform(rng, (2, 30))))
    return np.asarray(smooth + kept * (luma - smooth) + chroma)


def _sharpened(noise: Image, rng: np.random.Generator) -> Image:
    """Noise after the camera's unsharp mask, which works on the light alone."""
    luma = noise @ _LUMA
    edges = luma - cv2.GaussianBlur(luma, (0, 0), rng.uniform(0.6, 1.5))
    return noise + np.float32(rng.uniform(0, 1.5)) * edges[..., None]


def varied_camera_noise(clean: Picture, rng: np.random.Generator) -> Picture:
    """A photograph's noise, from hardly any to strong: a sensor's (seven in eight) or film's, as it is after a camera's
    processing, after resizing (seven in ten) and as JPEG (three in four)."""
    height, width = clean.shape[:2]
    scale = log_uniform(rng, SCALE) if rng.uniform() < 0.7 else 1.0
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    taken = np.asarray(cv2.resize(clean, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    noise = _film(taken, rng) if rng.integers(8) == 0 else _sensor(taken, rng)
    if rng.uniform() < 0.8:
        noise = _smoothed(noise, taken, rng)
    if rng.uniform() < 0.5:
        noise = _sharpened(noise, rng)
    way = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    noise = np.asarray(cv2.resize(noise, (width, height), interpolation=way), np.float32)
    noisy = np.clip(np.rint(clean + np.clip(noise, -80, 80)), 0, 255).astype(np.uint8)
    if rng.integers(4) == 0:
        return noisy
    low, high = QUALITY
    quality = round(high - (high - low) * rng.uniform() ** 2)
    return compressed(noisy, rng, quality)
