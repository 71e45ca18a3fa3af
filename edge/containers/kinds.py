"""Which format a file has. The first bytes decide, never the suffix."""

from __future__ import annotations

import re

HEAD = 256  # bytes of a file that `kind_of` wants to see

_TO_PNG = "convert it to PNG"
_DEVELOP = "develop it to a 16-bit TIFF or PNG first"

# Read here, or by the module of this package with that name.
_READ: tuple[tuple[str, bytes], ...] = (
    ("png", rb"\x89PNG\r\n\x1a\n"),
    ("jpeg", rb"\xff\xd8\xff"),
    ("webp", rb"RIFF....WEBP"),
    ("gif", rb"GIF8[79]a"),
    ("bmp", rb"BM.{4}.{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("netpbm", rb"P[1-7][\s#]"),
    ("jp2", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("sun", rb"\x59\xa6\x6a\x95"),
)

# Known, and refused by its name: (name in a sentence, first bytes, what to do).
_REFUSED: tuple[tuple[str, bytes, str], ...] = (
    ("a JPEG XL picture", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", _TO_PNG),
    ("an OpenEXR picture of floating-point values", rb"v/1\x01", "convert it to 16 bits per channel"),
    ("a Radiance HDR picture of floating-point values", rb"#\?R(?:ADIANCE|GBE)", "convert it to 16 bits per channel"),
    ("a PFM picture of floating-point values", rb"P[Ff]\s", "convert it to 16 bits per channel"),
    ("a Photoshop document", rb"8BPS", _TO_PNG),
    ("a PDF document", rb"%PDF-", "export its pages as PNG"),
    ("an icon", rb"\0\0[\x01\x02]\0[\x01-\x40]\0|icns", _TO_PNG),
    ("a DDS texture", rb"DDS ", _TO_PNG),
    ("a QOI picture", rb"qoif", _TO_PNG),
    ("a BPG picture", rb"BPG\xfb", _TO_PNG),
    ("a FLIF picture", rb"FLIF", _TO_PNG),
    ("a JPEG XR picture", rb"II\xbc", _TO_PNG),
    ("a GIMP document", rb"gimp xcf", "export it as PNG"),
    ("an MNG or JNG picture", rb"\x8a[MJ]NG\r\n", _TO_PNG),
    ("a FITS file", rb"SIMPLE  =", "convert it to 16 bits per channel"),
    ("a DICOM file", rb".{128}DICM", _TO_PNG),
    ("a camera's raw file", rb"(?:II\*\0|MM\0\*).{4}CR\x02|FUJIFILMCCD-RAW|IIU\0|II?R[OS]|MMOR|FOVb", _DEVELOP),
    ("an SVG drawing", rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*(?:<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*)?<svg", _TO_PNG),
)
_TIFF = rb"II[*+]\0|MM\0[*+]"
_AVIF, _HEIF = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def kind_of(head: bytes) -> str | None:
    """The format of a file that begins with `head`: a module's name, "gif", "bmp", "sun", "refused", or None.

    None is what no still image begins with: a video, perhaps.
    """
    if refusal(head) is not None:
        return "refused"
    if re.match(_TIFF, head):
        return "tiff"
    if head[4:8] == b"ftyp" and {head[8:12], *_brands(head)} & (_AVIF | _HEIF):
        return "heif"
    return next((name for name, first in _READ if re.match(first, head, re.DOTALL)), None)


def refusal(head: bytes) -> str | None:
    """Why a file of a known format is not read, in words that go on from its name; None where it may be."""
    if head[4:12] == b"ftypcrx ":
        return f"is a camera's raw file, which is not read here; {_DEVELOP}"
    for name, first, instead in _REFUSED:
        if re.match(first, head, re.DOTALL):
            return f"is {name}, which is not read here; {instead}"
    return None


def is_avif(head: bytes) -> bool:
    """Whether a file of kind "heif" holds AV1 pictures, by what it says that it is compatible with."""
    brands = {head[8:12], *_brands(head)}
    return bool(brands & _AVIF)


def _brands(head: bytes) -> set[bytes]:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[at : at + 4] for at in range(16, end - 3, 4)}
