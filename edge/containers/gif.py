"""GIF89a. OpenCV decodes the first picture; how many follow is counted here."""

from __future__ import annotations

from edge.containers.record import Decoded, opencv

_FAR_ENOUGH = 1 << 26  # bytes
_TABLE, _PICTURE, _EXTENSION = 0x80, 0x2C, 0x21


def read(data: bytes) -> Decoded:
    return Decoded(opencv(data), pictures=max(1, _pictures(data)))


def _pictures(data: bytes) -> int:
    """Image descriptors up to the end of the file, as far as is looked, or the first thing that is no block."""
    count, at = 0, 13 + _table(data, 10)
    data = data[:_FAR_ENOUGH]
    while at < len(data):
        if data[at] == _PICTURE:
            count += 1
            at += 11 + _table(data, at + 9)
        elif data[at] == _EXTENSION:
            at += 2
        else:
            break
        while at < len(data) and data[at]:  # sub-blocks, each with its length in front
            at += data[at] + 1
        at += 1
    return count


def _table(data: bytes, at: int) -> int:
    """Bytes of the colour table that the flags at `at` announce."""
    return 3 << ((data[at] & 7) + 1) if at < len(data) and data[at] & _TABLE else 0
