"""What every kind of node says about itself.

A kind is one file of this folder with one class. All that `Kind` declares is required: a kind that lacks a rule cannot
be made, so that nothing is ever computed, bounded or counted by a rule meant for another kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from simulator.graph import Node
from simulator.kinds.layer import Array, Attribute, Bounds, Extent, Integers, Layer, Synapses, TensorSpec, Value
from simulator.kinds.sketch import Draw


class Kind(ABC):
    """One kind of node. `layer` and `node`, wherever they stand, are of this kind and have its attributes."""

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """The word in the graph, and the name of the kind's file."""

    @property
    @abstractmethod
    def equation(self) -> str:
        """What it computes, in one line: its entry in the index of `simulator/reference.py`."""

    @property
    @abstractmethod
    def attributes(self) -> Mapping[str, Attribute]:
        """By name. One that is added to a kind which bundles hold already needs a default: it is then not written
        where it equals that, and files without it mean it."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[int, int]:
        """The least and the largest number of inputs."""

    @property
    @abstractmethod
    def neurons(self) -> bool:
        """Whether it is a layer of neurons: its output is spikes, and they are counted."""

    # --- the numerics contract ----------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, layer: Layer) -> None:
        """Raises GraphError through `layer.refuse` for inputs and attributes that do not go together."""

    @abstractmethod
    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        """The tensors a node owns, by name; after `check`."""

    @abstractmethod
    def output(self, layer: Layer) -> Value:
        """Channels, scale, static or not, spikes or not, and grid of the output, without bounds; after `check`."""

    @abstractmethod
    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        """Bounds of the output and of every number that any backend may meet on the way. `own`: the node's tensors."""

    @abstractmethod
    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        """What the node means, in int64: the value [T or 1, C, H, W] from its inputs' values and its tensors.

        The two kinds that touch the picture, the first node and the last, find it (u8 - 128, [1, 3, H, W]) behind
        their inputs.
        """

    # --- geometry -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def span(self, node: Node, first: int, last: int) -> tuple[int, int]:
        """Rows (or columns) [first, last) of the output need these of the inputs, ignoring the image's border."""

    @abstractmethod
    def alignment(self, node: Node) -> int:
        """Tiles start at multiples of so many positions of its input; 1 if it does not matter where they start."""

    # --- counting -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def copies(self, node: Node) -> int:
        """How many times, along rows and along columns, a spike of its input comes out; 0 if it passes none on."""

    @abstractmethod
    def synapses(self, layer: Layer) -> Synapses | None:
        """Where the spikes of its input arrive, if they do: each arrival is a synaptic operation."""

    @abstractmethod
    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        """Multiply-accumulates: (executed once per frame, executed at each time step). `inputs`, `outputs`: how many
        rows and columns of the input and the output are real."""

    # --- conformance --------------------------------------------------------------------------------------------------

    @abstractmethod
    def draws(self) -> Sequence[Draw]:
        """Ways to add a node of this kind, with random attributes, to a random network; one that stands here twice
        comes twice as often. None for a kind that every network has."""

    def later_draws(self) -> Sequence[Draw]:
        """The same for attributes that a kind got later: drawn in networks around the kind alone, so that a seed keeps
        its network of the usual kinds."""
        return ()


class ByPosition(Kind):
    """Kinds whose output at a position needs their inputs at that position alone, and that neither multiply with
    weights nor have synapses. To derive from it is to say all that."""

    def span(self, node: Node, first: int, last: int) -> tuple[int, int]:
        return first, last

    def alignment(self, node: Node) -> int:
        return 1

    def synapses(self, layer: Layer) -> None:
        return None

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        return 0, 0
