"""Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881) at any width, in plain PyTorch.

A four-level encoder-decoder of transformer blocks whose attention runs over channels, not pixels. Names of parameters
and arithmetic agree with the published checkpoints, which therefore load strictly and without conversion.

Shapes: B images, C channels, H x W pixels at the level at hand; `dim` channels at the first level. Images are float32
in [0, 1]. The seven stages that serve as hints, with channels and scale:

    1 encoder 1   dim      @ 1      5 decoder 3   4 dim @ 1/4
    2 encoder 2   2 dim    @ 1/2    6 decoder 2   2 dim @ 1/2
    3 encoder 3   4 dim    @ 1/4    7 decoder 1   2 dim @ 1
    4 latent      8 dim    @ 1/8
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8  # the latent's pixel covers 8 x 8 input pixels
NORM_EPS = 1e-5
STAGES = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class RestormerConfig:
    """What makes one Restormer differ from another; the defaults are the published colour deraining network.

    dim: channels of the first level. blocks, heads: per level, encoder and decoder alike. refinement: blocks after the
    decoder. expansion: hidden channels of the feed-forward part per channel. conv_bias: biases in the convolutions.
    norm: "WithBias" (a layer norm) or "BiasFree" (no mean subtracted, no bias; Gaussian denoising).
    dual_pixel: the two-view defocus network: six channels in, no global residual.
    """

    in_channels: int = 3
    out_channels: int = 3
    dim: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refinement: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    expansion: float = 2.66
    conv_bias: bool = False
    norm: str = "WithBias"
    dual_pixel: bool = False

    def __post_init__(self):
        # JSON has no tuples; a config that came from a file must still compare equal.
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "heads", tuple(self.heads))
        if self.norm not in ("WithBias", "BiasFree"):
            raise ValueError(f"The norm must be WithBias or BiasFree, not {self.norm!r}.")
        if len(self.blocks) != 4 or len(self.heads) != 4:
            raise ValueError(f"Restormer has 4 levels, but blocks is {self.blocks} and heads is {self.heads}.")
        if min(*self.blocks, *self.heads, self.dim, self.in_channels, self.out_channels) < 1 or self.refinement < 0:
            raise ValueError("A width, a head count, a channel count and blocks per level must be at least 1.")
        if self.dim % 2:
            raise ValueError(f"The width must be even, because down-sampling halves it first, not {self.dim}.")
        for level, heads in enumerate(self.heads):
            if (self.dim << level) % heads:
                channels = self.dim << level
                raise ValueError(f"Level {level + 1} has {channels} channels, which {heads} heads cannot share evenly.")
        if not self.dual_pixel and self.in_channels != self.out_channels:
            raise ValueError("The global residual needs as many channels in as out; only dual_pixel does without it.")


class _Affine(nn.Module):
    """The scale (and shift) of a norm, under the name that the checkpoints use."""

    def __init__(self, channels: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


class ChannelNorm(nn.Module):
    """Normalises the C channels of every pixel; [B, C, H, W] in and out.

    WithBias: (x - mean) / sqrt(var + eps) * weight + bias. BiasFree: x / sqrt(var + eps) * weight, where var is still
    taken about the mean. var is the biased variance over C; eps = 1e-5.
    """

    def __init__(self, channels: int, kind: str):
        super().__init__()
        self.body = _Affine(channels, bias=kind == "WithBias")

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.body.weight, self.body.bias
        if bias is not None:
            # In the channels-last layout both permutations are views and this is one fused pass.
            return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, NORM_EPS).permute(0, 3, 1, 2)
        variance = x.var(dim=1, keepdim=True, correction=0)
        return x * torch.rsqrt(variance + NORM_EPS) * weight[:, None, None]


class ChannelAttention(nn.Module):
    """Multi-Dconv head transposed attention: C/heads x C/heads attention maps between channels; [B, C, H, W] in, out.

    A = softmax(temperature * q k^T), q and k of unit length over the pixels; out = project(A v). (Paper, eq. 1.)
    """

    def __init__(self, channels: int, heads: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv_dwconv(self.qkv(x))
        # [3, B, heads, C/heads, H*W]
        q, k, v = qkv.reshape(b, 3, self.heads, c // self.heads, h * w).transpose(0, 1)
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        attention = torch.softmax(attention * self.temperature, dim=-1)
        return self.project_out((attention @ v).reshape(b, c, h, w))


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward: project(gelu(a) * b), (a, b) = depthwise 3x3 of a 1x1 expansion. (Paper, eq. 2.)"""

    def __init__(self, channels: int, expansion: float, bias: bool):
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class Block(nn.Module):
    """One transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)); [B, C, H, W] in and out."""

    def __init__(self, channels: int, heads: int, config: RestormerConfig):
        super().__init__()
        self.norm1 = ChannelNorm(channels, config.norm)
        self.attn = ChannelAttention(channels, heads, config.conv_bias)
        self.norm2 = ChannelNorm(channels, config.norm)
        self.ffn = GatedFeedForward(channels, config.expansion, config.conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Resample(nn.Module):
    """A 3x3 convolution, then pixels into channels (`down`: [B, C, H, W] -> [B, 2C, H/2, W/2]) or the reverse."""

    def __init__(self, channels: int, down: bool):
        super().__init__()
        convolution = nn.Conv2d(channels, channels // 2 if down else channels * 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.PixelUnshuffle(2) if down else nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class PatchEmbed(nn.Module):
    """The first 3x3 convolution; the image's channels -> `dim`."""

    def __init__(self, in_channels: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Restormer(nn.Module):
    """The network. `forward(x)` restores, `features(x, stages)` restores and returns the hints (stages 1..7)."""

    arch = "restormer"

    def __init__(self, config: RestormerConfig):
        super().__init__()
        self.config = config
        d, bias = config.dim, config.conv_bias

        def level(channels: int, number: int, count: int | None = None) -> nn.Sequential:
            count = config.blocks[number] if count is None else count
            return nn.Sequential(*(Block(channels, config.heads[number], config) for _ in range(count)))

        self.patch_embed = PatchEmbed(config.in_channels, d)
        self.encoder_level1 = level(d, 0)
        self.down1_2 = Resample(d, down=True)
        self.encoder_level2 = level(2 * d, 1)
        self.down2_3 = Resample(2 * d, down=True)
        self.encoder_level3 = level(4 * d, 2)
        self.down3_4 = Resample(4 * d, down=True)
        self.latent = level(8 * d, 3)
        self.up4_3 = Resample(8 * d, down=False)
        self.reduce_chan_level3 = nn.Conv2d(8 * d, 4 * d, 1, bias=bias)
        self.decoder_level3 = level(4 * d, 2)
        self.up3_2 = Resample(4 * d, down=False)
        self.reduce_chan_level2 = nn.Conv2d(4 * d, 2 * d, 1, bias=bias)
        self.decoder_level2 = level(2 * d, 1)
        self.up2_1 = Resample(2 * d, down=False)
        self.decoder_level1 = level(2 * d, 0)
        self.refinement = level(2 * d, 0, config.refinement)
        if config.dual_pixel:
            self.skip_conv = nn.Conv2d(d, 2 * d, 1, bias=bias)
        self.output = nn.Conv2d(2 * d, config.out_channels, 3, padding=1, bias=bias)

    def stage_channels(self) -> dict[int, int]:
        """Channels of every stage's feature map."""
        return {stage: self.config.dim * factor for stage, factor in zip(STAGES, (1, 2, 4, 8, 4, 2, 2), strict=True)}

    def forward(self, x: Tensor) -> Tensor:
        """Restore x, float32 [B, in_channels, H, W] in [0, 1] -> [B, out_channels, H, W], not clipped.

        Sides that are no multiple of 8 are padded right and bottom (mirrored) and the result is cropped.
        """
        return self.features(x, ())[0]

    def features(self, x: Tensor, stages: Collection[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """Restore x and return (output, {stage: feature map}) for the wanted stages; maps have the padded size.

        Raises ValueError for a stage outside 1..7.
        """
        unknown = sorted(set(stages) - set(STAGES))
        if unknown:
            raise ValueError(f"Restormer has the stages 1 to 7, not {', '.join(map(str, unknown))}.")
        height, width = x.shape[-2:]
        x = _pad_to_stride(x)
        embedded = self.patch_embed(x)
        maps = {}
        maps[1] = self.encoder_level1(embedded)
        maps[2] = self.encoder_level2(self.down1_2(maps[1]))
        maps[3] = self.encoder_level3(self.down2_3(maps[2]))
        maps[4] = self.latent(self.down3_4(maps[3]))
        maps[5] = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(maps[4]), maps[3]], 1)))
        maps[6] = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(maps[5]), maps[2]], 1)))
        maps[7] = self.decoder_level1(torch.cat([self.up2_1(maps[6]), maps[1]], 1))
        last = self.refinement(maps[7])
        if self.config.dual_pixel:
            output = self.output(last + self.skip_conv(embedded))
        else:
            output = self.output(last) + x
        return output[..., :height, :width], {stage: maps[stage] for stage in stages}


def _pad_to_stride(x: Tensor) -> Tensor:
    """Pad right and bottom to a multiple of STRIDE: mirrored as the published evaluation does, replicated if tiny."""
    bottom, right = -x.shape[-2] % STRIDE, -x.shape[-1] % STRIDE
    if not (bottom or right):
        return x
    mirrored = bottom < x.shape[-2] and right < x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), mode="reflect" if mirrored else "replicate")


def config_from_weights(weights: Mapping[str, Tensor]) -> RestormerConfig:
    """Read a network's configuration off the names and shapes of its weights.

    Raises ValueError if they are not a Restormer's.
    """

    def count(level: str) -> int:
        return len({name.split(".")[1] for name in weights if name.startswith(f"{level}.")})

    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    try:
        dim, in_channels = weights["patch_embed.proj.weight"].shape[:2]
        hidden = [weights[f"{level}.0.ffn.project_out.weight"].shape[1] for level in levels]
        return RestormerConfig(
            in_channels=in_channels,
            out_channels=weights["output.weight"].shape[0],
            dim=dim,
            blocks=tuple(count(level) for level in levels),
            refinement=count("refinement"),
            heads=tuple(weights[f"{level}.0.attn.temperature"].shape[0] for level in levels),
            expansion=_expansion([dim << level for level in range(4)], hidden),
            conv_bias="output.bias" in weights,
            norm="WithBias" if "encoder_level1.0.norm1.body.bias" in weights else "BiasFree",
            dual_pixel="skip_conv.weight" in weights,
        )
    except KeyError as error:
        raise ValueError(f"These are not the weights of a Restormer: {error.args[0]} is missing.") from None


def _expansion(channels: list[int], hidden: list[int]) -> float:
    """A number e with floor(channels * e) == hidden at every level, with two decimals where such a number exists."""
    low = max(h / c for c, h in zip(channels, hidden, strict=True))
    high = min((h + 1) / c for c, h in zip(channels, hidden, strict=True))
    if low >= high:
        raise ValueError(f"These are not the weights of a Restormer: {hidden} hidden for {channels} channels.")
    short = math.ceil(low * 100) / 100
    return short if short < high else (low + high) / 2
