"""The time-fused neuron: its integer form, its hand-written gradient, and both of its implementations."""

import numpy as np
import pytest
import torch

from simulator.kinds.lif import lif
from train import neuron

SETTINGS = [
    (steps, static, subtract, decay) for steps in (1, 4) for static in (False, True) for subtract in (False, True)
    for decay in (False, True)
]  # fmt: skip


def _case(steps: int, static: bool, dtype: torch.dtype = torch.float32, channels: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    current = torch.randn((2 if static else 2 * steps, channels, 5, 4), generator=generator)
    bias = torch.randn(channels, generator=generator) * 0.2
    threshold = torch.rand(channels, generator=generator) + 0.4
    leak = torch.arange(channels) % 4
    return current.to(dtype), bias, threshold, leak.float()


def _autograd(current, bias, threshold, leak, steps, static, subtract, decay, width):
    """The same neuron as plain autograd operations with the reset cut off, for comparison."""
    bias, threshold, leak = (p[:, None, None] for p in (bias, threshold, leak))
    factor = 1 - 2.0**-leak if decay else 2.0**-leak
    inputs = current.float().unflatten(0, (1 if static else steps, -1))
    v, spikes = torch.zeros(()), []
    for t in range(steps):
        v = v * factor + inputs[0 if static else t] + bias
        fired = (v >= threshold).float().detach()
        half = threshold.detach() * width
        slope = (1 - (v - threshold).abs() / half).clamp_min(0).detach() / half
        through = slope * (v - threshold)
        spikes.append(fired + (through - through.detach()))
        v = v - threshold * fired if subtract else v * (1 - fired)
    return torch.cat(spikes)


@pytest.mark.parametrize(("steps", "static", "subtract", "decay"), SETTINGS)
def test_gradients_equal_autograd_over_the_unrolled_neuron(steps, static, subtract, decay):
    arguments = [x.requires_grad_() for x in _case(steps, static)[:3]]
    leak = _case(steps, static)[3]
    spikes, count = neuron.lif(
        *arguments, leak, steps=steps, static=static, grid=None, subtract=subtract, decay=decay, width=0.8
    )
    expected = _autograd(*arguments, leak, steps, static, subtract, decay, 0.8)
    assert torch.equal(spikes.detach(), expected.detach())
    assert count.item() == spikes.sum().item()
    push = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(5))
    got = torch.autograd.grad((spikes * push).sum() + 0.3 * count, arguments)
    wanted = torch.autograd.grad((expected * (push + 0.3)).sum(), arguments)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("steps", "static", "subtract", "decay"), SETTINGS)
def test_rounded_neuron_equals_the_integer_reference(steps, static, subtract, decay):
    q = 6
    current, bias, threshold, leak = _case(steps, static)
    current, bias, threshold = ((x * 2**q).round() for x in (current, bias, threshold))
    spikes, _ = neuron.lif(
        current / 2**q, bias / 2**q, threshold / 2**q, leak, steps=steps, static=static, grid=q, subtract=subtract,
        decay=decay,
    )  # fmt: skip
    whole = [x.numpy().astype(np.int64) for x in (current, bias, threshold, leak)]
    split = whole[0].reshape(1 if static else steps, 2, *current.shape[1:])
    for image in range(2):
        kinds = ("decay" if decay else "shift", "subtract" if subtract else "zero")
        expected = lif(split[:, image], whole[2], whole[1], whole[3], steps, *kinds)
        got = spikes.unflatten(0, (steps, 2))[:, image].numpy()
        assert np.array_equal(got, expected)


def test_bfloat16_spikes_equal_float32_spikes_of_the_same_currents():
    current, bias, threshold, leak = _case(4, False, torch.bfloat16)
    options = {"steps": 4, "static": False, "grid": None, "subtract": True, "decay": True}
    half, count = neuron.lif(current, bias, threshold, leak, **options)
    full, expected = neuron.lif(current.float(), bias, threshold, leak, **options)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half.float(), full)
    assert count == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("subtract", "decay"), [(True, True), (False, False)])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("grid", [None, 6])
def test_kernel_and_plain_pytorch_agree(monkeypatch, static, grid, subtract, decay, dtype):
    """The path that other devices take, run on the CPU by hiding the device's type."""
    options = {"steps": 4, "static": static, "grid": grid, "subtract": subtract, "decay": decay}

    def both(device_type: str):
        monkeypatch.setattr(neuron, "on_cpu", lambda x: device_type == "cpu")
        inputs = [x.requires_grad_() for x in _case(4, static, dtype)[:3]]
        spikes, count = neuron.lif(*inputs, _case(4, static)[3], **options)
        assert spikes.dtype == dtype
        weights = torch.linspace(-1, 1, spikes.numel(), dtype=dtype).view_as(spikes)
        return spikes.detach(), count.detach(), torch.autograd.grad((spikes * weights).sum() + count, inputs)

    kernel, plain = both("cpu"), both("other")
    assert torch.equal(kernel[0], plain[0])
    assert kernel[1] == plain[1]
    for a, b in zip(kernel[2], plain[2], strict=True):
        assert a.dtype == b.dtype
        # Both compute in float32; what is stored as bfloat16 may round either way.
        torch.testing.assert_close(a, b, rtol=1e-4 if a.dtype == torch.float32 else 2**-7, atol=1e-4)


@pytest.mark.parametrize("static", [False, True])
def test_threads_share_the_neurons_without_changing_a_spike(static):
    torch.manual_seed(0)
    shape = (2 if static else 8, 32, 40, 24)  # more rows than one thread is given
    results = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.manual_seed(1)
        current = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
        bias, threshold = torch.zeros(32, requires_grad=True), torch.ones(32, requires_grad=True)
        torch.set_num_threads(threads)
        try:
            spikes, count = neuron.lif(
                current, bias, threshold, torch.full((32,), 2.0), steps=4, static=static, grid=None, subtract=True,
                decay=True,
            )  # fmt: skip
            (spikes.sum() * 0.5 + 0.1 * count).backward()
        finally:
            torch.set_num_threads(before)
        results.append((spikes.detach(), count.detach(), current.grad, bias.grad, threshold.grad))
    (spikes, count, grad, *sums), (other_spikes, other_count, other_grad, *other_sums) = results
    assert torch.equal(spikes, other_spikes) and count == other_count == spikes.sum()
    assert torch.equal(grad, other_grad) and grad.abs().max() > 0
    for ours, other in zip(sums, other_sums, strict=True):
        assert torch.allclose(ours, other, rtol=1e-4)
