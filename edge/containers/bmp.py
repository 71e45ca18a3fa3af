"""BMP (Windows): OpenCV decodes the pixels; the colour profile of headers of version 5 is found here."""

from __future__ import annotations

import struct

from edge.containers.record import Decoded, Metadata, opencv

_HEADER = 14  # where the picture's header begins, bytes
_VERSION_4, _VERSION_5 = 108, 124  # lengths of headers
_CALIBRATED, _EMBEDDED, _LINKED = 0, 0x4D424544, 0x4C494E4B


def read(data: bytes) -> Decoded:
    profile, note = None, ""
    length = int.from_bytes(data[_HEADER : _HEADER + 4], "little")
    if length >= _VERSION_4 and len(data) >= _HEADER + length:
        space = struct.unpack_from("<I", data, _HEADER + 56)[0]
        if space == _CALIBRATED and any(data[_HEADER + 60 : _HEADER + 108]):
            note = "says by numbers what its colours mean, which are left out"
        elif length >= _VERSION_5 and space == _LINKED:
            note = "names a file with its colour profile, which is left out"
        elif length >= _VERSION_5 and space == _EMBEDDED:
            at, size = struct.unpack_from("<II", data, _HEADER + 112)
            profile = data[_HEADER + at : _HEADER + at + size]
    return Decoded(opencv(data), Metadata(profile), notes=(note,) if note else ())
