"""AVIF and HEIC: boxes (ISO/IEC 23008-12).

Pillow reads AVIF: pixels, profile, and which way is up (by the file's own boxes irot and imir, which win over EXIF);
OpenCV knows no such boxes. More than 8 bits, which Pillow does not keep, are decoded by OpenCV. HEIC is decoded by the
package pi-heif, which is not installed by itself.
"""

from __future__ import annotations

import io
import re

import cv2
import numpy as np

from edge.containers import kinds
from edge.containers.exif import orientation, upright
from edge.containers.record import BROKEN, DAMAGED, Decoded, Metadata, NotReadError, Samples, check_size, opencv, scaled
from edge.containers.webp import with_metadata

_HDR = {16: "PQ", 18: "HLG"}  # transfer functions of H.273
_MORE_THAN_8_BITS, _TWELVE_BITS = 0x40, 0x20  # flags of the box av1C


def read(data: bytes) -> Decoded:
    return _avif(data) if kinds.is_avif(data[: kinds.HEAD]) else _heic(data)


def write(pixels: Samples, metadata: Metadata) -> bytes:
    """`pixels`, uint8 and red last as OpenCV wants them, as AVIF without loss. Raises cv2.error."""
    return with_metadata(".avif", pixels, metadata, [cv2.IMWRITE_AVIF_QUALITY, 100])


def _avif(data: bytes) -> Decoded:
    from PIL import Image

    properties = _properties(data)
    notes = _notes(properties, "an AVIF")
    configuration = re.search(rb"av1C.(.)(.)", properties, re.DOTALL)
    flags = configuration[2][0] if configuration else 0
    try:
        with Image.open(io.BytesIO(data), formats=["AVIF"]) as picture:
            check_size(*picture.size)
            info, pictures = picture.info, getattr(picture, "n_frames", 1)
            if flags & _MORE_THAN_8_BITS:
                pixels = scaled(opencv(data), 4095 if flags & _TWELVE_BITS else 1023)
            elif picture.mode in ("L", "RGB", "RGBA"):
                pixels = np.asarray(picture, np.uint8)
            else:
                raise NotReadError(f"is an AVIF picture of an unusual kind ({picture.mode}); convert it to PNG")
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise NotReadError(DAMAGED) from error
    exif = info.get("exif")
    metadata = Metadata(info.get("icc_profile"), _tiff_header(exif), info.get("xmp"))
    return Decoded(pixels, metadata, orientation(metadata.exif), pictures, tuple(notes))


def _heic(data: bytes) -> Decoded:
    try:
        import pi_heif
    except ImportError as error:
        raise NotReadError(
            "is a HEIC picture; install the package pi-heif (pip install 'spikerir-edge[heif]'), or convert it to PNG"
        ) from error
    notes = _notes(_properties(data), "a HEIC")
    try:
        file = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        check_size(*file.size)
        pixels = np.array(file)  # a copy: the package's own memory goes with `file`
        info, pictures = dict(file.info), len(file)
        if "a" in file.mode.split(";")[0]:
            raise NotReadError("is a HEIC picture with colours multiplied by its transparency; convert it to PNG")
        depth = info.get("bit_depth", 8)
        if pixels.dtype == np.uint16 and 8 < depth < 16:  # which the package has only shifted to the left
            pixels = scaled(pixels >> (16 - depth), (1 << depth) - 1)
    except BROKEN as error:
        raise NotReadError(f"is a HEIC picture that is damaged or of an unknown kind ({error}); convert it") from error
    if info.get("aux") or info.get("depth_images"):
        notes.append("has further layers (a gain map, depth), which are left out")
    exif = _tiff_header(info.get("exif"))
    # The decoder has turned the picture, and EXIF still says how to.
    metadata = Metadata(info.get("icc_profile"), upright(exif) if exif else None, info.get("xmp"))
    return Decoded(pixels, metadata, 1, pictures, tuple(notes))


def _properties(data: bytes) -> bytes:
    """The box `meta`, in which all items of the file and their properties are described."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"meta":
            return data[at : at + length]
        if length < 8:
            return b""
        at += length
    return b""


def _notes(properties: bytes, name: str) -> list[str]:
    """What of the colours is left out. Raises NotReadError for high dynamic range."""
    notes = []
    coded = re.search(rb"colrnclx(..)(..)", properties, re.DOTALL)
    primaries, transfer = (int.from_bytes(number, "big") for number in coded.groups()) if coded else (1, 13)
    if transfer in _HDR:
        dynamic = f"high dynamic range ({_HDR[transfer]})"
        raise NotReadError(f"is {name} picture of {dynamic}; convert it to standard range")
    if primaries not in (0, 1, 2, 5, 6) and b"colrprof" not in properties:
        notes.append(f"says by a number (nclx, primaries {primaries}) what its colours mean, which is left out")
    if b"tmap" in properties or b"hdrgainmap" in properties:
        notes.append("has a gain map for bright displays, which is left out: the picture is that of ordinary displays")
    return notes


def _tiff_header(exif: bytes | None) -> bytes | None:
    return exif.removeprefix(b"Exif\0\0") or None if exif else None
