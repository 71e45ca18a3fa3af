"""AdaIR (Cui et al., ICLR 2025, arXiv 2403.14614) at any width: Restormer with low and high frequencies apart.

Before each up-sampling the input image, at the size of the features, is split in the Fourier domain: a centred box of
low frequencies and the rest. Each part attends to the features, the two gate each other, and the features attend to
their sum. The published networks (all-in-one: noise, rain, haze, and in adair5d.ckpt blur and low light) have
28,784,824 parameters, of which 43,098 never get a gradient: 18,738 in layers that no step uses, 24,360 in `rate_conv`,
which sets the box's size, a whole number. Without the split (decoder=False) AdaIR is Restormer, name for name.

The box is int(side // 128 * rate) frequencies to either side of zero, rate between 0 and 1. It is empty wherever the
features have sides below 256 pixels: images below 512 pixels at decoder 2, below 1024 at decoder 3, below 2048 at the
latent. The low part is then zero: a network trained on smaller patches never saw it anything else.
A network of one's own has a box_divisor of 2 in place of 128 (`AdaIRConfig.narrow`), so that it has a low part from
features of 8 x 8 pixels on, which are the latent's on 64 x 64 patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.teachers.unet import UNet, UNetConfig, attend, check_heads


@dataclass(frozen=True)
class AdaIRConfig(UNetConfig):
    """box_divisor: see the head of this file; not in the weights, a file without a header has the published 128.
    unused_layers: hold the layers that the published file holds and no step uses. decoder: split the frequencies.
    The rest as in UNetConfig.
    """

    title: ClassVar[str] = "AdaIR"

    box_divisor: int = 128
    unused_layers: bool = True
    decoder: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box_divisor < 2:
            raise ValueError(f"The box of low frequencies fits for a divisor of 2 or more, not {self.box_divisor}.")
        if self.decoder:
            if self.dim < 8:
                raise ValueError(f"AdaIR's gates need a width of at least 8, not {self.dim}.")
            check_heads("Level 2", 2 * self.dim, self.heads[2])

    @classmethod
    def read_fields(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        fields = {**super().read_fields(weights), "decoder": any(name.startswith("fre") for name in weights)}
        return {**fields, "unused_layers": not fields["decoder"] or "fre1.score_gen.weight" in weights}

    @classmethod
    def narrow(cls, patch: int, *, dim: int, heads: Sequence[int], **fields: Any) -> AdaIRConfig:
        """Without the unused layers, and with a low part on small patches too."""
        return cls(dim=dim, heads=tuple(heads), **fields, box_divisor=2, unused_layers=False)


class CrossAttention(nn.Module):
    """Attention between the channels of x (queries) and of y (keys, values); all [B, C, H, W]."""

    def __init__(self, channels: int, heads: int, bias: bool):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1, bias=bias)
        self.q_dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=bias)
        self.kv_dwconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        k, v = self.kv_dwconv(self.kv(y)).chunk(2, dim=1)
        out: Tensor = self.project_out(attend(self.q_dwconv(self.q(x)), k, v, self.temperature))
        return out


class SpatialGate(nn.Module):
    """sigmoid(conv7x7(maximum and mean over the channels)); [B, C, H, W] -> [B, 1, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)))


class ChannelGate(nn.Module):
    """sigmoid(mlp(mean over the pixels) + mlp(maximum over the pixels)); [B, C, H, W] -> [B, C, 1, 1]."""

    def __init__(self, channels: int):
        super().__init__()
        narrow = channels // 16
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False), nn.ReLU(), nn.Conv2d(narrow, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True)))


class Exchange(nn.Module):
    """The frequency modulation: project(low * spatial gate of high + high * channel gate of low); [B, C, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.SpatialGate = SpatialGate()
        self.ChannelGate = ChannelGate(channels)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        out: Tensor = self.proj(low * self.SpatialGate(high) + high * self.ChannelGate(low))
        return out


class FrequencyBlock(nn.Module):
    """The adaptive frequency learning block: features [B, C, H, W], changed by the image's low and high frequencies.

    para1 * attention(features -> exchange(low, high)) + para2 * features; para1 starts at zero, para2 at one.
    """

    def __init__(self, channels: int, config: AdaIRConfig):
        super().__init__()
        heads, bias = config.heads[2], config.conv_bias  # the published network has level 3's heads everywhere
        self.divisor = config.box_divisor
        self.conv1 = nn.Conv2d(config.in_channels, channels, 3, padding=1, bias=False)
        self.para1 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.para2 = nn.Parameter(torch.ones(channels, 1, 1))
        # The checkpoints' suffixes are crossed: channel_cross_l takes the high frequencies, channel_cross_h the low.
        self.channel_cross_l = CrossAttention(channels, heads, bias)
        self.channel_cross_h = CrossAttention(channels, heads, bias)
        self.channel_cross_agg = CrossAttention(channels, heads, bias)
        self.frequency_refine = Exchange(channels)
        self.rate_conv = nn.Sequential(
            nn.Conv2d(channels, channels // 8, 1, bias=False), nn.GELU(), nn.Conv2d(channels // 8, 2, 1, bias=False)
        )
        self.rate_conv.requires_grad_(False)  # no gradient passes the whole number that comes of it
        if config.unused_layers:
            self.conv = nn.Conv2d(config.in_channels, channels, 3, padding=1, bias=False).requires_grad_(False)
            self.score_gen = nn.Conv2d(2, 2, 7, padding=3).requires_grad_(False)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        low, high = self.split(self.conv1(F.interpolate(image, features.shape[-2:], mode="bilinear")))
        low, high = self.channel_cross_h(low, features), self.channel_cross_l(high, features)
        change = self.channel_cross_agg(features, self.frequency_refine(low, high))
        changed: Tensor = change * self.para1 + features * self.para2
        return changed

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(low, high) magnitudes of x [B, C, H, W]; in float32 at least, which the Fourier transforms need.

        The box of low frequencies reaches from -r to r - 1 in each direction, r = int(side // divisor * rate).
        """
        height, width = x.shape[-2:]
        with torch.no_grad():
            rate = torch.sigmoid(self.rate_conv(x.mean((2, 3), keepdim=True)))  # [B, 2, 1, 1]
            rows = _box(height, (height // self.divisor * rate[:, :1]).int())
            columns = _box(width, (width // self.divisor * rate[:, 1:]).int())
            box = rows.transpose(2, 3) & columns  # [B, 1, H, W]
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if not box.any():  # the rule below 256 pixels; saves both transforms
            return torch.zeros_like(x), x.abs()
        low = torch.fft.ifft2(torch.fft.fft2(x) * box)
        return low.abs(), (x - low).abs()


def _box(side: int, reach: Tensor) -> Tensor:
    """Which of the frequencies 0 ... side - 1, as a Fourier transform orders them, are in [-reach, reach).

    reach: whole numbers [B, 1, 1, 1]; returns bool [B, 1, 1, side].
    """
    index = torch.arange(side, device=reach.device)
    frequency = torch.where(index < (side + 1) // 2, index, index - side)
    return (frequency >= -reach) & (frequency < reach)


class AdaIR(UNet):
    """The encoder-decoder of `train/teachers/unet.py` with a frequency block before each up-sampling."""

    arch = "adair"
    Config = AdaIRConfig
    config: AdaIRConfig

    def __init__(self, config: AdaIRConfig):
        super().__init__(config)
        if config.decoder:
            self.fre1 = FrequencyBlock(8 * config.dim, config)
            self.fre2 = FrequencyBlock(4 * config.dim, config)
            self.fre3 = FrequencyBlock(2 * config.dim, config)

    def modulate(self, stage: int, x: Tensor, image: Tensor) -> Tensor:
        """The features of stage 4, 5 or 6, changed by the image's frequencies; the same shape."""
        if not self.config.decoder:
            return x
        changed: Tensor = self.get_submodule(f"fre{stage - 3}")(image, x)
        return changed
