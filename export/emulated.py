"""A network as a card with 16-bit arithmetic computes it: its ends in integers, its body in emulated float16."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from export.half import HalfModel
from export.onnx_plain import HalfNetwork, body_restorer, build_body
from export.runners import Runner
from simulator.bundle import Bundle
from simulator.cut import cut
from simulator.kinds import kind_of

if TYPE_CHECKING:  # imported only where it is used, so that a missing package is reported in a sentence
    import onnx

Image = npt.NDArray[np.uint8]


def body_for_card(bundle: Bundle, height: int, width: int, layers: bool = False) -> onnx.ModelProto:
    """The body of a network in plain ONNX, as cards that compute in float16 take it. layers: it shows its neurons, too.

    Raises CutError for a network without a body, ExportError for a size that does not go or a missing package.
    """
    parts = cut(bundle.analysis)
    shown = [node.name for node in parts.body if layers and kind_of(node).neurons]
    return build_body(parts, bundle.tensors, bundle.meta, height, width, HalfNetwork, shown)


def emulated(bundle: Bundle, height: int, width: int, rounding: str) -> Callable[[Image], Image]:
    """Restores pictures, uint8 RGB [height, width, 3], with the network's body in float16.

    Raises CutError for a network without a body, ExportError for a size that is no multiple of the stride.
    """

    def make(model: onnx.ModelProto, threads: int) -> Runner:
        return HalfModel(model, rounding).run

    restore = body_restorer(cut(bundle.analysis), bundle.tensors, body_for_card(bundle, height, width), make)
    return lambda image: np.ascontiguousarray(restore(image.transpose(2, 0, 1)).transpose(1, 2, 0))
