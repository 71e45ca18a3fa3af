"""PNG (and APNG): chunks (https://www.w3.org/TR/png-3/). OpenCV decodes and encodes the pixels, 8 and 16 bits."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from edge.containers.exif import orientation
from edge.containers.record import Decoded, Metadata, NotReadError, Samples, opencv, with_alpha

_SIGNATURE = 8
_XMP = b"XML:com.adobe.xmp\0"
_MOST_CHUNKS = 1 << 20  # beside those of pixels
_LARGEST = 1 << 24  # bytes of a profile or of XMP
_HDR = {16: "PQ", 18: "HLG"}  # transfer functions of H.273
# White, red, green and blue on the CIE 1931 diagram, in 100,000ths, and what encoders round away.
_SRGB, _NEAR = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), 500
_SRGB_GAMMA = range(45000, 46000)  # of 100,000: what encoders write for 1 / 2.2


def read(data: bytes) -> Decoded:
    chunks: dict[bytes, bytes] = {}
    xmp = None
    for kind, content in itertools.islice(_chunks(data), _MOST_CHUNKS):
        if kind == b"iTXt" and content.startswith(_XMP):
            xmp = _text(content)
        chunks.setdefault(kind, content)
    if b"CgBI" in chunks:
        raise NotReadError("is a PNG of an app for iPhones (CgBI), which is no PNG to others; convert it to PNG")
    notes = []
    code = chunks.get(b"cICP", b"")[:2]
    if len(code) == 2 and code[1] in _HDR:
        raise NotReadError(f"is a PNG of high dynamic range ({_HDR[code[1]]}); convert it to standard range")
    if len(code) == 2 and code[0] != 1:
        notes.append(f"says by a number (cICP, primaries {code[0]}) what its colours mean, which is left out")
    profile = _profile(chunks.get(b"iCCP", b""))
    if profile is None and b"iCCP" in chunks:
        notes.append("has a damaged colour profile, which is left out")
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big")
    if gamma and profile is None and b"sRGB" not in chunks and not code and gamma not in _SRGB_GAMMA:
        notes.append(f"is to be shown with a gamma of {gamma / 100_000:g} (gAMA), which is left out")
    primaries = chunks.get(b"cHRM", b"")
    if len(primaries) == 32 and profile is None and b"sRGB" not in chunks and not code:
        if any(abs(found - srgb) > _NEAR for found, srgb in zip(struct.unpack(">8I", primaries), _SRGB, strict=True)):
            notes.append("says by numbers (cHRM) what its colours mean, which are left out")
    pixels = opencv(data)
    header, transparent = chunks.get(b"IHDR", b""), chunks.get(b"tRNS", b"")
    if header[9:10] == b"\0" and len(transparent) == 2 and pixels.ndim == 2:  # OpenCV does this for colours only
        pixels = _with_key(pixels, int.from_bytes(transparent, "big"), header[8])
    exif = chunks.get(b"eXIf")
    pictures = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big") or 1
    return Decoded(pixels, Metadata(profile, exif, xmp), orientation(exif), pictures, tuple(notes))


def write(pixels: Samples, metadata: Metadata) -> bytes:
    """`pixels`, red last as OpenCV wants them, as a PNG with `metadata`. Raises cv2.error."""
    _, encoded = cv2.imencode(".png", pixels)
    png = encoded.tobytes()
    after_header = _SIGNATURE + 25
    more = b""
    if metadata.profile:
        more += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile))
    if metadata.exif:
        more += _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        more += _chunk(b"iTXt", _XMP + b"\0\0\0\0" + metadata.xmp)
    return png[:after_header] + more + png[after_header:]


def _with_key(gray: Samples, key: int, bits: int) -> Samples:
    """RGBA of grayscale in which the value `key` of `bits` bits stands for full transparency."""
    top = 65535 if gray.dtype == np.uint16 else 255
    value = key if bits >= 8 else key * 255 // ((1 << bits) - 1)
    return with_alpha(gray, np.where(gray == value, 0, top).astype(gray.dtype))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = _SIGNATURE
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            return
        if kind != b"IDAT" and kind != b"fdAT":
            yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _profile(content: bytes) -> bytes | None:
    _, _, rest = content.partition(b"\0")
    return _inflated(rest[1:])


def _text(content: bytes) -> bytes | None:
    """The text of an iTXt chunk: keyword, two bytes for compression, language, translated keyword, text."""
    compressed, rest = content[len(_XMP) : len(_XMP) + 1], content[len(_XMP) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    if compressed == b"\1":
        return _inflated(text)
    return text or None


def _inflated(content: bytes) -> bytes | None:
    """None for what is damaged, cut short, empty or larger than anything sensible."""
    stream = zlib.decompressobj()
    try:
        whole = stream.decompress(content, _LARGEST)
    except zlib.error:
        return None
    return whole if whole and stream.eof else None
