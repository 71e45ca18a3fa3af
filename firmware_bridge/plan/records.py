"""The plan as bytes: its records, field by field, and its seal. PLAN.md says what every field means.

Every field is one little-endian 32-bit word, but for the header's two hashes. `firmware/core/plan.h` holds the same
records in C, and a test compares the two. A new operation is an entry of OPERATIONS and one of FIELDS.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence

MAGIC = int.from_bytes(b"SNNP", "little")
VERSION = 3
NONE = 0xFFFFFFFF
HASH_BYTES = 32

HEADER = (
    "magic", "version", "semantics", "bytes", "hash", "bundle_hash", "time_steps", "stride", "align", "halo",
    "layers", "values", "operations", "terms", "projections", "unit", "row_unit", "zero",
)  # fmt: skip
VALUE = ("layer", "channels", "scale", "steps", "storage", "offset", "rows", "row_offset")
TERM = ("value", "mode", "factor", "offset", "shift")
PROJECTION = ("target", "target_scale", "factor", "kernel", "stride", "padding", "dilation", "channels")
# An operation's first words are common, the others depend on its kind; those that are not used are 0.
OPERATION = ("kind", "layer", "input", "output", "spikes", "first_term", "terms", "channels", "lead", "used")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "image": ("factor",),
    "pixels": (
        "head", "head_layer", "factor", "kernel", "stride", "padding", "dilation", "groups", "head_shift", "narrow",
        "weight", "bias", "steps", "time_sum", "rounds", "shift", "lo", "hi", "restores", "restore_shift",
        "neurons", "neuron_layer", "decay", "subtract", "fine", "threshold", "lif_bias", "leak", "level",
        "first_projection", "projections",
    ),
    "spikes": (),
    "attend": (
        "over", "window", "hidden", "pool_shift", "hidden_shift", "gate_offset", "gate_shift", "gate_q",
        "squeeze", "squeeze_bias", "excite", "excite_bias",
    ),
}  # fmt: skip
OPERATION_WORDS = 41

OPERATIONS = {"image": 1, "pixels": 2, "spikes": 3, "attend": 4}
HEADS = {"conv": 1, "dense_conv": 2, "picture_conv": 3}
OVER = {"time": 0, "channel": 1, "space": 2}
NEURONS = {"lif": 1, "window": 2}
STORAGE = {"bits": 1, "int16": 2, "int24": 3, "int32": 4, "counts": 5}
SPIKES = ("bits", "counts")  # the storages of spikes, in planes of bits
NEAREST, DEPTH_TO_SPACE, SPACE_TO_DEPTH = range(3)  # how a term maps positions


def _offsets(names: Sequence[str]) -> tuple[dict[str, int], int]:
    """Where each field begins, bytes from the record's start, and the record's length."""
    offsets, at = {}, 0
    for name in names:
        offsets[name] = at
        at += HASH_BYTES if name.endswith("hash") else 4
    return offsets, at


HEADER_AT, HEADER_BYTES = _offsets(HEADER)
VALUE_BYTES, TERM_BYTES, PROJECTION_BYTES = (4 * len(record) for record in (VALUE, TERM, PROJECTION))
OPERATION_BYTES = 4 * OPERATION_WORDS


def header_word(plan: bytes, name: str) -> int:
    """A field of a plan's header; 0 where the plan is not even that long."""
    return int.from_bytes(plan[HEADER_AT[name] : HEADER_AT[name] + 4], "little")


def header_hash(plan: bytes, name: str) -> bytes:
    """The `hash` or the `bundle_hash` of a plan's header, 32 bytes."""
    return plan[HEADER_AT[name] : HEADER_AT[name] + HASH_BYTES]


def header(fields: Mapping[str, int], bundle_hash: bytes) -> bytes:
    """A header with zeros for the hash, see `sealed`; `fields`: all that are words, by name."""
    assert set(fields) == {name for name in HEADER if not name.endswith("hash")}
    hashes = {"hash": bytes(HASH_BYTES), "bundle_hash": bundle_hash}
    return b"".join(hashes[name] if name in hashes else words(fields[name]) for name in HEADER)


def operation(fields: Mapping[str, int]) -> bytes:
    """One operation, its `fields` in the order of the record."""
    return words(*fields.values(), *[0] * (OPERATION_WORDS - len(fields)))


def words(*numbers: int) -> bytes:
    """Numbers of either sign, modulo 2^32."""
    return struct.pack(f"<{len(numbers)}I", *(number & 0xFFFFFFFF for number in numbers))


def sealed(data: bytes) -> bytes:
    """The plan with its hash (BLAKE2b, over the plan with 32 zeros in its place) filled in."""
    at, end = HEADER_AT["hash"], HEADER_AT["hash"] + HASH_BYTES
    digest = hashlib.blake2b(data[:at] + bytes(HASH_BYTES) + data[end:], digest_size=HASH_BYTES).digest()
    return data[:at] + digest + data[end:]


def position_bytes(storage: str, channels: int) -> int:
    """Bytes of one position of a stored value at one step; spikes are bits, 32 to a word, or binary digits likewise."""
    return -(-channels // 32) * 4 if storage in SPIKES else channels * STORAGE[storage]
