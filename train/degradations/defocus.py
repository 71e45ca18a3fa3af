"""defocus: disks of confusion that grow with the distance to the focal plane, layered, in linear light."""

from __future__ import annotations

import cv2
import numpy as np

from train.degradations.pictures import (
    Field,
    Picture,
    depth_field,
    from_linear,
    log_uniform,
    quick_light,
    shown,
    to_linear,
)
from train.degradations.varied_haze import drawn_depth

DISK = {"slight": (2.0, 5.0), "strong": (5.0, 15.0)}  # largest radius of confusion in a picture, pixels
VARIED = (0.6, 16.0)  # the same in training


def disk_kernel(radius: float) -> Field:
    """An antialiased disk, sum 1, side odd; radius in pixels (0: nothing is blurred)."""
    half = int(np.ceil(radius + 0.5))
    ys, xs = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    disk = np.clip(radius + 0.5 - np.hypot(ys, xs), 0, 1)
    kernel: Field = disk / disk.sum()
    return kernel


def defocus_blur(
    clean: Picture, rng: np.random.Generator, strength: str, extent: float | None = None, layers: int = 6
) -> Picture:
    """Thin-lens defocus: radius proportional to |1/d - 1/d_focus|, composed from the farthest layer to the nearest.

    strength: a key of DISK. extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    light = to_linear(clean)
    depth = 1 + 4 * depth_field(clean, rng, extent or len(clean))  # 1 to 5 times the nearest distance
    signed = 1 / depth - 1 / rng.uniform(depth.min(), depth.max() + 0.5)
    signed *= log_uniform(rng, DISK[strength]) / max(np.abs(signed).max(), 1e-3)
    edges = np.linspace(signed.min(), signed.max() + 1e-9, layers + 1)
    blurred, covered = np.zeros_like(light), np.zeros((*clean.shape[:2], 1))
    for low, high in zip(edges[:-1], edges[1:], strict=True):  # from far to near
        mask = ((signed >= low) & (signed < high)).astype(np.float64)
        if not mask.any():
            continue
        kernel = disk_kernel(abs(low + high) / 2)
        alpha = cv2.filter2D(mask, cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT)[..., None]
        colour = cv2.filter2D(light * mask[..., None], cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT)
        blurred = blurred * (1 - alpha) + colour
        covered = covered * (1 - alpha) + alpha
    return from_linear(blurred / np.maximum(covered, 1e-6))


def varied_defocus(clean: Picture, rng: np.random.Generator, extent: float | None = None) -> Picture:
    """Defocus as `defocus_blur` makes it in a part of a picture: all of it alike, or two or three layers, some sharp.

    A radius of confusion may be anything from hardly any to more than "strong"; the disk is even, or it fades outwards.
    extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    light = quick_light(clean, rng.exponential(1.0) * (rng.uniform() < 0.3))
    largest, layers = log_uniform(rng, VARIED), int(rng.integers(1, 4))
    radii = largest * np.sort(rng.uniform(0, 1, layers))
    radii[0 if layers > 1 and rng.integers(2) else -1] = largest  # the farthest is blurred most, or the nearest
    edges = [0.0, *np.sort(rng.uniform(0.15, 0.85, layers - 1)), 1.0]
    depth = 1 - drawn_depth(clean, rng, extent or len(clean)) if layers > 1 else np.zeros(clean.shape[:2], np.float32)
    fading = rng.uniform() < 0.3
    blurred = covered = np.zeros((*clean.shape[:2], 1), np.float32)
    for radius, low, high in zip(radii, edges[:-1], edges[1:], strict=True):  # from far to near
        mask = ((depth >= low) & ((depth < high) | (high == 1.0)))[..., None].astype(np.float32)
        kernel = disk_kernel(radius)
        if fading:
            kernel = np.asarray(cv2.GaussianBlur(kernel, (0, 0), max(0.3, radius / 3)), np.float64)
            kernel /= kernel.sum()
        layer = np.concatenate([light * mask, mask], 2)
        layer = cv2.filter2D(layer, -1, kernel, borderType=cv2.BORDER_REFLECT) if radius > 0.1 else layer
        alpha = layer[..., 3:]
        blurred = blurred * (1 - alpha) + layer[..., :3]
        covered = covered * (1 - alpha) + alpha
    return shown(np.asarray(blurred / np.maximum(covered, np.float32(1e-4)), np.float32))
