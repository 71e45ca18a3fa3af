"""The window neuron in training: the integer neuron's spikes, its gradient, and both of its implementations."""

import numpy as np
import pytest
import torch

from simulator.kinds.window import window as integers
from train import window


def _case(channels: int = 6, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    current = torch.randn((3, channels, 5, 4), generator=generator) * 3
    bias = torch.randn(channels, generator=generator) * 0.2
    gain = torch.rand(channels, generator=generator) + 0.5
    return current.to(dtype), bias, gain


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_the_number_of_spikes_is_that_of_the_integer_neuron(steps):
    q, rng = 9, np.random.default_rng(1)
    current = rng.integers(-3000, 6000, (2, 6, 5, 4))
    bias, threshold = rng.integers(-200, 200, 6), rng.integers(1, 1500, 6)
    expected = np.stack([integers(one[None], threshold, bias, steps).sum(0) for one in current])
    real = [torch.from_numpy(x * 2.0**-q).float() for x in (current, bias, threshold)]
    spikes, counts = window.window(real[0], real[1], 1 / real[2], real[2], steps=steps)
    assert np.array_equal(spikes.numpy(), expected)
    assert np.array_equal(counts.numpy(), expected.sum((0, 2, 3)))


@pytest.mark.parametrize("steps", [1, 4])
def test_the_gradient_is_that_of_the_clipped_line_through_the_stairs(steps):
    arguments = [x.requires_grad_() for x in _case()]
    current, bias, gain = arguments
    spikes, counts = window.window(current, bias, gain, 1 / gain, steps=steps)
    weights = torch.linspace(-0.3, 0.5, len(counts))
    push = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(5))
    got = torch.autograd.grad((spikes * push).sum() + weights @ counts, arguments)
    line = ((current + bias[:, None, None]) * gain[:, None, None] - 0.5).clamp(0, steps)
    wanted = torch.autograd.grad((line * (push + weights[:, None, None])).sum(), arguments)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 4])
def test_soft_neurons_give_the_line_itself_and_what_lies_between(steps):
    current, bias, gain = _case()
    line = ((current + bias[:, None, None]) * gain[:, None, None] - 0.5).clamp(0, steps)
    hard, _ = window.window(current, bias, gain, 1 / gain, steps=steps)
    for soft in (1.0, 0.3):
        spikes, counts = window.window(current, bias, gain, 1 / gain, steps=steps, soft=soft)
        torch.testing.assert_close(spikes, hard + soft * (line - hard), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(counts, spikes.sum((0, 2, 3)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("soft", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_implementations_agree(dtype, soft, monkeypatch):
    results = []
    for compiled in (True, False):
        monkeypatch.setattr(window, "on_cpu", lambda x, compiled=compiled: compiled)
        current, bias, gain = (x.requires_grad_() for x in _case(dtype=dtype))
        spikes, counts = window.window(current, bias, gain, 1 / gain, steps=4, soft=soft)
        (spikes.float().square().sum() + 2 * counts[0] + counts.sum()).backward()
        results.append((spikes.detach().float(), counts.detach(), current.grad.float(), bias.grad, gain.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-3)
