"""Builds graphs node by node."""

from __future__ import annotations

from typing import Any

from simulator.graph import Graph, Node
from simulator.structure import check_structure, with_defaults


class Builder:
    """Collects nodes; every method adds one and returns its name. `add` takes any kind.

    >>> b = Builder(time_steps=4); x = b.dense_conv("head", b.image(), 3, q=8)
    """

    def __init__(self, time_steps: int, grid: int = 10):
        """`grid`: q of convolutions that are not given another."""
        self.time_steps = time_steps
        self.grid = grid
        self.nodes: list[Node] = []
        self.stages: dict[int, str] = {}

    def add(self, name: str, kind: str, inputs: tuple[str, ...], **attrs: Any) -> str:
        """A node of any kind; attributes that have a default may be left out."""
        self.nodes.append(with_defaults(Node(name, kind, inputs, attrs)))
        return name

    def image(self) -> str:
        return self.add("image", "image", ())

    def space_to_depth(self, name: str, x: str, factor: int) -> str:
        return self.add(name, "space_to_depth", (x,), factor=factor)

    def conv(
        self, name: str, x: str, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1,
        q: int | None = None, bias: bool = False, dilation: int = 1, kind: str = "conv", **more: Any,
    ) -> str:  # fmt: skip
        """`padding` keeps the size for stride 1 and divides it by the stride otherwise. `more`: further attributes."""
        padding = 0 if kernel == stride else (kernel - 1) * dilation // 2
        if dilation > 1:
            more["dilation"] = dilation
        return self.add(
            name, kind, (x,), channels=channels, kernel=kernel, stride=stride, padding=padding, groups=groups,
            q=self.grid if q is None else q,
            bias=int(bias), **more,
        )  # fmt: skip

    def dense_conv(self, name: str, x: str, channels: int, kernel: int = 3, **more: Any) -> str:
        return self.conv(name, x, channels, kernel, kind="dense_conv", **more)

    def requantise(self, name: str, x: str, shift: int, limit: int, least: int | None = None) -> str:
        """Clip to -limit..limit - 1, or to `least`..limit - 1: with `least` 0 a ReLU."""
        return self.add(name, "requantise", (x,), shift=shift, lo=-limit if least is None else least, hi=limit - 1)

    def lif(self, name: str, x: str, leak: str = "decay", reset: str = "subtract", **more: Any) -> str:
        return self.add(name, "lif", (x,), leak=leak, reset=reset, **more)

    def window(self, name: str, x: str) -> str:
        return self.add(name, "window", (x,))

    def sum(self, name: str, *inputs: str) -> str:
        return self.add(name, "sum", inputs)

    def concat(self, name: str, *inputs: str) -> str:
        return self.add(name, "concat", inputs)

    def upsample(self, name: str, x: str, factor: int = 2, mode: str = "nearest") -> str:
        return self.add(name, "upsample", (x,), factor=factor, mode=mode)

    def attend(
        self, name: str, x: str, over: str, window: int = 1, hidden: int = 0, *, pool_q: int = 8, q: int = 8,
        gate_q: int = 8,
    ) -> str:  # fmt: skip
        return self.add(
            name, "attend", (x,), over=over, window=window, hidden=hidden, pool_q=pool_q, q=q, gate_q=gate_q
        )

    def time_sum(self, name: str, x: str) -> str:
        return self.add(name, "time_sum", (x,))

    def finish(self, x: str) -> Graph:
        self.add("readout", "readout", (x,))
        graph = Graph(tuple(self.nodes), self.time_steps, dict(self.stages))
        check_structure(graph)
        return graph
