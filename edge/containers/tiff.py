"""TIFF and BigTIFF (TIFF 6.0, Adobe's technical notes).

Read by OpenCV where its result was found right: grayscale, palette and RGB of 8 bits, grayscale and RGB(A) of 16.
Pillow reads 8 bits with alpha, which OpenCV multiplies into the colours, CMYK and CIELAB. Everything else is refused.
Colours that are multiplied by alpha in the file are divided here: Pillow rounds down.
Written here, because OpenCV writes no profile and does not say what the fourth channel is.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from edge.containers import colour
from edge.containers.exif import ORIENTATION, SIZES, Entry, byte_order, directories, directory
from edge.containers.record import (
    BROKEN,
    DAMAGED,
    Decoded,
    Metadata,
    NotReadError,
    Samples,
    check_size,
    opencv,
    with_alpha,
)

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _EXTRA, _FORMAT, _XMP, _PROFILE = 277, 284, 338, 339, 700, 34675
_EXIF, _GPS, _DNG, _SUBFILES = 34665, 34853, 50706, 330
_WHITE, _BLACK, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_NAMES = {4: "a mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "a colour filter array", 34892: "linear raw", 32844: "LogL"}
_ASSOCIATED = 1
# Of the first directory: who made the picture, when, with what; the rest describes the file.
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432)
_STRIP = 1 << 20  # bytes
_LARGEST_EXIF = 1 << 22  # bytes; a file can claim the same bytes many times


def read(data: bytes) -> Decoded:
    order = byte_order(data) or "<"
    chain = list(directories(data))
    if not chain:
        raise NotReadError(DAMAGED)
    first = chain[0]

    def number(tag: int, default: int) -> int:
        return (_numbers(first, tag, order) or [default])[0]

    if _DNG in first or number(_PHOTOMETRIC, 0) in (32803, 34892) or (number(_SUBFILE, 0) & 1 and len(chain) < 2):
        raise NotReadError("is a camera's raw file, which is not read here; develop it to a 16-bit TIFF or PNG first")
    if number(_SUBFILE, 0) & 1:
        raise NotReadError("begins with a preview, and the picture itself stands behind it; save it as a plain TIFF")
    check_size(number(_WIDTH, 0), number(_HEIGHT, 0))
    pixels, note = _pixels(data, first, order)
    pictures = sum(1 for page in chain if not _reduced(page, order))
    notes = () if note is None else (note,)
    profile = first[_PROFILE].value if _PROFILE in first else None
    if note is not None:
        profile = None  # of the colours before they were converted
    metadata = Metadata(profile, _exif(data, first, order), first[_XMP].value if _XMP in first else None)
    # Both decoders turn TIFF as the file says.
    return Decoded(pixels, metadata, 1, pictures, notes)


def write(pixels: Samples, metadata: Metadata) -> bytes:
    """`pixels`, [H, W], RGB or RGBA (red first, not multiplied by alpha) of 8 or 16 bits, with `metadata`.

    The file begins with the EXIF block, which is a small TIFF itself: so everything in it stays where it points to.
    """
    exif = metadata.exif if metadata.exif and byte_order(metadata.exif) and b"+" not in metadata.exif[:4] else b""
    order = byte_order(exif) or "<"
    file = bytearray(exif or b"II*\0\0\0\0\0")
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    samples = pixels.reshape(height, width, channels)
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    rows = max(1, min(height, _STRIP // (width * channels * samples.itemsize)))
    places, lengths = [], []
    for top in range(0, height, rows):
        strip = differences[top : top + rows].astype(samples.dtype.newbyteorder("<" if order == "<" else ">"))
        content = zlib.compress(strip.tobytes(), 6)
        places.append(_append(file, content))
        lengths.append(len(content))
    fields: dict[int, tuple[int, bytes]] = {}

    def put(tag: int, kind: int, *values: int) -> None:
        fields[tag] = (kind, struct.pack(f"{order}{len(values)}{ {3: 'H', 4: 'I'}[kind] }", *values))

    described = directory(exif, struct.unpack_from(order + "I", exif, 4)[0])[0] if exif else {}
    for tag in (*_DESCRIPTIVE, _EXIF, _GPS):
        if tag in described:
            fields[tag] = (described[tag].kind, described[tag].value)
    put(_WIDTH, 4, width)
    put(_HEIGHT, 4, height)
    put(_BITS, 3, *[8 * samples.itemsize] * channels)
    put(_COMPRESSION, 3, 8)  # Deflate
    put(_PHOTOMETRIC, 3, _BLACK if channels == 1 else _RGB)
    put(273, 4, *places)
    put(ORIENTATION, 3, 1)
    put(_SAMPLES, 3, channels)
    put(278, 4, rows)
    put(279, 4, *lengths)
    put(_PLANAR, 3, 1)
    put(317, 3, 2)  # differences of neighbours
    if channels == 4:
        put(_EXTRA, 3, 2)  # alpha, not multiplied into the colours
    if metadata.xmp:
        fields[_XMP] = (1, metadata.xmp)
    if metadata.profile:
        fields[_PROFILE] = (7, metadata.profile)
    _append_directory(file, fields, order)
    return bytes(file)


def _pixels(data: bytes, first: dict[int, Entry], order: str) -> tuple[Samples, str | None]:
    """(upright samples, a note about converted colours or None)."""

    def numbers(tag: int, default: list[int]) -> list[int]:
        return _numbers(first, tag, order) or default

    photometric = numbers(_PHOTOMETRIC, [_BLACK])[0]
    count = numbers(_SAMPLES, [1])[0]
    bits, formats = numbers(_BITS, [1]), numbers(_FORMAT, [1])
    extra = numbers(_EXTRA, [])
    planar = numbers(_PLANAR, [1])[0] == 2
    colours = {_WHITE: 1, _BLACK: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}.get(photometric)
    if colours is None:
        kind = _NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise NotReadError(f"is a TIFF of {kind}, which is not read; convert it to RGB")
    if set(formats) != {1}:
        kind = {2: "signed", 3: "floating-point"}.get(formats[0], "complex or unknown")
        raise NotReadError(f"is a TIFF of {kind} values; convert it to 8 or 16 bits per channel")
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16):
        raise NotReadError(f"is a TIFF of {', '.join(map(str, bits[:5]))} bits per channel; convert it to 8 or 16")
    alpha = count - colours
    if not 0 <= alpha <= 1 or (alpha and photometric not in (_WHITE, _BLACK, _RGB)):
        raise NotReadError(f"is a TIFF of {count} channels; convert it to grayscale, RGB or RGBA")
    depth = bits[0]
    if depth < 8 and (photometric not in (_WHITE, _BLACK, _PALETTE) or alpha):
        raise NotReadError(f"is a colour TIFF of {depth} bits per channel; convert it to 8")
    if depth == 16:
        if photometric not in (_WHITE, _BLACK, _RGB) or (colours == 1 and alpha) or (planar and count > 1):
            raise NotReadError("is a TIFF of 16 bits per channel in an unusual layout; convert it to PNG")
        pixels = opencv(data)
        if pixels.dtype != np.uint16:
            raise NotReadError(DAMAGED)
        if photometric == _WHITE:
            pixels = 65535 - pixels
        return (_divided(pixels) if extra[:1] == [_ASSOCIATED] and alpha else pixels), None
    if photometric in (_CMYK, _LAB) or (alpha and (extra[:1] not in ([0], [_ASSOCIATED]) or colours == 1)):
        return _by_pillow(data, photometric, first, order)
    try:
        return (_divided(opencv(data)) if alpha and extra[:1] == [_ASSOCIATED] else opencv(data)), None
    except NotReadError:
        return _by_pillow(data, photometric, first, order)  # compressed in a way that OpenCV does not know


def _by_pillow(data: bytes, photometric: int, first: dict[int, Entry], order: str) -> tuple[Samples, str | None]:
    from PIL import Image

    note = None
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as picture:
            picture.load()
            if photometric == _CMYK:
                profile = first[_PROFILE].value if _PROFILE in first else None
                pixels, note = colour.cmyk_to_rgb(data, np.asarray(picture.convert("RGB"), np.uint8), profile)
            elif photometric == _LAB:
                pixels, note = colour.lab_to_rgb(picture), "has CIELAB colours; it is restored as sRGB"
            elif picture.mode == "LA":
                samples = np.asarray(picture, np.uint8)
                pixels = with_alpha(samples[..., 0], samples[..., 1])
            elif picture.mode in ("L", "RGB", "RGBA"):
                pixels = np.asarray(picture, np.uint8)
            elif picture.mode in ("1", "P", "YCbCr"):
                pixels = np.asarray(picture.convert("L" if picture.mode == "1" else "RGB"), np.uint8)
            else:
                raise NotReadError(f"is a TIFF in an unusual layout ({picture.mode}); convert it to PNG")
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise NotReadError(DAMAGED) from error
    return pixels, note


def _divided(pixels: Samples) -> Samples:
    """RGBA whose colours were multiplied by alpha, as they were before, to the nearest; black where alpha is 0."""
    most = np.iinfo(pixels.dtype).max
    alpha = pixels[..., 3:].astype(np.uint64)
    colours = (pixels[..., :3].astype(np.uint64) * most + alpha // 2) // np.maximum(alpha, 1)
    return np.dstack([np.minimum(colours, most).astype(pixels.dtype), pixels[..., 3]])


def _reduced(page: dict[int, Entry], order: str) -> bool:
    """Whether a directory is a preview or a mask, not a picture of its own."""
    return bool((_numbers(page, _SUBFILE, order) or [0])[0] & 5)


def _numbers(page: dict[int, Entry], tag: int, order: str) -> list[int]:
    """A field's values, none where it is missing or holds no numbers."""
    return page[tag].numbers(order) if tag in page else []


def _exif(data: bytes, first: dict[int, Entry], order: str) -> bytes | None:
    """An EXIF block of its own from a TIFF's directories: who, when, with what, where; None where nothing is said."""
    if b"+" in data[:4]:
        return None
    block = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    described = {tag: first[tag] for tag in _DESCRIPTIVE if tag in first}
    if sum(entry.length for entry in described.values()) > _LARGEST_EXIF:
        return None
    fields = {tag: (entry.kind, entry.value) for tag, entry in described.items()}
    telling = bool(fields.keys() - {282, 283, 296})
    for tag in (_EXIF, _GPS):
        place = _numbers(first, tag, order)
        inner = directory(data, place[0])[0] if place else {}
        if inner and sum(entry.length for entry in inner.values()) <= _LARGEST_EXIF:
            values = {key: (entry.kind, entry.value) for key, entry in inner.items()}
            at = _append_directory(block, values, order, link=False)
            fields[tag] = (4, struct.pack(order + "I", at))
            telling = True
    if not telling:
        return None
    _append_directory(block, fields, order)
    return bytes(block)


def _append_directory(file: bytearray, fields: dict[int, tuple[int, bytes]], order: str, link: bool = True) -> int:
    """Puts a directory of {tag: (type, value)} behind `file`, whose header then points to it with `link`; its place."""
    entries = b""
    for tag in sorted(fields):
        kind, value = fields[tag]
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", _append(file, value))
        entries += struct.pack(order + "HHI", tag, kind, len(value) // SIZES[kind]) + place
    at = _append(file, struct.pack(order + "H", len(fields)) + entries + bytes(4))
    if link:
        struct.pack_into(order + "I", file, 4, at)
    return at


def _append(file: bytearray, content: bytes) -> int:
    """Puts `content` behind `file`, at an even place, which is returned."""
    file += bytes(len(file) % 2)
    at = len(file)
    file += content
    return at
