"""Intrinsics that list the bits which are set, as numbers of 16 bits one after another: the events of `kernels/`.

Where the processor has an instruction that moves chosen lanes together (AVX-512 VBMI2) 64 bits are listed at once;
elsewhere a byte at a time from a table.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from simulator.engine.vectors import I1, I16, I16X16, I32, I64, broadcast, intrinsic, pointer_to, x86_features

BYTES = ir.VectorType(ir.IntType(8), 64)


def _bytes_as_places() -> ir.Constant:
    """For each byte the positions of its ones, in 8 x 16 bits: what is beyond their number does not matter."""
    rows = []
    for byte in range(256):
        ones = [bit for bit in range(8) if byte >> bit & 1]
        rows.append(ir.Constant(ir.VectorType(I16, 8), ones + [0] * (8 - len(ones))))
    return ir.Constant(ir.ArrayType(ir.VectorType(I16, 8), 256), rows)


def _one_by_one(builder: Any, address: Any, base: Any, unit: Any, bits: Any) -> Any:
    """Write base + unit * position of each bit, from a table; their number."""
    table = cgutils.global_constant(builder, "bytes_as_places", _bytes_as_places(), linkage="private")
    kind = ir.VectorType(I16, 8)
    total = ir.Constant(I64, 0)
    for first in range(0, 64, 8):
        byte = builder.and_(builder.lshr(bits, I64(first)), I64(255))
        row = builder.load(builder.gep(table, [ir.Constant(I32, 0), byte]))
        start = builder.add(base, builder.mul(unit, I64(first)))
        places = builder.add(builder.mul(row, broadcast(builder, unit, kind)), broadcast(builder, start, kind))
        builder.store(places, pointer_to(builder, builder.add(address, builder.shl(total, I64(1))), kind), align=2)
        total = builder.add(total, builder.ctpop(byte))
    return total


def _at_once(builder: Any, address: Any, bits: Any, terms: Any) -> Any:
    """Write for each bit that is set the sum of `terms`, pairs of 64 bytes (none: all 1) and what one of them counts
    for; the number of bits."""
    half = I16X16.ir
    mask = builder.bitcast(bits, ir.VectorType(I1, 64))
    signature = ir.FunctionType(BYTES, [BYTES, BYTES, mask.type])
    compress = cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.avx512.mask.compress.v64i8")
    chosen = [
        (numbers and builder.call(compress, [numbers, ir.Constant(BYTES, None), mask]), broadcast(builder, unit, half))
        for numbers, unit in terms
    ]
    count = builder.ctpop(bits)

    def put(first: int) -> None:  # 16 of them, for stores of 64 bytes to any place cost more than twice as much
        index = ir.Constant(ir.VectorType(I32, 16), list(range(first, first + 16)))
        total = ir.Constant(half, None)
        for numbers, units in chosen:
            if numbers is None:
                total = builder.add(total, units)
                continue
            some = builder.zext(builder.shuffle_vector(numbers, ir.Constant(BYTES, ir.Undefined), index), half)
            total = builder.add(total, builder.mul(some, units))
        to = builder.add(address, ir.Constant(I64, 2 * first))
        builder.store(total, pointer_to(builder, to, half), align=2)

    put(0)
    with builder.if_then(builder.icmp_unsigned(">", count, ir.Constant(I64, 16)), likely=False):
        put(16)
        with builder.if_then(builder.icmp_unsigned(">", count, ir.Constant(I64, 32)), likely=False):
            put(32)
            put(48)
    return count


@intrinsic
def list_ones(typingctx: Any, address: Any, base: Any, unit: Any, bits: Any) -> Any:
    """Write base + unit * (position of each bit that is set in `bits`), as uint16 one after another, and return their
    number. As many numbers as there are bits, 64, may be overwritten."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, base, unit, bits = args
        if "avx512vbmi2" not in x86_features():
            return _one_by_one(builder, address, base, unit, bits)
        return _at_once(builder, address, bits, [(ir.Constant(BYTES, list(range(64))), unit), (None, base)])

    return types.int64(*[types.int64] * 4), generate


@intrinsic
def list_counts(
    typingctx: Any, address: Any, base: Any, unit: Any, more: Any, first: Any, second: Any, third: Any, fourth: Any
) -> Any:
    """The same for each bit that is set in `first`, plus `more` for each of the others in which it is set, too: a bit
    of `fourth` is one of `third`, one of that is one of `second`, and of `first`. In no particular order."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, base, unit, more, *planes = args
        if "avx512vbmi2" not in x86_features():
            total = ir.Constant(I64, 0)
            for plane, following in zip(planes, [*planes[1:], ir.Constant(I64, 0)], strict=True):
                to = builder.add(address, builder.shl(total, ir.Constant(I64, 1)))
                last = builder.xor(plane, following)
                total = builder.add(total, _one_by_one(builder, to, base, unit, last))
                base = builder.add(base, more)
            return total
        others = ir.Constant(BYTES, None)
        for plane in planes[1:]:
            ones = builder.zext(builder.bitcast(plane, ir.VectorType(I1, 64)), BYTES)
            others = builder.add(others, ones)
        terms = [(ir.Constant(BYTES, list(range(64))), unit), (others, more), (None, base)]
        return _at_once(builder, address, planes[0], terms)

    return types.int64(*[types.int64] * 8), generate
