"""Training and evaluation data: images from a folder, degradations, and patches that depend on (seed, step) alone.

Images are uint8 RGB [H, W, 3] NumPy arrays everywhere in this file; only `PatchSampler.batch` and `to_network` speak
PyTorch. What a network is trained on is what a device sees: 8-bit pixels, so a degradation ends with rounding and
clipping to 0..255. `add_noise` also offers the unclipped noise that some published protocols use.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from train.degradations import MARGIN, VARIANTS, camera_noise, photo_noise

TASKS = ("denoise", "derain", "dehaze", "deblur", "defocus")
ALL_IN_ONE = "auto"  # one network for all of them, which is not told what the picture suffers from
EXTENT = 400  # rows that a photograph is taken to have when depth is drawn for a patch of it
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


class DataError(ValueError):
    """Training or test data that cannot be used; the message is a sentence for the person at the keyboard."""


def image_paths(folder: str | Path) -> list[Path]:
    """The image files directly inside `folder`, sorted by name. Raises DataError if there are none."""
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"The data folder {folder} does not exist; pass a folder of images.")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; pass a folder of images.")
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error}.") from error
    if not paths:
        wanted = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"The folder {folder} holds no images; files ending in {wanted} were looked for.")
    return paths


def load_image(path: str | Path) -> np.ndarray:
    """One image file as uint8 RGB [H, W, 3] (grayscale is repeated, alpha dropped). Raises DataError if unreadable.

    Of 16 bits the upper 8 are kept, x >> 8: what the published evaluations of 16-bit sets on 8-bit networks read.
    """
    image = load_deep_image(path)
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image


def load_deep_image(path: str | Path) -> np.ndarray:
    """One image file as RGB [H, W, 3] with the depth it has: uint8 or uint16. Raises DataError if unreadable."""
    path = Path(path)
    try:
        encoded = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if encoded.size else None
    except (OSError, cv2.error) as error:
        raise DataError(f"The image {path} cannot be read: {error}.") from error
    if image is None:
        raise DataError(f"The image {path} cannot be decoded; it is damaged or not an image.")
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"The image {path} holds {image.dtype} values; images of 8 or 16 bits per channel are read.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def load_images(folder: str | Path) -> list[np.ndarray]:
    """Every image directly inside `folder`, sorted by file name, as uint8 RGB [H, W, 3].

    Raises DataError, naming the folder or file, if the folder is missing or empty or an image cannot be decoded.
    """
    return [load_image(path) for path in image_paths(folder)]


def check_task(task: str) -> None:
    """Raise DataError unless the task is one of the five or the all-in-one."""
    if task not in (*TASKS, ALL_IN_ONE):
        raise DataError(f"The task {task} is unknown; known tasks are {', '.join((*TASKS, ALL_IN_ONE))}.")


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
    patch in four, by chance, has that; one has a sensor's noise and two have it as photographs do (`photo_noise`).
    The others are those of `train.degradations`, each patch one variant by chance; extent: the height of the whole
    photographs that the patches are parts of, pixels (default: the patches'). auto: each patch one task by chance.
    Raises DataError for an unknown task.
    """
    check_task(task)
    if task == ALL_IN_ONE:
        drawn = [TASKS[rng.integers(len(TASKS))] for _ in clean]
        each = zip(drawn, clean, strict=True)
        return np.concatenate([degrade(one, patch[None], rng, sigma, sigma_power, extent) for one, patch in each])
    if task == "denoise":
        noisy = _gaussian_noise(clean, rng, sigma, sigma_power)
        if camera:
            for patch, kind in zip(range(len(clean)), rng.integers(4, size=len(clean)), strict=True):
                if kind:
                    noisy[patch] = (camera_noise if kind == 1 else photo_noise)(clean[patch], rng)
        return noisy
    variants = tuple(VARIANTS[task].values())
    return np.stack([variants[rng.integers(len(variants))](patch, rng, extent) for patch in clean])


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


def add_noise(image: np.ndarray, sigma: float, seed: int, clip: bool, index: int = 0) -> np.ndarray:
    """White Gaussian noise for evaluation: the same draw whenever (seed, index) and the image's shape are the same.

    image: uint8 [H, W, 3]. sigma: standard deviation in 8-bit levels. index: the image's place in its test set, so that
    no two images share a draw. The draw does not depend on sigma; it is only scaled by it.
    Returns round(image + noise): with `clip` uint8 clipped to 0..255 (what a device sees), else int16, unclipped.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    noisy = np.rint(image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32))
    return np.clip(noisy, 0, 255).astype(np.uint8) if clip else noisy.astype(np.int16)


def to_network(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels on the numerics contract's input grid: float32 (u8 - 128) * 2^-7, so -1 ... 127/128, exact."""
    return (pixels.to(torch.float32) - 128.0) * 2.0**-7


class PatchSampler:
    """Random degraded patches of a list of images; a batch is a pure function of (seed, step).

    A resumed run therefore sees exactly the batches that an uninterrupted one would have seen.

    images: uint8 [H, W, 3]; those smaller than `patch` are replicate-padded right and bottom.
    patch: side of the square patches in pixels. batch: patches per batch. sigma, sigma_power: see `degrade`.
    Raises DataError for an empty list, sizes below 1, an image that is not uint8 RGB, or an unavailable task.
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
        if not 0 <= sigma[0] <= sigma[1]:
            raise DataError(f"The noise range must satisfy 0 <= low <= high, not {sigma[0]} and {sigma[1]}.")
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(f"Images must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}.")
        self.margin = max(MARGIN.values()) if task == ALL_IN_ONE else MARGIN[task]
        self.images = [_at_least(image, patch + 2 * self.margin) for image in images]
        self.patch = patch
        self.size = batch
        self.seed = seed
        self.sigma = sigma
        self.sigma_power = sigma_power
        self.task = task
        self.clean = clean
        self.camera = camera

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
        degraded = degrade(self.task, clean, rng, self.sigma, self.sigma_power, EXTENT, self.camera)
        if self.clean:  # drawn last, so that the other patches are those of a run without
            spared = rng.uniform(size=self.size) < self.clean
            degraded[spared] = clean[spared]
        inner = slice(self.margin, side - self.margin)
        return _to_tensor(degraded[:, inner, inner]), _to_tensor(clean[:, inner, inner])


def _at_least(image: np.ndarray, side: int) -> np.ndarray:
    """`image` replicate-padded right and bottom so that neither side is below `side` pixels."""
    bottom, right = max(0, side - image.shape[0]), max(0, side - image.shape[1])
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else image


def _to_tensor(batch: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] array -> contiguous uint8 [B, 3, H, W] tensor."""
    return torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
