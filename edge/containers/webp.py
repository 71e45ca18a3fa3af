"""WebP: RIFF chunks. OpenCV decodes and encodes the pixels."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from edge.containers.exif import orientation
from edge.containers.record import Decoded, Metadata, Samples, opencv

_LOSSLESS = 101  # above 100


def read(data: bytes) -> Decoded:
    chunks: dict[bytes, bytes] = {}
    frames = 0
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            frames += 1
        elif not kind.startswith((b"VP8", b"ALPH")):
            chunks.setdefault(kind, data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    exif = chunks.get(b"EXIF")
    if exif is not None:
        exif = exif.removeprefix(b"Exif\0\0")
    metadata = Metadata(chunks.get(b"ICCP") or None, exif or None, chunks.get(b"XMP ") or None)
    return Decoded(opencv(data), metadata, orientation(exif), max(frames, 1))


def write(pixels: Samples, metadata: Metadata) -> bytes:
    """`pixels`, uint8 and red last as OpenCV wants them, without loss. Raises cv2.error."""
    return with_metadata(".webp", pixels, metadata, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS])


def with_metadata(suffix: str, pixels: Samples, metadata: Metadata, options: list[int]) -> bytes:
    """`pixels` with `metadata` by OpenCV, for formats in which it writes all of it rightly. Raises cv2.error."""
    parts = (
        (cv2.IMAGE_METADATA_ICCP, metadata.profile),
        (cv2.IMAGE_METADATA_EXIF, metadata.exif),
        (cv2.IMAGE_METADATA_XMP, metadata.xmp),
    )
    there = [(kind, np.frombuffer(content, np.uint8)) for kind, content in parts if content]
    done, encoded = cv2.imencodeWithMetadata(
        suffix, pixels, [kind for kind, _ in there], [content for _, content in there], options
    )
    if not done:
        raise cv2.error(f"{suffix} was not written")
    return encoded.tobytes()
