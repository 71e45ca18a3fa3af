"""Where the stored values of a plan lie: in one arena, shared by those that are never needed at the same time.

`place` says where they lie if the image is worked on at once, one operation after the other; `place_rows` if it is
worked on from top to bottom in bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from firmware_bridge.plan.program import Operation, StoredValue, Term
from firmware_bridge.plan.records import HEADS, NONE, OVER, SPACE_TO_DEPTH, position_bytes

_READ_TERMS_ONLY = ("image", "spikes")


def place(
    values: Sequence[StoredValue], operations: Sequence[Operation], heirs: Mapping[int, Sequence[int]]
) -> tuple[list[StoredValue], int]:
    """The values with their offsets and their last readers, and the size of the arena per unit.

    heirs: value -> values whose memory it could take over, where they are read for the last time as it is written.
    """
    values = list(values)
    for index, operation in enumerate(operations):
        for read in operation.reads:
            values[read] = replace(values[read], last=index)
    owner = list(range(len(values)))  # the value whose memory each one has
    for heir, candidates in sorted(heirs.items()):
        new = values[heir]
        for candidate in candidates:
            old = values[candidate]
            alike = (old.unit_bytes, old.storage, old.channels) == (new.unit_bytes, new.storage, new.channels)
            if alike and old.last == new.first and operations[new.first].reads.count(candidate) == 1:
                owner[heir] = owner[candidate]
                break
    spans: dict[int, tuple[int, int, int]] = {}  # owner -> first and last operation, size
    for value, first_owner in zip(values, owner, strict=True):
        first, last, size = spans.get(first_owner, (value.first, value.last, value.unit_bytes))
        spans[first_owner] = min(first, value.first), max(last, value.last), size
    orders = (
        lambda key: (-spans[key][2], spans[key][0]),  # the largest first
        lambda key: (spans[key][0] - spans[key][1], -spans[key][2]),  # the longest needed first
        lambda key: (spans[key][0], -spans[key][2]),  # as they come
    )
    offsets, unit = min((_arrange(spans, sorted(spans, key=order)) for order in orders), key=lambda found: found[1])
    return [replace(value, offset=offsets[owner[i]]) for i, value in enumerate(values)], unit


def place_rows(
    values: Sequence[StoredValue], operations: Sequence[Operation], terms: Sequence[Term], stride: int, align: int
) -> tuple[list[StoredValue], int]:
    """The values with the rows that are kept of each and their places, and the arena's size per row unit.

    An image is worked on in bands of `align` pixels, of which every operation does its rows and `lead` more, a field
    that is filled in here, and of every value only the rows that are still needed are kept. Everything repeats with
    every band, so that one band far from the borders tells all.
    """
    far = align << 16
    needed = [far // value.scale for value in values]  # rows that exist once a band is done
    ends = [0] * len(operations)
    for index in range(len(operations) - 1, -1, -1):
        operation = operations[index]
        end = max((needed[value] for value in operation.written), default=far // _scale(values, operation))
        if operation.kind == "attend":
            end = -(-end // operation.fields["window"]) * operation.fields["window"]
        if operation.kind == "pixels" and operation.fields["head"] == HEADS["picture_conv"]:
            # The picture may be restored in place: what the kernel covers above is read before the band is restored.
            ahead = -(-operation.fields["padding"] // operation.fields["stride"])
            end = max(end, far // _scale(values, operation) + ahead)
        ends[index] = end
        operation.fields["lead"] = end - far // _scale(values, operation)
        for read, _, bottom in _rows_read(operation, terms, 0, end):
            needed[read] = max(needed[read], bottom)
    rows = [1] * len(values)
    for operation, end in zip(operations, ends, strict=True):
        for read, top, _ in _rows_read(operation, terms, end - align // _scale(values, operation), end):
            rows[read] = max(rows[read], ends[values[read].first] - top)
    placed, at = [], 0
    for value, kept in zip(values, rows, strict=True):
        placed.append(replace(value, rows=kept, row_offset=at))
        columns = stride // value.scale
        at += -(-kept * columns * value.steps * position_bytes(value.storage, value.channels) // 8) * 8
    return placed, at


def _scale(values: Sequence[StoredValue], operation: Operation) -> int:
    """Of an operation's output; where that is the picture, of its blocks."""
    return values[operation.written[0]].scale if operation.written else operation.fields["restores"]


def _rows_read(operation: Operation, terms: Sequence[Term], first: int, end: int) -> list[tuple[int, int, int]]:
    """(value, first row, end) that an operation reads to give its rows [first, end), borders ignored."""
    fields = operation.fields
    spans = []
    if operation.kind == "pixels":
        if fields["input"] != NONE:
            top = first * fields["stride"] - fields["padding"]
            bottom = (end - 1) * fields["stride"] - fields["padding"] + (fields["kernel"] - 1) * fields["dilation"] + 1
            spans.append((fields["input"], top, bottom))
    elif operation.kind == "attend":
        window, beyond = fields["window"], int(fields["over"] == OVER["space"])
        spans.append((fields["input"], first // window * window - beyond, -(-end // window) * window + beyond))
    elif operation.kind not in _READ_TERMS_ONLY:
        raise NotImplementedError(f"which rows the operation {operation.kind!r} reads is not known")
    for term in terms[fields["first_term"] : fields["first_term"] + fields["terms"]]:
        if term.mode == SPACE_TO_DEPTH:
            spans.append((term.value, first * term.factor, end * term.factor))
        else:
            spans.append((term.value, first // term.factor, -(-end // term.factor)))
    return spans


def _arrange(spans: Mapping[int, tuple[int, int, int]], order: Sequence[int]) -> tuple[dict[int, int], int]:
    """Offsets for memory needed over spans (first, last, size), placed one after another, each as low as it fits."""
    offsets: dict[int, int] = {}
    end = 0
    for key in order:
        first, last, size = spans[key]
        taken = sorted(
            (offsets[other], offsets[other] + spans[other][2])
            for other in offsets
            if spans[other][0] <= last and first <= spans[other][1]
        )
        at = 0
        for low, high in taken:
            if at + size <= low:
                break
            at = max(at, high)
        offsets[key] = at
        end = max(end, at + size)
    return offsets, end
