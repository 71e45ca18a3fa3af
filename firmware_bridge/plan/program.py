"""What a network is compiled to: operations, the terms that they add up, and the values that they store."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_bridge.plan.records import NEAREST, NONE, header_hash


@dataclass(frozen=True)
class Term:
    """A value that is read position by position and added, starting at channel `offset`, times 2^shift.

    mode, factor: how positions are mapped, as in records.py.
    """

    value: int
    mode: int = NEAREST
    factor: int = 1
    offset: int = 0
    shift: int = 0

    @property
    def plain(self) -> bool:
        return (self.mode, self.factor, self.offset) == (NEAREST, 1, 0)


@dataclass
class Operation:
    """kind: of records.OPERATIONS. node: the one that it ends with. fields: the record's, in its order. reads: indices
    of the values that it reads."""

    kind: str
    node: str
    fields: dict[str, int]
    reads: list[int] = field(default_factory=list)

    @property
    def written(self) -> list[int]:
        """Indices of the values that it writes; none where it writes the picture."""
        return [self.fields[key] for key in ("output", "spikes") if self.fields[key] != NONE]


@dataclass(frozen=True)
class StoredValue:
    """A node's output as it lies in the arena: [row][step][column][channel]; spikes as bits, 32 to a word.

    storage: "bits", "counts", "int16" or "int32"; of counts, how many spikes each neuron has in its window, the binary
    digits stand in place of steps, the lowest first. unit_bytes: per block of stride x stride pixels of the padded
    image; offset: from the arena's start, likewise. first, last: the operations that write it and read it last.

    rows: how many rows are kept at a time when the image is worked on from top to bottom; row_offset: of those, bytes
    per stride pixels of the padded image's width.
    """

    node: str
    channels: int
    scale: int
    steps: int
    storage: str
    unit_bytes: int
    first: int
    last: int
    offset: int = 0
    rows: int = 1
    row_offset: int = 0


@dataclass(frozen=True)
class Plan:
    """A compiled network. data: what the core reads. layers: the nodes' names, as the core numbers them.

    values: what is stored. operations: the node after which each is named. unit: bytes of the arena per block of
    stride x stride pixels of the padded image; row_unit: per stride pixels of its width, if it is worked on by rows.
    """

    data: bytes
    layers: tuple[str, ...]
    values: tuple[StoredValue, ...]
    operations: tuple[str, ...]
    unit: int
    row_unit: int
    stride: int
    align: int
    halo: int

    @property
    def hash(self) -> str:
        """64 hex digits; two plans with one hash are the same plan."""
        return header_hash(self.data, "hash").hex()

    def units(self, height: int, width: int) -> int:
        """Blocks of stride x stride pixels in an image of that size."""
        return -(-height // self.stride) * -(-width // self.stride)

    def arena_bytes(self, height: int, width: int, by_rows: bool = False) -> int:
        """Bytes of all stored values for an image of that size; the core needs a few kilobytes more."""
        return -(-width // self.stride) * self.row_unit if by_rows else self.units(height, width) * self.unit

    def tiled(self, height: int, width: int, side: int) -> tuple[int, int, float]:
        """Tiles of `side` pixels: height and width of the largest with its halo, and how many times more pixels are
        computed than the image has."""
        down, across = (
            [min(at + side + self.halo, extent) - max(at - self.halo, 0) for at in range(0, extent, side)]
            for extent in (height, width)
        )
        return max(down), max(across), sum(down) * sum(across) / (height * width)

    def peak(self) -> tuple[str, list[StoredValue]]:
        """The operation during which most is stored, and what that is (memory that is handed over, once)."""
        best: list[StoredValue] = []
        worst, most = "", -1
        for i, name in enumerate(self.operations):
            live = {v.offset: v for v in self.values if v.first <= i <= v.last}
            size = sum(v.unit_bytes for v in live.values())
            if size > most:
                worst, most, best = name, size, list(live.values())
        return worst, best
