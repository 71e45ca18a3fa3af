"""A NIR file (HDF5) as nodes, edges and metadata, read as hostile input: everything is checked before it is taken.

    /version                      of the package nir that wrote it
    /node/type                    "NIRGraph"
    /node/nodes/<name>/type       "Input", "Output", "Conv2d", "LIF", ...
    /node/nodes/<name>/<part>     numbers, or a word
    /node/edges                   [n, 2] names
    /node/metadata/<key>          optional

The package nir would build whatever such a file says, of any size. Here the bytes of the file, its nodes, edges and
numbers are limited; links, data in other files, and filters other than HDF5's own are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.files import ExportError
from export.nir import missing_package

Array = npt.NDArray[np.float64]

MOST_BYTES = 256 << 20  # of the file
MOST_NUMBERS = 1 << 26  # of all of its data sets together
MOST_NODES, MOST_EDGES, MOST_PARTS = 1024, 8192, 32
MOST_LETTERS = 1 << 16  # of a word
LARGEST = 2.0**40  # of a number; of what is above 0, its inverse is the least
FILTERS = (1, 2, 3, 32000)  # gzip, shuffle, checksum, lzf


@dataclass(frozen=True)
class NirNode:
    """One node: its kind, and its values, numbers or words."""

    name: str
    kind: str
    values: Mapping[str, Any]

    def refused(self, text: str) -> ExportError:
        return ExportError(f"Node {self.name[:80]!r} ({self.kind}): {text}.")

    def array(self, part: str, dimensions: int) -> Array:
        """Numbers of so many dimensions, up to LARGEST."""
        value = self.values.get(part)
        if not isinstance(value, np.ndarray) or value.ndim != dimensions or not value.size:
            raise self.refused(f"its {part} is not an array of {dimensions} dimensions")
        return self._finite(part, value)

    def _finite(self, part: str, value: npt.NDArray[Any]) -> Array:
        if not (np.abs(value) <= LARGEST).all():
            raise self.refused(f"its {part} holds numbers that are not finite, or larger than {LARGEST:g}")
        return value.astype(np.float64)

    def whole(self, part: str, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        return self.pair(part, least, most, of_one=True)[0]

    def pair(self, part: str, least: int, most: int, of_one: bool = False) -> tuple[int, int]:
        """One or two whole numbers, for rows and columns; `of_one`: both must be the same."""
        value = self.values.get(part)
        numbers = value.ravel() if isinstance(value, np.ndarray) else np.zeros(0)
        if numbers.size not in (1, 2) or numbers.dtype.kind not in "iuf":
            raise self.refused(f"its {part} is not one or two whole numbers")
        first, second = float(numbers[0]), float(numbers[-1])
        for number in (first, second):
            if not (least <= number <= most and number == int(number)):
                raise self.refused(f"its {part} is {number:g}; {least} to {most} is supported")
        if of_one and first != second:
            raise self.refused(
                f"its {part} is {first:g} for rows and {second:g} for columns; one for both is supported"
            )
        return int(first), int(second)

    def per_channel(self, part: str) -> Array:
        """Numbers [C], or [1] for all; in the file one number, [C], or [C, H, W] with the same in all of a channel."""
        value = self.values.get(part)
        if not isinstance(value, np.ndarray) or value.ndim not in (0, 1, 3) or not value.size:
            raise self.refused(f"its {part} is neither a number nor an array [C] or [C, H, W]")
        if value.ndim == 3:
            if (value != value[:, :1, :1]).any():
                raise self.refused(f"its {part} differs within a channel; one for each channel is supported")
            value = value[:, 0, 0]
        return self._finite(part, np.atleast_1d(value))


@dataclass(frozen=True)
class NirFile:
    """nodes: by name, in the file's order. edges: from, to. metadata: words and numbers."""

    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Any]

    def sources(self, name: str) -> list[str]:
        return [source for source, target in self.edges if target == name]

    def in_order(self) -> list[NirNode]:
        """Every node after those that it reads; ExportError for a cycle."""
        sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(self.nodes, ()))
        for source, target in self.edges:
            sorter.add(target, source)
        try:
            sorter.prepare()
        except CycleError as error:
            names = ", ".join(repr(name[:80]) for name in error.args[1][:4])
            raise ExportError(f"The nodes {names} form a cycle; none is supported.") from error
        place = {name: number for number, name in enumerate(self.nodes)}
        order: list[NirNode] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=place.__getitem__)
            order += [self.nodes[name] for name in ready]
            sorter.done(*ready)
        return order


def read_file(path: Path) -> NirFile:
    """Read and check a file. Raises ExportError, one sentence, for anything that is not a sound one."""
    try:
        import h5py
    except ImportError as error:
        raise ExportError(missing_package("h5py")) from error
    if not path.is_file():
        raise ExportError(f"{path} does not exist or is not a file.")
    if path.stat().st_size > MOST_BYTES:
        raise ExportError(f"{path} has {path.stat().st_size} bytes; at most {MOST_BYTES} are read.")
    try:
        with h5py.File(path, "r") as file:
            return _Reader(h5py).read(file)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not a NIR file: HDF5 cannot read it, or it lacks what one has.") from error


class _Reader:
    def __init__(self, h5py: Any):
        self.h5py = h5py
        self.numbers = 0

    def read(self, file: Any) -> NirFile:
        graph = self.group(file, "node")
        if self.value(graph, "type") != "NIRGraph":
            raise ExportError("Its node is not a NIRGraph.")
        group = self.group(graph, "nodes")
        if not 1 <= len(group) <= MOST_NODES:
            raise ExportError(f"It has {len(group)} nodes; 1 to {MOST_NODES} are supported.")
        nodes = {name: self.node(group, name) for name in group}
        metadata = self.parts(self.group(graph, "metadata")) if "metadata" in graph else {}
        return NirFile(nodes, self.edges(graph, nodes), metadata)

    def node(self, group: Any, name: str) -> NirNode:
        own = self.group(group, name)
        values = self.parts(own, skip=("metadata", "input_type", "output_type"))
        kind = values.pop("type", None)
        if not isinstance(kind, str):
            raise ExportError(f"Node {name[:80]!r} has no type.")
        return NirNode(name, kind[:40], values)

    def parts(self, group: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
        if len(group) > MOST_PARTS:
            raise ExportError(f"{group.name[:80]!r} has {len(group)} parts; at most {MOST_PARTS} are supported.")
        return {name: self.value(group, name) for name in group if name not in skip}

    def edges(self, graph: Any, nodes: Mapping[str, NirNode]) -> tuple[tuple[str, str], ...]:
        data = self.dataset(graph, "edges")
        if data.ndim != 2 or data.shape[1] != 2 or data.shape[0] > MOST_EDGES:
            raise ExportError(f"Its edges are not a list of at most {MOST_EDGES} pairs.")
        found = tuple((self.word(a), self.word(b)) for a, b in data)  # row by row, for words may be long
        for edge in found:
            for end in edge:
                if end not in nodes:
                    raise ExportError(f"An edge names {end[:80]!r}, which is no node.")
        if len(set(found)) < len(found):
            raise ExportError("Two of its edges are the same.")
        return found

    def group(self, parent: Any, name: str) -> Any:
        found = self.linked(parent, name)
        if not isinstance(found, self.h5py.Group):
            raise ExportError(f"{name[:80]!r} is not a group.")
        return found

    def linked(self, parent: Any, name: str) -> Any:
        """What lies there, and not elsewhere."""
        link = parent.get(name, getlink=True)
        if not isinstance(link, self.h5py.HardLink):
            raise ExportError(f"It lacks {name[:80]!r}, or has a link in its place.")
        return parent[name]

    def dataset(self, parent: Any, name: str) -> Any:
        found = self.linked(parent, name)
        if not isinstance(found, self.h5py.Dataset):
            raise ExportError(f"{name[:80]!r} holds no data.")
        if found.shape is None:
            raise ExportError(f"{name[:80]!r} is empty.")
        plist = found.id.get_create_plist()
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if found.external or found.is_virtual or not filters <= set(FILTERS):
            raise ExportError(f"The data of {name[:80]!r} lie in another file, or behind a filter that is not known.")
        if found.dtype.itemsize > MOST_LETTERS:
            raise ExportError(f"{name[:80]!r} holds words of {found.dtype.itemsize} letters.")
        self.numbers += math.prod(found.shape)
        if self.numbers > MOST_NUMBERS:
            raise ExportError(f"It holds more than {MOST_NUMBERS} numbers.")
        return found

    def value(self, parent: Any, name: str) -> Any:
        """Numbers as an array, a word as str."""
        data = self.dataset(parent, name)
        if data.dtype.kind in "biuf":
            return np.asarray(data[()])
        if data.shape == () and data.dtype.kind in "OS":
            return self.word(data[()])
        raise ExportError(f"{name[:80]!r} is neither numbers nor a word.")

    def word(self, data: Any) -> str:
        if not isinstance(data, bytes) or len(data) > MOST_LETTERS:
            raise ExportError("It holds a word that is too long, or none where one was expected.")
        return data.decode()
