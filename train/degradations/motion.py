"""deblur: camera shake along random paths, another one in each of two to four regions, in linear light.

For training (`varied_motion`) also the straight paths of what moves, from hardly any blur to more than "strong".
"""

from __future__ import annotations

import cv2
import numpy as np

from train.degradations.pictures import (
    Field,
    Picture,
    from_linear,
    log_uniform,
    quick_light,
    shown,
    smooth_field,
    to_linear,
)

TRAJECTORY = {"slight": (2.0, 9.0), "strong": (9.0, 27.0)}  # extent of a camera shake, pixels
VARIED = (0.7, 30.0)  # the same in training


def trajectory(rng: np.random.Generator, extent: float, points: int = 64) -> Field:
    """A hand's path during the exposure, [points, 2] pixels around its mean, `extent` pixels high or wide, whichever
    is more. Around its mean, because nothing in a picture tells where else the sharp one should lie.

    The velocity drifts and now and then changes abruptly.
    """
    turns = rng.normal(0, 0.25, points) + rng.normal(0, 1.5, points) * (rng.uniform(size=points) < 0.05)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(turns) * rng.uniform(0, 1)
    speed = np.clip(1 + np.cumsum(rng.normal(0, 0.15, points)), 0.1, None)
    path = np.cumsum(speed[:, None] * np.stack([np.sin(heading), np.cos(heading)], 1), 0)
    centred: Field = (path - path.mean(0)) * (extent / np.ptp(path, axis=0).max())
    return centred


def path_kernel(path: Field) -> Field:
    """The kernel that a path draws, bilinear, sum 1; its side is odd."""
    half = int(np.ceil(np.abs(path).max())) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    base = np.floor(path).astype(int)
    part = path - base
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            np.add.at(kernel, (base[:, 0] + half + dy, base[:, 1] + half + dx), weight)
    normalised: Field = kernel / kernel.sum()
    return normalised


def motion_blur(clean: Picture, rng: np.random.Generator, strength: str) -> Picture:
    """Camera shake that varies over the picture: two to four paths, turned and scaled, blended by smooth fields.

    strength: a key of TRAJECTORY.
    """
    light = to_linear(clean)
    extent = log_uniform(rng, TRAJECTORY[strength])
    path = trajectory(rng, extent)
    total, weights = np.zeros_like(light), np.zeros(clean.shape[:2])
    for _ in range(rng.integers(2, 5)):
        turn, scale = rng.normal(0, 0.15), rng.uniform(0.7, 1.0)
        turned = scale * path @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        blurred = cv2.filter2D(light, cv2.CV_64F, path_kernel(turned), borderType=cv2.BORDER_REFLECT)
        weight = smooth_field(clean.shape, rng) ** 4 + 1e-6
        total += blurred * weight[..., None]
        weights += weight
    return from_linear(total / weights[..., None])


def varied_motion(clean: Picture, rng: np.random.Generator, extent: float | None = None) -> Picture:
    """Blur as `motion_blur` makes it in a part of a picture, one path or two that meet, or along a straight line.

    extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    light = quick_light(clean, rng.exponential(1.0) * (rng.uniform() < 0.3))
    size = log_uniform(rng, VARIED)
    path = trajectory(rng, size)
    if rng.uniform() < 0.25:
        heading = rng.uniform(0, 2 * np.pi)
        path = np.linspace(-size / 2, size / 2, 64)[:, None] * np.array([[np.sin(heading), np.cos(heading)]])
    blurred = cv2.filter2D(light, -1, path_kernel(path), borderType=cv2.BORDER_REFLECT)
    if rng.uniform() < 0.3:
        turn = rng.normal(0, 0.3)
        turned = rng.uniform(0.3, 1) * path @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        other = cv2.filter2D(light, -1, path_kernel(turned), borderType=cv2.BORDER_REFLECT)
        weight = np.clip(4 * smooth_field(clean.shape, rng, extent) - 1.5, 0, 1)[..., None].astype(np.float32)
        blurred = blurred + weight * (other - blurred)
    return shown(np.asarray(blurred, np.float32))
