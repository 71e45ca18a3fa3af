"""Netpbm: PBM, PGM, PPM, PAM. OpenCV takes the largest value for 255 or 65535 whatever the file says, and does not read
every text, so that PGM, PPM and PAM are decoded here; PBM is left to it.
"""

from __future__ import annotations

import re

import numpy as np

from edge.containers.record import DAMAGED, Decoded, NotReadError, Samples, check_size, opencv, scaled, with_alpha

_GAP = rb"(?:\s|#[^\n]*\n)+"
_BINARY = re.compile(rb"P([56])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")
_PLAIN = re.compile(rb"P([23])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")
_NO_NUMBER = re.compile(rb"[^\d\s]")
_COMMENT = re.compile(rb"#[^\n]*")
_PAM = re.compile(rb"P7\s.*?\nENDHDR\n", re.DOTALL)


def read(data: bytes) -> Decoded:
    plain = _PLAIN.match(data)
    if match := plain or _BINARY.match(data):
        width, height, largest = (int(match[number]) for number in (2, 3, 4))
        depth = 1 if match[1] in b"25" else 3
    elif match := _PAM.match(data, 0, 4096):
        header = dict(line.split(None, 1) for line in match[0].split(b"\n") if len(line.split(None, 1)) == 2)
        try:
            width, height, depth, largest = (int(header[k]) for k in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
        except (KeyError, ValueError) as error:
            raise NotReadError("is a PAM picture with an incomplete header; give a whole image file") from error
        kind = header.get(b"TUPLTYPE", b"").strip()
        usual = {1: b"GRAYSCALE", 2: b"GRAYSCALE_ALPHA", 3: b"RGB", 4: b"RGB_ALPHA"}
        if usual.get(depth) != kind and (kind or depth not in usual) and (depth, kind) != (1, b"BLACKANDWHITE"):
            raise NotReadError(f"is a PAM picture of kind {ascii(kind)[2:-1]}; convert it to PNG")
    else:
        return Decoded(opencv(data))
    check_size(width, height)
    if not 1 <= largest <= 65535 or not width or not height:
        raise NotReadError(DAMAGED)
    count = width * height * depth
    if plain:
        values = _numbers(_COMMENT.sub(b"", data[match.end() :]), count, largest)
        pixels = scaled(values.reshape(height, width, depth), largest)
        return Decoded(pixels[..., 0] if depth == 1 else pixels)
    dtype = np.dtype("u1" if largest < 256 else ">u2")
    if len(data) - match.end() < count * dtype.itemsize:
        raise NotReadError(DAMAGED)
    values = np.frombuffer(data, dtype, count, match.end()).astype(dtype.newbyteorder("="))
    pixels = scaled(values.reshape(height, width, depth), largest)
    following = data[match.end() + count * dtype.itemsize :]
    notes = ("holds more than one picture; only the first is restored",) if re.match(rb"\s*P[1-7]\s", following) else ()
    if depth in (2, 4):
        colours = pixels[..., 0] if depth == 2 else pixels[..., :3]
        return Decoded(with_alpha(colours, pixels[..., -1]), notes=notes)
    return Decoded(pixels[..., 0] if depth == 1 else pixels, notes=notes)


def _numbers(text: bytes, count: int, largest: int) -> Samples:
    """The first `count` numbers of a text, none above `largest`. Raises NotReadError where there are not so many."""
    found = np.fromstring(_NO_NUMBER.split(text, 1)[0].strip(), np.int64, sep=" ")[:count]
    if len(found) < count:
        raise NotReadError(DAMAGED)
    return np.minimum(found, largest).astype(np.uint8 if largest < 256 else np.uint16)
