"""The EXIF block of a picture: a TIFF header and its directories (CIPA DC-008)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ORIENTATION = 0x0112
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# More than any real file has, little enough for one that only claims it.
_MOST_ENTRIES = 4096  # in a directory
_MOST_IN_ALL = 1 << 18
_MOST_NUMBERS = 1024


@dataclass(frozen=True)
class Entry:
    """One field of a directory of `data`: where it stands, and where its value."""

    tag: int
    kind: int
    at: int
    data: bytes
    start: int
    length: int  # of the value, in bytes

    @property
    def value(self) -> bytes:
        """The value's bytes, in the byte order of `data`."""
        return bytes(self.data[self.start : self.start + self.length])

    def numbers(self, order: str) -> list[int]:
        """The value as whole numbers, the first few of many; empty for a type that has none."""
        code = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}.get(self.kind)
        if code is None:
            return []
        count = min(self.length // struct.calcsize(order + code), _MOST_NUMBERS)
        return list(struct.unpack_from(f"{order}{count}{code}", self.data, self.start))


def byte_order(data: bytes) -> str | None:
    """ "<" or ">" as `struct` writes it; None where no TIFF header stands."""
    return {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}.get(data[:4])


def directories(data: bytes) -> Iterator[dict[int, Entry]]:
    """The chain of directories of a TIFF or BigTIFF, as long as it stays inside `data`, ends and does not repeat."""
    order = byte_order(data)
    if order is None:
        return
    big = b"+" in data[:4]
    at = _number(data, order, 8 if big else 4, 8 if big else 4)
    seen: set[int] = set()
    entries = 0
    while at and at not in seen and entries < _MOST_IN_ALL:
        seen.add(at)
        found, following = directory(data, at)
        entries += len(found)
        if not found:
            return
        yield found
        at = following


def directory(data: bytes, at: int) -> tuple[dict[int, Entry], int]:
    """(the fields of the directory at `at`, by tag; where the next directory stands, 0 for nowhere)."""
    order = byte_order(data)
    if order is None:
        return {}, 0
    big = b"+" in data[:4]
    head, step, word = (8, 20, 8) if big else (2, 12, 4)
    count = _number(data, order, at, head)
    found: dict[int, Entry] = {}
    if not 0 < count <= _MOST_ENTRIES or at + head + count * step > len(data):
        return {}, 0
    for entry_at in range(at + head, at + head + count * step, step):
        tag, kind = struct.unpack_from(order + "HH", data, entry_at)
        number = _number(data, order, entry_at + 4, word)
        length = SIZES.get(kind, 0) * number
        value_at = entry_at + 4 + word
        if length > word:
            value_at = _number(data, order, value_at, word)
        if 0 < length and value_at + length <= len(data):
            found.setdefault(tag, Entry(tag, kind, entry_at, data, value_at, length))
    return found, _number(data, order, at + head + count * step, word)


def orientation(exif: bytes | None) -> int:
    """1 to 8: how the stored rows and columns have to be turned for the picture to stand upright; 1 if nothing says."""
    for first in directories(exif or b""):
        if ORIENTATION in first:
            values = first[ORIENTATION].numbers(byte_order(exif or b"") or "<")
            return values[0] if values and 1 <= values[0] <= 8 else 1
        break
    return 1


def upright(exif: bytes) -> bytes | None:
    """The block for a picture that has been turned: orientation 1, no thumbnail (it would show the picture as it came).

    All else stays where it is, for makers' notes point to places in the block. None for what is no EXIF block.
    """
    order = byte_order(exif)
    first, following = directory(exif, _number(exif, order or "<", 4, 4))
    if order is None or b"+" in exif[:4] or not first:
        return None
    changed = bytearray(exif)
    if ORIENTATION in first and first[ORIENTATION].kind == 3:
        struct.pack_into(order + "H", changed, first[ORIENTATION].at + 8, 1)
    if following:
        start = _number(exif, order, 4, 4)
        after = start + 2 + 12 * struct.unpack_from(order + "H", exif, start)[0]
        struct.pack_into(order + "I", changed, after, 0)
        thumbnail, _ = directory(exif, following)
        place, length = (thumbnail[tag].numbers(order)[:1] if tag in thumbnail else [] for tag in (0x0201, 0x0202))
        if place and length and place[0] + length[0] <= len(changed):
            changed[place[0] : place[0] + length[0]] = bytes(length[0])
            if place[0] + length[0] == len(changed):
                del changed[place[0] :]
    return bytes(changed)


def _number(data: bytes, order: str, at: int, size: int) -> int:
    """The unsigned number of `size` bytes at `at`, 0 beyond the end."""
    return int.from_bytes(data[at : at + size], "little" if order == "<" else "big") if at + size <= len(data) else 0
