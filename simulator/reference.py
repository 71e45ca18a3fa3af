"""The NumPy reference: what every node means, in int64, plain loops over taps and time steps, no tricks.

The meaning of the bundle is written once, kind by kind, in `simulator/kinds`, and computed here from the first node to
the last. It is slow on purpose; the engine and every other backend must equal it to the last bit. Arrays are
`[T, C, H, W]` (`[1, C, H, W]` where a value is static), int64; x is the input, T the number of time steps.

Each kind's file is simulator/kinds/<kind>.py; in one line each:

  attend          (x gate) >> gate_q, rounded, with gate = clip((a + 2) / 4, 0, 1); a from pooled sums
  concat          the inputs' channels one after another, on the finest grid among them
  conv            bias + the sum of the weights at which a spike arrives; weight [C_out, C_in/groups, k, k] on grid q
  dense_conv      bias + the sum of weight times x: multiply-accumulates; output on x's grid + q
  image           u8 - 128 on grid 7: the picture, 3 channels, static
  lif             v <- leak(v) + x + b; a spike where v >= threshold; then v = 0 or v -= threshold; v starts at 0
  readout         clip(u8 + ((x + 2^(n-1)) >> n), 0, 255) with n = x's grid - 7: the restored picture
  requantise      clip((x + 2^(shift-1)) >> shift, lo, hi); the output's grid is x's - shift
  space_to_depth  y[(c, dy, dx), i, j] = x[c, i r + dy, j r + dx] with r = factor, as PixelUnshuffle
  sum             the inputs on the finest grid among them, added; what is static is added at every step
  time_sum        the sum of x over the T steps, static; T times an x that is static
  upsample        nearest: each value repeated factor x factor times; depth_to_space: PixelShuffle
  window          v = b + the sum of x over its steps; then T times: a spike where v >= threshold, and v -= threshold
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.graph import Graph, Node
from simulator.kinds import kind_of
from simulator.kinds.layer import Array

Observer = Callable[[str, Array], None]


def evaluate_node(node: Node, inputs: Sequence[Array], own: Mapping[str, Array], analysis: Analysis) -> Array:
    """The output of a node, from its inputs and its own tensors (int64).

    The first node and the last take the picture behind their inputs: u8 - 128, [1, 3, H, W].
    """
    return kind_of(node).compute(analysis.layers[node.name], inputs, own)


class Reference:
    """Backend over the kinds' meanings: one padded image (or tile) at a time."""

    name = "reference"

    def __init__(self, analysis: Analysis, tensors: Mapping[str, npt.NDArray[np.int32]], threads: int | None = None):
        self.analysis = analysis
        self.graph: Graph = analysis.graph
        self.own: dict[str, dict[str, Array]] = {node.name: {} for node in self.graph.nodes}
        for key, tensor in tensors.items():
            layer, _, part = key.rpartition(".")
            self.own[layer][part] = tensor.astype(np.int64)

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Observer | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        """Restore `pixels` (int16 [3, H, W], u8 - 128, H and W multiples of the stride).

        Returns the picture uint8 [3, H, W] and for each layer of neurons its spikes per position, int32 [h, w], summed
        over channels and time. `observe(name, value)` sees the output [T or 1, C, h, w] of every node.
        """
        graph = self.graph
        last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        picture = pixels.astype(np.int64)[None]
        values: dict[str, Array] = {}
        maps: dict[str, npt.NDArray[np.int32]] = {}
        for i, node in enumerate(graph.nodes):
            inputs = [values[name] for name in node.inputs]
            if i in (0, len(graph.nodes) - 1):
                inputs.append(picture)
            value = evaluate_node(node, inputs, self.own[node.name], self.analysis)
            values[node.name] = value
            if kind_of(node).neurons:
                maps[node.name] = value.sum((0, 1)).astype(np.int32)
            if observe:
                observe(node.name, value)
            for name in node.inputs:
                if last_use[name] == i:
                    values.pop(name, None)
        return values[graph.nodes[-1].name][0].astype(np.uint8), maps
