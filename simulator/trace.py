"""Traces: one hash per layer and time step, so that a mismatch between two backends names its place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Trace = dict[str, list[str]]


def digest(value: npt.NDArray[np.integer]) -> list[str]:
    """Hashes of one node's output [T or 1, C, h, w], any integer type: per step BLAKE2b (8 bytes, hex) over the int32
    little-endian numbers in the order (channel, row, column). A static value has one."""
    steps = np.ascontiguousarray(value, dtype="<i4")
    return [hashlib.blake2b(step.tobytes(), digest_size=8).hexdigest() for step in steps]


def first_difference(a: Mapping[str, list[str]], b: Mapping[str, list[str]]) -> str | None:
    """Where two traces of one network on one image part for the first time, in words; None if they agree."""
    for layer, hashes in a.items():
        if layer not in b:
            return f"layer {layer!r} is missing from the second trace"
        if len(hashes) != len(b[layer]):
            return f"layer {layer!r} has {len(hashes)} steps in the first trace and {len(b[layer])} in the second"
        for step, (one, other) in enumerate(zip(hashes, b[layer], strict=True)):
            if one != other:
                return f"layer {layer!r}, step {step}: {one} and {other}"
    for layer in b:
        if layer not in a:
            return f"layer {layer!r} is missing from the first trace"
    return None
