"""A random network while it grows: what the kinds' draws work with. `simulator/random_networks.py` composes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.graph import Node
from simulator.kinds.layer import Layer, Random, Value

CHANNELS = (1, 3, 5, 8, 12, 16, 24, 32, 40, 48)
SCALES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Known:
    """A node's output; `limit` bounds its magnitude, loosely."""

    name: str
    value: Value
    limit: int


class Sketch:
    """Nodes so far, and of those the values that further ones may read.

    complete: gives a node the defaults of attributes that it lacks. output: what is known of a layer's output.
    Nothing is checked: `analyse` has the last word on whether the result is valid.
    """

    def __init__(
        self, rng: Random, time_steps: int, complete: Callable[[Node], Node], output: Callable[[Layer], Value]
    ):
        self.rng, self.time_steps = rng, time_steps
        self.nodes: list[Node] = []
        self._complete = complete
        self._output = output
        self._known: list[Known] = []
        self._count = 0

    def pick(self, values: tuple[int, ...]) -> int:
        return int(self.rng.choice(values))

    def name(self, word: str) -> str:
        """A name that no other node has."""
        self._count += 1
        return f"{word}.{self._count}"

    def choose(self, spikes: bool) -> Known | None:
        """A value of that sort, later ones more likely; None if there is none."""
        matching = [known for known in self._known if known.value.spikes == spikes]
        return matching[-1 - int(min(self.rng.exponential(1.5), len(matching) - 1))] if matching else None

    def alike(self, x: Known, channels: bool) -> Known:
        """A value of the same sort and scale as x, which may be x; with as many channels, too, if `channels`."""
        scale, sort = x.value.scale, (x.value.spikes, x.value.window)
        matching = [
            known for known in self._known
            if known.value.scale == scale and (known.value.spikes, known.value.window) == sort
            and (known.value.channels == x.value.channels or not channels)
        ]  # fmt: skip
        return matching[int(self.rng.integers(len(matching)))]

    def add(self, name: str, kind: str, inputs: tuple[Known, ...], limit: int, /, **attributes: Any) -> Known:
        """Adds a node; attributes that have a default may be left out. Further nodes choose its output after `keep`."""
        node = self._complete(Node(name, kind, tuple(known.name for known in inputs), attributes))
        layer = Layer(node, tuple(known.value for known in inputs), self.time_steps, (-128, 127))
        self.nodes.append(node)
        return Known(name, self._output(layer), limit)

    def keep(self, known: Known) -> Known:
        """Lets further nodes choose a value."""
        self._known.append(known)
        return known

    def reach(self, inputs: tuple[Known, ...]) -> list[int]:
        """The limits of some values on the finest grid among them."""
        q = max(known.value.q for known in inputs)
        return [known.limit << (q - known.value.q) for known in inputs]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)


# One way to add a node to a random network, or to leave it as it is where none fits.
Draw = Callable[[Sketch], None]
