"""denoise: white Gaussian noise, and a sensor's, also as it is after what a camera does to it."""

from __future__ import annotations

import cv2
import numpy as np

from train.degradations.pictures import Field, Picture, from_linear, log_uniform, rounded, to_linear


def gaussian_noise(clean: Picture, rng: np.random.Generator, sigma: float) -> Picture:
    """White Gaussian noise of standard deviation sigma (8-bit levels), rounded and clipped to 8 bits."""
    return rounded(clean + sigma * rng.standard_normal(clean.shape))


def camera_noise(clean: Picture, rng: np.random.Generator) -> Picture:
    """A small sensor's noise: shot noise (Poisson) and read noise (Gaussian) in linear light, clipped, 8 bits.

    Full scale is 60 to 2,000 electrons, read noise 1 to 6 electrons.
    """
    return from_linear(_sensor(to_linear(clean), rng))


def _sensor(light: Field, rng: np.random.Generator) -> Field:
    """What a small sensor reads of linear light 0..1, on the same scale."""
    full, read = log_uniform(rng, (60.0, 2000.0)), rng.uniform(1, 6)
    electrons: Field = rng.poisson(light * full) + read * rng.standard_normal(light.shape)
    return electrons / full


# Bilinear demosaicing: a channel's pixels are its neighbours' mean where the filter array (RGGB) has another colour.
_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4.0
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4.0
_SITES = (((0, 0),), ((0, 1), (1, 0)), ((1, 1),))  # rows and columns, modulo 2, of red, green and blue


def _demosaiced(values: Field) -> Field:
    """[H, W, 3] of which each pixel keeps one channel; the others are interpolated bilinearly."""
    found = np.zeros_like(values)
    for channel, (sites, kernel) in enumerate(zip(_SITES, (_SQUARE, _CROSS, _SQUARE), strict=True)):
        mosaic = np.zeros(values.shape[:2])
        for y, x in sites:
            mosaic[y::2, x::2] = values[y::2, x::2, channel]
        found[..., channel] = cv2.filter2D(mosaic, cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT_101)
    return found


def photo_noise(clean: Picture, rng: np.random.Generator) -> Picture:
    """A camera's noise as it is in its JPEGs: in grains of two or three pixels and in blocks of eight.

    The noise of `camera_noise`, and of it alone, goes through a colour filter array and bilinear demosaicing; the sum
    is stored as JPEG at a quality of 60 to 98, whose blocks start anywhere.
    """
    light = to_linear(clean)
    noisy = from_linear(light + _demosaiced(_sensor(light, rng) - light))
    quality, (top, left) = int(rng.integers(60, 99)), rng.integers(8, size=2)
    placed = cv2.copyMakeBorder(noisy[..., ::-1], int(top), 0, int(left), 0, cv2.BORDER_REPLICATE)
    _, stored = cv2.imencode(".jpg", placed, [cv2.IMWRITE_JPEG_QUALITY, quality])
    photo = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(photo[top:, left:, ::-1])
