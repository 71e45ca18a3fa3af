"""Losses of H-KD: restoration (L1 + FFT L1), hints from a teacher's feature maps, and the price of spikes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simulator.analysis import Analysis
from simulator.kinds import kind_of


def restoration_loss(restored: Tensor, clean: Tensor, fft_weight: float = 0.1) -> tuple[Tensor, Tensor]:
    """(L1, L1 of the Fourier transform's difference) of pictures [B, 3, H, W] on the scale 0..1 (paper: L_rec).

    The transform is orthonormal, real and imaginary part apart. The caller adds 1 and `fft_weight` (paper: 0.1).
    """
    difference = restored - clean
    l1 = difference.abs().mean()
    if not fft_weight:
        return l1, torch.zeros_like(l1)
    spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="ortho"))
    return l1, spectrum.abs().mean()


def psnr_loss(restored: Tensor, clean: Tensor, least: float = 1e-5) -> Tensor:
    """Mean of ln(MSE + `least`) over pictures [B, 3, H, W] on the scale 0..1: what a mean PSNR in dB rewards.

    Unlike L1 it counts a tenth off a small error as much as a tenth off a large one, so a batch of slight and severe
    degradations is not ruled by the severe ones. `least` (50 dB) keeps near-perfect pictures from ruling instead.
    """
    return torch.log((restored - clean).square().mean((1, 2, 3)) + least).mean()


def align(feature: Tensor, shape: torch.Size) -> Tensor:
    """Bring a feature map [B, C, H, W] to `shape`: pooling where it is larger, linear interpolation where smaller.

    Channels are treated like rows and columns, so that teachers and students of any width can be compared.
    """
    x = feature[:, None].float()  # [B, 1, C, H, W]
    wanted = (shape[1], shape[2], shape[3])
    pooled = (min(x.shape[2], wanted[0]), min(x.shape[3], wanted[1]), min(x.shape[4], wanted[2]))
    if pooled != tuple(x.shape[2:]):
        x = F.adaptive_avg_pool3d(x, pooled)
    if pooled != wanted:
        x = F.interpolate(x, wanted, mode="trilinear", align_corners=False)
    return x[:, 0]


def hint_loss(student: dict[int, Tensor], teacher: dict[int, Tensor]) -> Tensor:
    """Mean over the stages of the MSE between the student's map and the teacher's, aligned to the student's shape."""
    parts = [F.mse_loss(student[stage].float(), align(teacher[stage], student[stage].shape)) for stage in student]
    return torch.stack(parts).mean()


def synapse_share(analysis: Analysis) -> dict[str, float]:
    """For each lif node the share of the network's synapses that its spikes reach (sums to 1).

    The mean of the spike rates weighted by it is the network's total rate: SyOps / SyOps if every neuron fired.
    """
    fan_out: dict[str, float] = {}
    sources: dict[str, tuple[tuple[str, int], ...]] = {}  # spike value -> lif nodes behind it and their channels
    for node in analysis.graph.nodes:
        value = analysis.values[node.name]
        synapses = kind_of(node).synapses(analysis.layers[node.name])
        if kind_of(node).neurons:
            sources[node.name] = ((node.name, value.channels),)
        elif value.spikes:
            sources[node.name] = tuple(source for name in node.inputs for source in sources[name])
        elif synapses:
            per_spike = synapses.fan_out * (synapses.kernel / synapses.stride) ** 2
            scale = analysis.values[node.inputs[0]].scale
            for name, channels in sources[node.inputs[0]]:
                fan_out[name] = fan_out.get(name, 0.0) + per_spike * channels / scale**2
    total = sum(fan_out.values())
    return {name: share / total for name, share in fan_out.items()}
