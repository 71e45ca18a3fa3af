"""JPEG: segments (ITU-T T.81, and what EXIF, ICC, Adobe and CIPA's multi-picture format put into APP1, APP2, APP14)."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator

import cv2

from edge.containers import colour
from edge.containers.exif import orientation
from edge.containers.record import Decoded, Metadata, NotReadError, Samples, opencv

_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_LONGEST = 65533  # bytes of a segment's content
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that say size, depth and components
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_APPLICATION = range(0xE0, 0xF0)
_BEGIN = b"\xff\xd8\xff"
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TRAILER = 64  # shorter ones are padding


def read(data: bytes) -> Decoded:
    exif = xmp = None
    profile: dict[int, bytes] = {}
    components = 3
    several = gain_map = False
    end = len(data)
    for marker, start, stop in _segments(data):
        content = data[start:stop]
        if marker in _FRAMES and len(content) >= 6:
            if content[0] != 8:
                raise NotReadError(f"is a JPEG of {content[0]} bits per channel, which is not read; convert it to PNG")
            components = content[5]
        elif marker == 0xE1 and content.startswith(_EXIF):
            exif = exif or content[len(_EXIF) :]
        elif marker == 0xE1 and content.startswith(_XMP):
            xmp = xmp or content[len(_XMP) :]
        elif marker == 0xE2 and content.startswith(_ICC) and len(content) > 14:
            profile.setdefault(content[12], content[14:])
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            several = True
        elif marker == 0xE2 and content.startswith(b"urn:iso:std:iso:ts:21496:-1"):
            gain_map = True
        elif marker == _END:
            end = stop
    notes = []
    if gain_map or b"ns.adobe.com/hdr-gain-map" in (xmp or b""):
        notes.append("has a gain map for bright displays, which is left out: the picture is that of ordinary displays")
        xmp = None  # it describes the gain map
    elif several:
        notes.append("holds further pictures behind the first (a second view, depth or a gain map), which are left out")
    elif len(data[end:].strip(b"\0")) > _TRAILER:
        notes.append(f"has {_size(len(data) - end)} behind the picture (a film or a second one), which are left out")
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    pixels = opencv(data)
    if components == 4:
        pixels, note = colour.cmyk_to_rgb(data, pixels, icc)
        notes.append(note)
        icc = None
    return Decoded(pixels, Metadata(icc, exif, xmp), orientation(exif), 1, tuple(notes))


def write(pixels: Samples, metadata: Metadata) -> tuple[bytes, list[str]]:
    """`pixels`, uint8 and red last as OpenCV wants them, as close as JPEG goes; and what of `metadata` did not fit."""
    _, encoded = cv2.imencode(".jpg", pixels, _QUALITY)
    jpeg = encoded.tobytes()
    more, lost = b"", []
    for name, signature, content in (("EXIF data", _EXIF, metadata.exif), ("XMP data", _XMP, metadata.xmp)):
        if content and len(signature + content) <= _LONGEST:
            more += _segment(0xE1, signature + content)
        elif content:
            lost.append(name)
    if metadata.profile:
        room = _LONGEST - len(_ICC) - 2
        parts = [metadata.profile[at : at + room] for at in range(0, len(metadata.profile), room)]
        if len(parts) <= 255:
            for number, part in enumerate(parts, 1):
                more += _segment(0xE2, _ICC + bytes((number, len(parts))) + part)
        else:
            lost.append("colour profile")
    after_jfif = 4 + struct.unpack_from(">H", jpeg, 4)[0] if jpeg[2:4] == b"\xff\xe0" else 2
    return jpeg[:after_jfif] + more + jpeg[after_jfif:], lost


def is_sequence(data: bytes | mmap.mmap) -> bool:
    """Whether JPEGs follow each other without anything that ties them together: the frames of a video."""
    for marker, start, stop in _segments(data):
        if marker == 0xE2 and data[start : start + 4] == b"MPF\0":
            return False
        if marker == _END:
            return data[stop : stop + 3] == b"\xff\xd8\xff"
    return False


def extent(data: bytes | bytearray) -> tuple[int, bool]:
    """(where the picture at the beginning of `data` ends, True), or (how far it could be followed, False).

    At the second place it goes on when there are more bytes, or it is broken: where another picture begins, it is.
    """
    reached = 2
    scanned = False
    for marker, start, stop in _segments(data):
        if marker == _END:
            return stop, True
        if marker == _START:
            return start, False
        # Noise may look like the length of a segment that reaches over whole pictures behind this one. Only what an
        # application has put in front may hold another, a thumbnail.
        if scanned or marker not in _APPLICATION:
            another = data.find(_BEGIN, start, stop)
            if another >= 0:
                return another, False
        scanned = scanned or marker == _SCAN
        reached = min(stop, len(data))
    return reached, False


def _segments(data: bytes | bytearray | mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """(marker, start and stop of its content) up to the end of the picture, whose stop is where the file goes on."""
    at = 2
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker == _END:
            yield marker, at + 2, at + 2
            return
        elif marker == _START:  # of another picture, where this one has no end
            yield marker, at, at
            at += 2
        elif marker == 0x01 or 0xD0 <= marker < _START:
            at += 2
        else:
            if at + 4 > len(data):
                return
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, at + 4, at + 2 + length
            at += 2 + max(length, 2)
            if marker == _SCAN:
                found = _MARKER_IN_SCAN.search(data, at)
                if found is None:
                    return
                at = found.start()


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _size(count: int) -> str:
    return f"{count} bytes" if count < 10_000 else f"{count >> 10} KiB"
