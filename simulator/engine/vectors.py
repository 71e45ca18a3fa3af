"""SIMD vectors as Numba values: integers side by side in one register, with loads and stores at raw addresses.

`load(I16X32, address)` is a <32 x i16> of LLVM, which turns it into one AVX-512 register, two of AVX2 or four of NEON;
`a + b`, `a - b`, `a * b`, `a & b`, `a ^ b` and `a >> b` work lane by lane and wrap around. Addresses are int64 and need
no alignment beyond that of one element. Nothing here knows the machine but `outer_product`, which picks the
instruction made for it where there is one.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, extending
from numba.core.datamodel import models
from numba.core.extending import overload, register_model

intrinsic: Any = extending.intrinsic  # its own type wants the compiler's argument from callers
I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))


class Vector(types.Type):
    """Numba type of `lanes` integers of `bits` bits."""

    def __init__(self, bits: int, lanes: int):
        self.bits, self.lanes = bits, lanes
        super().__init__(name=f"vector({bits}x{lanes})")

    @property
    def ir(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.bits), self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector):
        super().__init__(dmm, fe_type, fe_type.ir)


I16X16, I16X32 = Vector(16, 16), Vector(16, 32)
I32X16, I32X32 = Vector(32, 16), Vector(32, 32)
I64X16 = Vector(64, 16)


def x86_features() -> frozenset[str]:
    """Names of the vector extensions that Numba compiles for on this machine; empty where it is not an x86-64."""
    if not llvm.get_default_triple().startswith("x86_64"):
        return frozenset()
    from numba.core.registry import cpu_target

    names = cpu_target.target_context.codegen().magic_tuple()[2]  # the same string keys Numba's cache
    return frozenset(name[1:] for name in names.split(",") if name.startswith("+")) | {"sse2"}


def pointer_to(builder: Any, address: Any, kind: Any) -> Any:
    """LLVM's pointer to a value of type `kind` at an address."""
    return builder.inttoptr(address, ir.PointerType(kind))


def _integer_load(bits: int, signed: bool) -> Any:
    @intrinsic
    def load_integer(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(pointer_to(builder, args[0], ir.IntType(bits)), align=max(1, min(bits // 8, 2)))
            return builder.sext(value, I64) if signed else builder.zext(value, I64)

        return types.int64(types.int64), generate

    return load_integer


load_u8 = _integer_load(8, signed=False)
load_u16 = _integer_load(16, signed=False)
load_u32 = _integer_load(32, signed=False)
load_i8 = _integer_load(8, signed=True)
load_i16 = _integer_load(16, signed=True)
load_i32 = _integer_load(32, signed=True)


def _integer_store(bits: int) -> Any:
    @intrinsic
    def store_integer(typingctx: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.IntType(bits)
            builder.store(
                builder.trunc(args[1], kind), pointer_to(builder, args[0], kind), align=max(1, min(bits // 8, 2))
            )
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return store_integer


store_8 = _integer_store(8)
store_16 = _integer_store(16)
store_32 = _integer_store(32)


@intrinsic
def load_i64(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer_to(builder, args[0], I64), align=2)

    return types.int64(types.int64), generate


@intrinsic
def store_64(typingctx: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], pointer_to(builder, args[0], I64), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


class Record(types.Type):
    """Numba type of a row of int64 that nothing changes while kernels run: `record[i]` is its number i. An array has a
    reference count, which costs a locked instruction each time that it is passed on."""

    def __init__(self) -> None:
        super().__init__(name="record")


@register_model(Record)
class _RecordModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Record):
        super().__init__(dmm, fe_type, I64)


@intrinsic
def record_at(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    return Record()(types.int64), generate


@intrinsic
def _number_of(typingctx: Any, record: Any, i: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.add(args[0], builder.shl(args[1], ir.Constant(I64, 3)))
        number = builder.load(pointer_to(builder, place, I64), align=8)
        number.set_metadata("invariant.load", builder.module.add_metadata([]))
        return number

    return types.int64(record, types.int64), generate


@overload(operator.getitem, strict=False)  # as below
def _get_number(record: Any, i: Any) -> Any:
    if isinstance(record, Record):
        return lambda record, i: _number_of(record, i)
    return None


@intrinsic
def load(typingctx: Any, kind: Any, address: Any) -> Any:
    """The vector of type `kind` that lies at `address`."""
    vector = kind.instance_type

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer_to(builder, args[1], vector.ir), align=vector.bits // 8)

    return vector(kind, types.int64), generate


@intrinsic
def store(typingctx: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], pointer_to(builder, args[0], value.ir), align=value.bits // 8)
        return context.get_dummy_value()

    return types.void(types.int64, value), generate


def broadcast(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    """LLVM's vector of type `kind` whose lanes all hold the low bits of `scalar`."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, builder.trunc(scalar, kind.element), ir.Constant(I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


@intrinsic
def splat(typingctx: Any, kind: Any, value: Any) -> Any:
    """A vector whose lanes all hold `value` (its low bits)."""
    vector = kind.instance_type

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return broadcast(builder, args[1], vector.ir)

    return vector(kind, types.int64), generate


def _lane_wise(name: str, python_operator: Callable[..., Any]) -> None:
    @intrinsic
    def compute(typingctx: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, b), generate

    @overload(python_operator, strict=False)  # strict wants both signatures annotated alike, which a lambda cannot be
    def overloaded(a: Any, b: Any) -> Any:
        if isinstance(a, Vector) and a == b:
            return lambda a, b: compute(a, b)
        return None


for _name, _operator in (
    ("add", operator.add), ("sub", operator.sub), ("mul", operator.mul), ("ashr", operator.rshift),
    ("shl", operator.lshift), ("and_", operator.and_), ("xor", operator.xor),
):  # fmt: skip
    _lane_wise(_name, _operator)


@intrinsic
def widen(typingctx: Any, a: Any) -> Any:
    """The same numbers in 32 bits each."""
    wide = Vector(32, a.lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0] if a.bits == 32 else builder.sext(args[0], wide.ir)

    return wide(a), generate


@intrinsic
def narrow(typingctx: Any, a: Any) -> Any:
    """The lower half of the bits of each lane."""
    slim = Vector(a.bits // 2, a.lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.trunc(args[0], slim.ir)

    return slim(a), generate


@intrinsic
def at_least(typingctx: Any, a: Any, b: Any) -> Any:
    """Bit mask (int64) of the lanes where a >= b."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = builder.icmp_signed(">=", *args)
        return builder.zext(builder.bitcast(mask, ir.IntType(a.lanes)), I64)

    return types.int64(a, a), generate


def _bits_to_lanes(builder: Any, bits: Any, lanes: int) -> Any:
    return builder.bitcast(builder.trunc(bits, ir.IntType(lanes)), ir.VectorType(I1, lanes))


@intrinsic
def select(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """Lanes of a where the bit of `mask` is set, of b elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(_bits_to_lanes(builder, args[0], a.lanes), args[1], args[2])

    return a(types.int64, a, a), generate


@intrinsic
def clamp(typingctx: Any, a: Any, low: Any, high: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x = builder.select(builder.icmp_signed("<", args[0], args[1]), args[1], args[0])
        return builder.select(builder.icmp_signed(">", x, args[2]), args[2], x)

    return a(a, a, a), generate


def _half(upper: bool) -> Any:
    @intrinsic
    def half(typingctx: Any, a: Any) -> Any:
        slim = Vector(a.bits, a.lanes // 2)
        first = slim.lanes if upper else 0

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            index = ir.Constant(ir.VectorType(I32, slim.lanes), list(range(first, first + slim.lanes)))
            return builder.shuffle_vector(args[0], ir.Constant(a.ir, ir.Undefined), index)

        return slim(a), generate

    return half


lower_half, upper_half = _half(upper=False), _half(upper=True)


@intrinsic
def joined(typingctx: Any, low: Any, high: Any) -> Any:
    """One vector of the lanes of two."""
    whole = Vector(low.bits, 2 * low.lanes)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        index = ir.Constant(ir.VectorType(I32, whole.lanes), list(range(whole.lanes)))
        return builder.shuffle_vector(*args, index)

    return whole(low, high), generate


@intrinsic
def store_pairs(typingctx: Any, address: Any, low: Any, high: Any) -> Any:
    """Lane by lane of two vectors of int32: the lower and the upper half of 16 int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        order = [lane for i in range(16) for lane in (i, 16 + i)]
        pairs = builder.shuffle_vector(args[1], args[2], ir.Constant(ir.VectorType(I32, 32), order))
        builder.store(pairs, pointer_to(builder, args[0], pairs.type), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, low, high), generate


def _rearrange(order: tuple[int, ...]) -> Any:
    @intrinsic
    def rearrange(typingctx: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            index = ir.Constant(ir.VectorType(I32, a.lanes), list(order))
            return builder.shuffle_vector(args[0], ir.Constant(a.ir, [0] * a.lanes), index)

        return a(a), generate

    return rearrange


def _moved(places: list[tuple[int, int]]) -> Any:
    """Rearranges 32 lanes: from one place to another; lanes that nothing goes to become zero."""
    sources = {to: lane for lane, to in places}
    return _rearrange(tuple(sources.get(to, 32) for to in range(32)))  # 32 is a lane of zeros


# Two neighbouring blocks of 2x2 pixels of 3 channels: where channel c of column dx and row dy of block i lies among two
# rows of bytes, and where space-to-depth has it.
_BLOCKS = [(16 * dy + 6 * i + 3 * dx + c, 16 * i + 4 * c + 2 * dy + dx) for i, dy, dx, c in np.ndindex(2, 2, 2, 3)]
pixels_to_depth, depth_to_pixels = _moved(_BLOCKS), _moved([(depth, lane) for lane, depth in _BLOCKS])


@intrinsic
def bytes_of_rows(typingctx: Any, upper: Any, lower: Any) -> Any:
    """<32 x i16> of the 16 bytes at `upper` and the 16 at `lower`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sixteen = ir.VectorType(ir.IntType(8), 16)
        rows = [builder.load(pointer_to(builder, address, sixteen), align=1) for address in args]
        index = ir.Constant(ir.VectorType(I32, 32), list(range(32)))
        return builder.zext(builder.shuffle_vector(*rows, index), I16X32.ir)

    return I16X32(types.int64, types.int64), generate


@intrinsic
def three_bytes(typingctx: Any, address: Any) -> Any:
    """<16 x i16> of the first three of the four bytes at `address`, and zeros."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        four = ir.VectorType(ir.IntType(8), 4)
        found = builder.load(pointer_to(builder, args[0], four), align=1)
        index = ir.Constant(ir.VectorType(I32, 16), [0, 1, 2] + [4] * 13)  # 4 is a lane of zeros
        return builder.zext(builder.shuffle_vector(found, ir.Constant(four, [0] * 4), index), I16X16.ir)

    return I16X16(types.int64), generate


@intrinsic
def store_rows_of_bytes(typingctx: Any, upper: Any, lower: Any, value: Any) -> Any:
    """The low 8 bits of the first 12 lanes to `upper`, of lanes 16 to 27 to `lower`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(8), 32)
        slim = builder.trunc(args[2], kind)
        for lane, address in ((0, args[0]), (16, args[1])):
            for first, count in ((0, 8), (8, 4)):
                index = ir.Constant(ir.VectorType(I32, count), list(range(lane + first, lane + first + count)))
                part = builder.shuffle_vector(slim, ir.Constant(kind, ir.Undefined), index)
                to = builder.add(address, ir.Constant(I64, first))
                builder.store(part, pointer_to(builder, to, part.type), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


@intrinsic
def sum_of_lanes(typingctx: Any, a: Any) -> Any:
    """The sum of all lanes, as int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.VectorType(I64, a.lanes)
        signature = ir.FunctionType(I64, [wide])
        function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.vector.reduce.add.v{a.lanes}i64")
        return builder.call(function, [builder.sext(args[0], wide)])

    return types.int64(a), generate


@intrinsic
def count_ones(typingctx: Any, bits: Any) -> Any:
    """How many bits of an int64 are set, or of each lane of a vector."""

    name = f"llvm.ctpop.v{bits.lanes}i{bits.bits}" if isinstance(bits, Vector) else "llvm.ctpop.i64"

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(args[0].type, [args[0].type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return bits(bits) if isinstance(bits, Vector) else types.int64(types.int64), generate


def _in_parts(builder: Any, name: str, lanes: int, a: Any, b: Any) -> Any:
    """<16 x i32> from <32 x i16> a and b through an instruction that yields `lanes` of them at a time."""
    narrow, wide = ir.VectorType(I16, 2 * lanes), ir.VectorType(I32, lanes)
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(wide, [narrow, narrow]), name)
    parts = []
    for first in range(0, 32, 2 * lanes):
        index = ir.Constant(ir.VectorType(I32, 2 * lanes), list(range(first, first + 2 * lanes)))
        halves = [builder.shuffle_vector(x, ir.Constant(I16X32.ir, ir.Undefined), index) for x in (a, b)]
        parts.append(builder.call(function, halves))
    while len(parts) > 1:
        index = ir.Constant(ir.VectorType(I32, 2 * lanes), list(range(2 * lanes)))
        parts = [builder.shuffle_vector(x, y, index) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        lanes *= 2
    return parts[0]


def _dot(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """total[i] + a[2i] b[2i] + a[2i+1] b[2i+1]: <16 x i32> from pairs of 16-bit lanes."""
    # x86 has an instruction for this; LLVM joins it and the addition into one where that exists too.
    features = x86_features()
    for feature, name, lanes in (
        ("avx512bw", "avx512.pmaddw.d.512", 16), ("avx2", "avx2.pmadd.wd", 8), ("sse2", "sse2.pmadd.wd", 4),
    ):  # fmt: skip
        if feature in features:
            return builder.add(total, _in_parts(builder, f"llvm.x86.{name}", lanes, a, b))
    empty = ir.Constant(I16X32.ir, ir.Undefined)
    for parity in (0, 1):
        index = ir.Constant(ir.VectorType(I32, 16), list(range(parity, 32, 2)))
        x, y = (builder.sext(builder.shuffle_vector(v, empty, index), I32X16.ir) for v in (a, b))
        total = builder.add(total, builder.mul(x, y))
    return total


def outer_product(bits: int, pixels: int, vectors: int) -> tuple[Any, Any, Any]:
    """Functions that keep sums of `pixels` x `vectors` of 16 lanes of int32 in registers (a tuple, pixel by pixel):

    begin(address) -> the sums, `vectors` at the address for each pixel;
    advance(sums, weights, at, step) -> the sums and the products of `vectors` of weights with the 4 bytes at
    at + p step for pixel p: an int32, or (bits = 16) two int16, with pairs of int16 in each lane of weights;
    keep(sums, address): store all sums one after another.
    """
    kind, weight = types.UniTuple(I32X16, pixels * vectors), I16X32 if bits == 16 else I32X16

    def loaded(builder: Any, address: Any, vector: Vector) -> list[Any]:
        places = [builder.add(address, ir.Constant(I64, 64 * v)) for v in range(vectors)]
        return [builder.load(pointer_to(builder, at, vector.ir), align=vector.bits // 8) for at in places]

    @intrinsic
    def begin(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return cgutils.pack_array(builder, loaded(builder, args[0], I32X16) * pixels)

        return kind(types.int64), generate

    @intrinsic
    def advance(typingctx: Any, sums: Any, weights: Any, at: Any, step: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, weights = cgutils.unpack_tuple(builder, args[0]), loaded(builder, args[1], weight)
            result = []
            for p in range(pixels):
                place = builder.add(args[2], builder.mul(args[3], ir.Constant(I64, p)))
                number = broadcast(builder, builder.load(pointer_to(builder, place, I32), align=2), I32X16.ir)
                for v in range(vectors):
                    total = sums[p * vectors + v]
                    if bits == 16:
                        result.append(_dot(builder, total, weights[v], builder.bitcast(number, I16X32.ir)))
                    else:
                        result.append(builder.add(total, builder.mul(weights[v], number)))
            return cgutils.pack_array(builder, result)

        return kind(kind, types.int64, types.int64, types.int64), generate

    @intrinsic
    def keep(typingctx: Any, sums: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            for i, total in enumerate(cgutils.unpack_tuple(builder, args[0])):
                to = builder.add(args[1], ir.Constant(I64, 64 * i))
                builder.store(total, pointer_to(builder, to, I32X16.ir), align=4)
            return context.get_dummy_value()

        return types.void(kind, types.int64), generate

    return begin, advance, keep


@intrinsic
def add_atomic(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at `address`; what this thread wrote before is visible to whoever sees the sum."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.atomic_rmw("add", pointer_to(builder, args[0], I64), args[1], "acq_rel")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def load_atomic(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(pointer_to(builder, args[0], I64), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def claim(typingctx: Any, address: Any, bit: Any) -> Any:
    """Set the bit in the int64 at `address`; whether this was the first thread to do so."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        before = builder.atomic_rmw("or", pointer_to(builder, args[0], I64), args[1], "acq_rel")
        return builder.icmp_unsigned("==", builder.and_(before, args[1]), ir.Constant(I64, 0))

    return types.boolean(types.int64, types.int64), generate


@intrinsic
def wait_a_moment(typingctx: Any) -> Any:
    """For loops that wait for another processor: leaves the core's other thread more room."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if "sse2" in x86_features():
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def yield_processor(typingctx: Any) -> Any:
    """Let another thread run, where the system has a call for it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if hasattr(os, "sched_yield"):
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "sched_yield")
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate
