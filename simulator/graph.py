"""The network graph: a short list of typed nodes in topological order.

One `Graph` builds the PyTorch student, drives every engine and is stored in the bundle. It holds structure only;
the integer tensors (weights, biases, thresholds) lie beside it in a dict keyed `<node>.<tensor>`. What the kinds of
nodes are stands in `simulator/kinds`, one file each, and in one page in `simulator/reference.py`. Graphs are made by
`simulator/builder.py`; `simulator/structure.py` checks them and turns them into JSON.

Shapes: a value is `[T, C, H, W]`, or `[1, C, H, W]` when it is static (the same at every time step). Every number is an
integer `k` that stands for `k * 2**-q`; `q` is the value's grid. Spikes are 0/1 and have q = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IMAGE_GRID = 7  # a pixel enters as (u8 - 128) * 2^-7
WEIGHT_LIMIT = 2048  # float16 holds every integer up to here exactly
MAX_GRID = 14  # 2^-14 is float16's smallest normal number
MAX_SHIFT = 30
MAX_NODES = 1024
MAX_CHANNELS = 4096
MAX_INPUTS = 64  # of one node
MAX_VALUE_GRID = 30  # grids add up along real-valued convolutions; an int32 has no finer one
MAX_SCALE = 256
MAX_ALIGN = 4096  # image pixels
MAX_TIME_STEPS = 64
INPUT_CHANNELS = 3


class GraphError(ValueError):
    """A graph that breaks a rule of the numerics contract; the text names the layer and, where it matters, channel."""


@dataclass(frozen=True)
class Node:
    """One typed step of the network. `attrs` holds the whole numbers and words that its kind asks for."""

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.attrs[key]


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order (inputs stand before their users), the last one the readout.

    `stages` names the node whose output is the feature map of stage 1..7 (encoder 1, 2, 3, latent, decoder 3, 2, 1).
    """

    nodes: tuple[Node, ...]
    time_steps: int
    stages: Mapping[int, str] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def consumers(self, name: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if name in node.inputs)

    def needed(self) -> frozenset[str]:
        """The names of the nodes that the picture depends on."""
        found = {self.nodes[-1].name}
        for node in reversed(self.nodes):
            if node.name in found:
                found.update(node.inputs)
        return frozenset(found)
