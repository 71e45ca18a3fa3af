"""Image files in and out.

In memory a picture is a uint8 array in the channel order of the network, RGB:
[H, W] grayscale, [H, W, 3] colour, [H, W, 4] colour and alpha. OpenCV's BGR stays inside this file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError
from simulator.files import reason

Pixels = NDArray[np.uint8]

# Files with these suffixes are looked for in folders.
READABLE = frozenset(
    ".avif .bmp .dib .gif .jp2 .jpeg .jpg .jpe .pam .pbm .pgm .png .pnm .ppm .ras .sr .tif .tiff .webp".split()
)

# What is written, and how: without loss, but for JPEG, which is written as close to the pixels as it goes.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
WRITABLE: dict[str, list[int]] = {
    ".png": [],
    ".tif": [],
    ".tiff": [],
    ".bmp": [],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # above 100 means lossless
    ".avif": [cv2.IMWRITE_AVIF_QUALITY, 100],
    ".ppm": [],
    ".pgm": [],
    ".pnm": [],
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
}
_WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".bmp", ".webp", ".avif"})

# Far above any picture that can be restored (4096x4096 RGBA is 64 MiB); keeps a mistaken path from filling the memory.
_LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Picture:
    """A decoded image file.

    `profile` is the ICC profile that says what its colours mean, where the file has one; `notes` are sentences that the
    person should read.
    """

    pixels: Pixels
    profile: bytes | None = None
    notes: tuple[str, ...] = ()


def utf8(path: Path) -> bool:
    """Whether OpenCV can take this file name: it crashes on one that is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_image(path: Path) -> Picture:
    """Reads an image file, oriented as its EXIF data says; alpha and grayscale are kept, 16 bits become 8.

    Raises UserError for a file that is missing, unreadable, damaged, cut short, or no image of 8 or 16 bits.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise UserError(f"{path} has {size >> 20} MiB, far more than an image that fits; give an image file.")
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}.") from error
    if not data.size:
        raise UserError(f"{path} is empty; an image file was expected.")
    with _native_messages() as messages:
        try:
            pixels, deep, profile = _decode(data)
            pages = cv2.imcount(str(path)) if utf8(path) else 1
        except cv2.error:
            pixels, deep, profile, pages = None, False, None, 0
    if pixels is None:
        if deep:
            raise UserError(f"{path} holds floating-point values; give an image of 8 or 16 bits per channel.")
        raise UserError(
            f"{path} is damaged, cut short or not an image, or it has over 134 million pixels; give a whole image file."
        )
    notes = []
    if deep:
        notes.append(f"{path} has 16 bits per channel; it is restored with 8, which is what the network works on.")
    if pages > 1:
        notes.append(f"{path} holds {pages} pictures; only the first is restored.")
    if messages and "Corrupt JPEG data" in messages[0]:
        # The pixels after such a place may be wrong, yet every viewer shows the picture: restore it, but say so.
        notes.append(f"{path} is a damaged JPEG; it is restored as far as it could be decoded.")
    return Picture(pixels, profile, tuple(notes))


def _decode(data: Pixels) -> tuple[Pixels | None, bool, bytes | None]:
    """(pixels or None, whether the file has more than 8 bits per channel, ICC profile or None)."""
    raw, kinds, metadata = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
    if raw is None:
        return None, False, None
    deep = raw.dtype != np.uint8
    profiles = [item.tobytes() for kind, item in zip(kinds, metadata, strict=True) if kind == cv2.IMAGE_METADATA_ICCP]
    profile = profiles[0] if profiles else None
    channels = 1 if raw.ndim == 2 else raw.shape[2]
    # ANYCOLOR turns the picture as its EXIF data says, converts to 8 bits and drops alpha; UNCHANGED does none of it.
    plain = not deep and not len(metadata) and channels != 4
    shown = raw if plain else cv2.imdecode(data, cv2.IMREAD_ANYCOLOR)
    if shown is None:
        return None, deep, profile
    if shown.ndim == 2:
        return np.asarray(shown, np.uint8), deep, profile
    rgb = np.asarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), np.uint8)
    if channels != 4:
        return rgb, deep, profile
    alpha = np.asarray(raw[..., 3] // 257 if deep else raw[..., 3], np.uint8)
    if len(metadata):
        # Alpha is turned by the same rule: give it the EXIF data of its picture and let OpenCV decode it.
        _, encoded = cv2.imencodeWithMetadata(".png", np.ascontiguousarray(alpha), kinds, metadata)
        alpha = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return np.dstack([rgb, alpha]), deep, profile


def encode_image(pixels: Pixels, path: Path, profile: bytes | None = None) -> tuple[bytes, tuple[str, ...]]:
    """(file content, notes) for `pixels` in the format that the suffix of `path` names, one of WRITABLE.

    The ICC profile goes along where the format takes one (PNG, JPEG, WebP, AVIF) and it fits: a CMYK file's does not.
    Raises UserError where the format cannot hold the picture, such as colour in .pgm.
    """
    suffix = path.suffix.lower()
    notes: tuple[str, ...] = ()
    if pixels.ndim == 2:
        conversion = cv2.COLOR_GRAY2BGR if suffix == ".ppm" else None
    elif pixels.shape[2] == 3:
        conversion = cv2.COLOR_RGB2BGR
    elif suffix in _WITH_ALPHA:
        conversion = cv2.COLOR_RGBA2BGRA
    else:
        conversion = cv2.COLOR_RGBA2BGR
        notes = (f"{path} cannot hold transparency, which is left out; choose .png to keep it.",)
    picture = pixels if conversion is None else cv2.cvtColor(pixels, conversion)
    fits = profile is not None and profile[16:20] == (b"GRAY" if picture.ndim == 2 else b"RGB ")
    kinds, metadata = ([cv2.IMAGE_METADATA_ICCP], [np.frombuffer(profile or b"", np.uint8)]) if fits else ([], [])
    try:
        done, encoded = cv2.imencodeWithMetadata(suffix, picture, kinds, metadata, WRITABLE[suffix])
    except cv2.error:
        done = False
    if not done:
        kind = "grayscale" if pixels.ndim == 2 else "colour"
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UserError(f"a {kind} picture of {size} pixels does not go into {suffix}; choose .png.")
    return encoded.tobytes(), notes


@contextmanager
def _native_messages() -> Iterator[list[str]]:
    """Collects what the image libraries print to file descriptor 2, so that one sentence can be said instead.

    The list that is yielded is empty inside the block and holds the text, if any, after it.
    """
    collected: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        yield collected
        return
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield collected
            finally:
                os.dup2(saved, 2)
            sink.seek(0)
            text = sink.read().decode(errors="replace")
            if text:
                collected.append(text)
    finally:
        os.close(saved)
