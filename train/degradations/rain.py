"""derain: streaks of one direction (light), or of up to five and a bright veil (heavy)."""

from __future__ import annotations

import cv2
import numpy as np

from train.degradations.pictures import Field, Picture, log_uniform, rounded, smooth_field


def line_kernel(length: float, width: float, angle: float) -> Field:
    """An antialiased line through the middle, 1 on it: length and width in pixels, angle from the vertical, radians."""
    side = int(np.ceil(length / 2 + width)) + 1
    ys, xs = np.mgrid[-side : side + 1, -side : side + 1].astype(np.float64)
    along = xs * np.sin(angle) + ys * np.cos(angle)
    across = xs * np.cos(angle) - ys * np.sin(angle)
    distance = np.hypot(across, np.clip(np.abs(along) - length / 2, 0, None))
    line: Field = np.clip(width / 2 + 0.5 - distance, 0, 1)
    return line


def streaks(shape: tuple[int, ...], rng: np.random.Generator, density: float, angle: float) -> Field:
    """Rain of one direction, 0..1: `density` streaks per pixel, 10 to 40 pixels long and 1 to 3 wide."""
    layer = np.zeros(shape[:2])
    for part in range(2):  # near and far drops
        kernel = line_kernel(
            rng.uniform(10, 25) if part else rng.uniform(20, 40), rng.uniform(1, 3), angle + rng.normal(0, 0.03)
        )
        border = len(kernel) // 2
        canvas = (shape[0] + 2 * border, shape[1] + 2 * border)
        drops = np.zeros(canvas)
        count = rng.poisson(density / 2 * canvas[0] * canvas[1])
        drops[rng.integers(canvas[0], size=count), rng.integers(canvas[1], size=count)] = rng.uniform(0.25, 1, count)
        drawn = cv2.filter2D(drops, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT)
        layer = np.maximum(layer, drawn[border : border + shape[0], border : border + shape[1]])
    return np.clip(layer, 0, 1)


def rain(clean: Picture, rng: np.random.Generator, heavy: bool) -> Picture:
    """Rain streaks, added or screened; light: one direction; heavy: two to five directions and a bright veil."""
    light = clean / 255.0
    main = rng.uniform(-np.pi / 4, np.pi / 4)
    for _ in range(rng.integers(2, 6) if heavy else 1):
        angle = float(np.clip(main + (rng.normal(0, 0.3) if heavy else 0), -np.pi / 4, np.pi / 4))
        density = log_uniform(rng, (8e-4, 3e-3) if heavy else (5e-4, 2e-3))
        layer = rng.uniform(0.6, 1.0) * streaks(clean.shape, rng, density, angle)[..., None]
        light = light + layer * 0.8 if rng.uniform() < 0.5 else 1 - (1 - light) * (1 - layer)
        light = np.clip(light, 0, 1)
    if heavy:
        veil = rng.uniform(0.05, 0.25) * smooth_field(clean.shape, rng)[..., None]
        light = light * (1 - veil) + rng.uniform(0.7, 0.95) * veil
    return rounded(255 * light)
