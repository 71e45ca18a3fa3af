"""PromptIR (Potlapalli et al., NeurIPS 2023, arXiv 2306.13090) at any width: Restormer with learnt prompts.

Before each up-sampling a prompt, a mixture of learnt maps weighted by what the features are, is appended to the
features; a transformer block mixes the two and a 1x1 convolution brings the channels down again.

The published all-in-one network (noise, rain, haze) has 35,592,263 parameters; 215,296 of them are in layers that its
file holds but no step uses. The published code can also leave the prompts out (decoder=False, 32,107,288 parameters),
but that network does not run: its latent has 384 channels and the convolution after it takes 192.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.teachers.unet import Block, UNet, UNetConfig, check_heads


@dataclass(frozen=True)
class PromptIRConfig(UNetConfig):
    """prompt_channels, prompt_sizes: of the prompts 1, 2 and 3, which follow decoder 2, decoder 3 and the latent; a
    prompt's learnt maps are size x size and are resized to the features. prompts: learnt maps per prompt.
    unused_layers: hold the layers that the published file holds and no step uses. decoder: the prompts are there;
    False is refused, see the head of this file. The rest as in UNetConfig.
    """

    title: ClassVar[str] = "PromptIR"

    prompt_channels: tuple[int, ...] = (64, 128, 320)
    prompt_sizes: tuple[int, ...] = (64, 32, 16)
    prompts: int = 5
    unused_layers: bool = True
    decoder: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "prompt_channels", tuple(self.prompt_channels))
        object.__setattr__(self, "prompt_sizes", tuple(self.prompt_sizes))
        if not self.decoder:
            raise ValueError(
                "PromptIR without its prompts (decoder off) cannot run, in the published code either: its latent has "
                f"{8 * self.dim} channels and the next convolution takes {4 * self.dim}; use a network with prompts."
            )
        if len(self.prompt_channels) != 3 or len(self.prompt_sizes) != 3:
            raise ValueError(
                f"PromptIR has 3 prompts, but prompt_channels is {self.prompt_channels} and prompt_sizes is "
                f"{self.prompt_sizes}."
            )
        if min(*self.prompt_channels, *self.prompt_sizes, self.prompts) < 1:
            raise ValueError("A prompt's channels, size and number of maps must be at least 1.")
        for number, (features, prompt) in enumerate(zip(self.feature_channels, self.prompt_channels, strict=True), 1):
            check_heads(f"Level {number} with its prompt", features + prompt, self.heads[2])

    @property
    def feature_channels(self) -> tuple[int, int, int]:
        """Channels of the features that prompt 1, 2 and 3 join."""
        return 2 * self.dim, 4 * self.dim, 8 * self.dim

    @classmethod
    def read_fields(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        fields = {**super().read_fields(weights), "unused_layers": "chnl_reduce1.weight" in weights}
        if not any(name.startswith("prompt") for name in weights):
            return {**fields, "decoder": False}
        shapes = [weights[f"prompt{number}.prompt_param"].shape for number in (1, 2, 3)]  # [1, prompts, C, size, size]
        fields["prompts"] = shapes[0][1]
        fields["prompt_channels"] = tuple(shape[2] for shape in shapes)
        fields["prompt_sizes"] = tuple(shape[-1] for shape in shapes)
        return fields

    @classmethod
    def narrow(cls, patch: int, *, dim: int, heads: Sequence[int], **fields: Any) -> PromptIRConfig:
        """Prompts as wide for the width as the published ones, each as large as the features of one patch."""
        channels = []
        for features, prompt in ((2 * dim, dim * 4 // 3), (4 * dim, dim * 8 // 3), (8 * dim, dim * 20 // 3)):
            channels.append(prompt + -(features + prompt) % heads[2])  # so that the heads can share them evenly
        sizes = tuple(max(1, patch // scale) for scale in (2, 4, 8))
        return cls(
            dim=dim,
            heads=tuple(heads),
            prompt_channels=tuple(channels),
            prompt_sizes=sizes,
            unused_layers=False,
            **fields,
        )


class Prompt(nn.Module):
    """A prompt for features x: conv3x3(resize(sum of w_l P_l)), w = softmax(linear(mean of x over its pixels)).

    [B, C, H, W] -> [B, channels, H, W]; P: `prompts` learnt maps [channels, size, size].
    """

    def __init__(self, features: int, channels: int, size: int, prompts: int):
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, prompts, channels, size, size))
        self.linear_layer = nn.Linear(features, prompts)
        self.conv3x3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.linear_layer(x.mean(dim=(2, 3))), dim=1)  # [B, prompts]
        maps = self.prompt_param[0]
        prompt = (weights @ maps.flatten(1)).unflatten(1, maps.shape[1:])
        out: Tensor = self.conv3x3(F.interpolate(prompt, x.shape[-2:], mode="bilinear"))
        return out


class PromptIR(UNet):
    """The encoder-decoder of `train/teachers/unet.py` with a prompt before each up-sampling."""

    arch = "promptir"
    Config = PromptIRConfig

    def __init__(self, config: PromptIRConfig):
        super().__init__(config, raised=4 * config.dim)
        d, bias = config.dim, config.conv_bias
        raised = (2 * d, 4 * d, 4 * d)  # channels after the prompt
        for number in (1, 2, 3):
            features, channels = config.feature_channels[number - 1], config.prompt_channels[number - 1]
            prompt = Prompt(features, channels, config.prompt_sizes[number - 1], config.prompts)
            self.add_module(f"prompt{number}", prompt)
            # The published network has level 3's heads at all three levels.
            self.add_module(f"noise_level{number}", Block(features + channels, config.heads[2], config))
            reduce = nn.Conv2d(features + channels, raised[number - 1], 1, bias=bias)
            self.add_module(f"reduce_noise_level{number}", reduce)
        if config.unused_layers:
            p1, p2, p3 = config.prompt_channels
            for number, (width, reduced) in enumerate(((p1, p1), (p2, p2), (p3, p3 * 4 // 5)), 1):
                features = d << (number - 1)
                unused = {
                    f"chnl_reduce{number}": nn.Conv2d(width, reduced, 1, bias=bias),
                    f"reduce_noise_channel_{number}": nn.Conv2d(features + reduced, features, 1, bias=bias),
                }
                for name, layer in unused.items():
                    self.add_module(name, layer.requires_grad_(False))

    def modulate(self, stage: int, x: Tensor, image: Tensor) -> Tensor:
        """The features of stage 4, 5 or 6 mixed with their prompt (3, 2 or 1); 8 dim, 4 dim, 2 dim channels become
        4 dim, 4 dim, 2 dim."""
        number = 7 - stage
        prompt = self.get_submodule(f"prompt{number}")(x)
        mixed = self.get_submodule(f"noise_level{number}")(torch.cat([x, prompt], 1))
        reduced: Tensor = self.get_submodule(f"reduce_noise_level{number}")(mixed)
        return reduced
