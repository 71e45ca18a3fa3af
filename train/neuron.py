"""The spiking neuron for training: all T steps in one pass over memory, with a hand-written backward pass.

Equation, per time step (DESIGN.md section 3; `simulator/reference.py` is the integer form of the same):

    v <- leak(v) + I + b;   s = [v >= threshold];   v <- 0 or v - threshold where s
    leak(v) = d v with d = 2^-k ("shift") or 1 - 2^-k ("decay")

With a grid q the leak floors as the integer form does: 2^-q floor(2^q v 2^-k). The derivative of the spike is a
triangle, ds/dv = max(0, 1 - |v - threshold| / width) / width; the reset is not differentiated through the spike.

On a CPU a Numba kernel walks the T steps of a few neurons while they sit in registers: current in, spikes out, nothing
else is written; the backward pass computes the membrane again. Elsewhere plain PyTorch operations do the same.
Currents are float32 or bfloat16; the membrane is float32.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import extending
from numba.core import types
from torch import Tensor

intrinsic: Any = extending.intrinsic  # its own type wants the compiler's argument from callers

LANES = 256  # per-channel constants are tiled to rows of at least this many, so that the inner loop is long
ROWS = 64  # rows below which a second thread would cost more than it saves


@intrinsic
def from_bf16(typingctx: Any, bits: Any) -> Any:
    """uint16 holding a bfloat16 -> float32: the upper half of its bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(wide, ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def to_bf16(typingctx: Any, number: Any) -> Any:
    """float32 -> uint16 holding the nearest bfloat16 (ties to even; finite numbers)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        odd = builder.and_(builder.lshr(bits, ir.Constant(i32, 16)), ir.Constant(i32, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(i32, 0x7FFF)))
        return builder.trunc(builder.lshr(rounded, ir.Constant(i32, 16)), ir.IntType(16))

    return types.uint16(types.float32), codegen


@numba.njit(inline="always")
def same(x: Any) -> Any:
    return x


@cache
def _kernels(steps: int, static: bool, half: bool, subtract: bool, decay: bool, rounded: bool) -> tuple[Any, Any]:
    """Forward and backward kernels for one setting; T is a constant so that the compiler unrolls over it.

    Arrays: current [T or 1, M, L], spikes [T, M, L] (float32, or uint16 holding bfloat16); halves (2^-k), derivative
    (the leak's d), bias, threshold, inverse_width float32 [L]; grid = 2^q and unit = 2^-q. Gradients of bias and
    threshold are summed into float32 [L]. Both walk the rows `start` to `stop` of M, so that threads can share them.
    """
    load = from_bf16 if half else same
    store = to_bf16 if half else same
    zero, one = np.float32(0), np.float32(1)

    @numba.njit(inline="always")
    def leaked(v: Any, halves: Any, derivative: Any, grid: Any, unit: Any) -> Any:
        if rounded:
            down = np.floor(v * (grid * halves)) * unit
            return v - down if decay else down
        return v * derivative

    @numba.njit(fastmath={"nsz", "contract", "arcp"}, nogil=True)
    def forward(
        start: int,
        stop: int,
        current: Any,
        halves: Any,
        derivative: Any,
        bias: Any,
        threshold: Any,
        grid: Any,
        unit: Any,
        spikes: Any,
    ) -> int:
        count = 0
        for m in range(start, stop):
            here: Any = np.int32(0)
            for i in range(current.shape[2]):
                v = zero
                for t in range(steps):
                    v = (
                        leaked(v, halves[i], derivative[i], grid, unit)
                        + load(current[0 if static else t, m, i])
                        + bias[i]
                    )
                    fired = v >= threshold[i]
                    here += np.int32(fired)
                    spikes[t, m, i] = store(one if fired else zero)
                    if subtract:
                        v = v - (threshold[i] if fired else zero)
                    else:
                        v = zero if fired else v
            count += here
        return count

    @numba.njit(fastmath={"nsz", "contract", "arcp"}, nogil=True)
    def backward(
        start: int,
        stop: int,
        current: Any,
        grad: Any,
        grad_count: Any,
        halves: Any,
        derivative: Any,
        bias: Any,
        threshold: Any,
        grid: Any,
        unit: Any,
        inverse_width: Any,
        grad_current: Any,
        grad_bias: Any,
        grad_threshold: Any,
    ) -> None:
        length = current.shape[2]
        membrane = np.empty((steps, length), np.float32)
        ahead = np.empty(length, np.float32)
        total = np.empty(length, np.float32)
        for m in range(start, stop):
            for i in range(length):
                v = zero
                for t in range(steps):
                    v = (
                        leaked(v, halves[i], derivative[i], grid, unit)
                        + load(current[0 if static else t, m, i])
                        + bias[i]
                    )
                    membrane[t, i] = v
                    fired = v >= threshold[i]
                    if subtract:
                        v = v - (threshold[i] if fired else zero)
                    else:
                        v = zero if fired else v
                ahead[i] = zero
                total[i] = zero
            for step in range(steps):
                t = steps - 1 - step
                for i in range(length):
                    v = membrane[t, i]
                    fired = v >= threshold[i]
                    distance = np.abs(v - threshold[i]) * inverse_width[i]
                    surrogate = max(zero, one - distance) * inverse_width[i]
                    through = (load(grad[t, m, i]) + grad_count) * surrogate
                    past = ahead[i]
                    if subtract:
                        gv = past + through
                        grad_threshold[i] -= through + (past if fired else zero)
                    else:
                        gv = (zero if fired else past) + through
                        grad_threshold[i] -= through
                    grad_bias[i] += gv
                    if static:
                        total[i] += gv
                    else:
                        grad_current[t, m, i] = store(gv)
                    ahead[i] = gv * derivative[i]
            if static:
                for i in range(length):
                    grad_current[0, m, i] = store(total[i])

    return forward, backward


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def share(kernel: Callable[[int, int], Any], rows: int) -> list[Any]:
    """kernel(start, stop) over all rows, shared by as many threads as PyTorch uses; the results in order."""
    parts = max(1, min(torch.get_num_threads(), rows // ROWS))
    bounds = [rows * i // parts for i in range(parts + 1)]
    others = [_pool(parts - 1).submit(kernel, *bounds[i : i + 2]) for i in range(1, parts)] if parts > 1 else []
    return [kernel(*bounds[:2]), *(other.result() for other in others)]


def flat(x: Tensor, steps: int, row: int) -> Any:
    """[N, C, H, W] in channels_last memory -> NumPy view [steps, M, row] (bfloat16 as uint16)."""
    flat = x.detach().permute(0, 2, 3, 1).reshape(steps, -1, row)
    if flat.data_ptr() != x.data_ptr():
        raise AssertionError("the neuron's tensors are channels_last")
    return (flat.view(torch.uint16) if x.dtype == torch.bfloat16 else flat).numpy()


def row_length(channels: int, pixels: int) -> int:
    """Length of the rows the kernels walk: `channels` times a power of two that divides `pixels`, about LANES."""
    repeat = 1
    while channels * repeat < LANES and pixels % (repeat * 2) == 0:
        repeat *= 2
    return channels * repeat


def surrogate_width(threshold: Tensor, width: float) -> Tensor:
    """Half-width of the triangle, as a multiple of the threshold; at least a small positive number."""
    return (threshold.detach() * width).clamp_min(1e-3)


def _torch_leak(v: Tensor, halves: Tensor, derivative: Tensor, grid: float | None, decay: bool) -> Tensor:
    if grid is None:
        return v * derivative
    down = torch.floor(v * (grid * halves)) / grid
    return v - down if decay else down


def on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


class _Lif(torch.autograd.Function):
    """Shapes as `lif` below; `grid` is 2^q, or None where the leak is not rounded."""

    @staticmethod
    def forward(ctx, current, bias, threshold, leak, steps, static, grid, width, subtract, decay):  # type: ignore[no-untyped-def]
        halves = torch.exp2(-leak)
        derivative = 1 - halves if decay else halves
        n, c, h, w = current.shape
        shape = (n * steps if static else n, c, h, w)
        inverse_width = 1 / surrogate_width(threshold, width)
        constants = (halves, derivative, bias.detach(), threshold.detach(), inverse_width)
        ctx.settings = (steps, static, grid, subtract, decay)
        ctx.save_for_backward(current, *constants)
        spikes = torch.empty(shape, dtype=current.dtype, device=current.device, memory_format=torch.channels_last)
        if on_cpu(current):
            row = ctx.row = row_length(c, shape[0] * h * w // steps)
            forward, _ = _kernels(steps, static, current.dtype == torch.bfloat16, subtract, decay, grid is not None)
            ctx.tiled = np.tile(torch.stack([p.float() for p in constants]).numpy(), row // c)
            arrays = (
                flat(current, 1 if static else steps, row),
                *ctx.tiled[:4],
                np.float32(grid or 1),
                np.float32(1 / (grid or 1)),
                flat(spikes, steps, row),
            )
            counts = share(lambda start, stop: forward(start, stop, *arrays), arrays[0].shape[1])
            return spikes, torch.tensor(float(sum(counts)))
        halves, derivative, bias, threshold, _ = (p[:, None, None] for p in constants)
        v = torch.zeros((), device=current.device)
        inputs = current.float().unflatten(0, (1 if static else steps, -1))
        out = spikes.unflatten(0, (steps, -1))
        for t in range(steps):
            v = _torch_leak(v, halves, derivative, grid, decay) + inputs[0 if static else t] + bias
            fired = v >= threshold
            out[t] = fired
            v = v - threshold * fired if subtract else v * ~fired
        return spikes, spikes.sum(dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad, grad_count):  # type: ignore[no-untyped-def]
        steps, static, grid, subtract, decay = ctx.settings
        current, halves, derivative, bias, threshold, inverse_width = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_current = torch.empty_like(current)
        if on_cpu(current):
            row = ctx.row
            _, backward = _kernels(steps, static, current.dtype == torch.bfloat16, subtract, decay, grid is not None)
            arrays = (
                flat(current, 1 if static else steps, row),
                flat(grad, steps, row),
                np.float32(grad_count.item()),
                *ctx.tiled[:4],
                np.float32(grid or 1),
                np.float32(1 / (grid or 1)),
                ctx.tiled[4],
                flat(grad_current, 1 if static else steps, row),
            )

            def part(start: int, stop: int) -> Any:
                grads = np.zeros((2, row), np.float32)  # of bias and threshold
                backward(start, stop, *arrays, grads[0], grads[1])
                return grads

            grads = sum(share(part, arrays[0].shape[1])).reshape(2, -1, current.shape[1]).sum(1)
            sums = [torch.from_numpy(g) for g in grads]
            return grad_current, *sums, None, None, None, None, None, None, None
        halves, derivative, bias, threshold, inverse_width = (
            p[:, None, None] for p in (halves, derivative, bias, threshold, inverse_width)
        )
        inputs = current.float().unflatten(0, (1 if static else steps, -1))
        v = torch.zeros((), device=current.device)
        membranes = []
        for t in range(steps):
            v = _torch_leak(v, halves, derivative, grid, decay) + inputs[0 if static else t] + bias
            membranes.append(v)
            fired = v >= threshold
            v = v - threshold * fired if subtract else v * ~fired
        grads = (grad.float() + grad_count).unflatten(0, (steps, -1))
        into = grad_current.unflatten(0, (1 if static else steps, -1))
        past = torch.zeros_like(membranes[0])
        sum_bias, sum_threshold, total = torch.zeros_like(past), torch.zeros_like(past), torch.zeros_like(past)
        for t in reversed(range(steps)):
            v = membranes[t]
            fired = v >= threshold
            through = grads[t] * (1 - (v - threshold).abs() * inverse_width).clamp_min(0) * inverse_width
            gv = (past if subtract else past * ~fired) + through
            sum_threshold -= through + (past * fired if subtract else 0)
            sum_bias += gv
            if static:
                total += gv
            else:
                into[t] = gv.to(current.dtype)
            past = gv * derivative
        if static:
            into[0] = total.to(current.dtype)
        dims = (0, 2, 3)
        return grad_current, sum_bias.sum(dims), sum_threshold.sum(dims), None, None, None, None, None, None, None


def lif(
    current: Tensor,
    bias: Tensor,
    threshold: Tensor,
    leak: Tensor,
    *,
    steps: int,
    static: bool,
    grid: int | None,
    subtract: bool,
    decay: bool,
    width: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Spikes [T * B, C, H, W] (0/1, dtype of `current`) of neurons driven by `current`, and their number (0-d).

    The number is differentiable like the spikes themselves, so that a penalty on it costs no pass over memory.

    current [T * B, C, H, W], or [B, C, H, W] if `static` (the same at each step); float32 or bfloat16.
    bias, threshold, leak (the shift k) [C] float32; `grid` is q where the leak is rounded to 2^-q, else None.
    """
    current = current.contiguous(memory_format=torch.channels_last)
    scale = None if grid is None else float(2**grid)
    return _Lif.apply(current, bias, threshold, leak, steps, static, scale, width, subtract, decay)  # type: ignore[no-any-return]
