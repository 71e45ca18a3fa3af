"""Images from a folder, the noise of tests, and what a network takes.

Images are uint8 RGB [H, W, 3] NumPy arrays; only `to_network` speaks PyTorch. What is degraded and how stands in
`train/patches.py`.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

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
    rgb: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def load_images(*folders: str | Path) -> list[np.ndarray]:
    """Every image directly inside the folders, one after another, each sorted by file name, as uint8 RGB [H, W, 3].

    Raises DataError, naming the folder or file, if a folder is missing or empty or an image cannot be decoded.
    """
    return [load_image(path) for folder in folders for path in image_paths(folder)]


def add_noise(image: np.ndarray, sigma: float, seed: int, clip: bool, index: int = 0) -> np.ndarray:
    """White Gaussian noise for evaluation: the same draw whenever (seed, index) and the image's shape are the same.

    image: uint8 [H, W, 3]. sigma: standard deviation in 8-bit levels. index: the image's place in its test set, so that
    no two images share a draw. The draw does not depend on sigma; it is only scaled by it.
    Returns round(image + noise): with `clip` uint8 clipped to 0..255 (what a device sees), else int16, unclipped.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    noisy = np.rint(image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32))
    seen: np.ndarray = np.clip(noisy, 0, 255).astype(np.uint8) if clip else noisy.astype(np.int16)
    return seen


def to_network(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels on the numerics contract's input grid: float32 (u8 - 128) * 2^-7, so -1 ... 127/128, exact."""
    return (pixels.to(torch.float32) - 128.0) * 2.0**-7
