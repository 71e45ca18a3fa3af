"""What row operations of all sorts share: where things lie, and rows of numbers 32 at a time."""

from __future__ import annotations

from typing import Any

from numba import njit

from simulator.engine.records import PLACE
from simulator.engine.vectors import I16X32, I32X32, load, narrow, store, widen

inline = njit(nogil=True)
force_inline = njit(nogil=True, forceinline=True)


@force_inline
def place(op: Any, field: int, y: int, x: int) -> Any:
    """Address of step 0, row y, column x of the place whose fields start at `field`."""
    row = y & op[field + PLACE.mask]
    return op[field + PLACE.address] + row * op[field + PLACE.row] + x * op[field + PLACE.column]


@force_inline
def take(address: int, i: int, wide: int) -> Any:
    """Elements 32 i .. 32 i + 31 of a row of int16 or (wide) int32, as 32 bits."""
    return load(I32X32, address + 128 * i) if wide else widen(load(I16X32, address + 64 * i))


@force_inline
def put(address: int, i: int, wide: int, value: Any) -> None:
    """Write what `take` reads."""
    if wide:
        store(address + 128 * i, value)
    else:
        store(address + 64 * i, narrow(value))
