"""JPEG 2000: boxes of a JP2 file, or the bare codestream (ITU-T T.800)."""

from __future__ import annotations

import io
import re
import struct

import numpy as np

from edge.containers.record import BROKEN, DAMAGED, Decoded, Metadata, NotReadError, check_size, opencv, with_alpha


def read(data: bytes) -> Decoded:
    size = re.search(rb"\xff\x4f\xff\x51....(.{32})(..)", data, re.DOTALL)
    if size is None:
        raise NotReadError(DAMAGED)
    components = struct.unpack(">H", size[2])[0]
    depths = {data[size.end() + 3 * number] + 1 for number in range(components) if size.end() + 3 * number < len(data)}
    if depths - {8, 16}:
        raise NotReadError("is a JPEG 2000 picture of other than 8 or 16 bits per channel; convert it to PNG")
    header = data[: size.start()]
    if components > 4 or b"colr\1\0\0\0\0\0\x0c" in header:
        raise NotReadError("is a JPEG 2000 picture that is neither grayscale nor RGB; convert it to PNG")
    profile = None
    if match := re.search(rb"(....)colr\x02..", header, re.DOTALL):
        profile = header[match.end() : match.start() + int.from_bytes(match[1], "big")] or None
    return Decoded(_gray_and_alpha(data) if components == 2 else opencv(data), Metadata(profile))


def _gray_and_alpha(data: bytes) -> np.ndarray:
    """RGBA by Pillow: OpenCV does not read two channels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as picture:
            check_size(*picture.size)
            if picture.mode != "LA":
                raise NotReadError("is a JPEG 2000 picture of two channels that are not gray and alpha; convert it")
            samples = np.asarray(picture)
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise NotReadError(DAMAGED) from error
    return with_alpha(samples[..., 0], samples[..., 1])
