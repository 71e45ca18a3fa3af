"""The window neuron for training: it takes in its whole input, then fires up to T times; one pass over memory.

Equation (`simulator/kinds/window.py`): v = b + I, where I is the sum of the currents over the window; then, T times, a
spike where v >= threshold, and v <- v - threshold where it fired. So the spikes are the first k of T steps,

    k = clip(floor(v / threshold), 0, T)

and k is what the forward pass returns: a convolution is linear, so that of k is the sum of those of the spikes.

Trained is gain = 1 / threshold, whose gradient is bounded. floor(u) is u - 1/2 on average, so k is taken for
clip(u - 1/2, 0, T) with u = v gain, and the gradient is that of this: dk/du = 1 where 1/2 < u < T + 1/2, else 0. A
surrogate that also passes where neurons are far from firing (from -1/2 on) lets gradients grow from layer to layer:
networks of 64 channels and more then diverge at rates at which they learn here (train/results/README.md).

While a network is `soft` the line itself takes the place of its stairs, wholly or in part, so that what is trained
first is what the gradient belongs to (`--harden`, train/results/README.md).

On a CPU a Numba kernel does it; elsewhere plain PyTorch operations. Currents are float32 or bfloat16.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from train.neuron import flat, from_bf16, on_cpu, row_length, same, share, to_bf16

LOW, ABOVE = 0.5, 0.5  # the gradient passes where LOW < u < T + ABOVE


@cache
def _kernels(steps: int, bf16: bool) -> tuple[Any, Any]:
    """Forward and backward kernels; T is a constant so that the compiler unrolls over it.

    Arrays: current, spikes and their gradients [M, L] (float32, or uint16 holding bfloat16); bias, threshold, gain
    float32 [L], as are the gradients of the numbers of spikes. Numbers of spikes, and gradients of bias and gain, are
    summed into float32 [L]. Both walk the rows `start` to `stop` of M.
    """
    load = from_bf16 if bf16 else same
    store = to_bf16 if bf16 else same
    zero, one = np.float32(0), np.float32(1)
    low, high = np.float32(LOW), np.float32(steps + ABOVE)
    half, top = np.float32(0.5), np.float32(steps)

    @numba.njit(fastmath={"nsz", "contract", "arcp"}, nogil=True)
    def forward(
        start: int, stop: int, current: Any, bias: Any, threshold: Any, spikes: Any, soft: Any, counts: Any
    ) -> None:
        for m in range(start, stop):
            for i in range(current.shape[1]):
                v = load(current[m, i]) + bias[i]
                k, level = zero, zero
                for _ in range(steps):
                    level = level + threshold[i]
                    k += one if v >= level else zero
                if soft > zero:
                    k += soft * (min(max(v / threshold[i] - half, zero), top) - k)
                counts[i] += k
                spikes[m, i] = store(k)

    @numba.njit(fastmath={"nsz", "contract", "arcp"}, nogil=True)
    def backward(
        start: int,
        stop: int,
        current: Any,
        grad: Any,
        grad_counts: Any,
        bias: Any,
        gain: Any,
        grad_current: Any,
        grad_bias: Any,
        grad_gain: Any,
    ) -> None:
        for m in range(start, stop):
            for i in range(current.shape[1]):
                v = load(current[m, i]) + bias[i]
                u = v * gain[i]
                g = load(grad[m, i]) + grad_counts[i]
                g = g if (u > low) & (u < high) else zero
                grad_gain[i] += g * v
                g *= gain[i]
                grad_bias[i] += g
                grad_current[m, i] = store(g)

    return forward, backward


class _Window(torch.autograd.Function):
    """Shapes as `window` below."""

    @staticmethod
    def forward(ctx, current, bias, gain, threshold, steps, soft):  # type: ignore[no-untyped-def]
        ctx.steps = steps
        ctx.save_for_backward(current, bias.detach(), gain.detach())
        spikes = torch.empty_like(current)
        if on_cpu(current):
            n, c, h, w = current.shape
            row = ctx.row = row_length(c, n * h * w)
            forward, _ = _kernels(steps, current.dtype == torch.bfloat16)
            ctx.tiled = np.tile(torch.stack([p.detach().float() for p in (bias, threshold, gain)]).numpy(), row // c)
            arrays = (flat(current, 1, row)[0], *ctx.tiled[:2], flat(spikes, 1, row)[0])

            def part(start: int, stop: int) -> Any:
                counts = np.zeros(row, np.float32)
                forward(start, stop, *arrays, np.float32(soft), counts)
                return counts

            counts = sum(share(part, len(arrays[0]))).reshape(-1, c).sum(0)
            return spikes, torch.from_numpy(counts)
        v = current.float() + bias[:, None, None]
        spikes.zero_()
        for step in range(1, steps + 1):
            spikes += v >= threshold[:, None, None] * step
        if soft:
            spikes.lerp_((v / threshold[:, None, None] - 0.5).clamp(0, steps).to(spikes.dtype), soft)
        return spikes, spikes.sum((0, 2, 3), dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad, grad_counts):  # type: ignore[no-untyped-def]
        current, bias, gain = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_current = torch.empty_like(current)
        if on_cpu(current):
            row = ctx.row
            _, backward = _kernels(ctx.steps, current.dtype == torch.bfloat16)
            ahead = np.tile(grad_counts.float().numpy(), row // len(grad_counts))
            arrays = (
                flat(current, 1, row)[0],
                flat(grad, 1, row)[0],
                ahead,
                ctx.tiled[0],
                ctx.tiled[2],
                flat(grad_current, 1, row)[0],
            )

            def part(start: int, stop: int) -> Any:
                grads = np.zeros((2, row), np.float32)  # of bias and gain
                backward(start, stop, *arrays, grads[0], grads[1])
                return grads

            grads = sum(share(part, len(arrays[0]))).reshape(2, -1, current.shape[1]).sum(1)
            return grad_current, torch.from_numpy(grads[0]), torch.from_numpy(grads[1]), None, None, None
        v = current.float() + bias[:, None, None]
        u = v * gain[:, None, None]
        g = (grad.float() + grad_counts[:, None, None]) * ((u > LOW) & (u < ctx.steps + ABOVE))
        through = g * gain[:, None, None]
        grad_current.copy_(through)
        return grad_current, through.sum((0, 2, 3)), (g * v).sum((0, 2, 3)), None, None, None


def window(
    current: Tensor, bias: Tensor, gain: Tensor, threshold: Tensor, *, steps: int, soft: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The number of spikes k of each neuron, [B, C, H, W] (0..steps, dtype of `current`), and of each channel, [C].

    current [B, C, H, W] float32 or bfloat16: the sum over the window. bias, gain, threshold [C] float32: `threshold` is
    1 / gain, on its grid where the contract's roundings are on; gradients go to `gain`. soft: 0 for k as above, 1 for
    clip(u - 1/2, 0, T) in its place, between for what lies between. Both results are differentiable, so that a penalty
    on the numbers costs no pass over memory.
    """
    current = current.contiguous(memory_format=torch.channels_last)
    return _Window.apply(current, bias, gain, threshold.detach(), steps, soft)  # type: ignore[no-any-return]
