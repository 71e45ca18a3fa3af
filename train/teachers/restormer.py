"""Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881) at any width.

The published networks, all at the default width; where a field is not named, it has its default:

    colour denoising, blind or one sigma, and real noise   norm="BiasFree"                                   26,111,668
    gray denoising, blind or one sigma                     norm="BiasFree", in_channels=1, out_channels=1    26,109,076
    deraining, motion deblurring, single-image defocus     (defaults)                                        26,126,644
    dual-pixel defocus                                     in_channels=6, dual_pixel=True                    26,132,548
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from train.teachers.unet import UNet, UNetConfig


@dataclass(frozen=True)
class RestormerConfig(UNetConfig):
    """dual_pixel: the two-view defocus network: six channels in, no global residual. The rest as in UNetConfig."""

    title: ClassVar[str] = "Restormer"

    dual_pixel: bool = False

    @property
    def residual(self) -> bool:
        return not self.dual_pixel

    @classmethod
    def read_fields(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**super().read_fields(weights), "dual_pixel": "skip_conv.weight" in weights}


class Restormer(UNet):
    """The encoder-decoder of `train/teachers/unet.py` as it is, or with the dual-pixel network's last step."""

    arch = "restormer"
    Config = RestormerConfig

    def __init__(self, config: RestormerConfig):
        super().__init__(config)
        if config.dual_pixel:
            self.skip_conv = nn.Conv2d(config.dim, 2 * config.dim, 1, bias=config.conv_bias)

    def finish(self, refined: Tensor, embedded: Tensor, image: Tensor) -> Tensor:
        if self.config.residual:
            return super().finish(refined, embedded, image)
        out: Tensor = self.output(refined + self.skip_conv(embedded))
        return out
