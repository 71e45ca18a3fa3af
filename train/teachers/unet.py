"""What Restormer, PromptIR and AdaIR share: a four-level encoder-decoder of transformer blocks, in plain PyTorch.

The blocks' attention runs over channels, not pixels. Names of parameters and arithmetic agree with the published
checkpoints, which therefore load strictly and without conversion. PromptIR and AdaIR change the features on their way
into the decoder (`UNet.modulate`); all else is Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881).

Shapes: B images, C channels, H x W pixels at the level at hand; `dim` channels at the first level. Images are float32
in [0, 1]. The seven stages that serve as hints, with channels and scale; 4 to 6 are taken before `modulate`:

    1 encoder 1   dim      @ 1      5 decoder 3   4 dim @ 1/4
    2 encoder 2   2 dim    @ 1/2    6 decoder 2   2 dim @ 1/2
    3 encoder 3   4 dim    @ 1/4    7 decoder 1   2 dim @ 1
    4 latent      8 dim    @ 1/8
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 8  # the latent's pixel covers 8 x 8 input pixels
NORM_EPS = 1e-5
STAGES = (1, 2, 3, 4, 5, 6, 7)
LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")


@dataclass(frozen=True)
class UNetConfig:
    """What makes one network differ from another of its kind; the defaults are the published ones.

    dim: channels of the first level. blocks, heads: per level, encoder and decoder alike. refinement: blocks after the
    decoder. expansion: hidden channels of the feed-forward part per channel. conv_bias: biases in the convolutions.
    norm: "WithBias" (a layer norm) or "BiasFree" (no mean subtracted, no bias).

    Raises ValueError with a sentence for a network that cannot be built.
    """

    title: ClassVar[str]  # the network's name, for messages

    in_channels: int = 3
    out_channels: int = 3
    dim: int = 48
    blocks: tuple[int, ...] = (4, 6, 6, 8)
    refinement: int = 4
    heads: tuple[int, ...] = (1, 2, 4, 8)
    expansion: float = 2.66
    conv_bias: bool = False
    norm: str = "WithBias"

    def __post_init__(self) -> None:
        # JSON has no tuples; a config that came from a file must still compare equal.
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "heads", tuple(self.heads))
        if self.norm not in ("WithBias", "BiasFree"):
            raise ValueError(f"The norm must be WithBias or BiasFree, not {self.norm!r}.")
        if len(self.blocks) != 4 or len(self.heads) != 4:
            raise ValueError(f"{self.title} has 4 levels, but blocks is {self.blocks} and heads is {self.heads}.")
        if min(*self.blocks, *self.heads, self.dim, self.in_channels, self.out_channels) < 1 or self.refinement < 0:
            raise ValueError("A width, a head count, a channel count and blocks per level must be at least 1.")
        if self.dim % 2:
            raise ValueError(f"The width must be even, because down-sampling halves it first, not {self.dim}.")
        for level, heads in enumerate(self.heads):
            check_heads(f"Level {level + 1}", self.dim << level, heads)
        if self.residual and self.in_channels != self.out_channels:
            raise ValueError("The global residual needs as many channels in as out; only dual_pixel does without it.")

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return True

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> UNetConfig:
        """Read a network's configuration off the names and shapes of its weights.

        Raises ValueError if they are not those of such a network.
        """
        try:
            fields = cls.read_fields(weights)
        except KeyError as error:
            raise ValueError(f"These are not the weights of {cls.title}: {error.args[0]} is missing.") from None
        except (IndexError, ZeroDivisionError):
            raise ValueError(f"These are not the weights of {cls.title}: their shapes are no convolutions'.") from None
        return cls(**fields)

    @classmethod
    def read_fields(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """The fields of the configuration, by name; a weight that is missing raises KeyError with its name."""

        def count(level: str) -> int:
            return len({name.split(".")[1] for name in weights if name.startswith(f"{level}.")})

        first = weights["patch_embed.proj.weight"].shape
        dim = first[0]
        hidden = [weights[f"{level}.0.ffn.project_out.weight"].shape[1] for level in LEVELS]
        return {
            "in_channels": first[1],
            "out_channels": weights["output.weight"].shape[0],
            "dim": dim,
            "blocks": tuple(count(level) for level in LEVELS),
            "refinement": count("refinement"),
            "heads": tuple(weights[f"{level}.0.attn.temperature"].shape[0] for level in LEVELS),
            "expansion": cls._read_expansion([dim << level for level in range(4)], hidden),
            "conv_bias": "output.bias" in weights,
            "norm": "WithBias" if "encoder_level1.0.norm1.body.bias" in weights else "BiasFree",
        }

    @classmethod
    def _read_expansion(cls, channels: list[int], hidden: list[int]) -> float:
        """A number e with floor(channels * e) == hidden at every level, with two decimals where there is one."""
        low = max(h / c for c, h in zip(channels, hidden, strict=True))
        high = min((h + 1) / c for c, h in zip(channels, hidden, strict=True))
        if low >= high:
            raise ValueError(f"These are not the weights of {cls.title}: {hidden} hidden for {channels} channels.")
        short = math.ceil(low * 100) / 100
        return short if short < high else (low + high) / 2

    @classmethod
    def narrow(cls, patch: int, *, dim: int, heads: Sequence[int], **fields: Any) -> UNetConfig:
        """The network at a width of one's own, to be trained on patches of `patch` pixels; the rest scales along."""
        return cls(dim=dim, heads=tuple(heads), **fields)


def check_heads(place: str, channels: int, heads: int) -> None:
    """Raises ValueError unless so many heads can share so many channels."""
    if channels % heads:
        raise ValueError(f"{place} has {channels} channels, which {heads} heads cannot share evenly.")


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


def attend(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Attention between channels: softmax(temperature * q k^T) v, q and k of unit length over the pixels.

    q, k, v: [B, C, H, W]; temperature: [heads, 1, 1]. Each head has its own C/heads channels. (Restormer, eq. 1.)
    """
    b, c, h, w = q.shape
    heads = temperature.shape[0]
    q, k, v = (x.reshape(b, heads, c // heads, h * w) for x in (q, k, v))
    attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return (torch.softmax(attention * temperature, dim=-1) @ v).reshape(b, c, h, w)


class ChannelAttention(nn.Module):
    """Multi-Dconv head transposed attention of a map to itself; [B, C, H, W] in and out."""

    def __init__(self, channels: int, heads: int, bias: bool):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        out: Tensor = self.project_out(attend(q, k, v, self.temperature))
        return out


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward: project(gelu(a) * b), (a, b) = depthwise 3x3 of a 1x1 expansion. (Restormer, eq. 2.)"""

    def __init__(self, channels: int, expansion: float, bias: bool):
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        out: Tensor = self.project_out(F.gelu(gate) * value)
        return out


class Block(nn.Module):
    """One transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)); [B, C, H, W] in and out."""

    def __init__(self, channels: int, heads: int, config: UNetConfig):
        super().__init__()
        self.norm1 = ChannelNorm(channels, config.norm)
        self.attn = ChannelAttention(channels, heads, config.conv_bias)
        self.norm2 = ChannelNorm(channels, config.norm)
        self.ffn = GatedFeedForward(channels, config.expansion, config.conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class Resample(nn.Module):
    """A 3x3 convolution, then pixels into channels (`down`: [B, C, H, W] -> [B, 2C, H/2, W/2]) or the reverse."""

    def __init__(self, channels: int, down: bool):
        super().__init__()
        convolution = nn.Conv2d(channels, channels // 2 if down else channels * 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.PixelUnshuffle(2) if down else nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class PatchEmbed(nn.Module):
    """The first 3x3 convolution; the image's channels -> `dim`."""

    def __init__(self, in_channels: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


class UNet(nn.Module):
    """The network. `forward(x)` restores, `features(x, stages)` restores and returns the hints (stages 1..7)."""

    arch: ClassVar[str]
    Config: ClassVar[type[UNetConfig]]

    def __init__(self, config: UNetConfig, raised: int | None = None):
        """raised: channels that come up from the latent after `modulate`, if not the latent's own 8 dim."""
        super().__init__()
        self.config = config
        d, bias = config.dim, config.conv_bias
        raised = 8 * d if raised is None else raised

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
        self.up4_3 = Resample(raised, down=False)
        self.reduce_chan_level3 = nn.Conv2d(raised // 2 + 4 * d, 4 * d, 1, bias=bias)
        self.decoder_level3 = level(4 * d, 2)
        self.up3_2 = Resample(4 * d, down=False)
        self.reduce_chan_level2 = nn.Conv2d(4 * d, 2 * d, 1, bias=bias)
        self.decoder_level2 = level(2 * d, 1)
        self.up2_1 = Resample(2 * d, down=False)
        self.decoder_level1 = level(2 * d, 0)
        self.refinement = level(2 * d, 0, config.refinement)
        self.output = nn.Conv2d(2 * d, config.out_channels, 3, padding=1, bias=bias)

    def stage_channels(self) -> dict[int, int]:
        """Channels of every stage's feature map."""
        return {stage: self.config.dim * factor for stage, factor in zip(STAGES, (1, 2, 4, 8, 4, 2, 2), strict=True)}

    def channels_last(self) -> UNet:
        """Bring the convolutions' weights into the layout that convolves fastest; returns the network.

        `to(memory_format=...)` would do, but refuses weights of five dimensions, which PromptIR has.
        """
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def modulate(self, stage: int, x: Tensor, image: Tensor) -> Tensor:
        """What becomes of the map of stage 4, 5 or 6 before it is up-sampled; nothing, unless a subclass says so."""
        return x

    def finish(self, refined: Tensor, embedded: Tensor, image: Tensor) -> Tensor:
        """The restored image, from the refined map [B, 2 dim, H, W], the first convolution's map and the input."""
        out: Tensor = self.output(refined) + image
        return out

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
            raise ValueError(f"A teacher has the stages 1 to 7, not {', '.join(map(str, unknown))}.")
        height, width = x.shape[-2:]
        x = _pad_to_stride(x)
        embedded = self.patch_embed(x)
        maps = {}
        maps[1] = self.encoder_level1(embedded)
        maps[2] = self.encoder_level2(self.down1_2(maps[1]))
        maps[3] = self.encoder_level3(self.down2_3(maps[2]))
        maps[4] = self.latent(self.down3_4(maps[3]))
        up = self.up4_3(self.modulate(4, maps[4], x))
        maps[5] = self.decoder_level3(self.reduce_chan_level3(torch.cat([up, maps[3]], 1)))
        up = self.up3_2(self.modulate(5, maps[5], x))
        maps[6] = self.decoder_level2(self.reduce_chan_level2(torch.cat([up, maps[2]], 1)))
        up = self.up2_1(self.modulate(6, maps[6], x))
        maps[7] = self.decoder_level1(torch.cat([up, maps[1]], 1))
        output = self.finish(self.refinement(maps[7]), embedded, x)
        return output[..., :height, :width], {stage: maps[stage] for stage in stages}


def _pad_to_stride(x: Tensor) -> Tensor:
    """Pad right and bottom to a multiple of STRIDE: mirrored as the published evaluation does, replicated if tiny."""
    bottom, right = -x.shape[-2] % STRIDE, -x.shape[-1] % STRIDE
    if not (bottom or right):
        return x
    mirrored = bottom < x.shape[-2] and right < x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), mode="reflect" if mirrored else "replicate")
