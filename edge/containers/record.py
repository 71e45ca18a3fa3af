"""What a decoded image file is. In memory colours come red first: [H, W], [H, W, 3] RGB or [H, W, 4] RGBA."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.containers import MOST_PIXELS

Samples = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16


DAMAGED = "is damaged, cut short or not an image, or it has over 134 million pixels; give a whole image file"


# What Pillow and pi-heif were seen to raise for damaged files; they promise OSError alone.
BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


class NotReadError(Exception):
    """Why a file is not restored: str() goes on from the file's name, without a full stop at its end."""


@dataclass(frozen=True)
class Metadata:
    """What goes along with pixels. Each is None where a file has none.

    profile: the ICC profile that says what the colours mean. exif: the EXIF block, from its TIFF header on. xmp: the
    XMP packet, XML text.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


NO_METADATA = Metadata()


@dataclass(frozen=True)
class Decoded:
    """The content of a file: uint8 or uint16 samples over their whole range, as stored.

    orientation: how they are still to be turned, 1 to 8 as EXIF numbers it, 1 for not at all. pictures: how many the
    file holds, of which this is the first. notes: sentences that go on from the file's name, without a full stop.
    """

    pixels: Samples
    metadata: Metadata = NO_METADATA
    orientation: int = 1
    pictures: int = 1
    notes: tuple[str, ...] = ()


def opencv(data: bytes) -> Samples:
    """What OpenCV decodes, red first, nothing converted. Raises NotReadError for what it cannot decode."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise NotReadError(DAMAGED)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise NotReadError("holds floating-point or signed values; convert it to 8 or 16 bits per channel")
    if pixels.ndim == 3:
        order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(pixels.shape[2])
        if order is None:
            raise NotReadError(f"has {pixels.shape[2]} channels; convert it to grayscale, RGB or RGBA")
        pixels = cv2.cvtColor(pixels, order)
    return np.asarray(pixels, np.uint8 if pixels.dtype == np.uint8 else np.uint16)


def check_size(width: int, height: int) -> None:
    """Raises NotReadError for more pixels than one image may have; for decoders other than OpenCV, which checks."""
    if width * height > MOST_PIXELS:
        raise NotReadError(f"has {width}x{height} pixels, over 134 million; cut it into parts")


def with_alpha(pixels: Samples, alpha: Samples) -> Samples:
    """RGBA of grayscale [H, W] or colour [H, W, 3], and alpha [H, W] of the same dtype."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return np.asarray(np.dstack([colour, alpha]), pixels.dtype)


def scaled(values: Samples, largest: int) -> Samples:
    """Values from 0 to `largest` over the whole range: uint8 for up to 8 bits, else uint16; larger values are cut."""
    top, kind = (255, np.uint8) if largest <= 255 else (65535, np.uint16)
    if largest == top:
        return np.asarray(values, kind)
    table = (np.arange(top + 1, dtype=np.uint32).clip(0, largest) * top + largest // 2) // largest
    return np.asarray(table.astype(kind)[values])
