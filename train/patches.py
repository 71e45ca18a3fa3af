"""Degraded pictures to train and to test on: patches that depend on (seed, step) alone, and fixed test pictures.

Images are uint8 RGB [H, W, 3] NumPy arrays; only `PatchSampler.batch` speaks PyTorch. What a network is trained on is
what a device sees: 8-bit pixels, so a degradation ends with rounding and clipping to 0..255. `train.data.add_noise`
also offers the unclipped noise that some published protocols use.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from train.data import DataError
from train.degradations.camera import varied_camera_noise
from train.degradations.pictures import Picture, log_uniform
from train.tasks import TASKS, foreign_to, parts_of

FOREIGN_NOISE = (0.0, 30.0)  # of white Gaussian noise that a network is to leave alone, 8-bit levels
SOFT = 0.75  # share of the patches that are softened first where the noise is a camera's
SOFTENED = (0.5, 3.0)  # standard deviation of their blur, pixels
ENLARGED = (1.2, 3.0)  # or how many times as large they are made
EXTENT = 400  # rows that a photograph is taken to have when depth is drawn for a patch of it


def check_task(task: str) -> None:
    """Raise DataError unless `train.tasks` has the task."""
    if task not in TASKS:
        raise DataError(f"The task {task} is unknown; known tasks are {', '.join(TASKS)}.")


def degrade(
    task: str,
    clean: np.ndarray,
    rng: np.random.Generator,
    sigma: tuple[float, float] = (0.0, 55.0),
    sigma_power: float = 1.0,
    extent: int | None = None,
    camera: bool = False,
) -> np.ndarray:
    """Degrade a batch of clean patches the way `task` does; every random choice comes from `rng`.

    clean: uint8 [B, H, W, 3]. Returns uint8 [B, H, W, 3].
    denoise: white Gaussian noise; each patch draws its own standard deviation from `sigma` (in 8-bit levels), as
    low + (high - low) u^sigma_power with u uniform: a power above 1 shows weak noise more often. With `camera` only one
    patch in eight, by chance, has that; the others have a photograph's (`varied_camera_noise`).
    The others degrade as `train.tasks` says, each patch by one of the task's variants by chance; extent: the height of
    the whole photographs that the patches are parts of, pixels (default: the patches'). An all-in-one draws a task for
    each patch. Raises DataError for an unknown task.
    """
    check_task(task)
    parts = parts_of(task)
    if len(parts) > 1:
        drawn = [parts[rng.integers(len(parts))] for _ in clean]
        each = zip(drawn, clean, strict=True)
        return np.concatenate([degrade(one, patch[None], rng, sigma, sigma_power, extent) for one, patch in each])
    entry = TASKS[task]
    if entry.noise_levels:
        noisy = _gaussian_noise(clean, rng, sigma, sigma_power)
        if camera:
            for patch in np.flatnonzero(rng.integers(8, size=len(clean))):
                noisy[patch] = varied_camera_noise(clean[patch], rng)
        return noisy
    ways = [entry.variants[name] for name in entry.drawn or entry.variants]
    return np.stack([ways[rng.integers(len(ways))](patch, rng, extent) for patch in clean])


def _gaussian_noise(
    clean: np.ndarray, rng: np.random.Generator, sigma: tuple[float, float], power: float
) -> np.ndarray:
    """clip(round(clean + sigma * n)), n ~ N(0, 1), one sigma per patch; uint8 [B, H, W, 3] in and out."""
    levels = sigma[0] + (sigma[1] - sigma[0]) * rng.uniform(size=(len(clean), 1, 1, 1)) ** power
    levels = levels.astype(np.float32)
    noisy = rng.standard_normal(clean.shape, dtype=np.float32)
    noisy *= levels
    noisy += clean
    np.rint(noisy, out=noisy)
    return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


def fixed(task: str, variant: str, clean: Picture, seed: int, index: int) -> Picture:
    """The degraded picture of a fixed test set: depends on the clean one, the variant, the seed and the index alone."""
    key = list(f"{task}/{variant}".encode())
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, *key])))
    return TASKS[task].variants[variant](clean, rng, None)


class PatchSampler:
    """Random degraded patches of a list of images; a batch is a pure function of (seed, step).

    A resumed run therefore sees exactly the batches that an uninterrupted one would have seen.

    images: uint8 [H, W, 3]; those smaller than `patch` are replicate-padded right and bottom.
    patch: side of the square patches in pixels. batch: patches per batch. sigma, sigma_power: see `degrade`.
    clean: share of the patches that are not degraded. colour: share of those that are recoloured first.
    foreign: share of the patches that are degraded as another task's are and are asked for just so: what a network is
    not for, it leaves alone. extent: rows of the photographs that patches are parts of, as depth is drawn; None: a
    patch is the whole picture.
    Raises DataError for an empty list, sizes below 1, an image that is not uint8 RGB, an unavailable task, or foreign
    degradations where there are none.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        patch: int = 64,
        batch: int = 8,
        seed: int = 0,
        sigma: tuple[float, float] = (0.0, 55.0),
        task: str = "denoise",
        sigma_power: float = 1.0,
        clean: float = 0.0,
        camera: bool = False,
        colour: float = 0.0,
        foreign: float = 0.0,
        extent: int | None = EXTENT,
    ):
        check_task(task)
        if not images:
            raise DataError("There are no images to take patches from.")
        if patch < 1 or batch < 1:
            raise DataError(f"Patch size and batch size must be at least 1, not {patch} and {batch}.")
        if not sigma_power > 0:
            raise DataError(f"The power that spreads the noise range must be above zero, not {sigma_power}.")
        if not 0 <= clean <= 1:
            raise DataError(f"The share of patches that stay clean must lie within 0 and 1, not {clean}.")
        if not 0 <= foreign <= 1:
            raise DataError(f"The share of patches that are degraded otherwise must lie within 0 and 1, not {foreign}.")
        if not 0 <= sigma[0] <= sigma[1]:
            raise DataError(f"The noise range must satisfy 0 <= low <= high, not {sigma[0]} and {sigma[1]}.")
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(f"Images must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}.")
        self.margin = max(TASKS[part].margin for part in parts_of(task))
        self.images = [_at_least(image, patch + 2 * self.margin) for image in images]
        self.patch = patch
        self.extent = extent
        self.size = batch
        self.seed = seed
        self.sigma = sigma
        self.sigma_power = sigma_power
        self.task = task
        self.clean = clean
        self.camera = camera
        self.colour = colour
        self.foreign = foreign
        # A photograph's noise comes with JPEG, which cannot be left alone then.
        self.others = tuple(other for other in foreign_to(task) if not (camera and other == "dejpeg"))
        if foreign and not self.others:
            raise DataError(f"A network for {task} removes all that there is; nothing is foreign to it.")

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of training step `step`: (degraded, clean), both uint8 [B, 3, P, P] (contiguous)."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, step])))
        side = self.patch + 2 * self.margin
        clean = np.empty((self.size, side, side, 3), np.uint8)
        for slot in clean:
            image = self.images[rng.integers(len(self.images))]
            top = rng.integers(image.shape[0] - side + 1)
            left = rng.integers(image.shape[1] - side + 1)
            crop = image[top : top + side, left : left + side]
            flip_vertically, flip_horizontally = rng.integers(2, size=2)
            slot[:] = crop[:: -1 if flip_vertically else 1, :: -1 if flip_horizontally else 1]
        if self.colour:
            for patch in clean:
                if rng.uniform() < self.colour:
                    patch[:] = recoloured(patch, rng)
        if self.camera:
            for patch in clean:
                if rng.uniform() < SOFT:
                    patch[:] = softened(patch, rng)
        degraded = degrade(self.task, clean, rng, self.sigma, self.sigma_power, self.extent, self.camera)
        if self.clean:  # drawn last, so that the other patches are those of a run without
            spared = rng.uniform(size=self.size) < self.clean
            degraded[spared] = clean[spared]
        if self.foreign:
            for i in np.flatnonzero(rng.uniform(size=self.size) < self.foreign):
                other = self.others[rng.integers(len(self.others))]
                alone = degrade(other, clean[i, None], rng, FOREIGN_NOISE, 1.0, self.extent, self.task != "dejpeg")[0]
                degraded[i] = clean[i] = alone
        inner = slice(self.margin, side - self.margin)
        return _to_tensor(degraded[:, inner, inner]), _to_tensor(clean[:, inner, inner])


def recoloured(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3] with, each by chance, its channels exchanged, more or less saturated, and exposed otherwise.

    Photographs for training are paler than what people and other test sets show.
    """
    x: np.ndarray = picture.astype(np.float32)
    if rng.uniform() < 0.5:
        x = x[..., rng.permutation(3)]
    if rng.uniform() < 0.5:
        grey = x.mean(-1, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0.6, 2.2)
    if rng.uniform() < 0.5:
        x = 255 * (np.clip(x, 0, 255) / 255) ** rng.uniform(0.6, 1.6)
    changed: np.ndarray = np.clip(np.rint(x), 0, 255).astype(np.uint8)
    return changed


def softened(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3] as cameras often deliver: out of focus a little, or enlarged.

    Photographs for training were made small and are sharp from pixel to pixel; a network that knows no others takes
    a camera's fine noise for detail and leaves it.
    """
    height, width = picture.shape[:2]
    if rng.integers(2):
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), log_uniform(rng, SOFTENED)), np.uint8)
    scale = rng.uniform(*ENLARGED)
    part = picture[: max(1, round(height / scale)), : max(1, round(width / scale))]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _at_least(image: np.ndarray, side: int) -> np.ndarray:
    """`image` replicate-padded right and bottom so that neither side is below `side` pixels."""
    bottom, right = max(0, side - image.shape[0]), max(0, side - image.shape[1])
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else image


def _to_tensor(batch: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] array -> contiguous uint8 [B, 3, H, W] tensor."""
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
