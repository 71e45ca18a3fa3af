"""The bundle: one `.safetensors` file that holds a network and everything needed to run it.

`simulator/BUNDLE.md` specifies the format byte by byte. `write_bundle` gives the same bytes for the same network and
metadata, and leaves either the whole file or nothing. `read_bundle` treats the file as hostile: whatever is in it, the
answer is a `Bundle` that keeps every rule of the numerics contract, or a `BundleError`.

The container is written here and not by the safetensors package because that orders the metadata by a random hash;
any safetensors reader opens the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis, analyse
from simulator.files import reason, write_atomically
from simulator.graph import WEIGHT_LIMIT, Graph, GraphError
from simulator.kinds import kind_of
from simulator.structure import graph_from_json, graph_to_json
from simulator.tasks import TASKS

STRUCTURE_VERSION = 1  # how the file is laid out
SEMANTICS_VERSION = 1  # what the nodes compute (simulator/reference.py)

MAX_FILE_BYTES = 64 << 20
MAX_HEADER_BYTES = 1 << 20
MAX_TEXT = 1 << 16  # characters of a free-text entry
MAX_RANK = 4

_ITEM_BYTES = {"F16": 2, "I32": 4}
_NUMPY_TYPES = {"F16": "<f2", "I32": "<i4"}

# Entries that say how the network is to be run. Version 1 knows one value for each.
_FIXED = {
    "neuron.comparison": ">=",
    "input.range": "(u8 - 128) * 2^-7",
    "input.colour": "RGB",
    "input.padding": "replicate right and bottom to the stride; zeros beyond",
}
# Entries that `write_bundle` derives from the network; what a caller passes for them is not used.
_DERIVED = (
    "bundle.structure_version",
    "bundle.semantics_version",
    "bundle.content_hash",
    "network.graph",
    "network.time_steps",
    "network.bounds",
    "neuron.kind",
    *_FIXED,
)
# Entries that the caller gives.
_GIVEN = ("network.task", "training.data", "training.terms", "weights.licence")
# An entry that need not be there: the longest side of the pictures that the network takes, pixels (`simulator.coarse`).
COARSE = "network.coarse"
COARSE_SIDES = (64, 1024)
# Further entries for people; they change nothing about how the network runs.
_FREE = re.compile(r"(training|weights|quality|note)\.[a-z0-9_]{1,40}")


class BundleError(ValueError):
    """A bundle that cannot be read or written. str() is one sentence: the file, what was found, what was expected."""


@dataclass(frozen=True)
class Bundle:
    """A network as it lies in a file: graph, int32 tensors `<node>.<tensor>`, all metadata, what follows from them."""

    graph: Graph
    tensors: Mapping[str, npt.NDArray[np.int32]]
    meta: Mapping[str, str]
    analysis: Analysis

    @property
    def task(self) -> str:
        return self.meta["network.task"]

    @property
    def content_hash(self) -> str:
        """SHA-256 over metadata and tensors, 64 hex digits; two files with one hash hold the same network."""
        return self.meta["bundle.content_hash"]


def write_bundle(
    path: str | os.PathLike[str], graph: Graph, tensors: Mapping[str, npt.NDArray[np.int32]], meta: Mapping[str, str]
) -> str:
    """Write a bundle and return its content hash.

    `tensors` are int32 units of their grids, as `train.student.Student.freeze` gives them. `meta` needs `network.task`,
    `training.data`, `training.terms` and `weights.licence`, and may hold `quality.psnr` (JSON) and other entries in the
    namespaces training, weights, quality and note. The metadata of a `Bundle` that was read is fine, too.

    Raises `BundleError` if the network breaks the contract, the metadata are not in order, or the file cannot be
    written; then nothing is left behind and an existing file stays as it is.
    """
    path = Path(path)
    try:
        content, content_hash = serialise(graph, tensors, meta)
    except BundleError as fault:
        raise BundleError(f"{path} was not written: {fault}") from None
    try:
        write_atomically(path, content)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be written: {reason(error)}; choose a folder that exists, is writable and has room"
        ) from error
    return content_hash


def neuron_kinds(graph: Graph) -> str:
    """The kinds of neurons in a graph, in alphabetical order with commas; "lif" if it has none."""
    return ", ".join(sorted({node.kind for node in graph.nodes if kind_of(node).neurons})) or "lif"


def serialise(graph: Graph, tensors: Mapping[str, npt.NDArray[np.int32]], meta: Mapping[str, str]) -> tuple[bytes, str]:
    """(the bytes of a bundle file, its content hash); the same input always gives the same bytes.

    Raises `BundleError` as `write_bundle` does, without a file's name.
    """
    try:
        analysis = analyse(graph, tensors)
    except GraphError as error:
        raise BundleError(str(error)) from error
    entries = {key: value for key, value in meta.items() if key not in _DERIVED}
    entries |= _FIXED
    entries["bundle.structure_version"] = str(STRUCTURE_VERSION)
    entries["bundle.semantics_version"] = str(SEMANTICS_VERSION)
    entries["network.graph"] = _json(graph_to_json(graph))
    entries["network.time_steps"] = str(graph.time_steps)
    entries["network.bounds"] = _json(dict(analysis.bounds))
    entries["neuron.kind"] = neuron_kinds(graph)
    _check_entries(entries)
    stored = {}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        spec = analysis.tensors[layer][part]
        if spec.weight:
            stored[key] = ("F16", (tensor * 2.0**-spec.q).astype("<f2"))
        else:
            stored[key] = ("I32", tensor.astype("<i4"))
    table = {key: (dtype, array.shape, array.tobytes()) for key, (dtype, array) in stored.items()}
    entries["bundle.content_hash"] = _content_hash(entries, table)
    header: dict[str, Any] = {"__metadata__": dict(sorted(entries.items()))}
    chunks, offset = [], 0
    for key in sorted(table, key=lambda k: (-_ITEM_BYTES[table[k][0]], k)):  # int32 first, so that all stay aligned
        dtype, shape, raw = table[key]
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        chunks.append(raw)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES or 8 + len(text) + offset > MAX_FILE_BYTES:
        raise BundleError(
            f"the network needs a header of {len(text)} and tensors of {offset} bytes; "
            f"a bundle holds {MAX_HEADER_BYTES} and {MAX_FILE_BYTES} in all"
        )
    return b"".join([len(text).to_bytes(8, "little"), text, *chunks]), entries["bundle.content_hash"]


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The network in a bundle file; `BundleError` for anything that is not a whole, sound bundle of this version."""
    path = Path(path)
    content = _read_file(path)
    try:
        return parse(content)
    except BundleError as fault:
        raise BundleError(f"{path}: {fault}") from None


def parse(content: bytes) -> Bundle:
    """The network in the bytes of a bundle file; raises `BundleError` as `read_bundle` does, without a file's name."""
    header, data = _split(content)
    entries = _metadata(header)
    _check_versions(entries)
    table = _tensor_table(header, data)
    _check_entries(entries)
    found, computed = entries.get("bundle.content_hash"), _content_hash(entries, table)
    if found != computed:
        raise BundleError("the content hash does not match the content, so the file is damaged; get it again")
    structure = _structure(entries)
    graph = structure.graph
    if entries["neuron.kind"] != neuron_kinds(graph):
        raise BundleError(
            f"neuron.kind is {_shown(entries['neuron.kind'])}; the graph's neurons are {neuron_kinds(graph)!r}"
        )
    tensors = {key: _units(structure, key, *table[key]) for key in table}
    try:
        analysis = analyse(graph, tensors)
    except GraphError as error:
        raise BundleError(str(error)) from error
    if _strict_json(entries["network.bounds"], "network.bounds") != dict(analysis.bounds):
        raise BundleError("the stored bounds are not those that follow from the weights; export the bundle again")
    return Bundle(graph, tensors, entries, analysis)


def _read_file(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode  # asked first: opening a pipe would wait
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {reason(error)}; give the .safetensors file of a bundle") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise BundleError(f"{path} is {kind}; give the .safetensors file of a bundle")
    if len(content) > MAX_FILE_BYTES:
        raise BundleError(f"{path} has more than {MAX_FILE_BYTES} bytes, the most that a bundle has, so it is none")
    return content


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, tensor bytes) of a safetensors container."""
    if len(content) < 8:
        raise BundleError(f"the file ends after {len(content)} bytes, so it is cut short or no bundle; get it again")
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise BundleError(
            f"this is not a bundle: its first 8 bytes announce a header of {length} bytes; "
            f"at most {MAX_HEADER_BYTES} are supported"
        )
    if length > len(content) - 8:
        raise BundleError(
            f"the file ends after {len(content)} of at least {8 + length} bytes, so it is cut short; get it again"
        )
    try:
        text = content[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(
            f"the header is not UTF-8 (byte {8 + error.start}), so the file is damaged or no bundle"
        ) from error
    header = _strict_json(text, "the header")
    if not isinstance(header, dict):
        raise BundleError("the header is not a JSON object, so the file is damaged or no bundle")
    return header, content[8 + length :]


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    entries = header.pop("__metadata__", None)
    if not isinstance(entries, dict) or "bundle.structure_version" not in entries:
        raise BundleError(
            "this is a safetensors file without the metadata of a bundle; `python -m export.bundle` writes one"
        )
    for key, value in entries.items():
        if not isinstance(value, str):
            raise BundleError(f"the metadata entry {_shown(key)} is not a string, so the file is damaged")
    return entries


def _check_versions(entries: Mapping[str, str]) -> None:
    supported = (("structure", STRUCTURE_VERSION), ("semantics", SEMANTICS_VERSION))
    for word, version in supported:
        found = entries.get(f"bundle.{word}_version", "")
        if not re.fullmatch("[1-9][0-9]{0,8}", found):
            raise BundleError(f"bundle.{word}_version is {_shown(found)}; a whole number was expected")
        if int(found) > version:
            raise BundleError(
                f"this bundle has {word} version {found}; this program reads version {version}: update it"
            )
        if int(found) < version:
            raise BundleError(
                f"this bundle has {word} version {found}; this program reads version {version}: export it again"
            )


def _tensor_table(header: Mapping[str, Any], data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """name -> (dtype, shape, bytes); the extents cover the data exactly, without hole or overlap."""
    extents = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise BundleError(f"tensor {_shown(name)} is not described by dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
            raise BundleError(f"tensor {_shown(name)} has the type {_shown(dtype)}; F16 and I32 are supported")
        if not _whole_numbers(shape, 1) or not 1 <= len(shape) <= MAX_RANK:
            raise BundleError(
                f"tensor {_shown(name)} has the shape {_shown(shape)}; 1 to {MAX_RANK} whole numbers were expected"
            )
        if not _whole_numbers(offsets, 0) or len(offsets) != 2:
            raise BundleError(
                f"tensor {_shown(name)} has the offsets {_shown(offsets)}; two whole numbers were expected"
            )
        begin, end = offsets
        size = math.prod(shape) * _ITEM_BYTES[dtype]
        if end - begin != size:
            raise BundleError(f"tensor {_shown(name)} has {end - begin} bytes; its shape {_shown(shape)} needs {size}")
        extents.append((begin, end, name, dtype, tuple(shape)))
    extents.sort()
    expected = 0
    for begin, end, name, *_ in extents:
        if begin != expected:
            what = "overlaps the one before it" if begin < expected else "leaves a hole before it"
            raise BundleError(
                f"tensor {_shown(name)} {what} (starts at {begin}, expected {expected}), so the file is damaged"
            )
        expected = end
    if expected != len(data):
        raise BundleError(
            f"the tensors need {expected} bytes, the file holds {len(data)}, so it is cut short or damaged"
        )
    return {name: (dtype, shape, data[begin:end]) for begin, end, name, dtype, shape in extents}


def _check_entries(entries: Mapping[str, str]) -> None:
    """No entry is missing, none is unknown, and each is valid on its own."""
    for key in (*_GIVEN, *_DERIVED):
        if key not in entries and key != "bundle.content_hash":
            raise BundleError(f"the metadata entry {key} is missing")
    for key, value in entries.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise BundleError(f"the metadata entry {_shown(key)} is not a string")
        if key not in (*_GIVEN, *_DERIVED, COARSE) and not _FREE.fullmatch(key):
            raise BundleError(f"the metadata hold the unknown entry {_shown(key)}; remove it or update this program")
        if not value.isprintable():
            raise BundleError(f"the metadata entry {key} holds control characters; one line of plain text was expected")
        if not key.startswith("network.") and len(value) > MAX_TEXT:
            raise BundleError(f"the metadata entry {key} has {len(value)} characters; at most {MAX_TEXT} are supported")
    for key, expected in _FIXED.items():
        if entries[key] != expected:
            raise BundleError(f"{key} is {_shown(entries[key])}; {expected!r} is supported")
    if entries["network.task"] not in TASKS:
        raise BundleError(f"network.task is {_shown(entries['network.task'])}; one of {', '.join(TASKS)} was expected")
    if COARSE in entries:
        side, (least, most) = entries[COARSE], COARSE_SIDES
        if not re.fullmatch("[1-9][0-9]{1,3}", side) or not least <= int(side) <= most:
            raise BundleError(f"{COARSE} is {_shown(side)}; a number of pixels from {least} to {most} was expected")
    if "quality.psnr" in entries:
        quality(entries)


def quality(meta: Mapping[str, str]) -> dict[str, float]:
    """The PSNR (dB) measured when the bundle was exported, by name of the test; empty if none was recorded."""
    table = _strict_json(meta.get("quality.psnr", "{}"), "quality.psnr")
    if not isinstance(table, dict) or len(table) > 256:
        raise BundleError("quality.psnr is not a JSON object of numbers")
    for name, value in table.items():
        if type(value) not in (int, float) or not name.isprintable() or not -1000 < value < 1000:
            raise BundleError(
                f"quality.psnr gives {_shown(value)} for {_shown(name)}; a number of decibels was expected"
            )
    return {name: float(value) for name, value in table.items()}


def _structure(entries: Mapping[str, str]) -> Analysis:
    """What follows from the graph alone."""
    try:
        structure = analyse(graph_from_json(_strict_json(entries["network.graph"], "network.graph")))
    except GraphError as error:
        raise BundleError(str(error)) from error
    steps = structure.graph.time_steps
    if entries["network.time_steps"] != str(steps):
        raise BundleError(f"network.time_steps is {_shown(entries['network.time_steps'])}; the graph has {steps}")
    return structure


def _units(structure: Analysis, key: str, dtype: str, shape: tuple[int, ...], raw: bytes) -> npt.NDArray[np.int32]:
    """A stored tensor as int32 units of its grid."""
    if key not in structure.shapes:
        raise BundleError(f"no layer of the graph uses the tensor {_shown(key)}")
    layer, _, part = key.rpartition(".")
    spec = structure.tensors[layer][part]
    expected = "F16" if spec.weight else "I32"
    if dtype != expected or shape != spec.shape:
        raise BundleError(f"layer {layer!r}: {part} is {dtype} {list(shape)}; expected {expected} {list(spec.shape)}")
    array = np.frombuffer(raw, _NUMPY_TYPES[dtype]).reshape(shape)
    if dtype == "I32":
        return array.astype(np.int32)
    units = array.astype(np.float64) * 2.0**spec.q
    # Negative zero would be a second way to write the same network.
    sound = np.isfinite(units) & (np.floor(units) == units) & (np.abs(units) <= WEIGHT_LIMIT)
    sound &= (units != 0) | ~np.signbit(units)
    if not sound.all():
        place = np.unravel_index(int(np.argmin(sound)), shape)
        raise BundleError(
            f"layer {layer!r}, channel {place[0]}: the {part} {float(array[place])!r} is not a whole number of "
            f"units of 2^-{spec.q} up to {WEIGHT_LIMIT}"
        )
    whole: npt.NDArray[np.int32] = units.astype(np.int32)
    return whole


def _content_hash(entries: Mapping[str, str], table: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> str:
    """SHA-256 over every metadata entry but the hash itself, then every tensor; each part preceded by its length."""
    digest = hashlib.sha256(b"spikerir-edge bundle\n")

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    try:
        for key in sorted(entries):
            if key != "bundle.content_hash":
                add(key.encode())
                add(entries[key].encode())
        for name in sorted(table):
            dtype, shape, raw = table[name]
            add(name.encode())
            add(f"{dtype} {' '.join(map(str, shape))}".encode())
            add(raw)
    except UnicodeEncodeError as error:
        raise BundleError("a name or a metadata entry is not Unicode text, so the file is damaged") from error
    return digest.hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _strict_json(text: str, what: str) -> Any:
    """Parsed JSON; duplicate keys, NaN, infinities and nesting beyond what Python can follow are refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise BundleError(f"{what} holds the key {_shown(twice)} twice, so the file is damaged")
        return result

    def constant(word: str) -> Any:
        raise BundleError(f"{what} holds {word}, which is no JSON")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=constant)
    except BundleError:
        raise
    except RecursionError as error:
        raise BundleError(f"{what} is nested too deeply, so the file is damaged") from error
    except ValueError as error:
        raise BundleError(f"{what} is not JSON, so the file is damaged or no bundle") from error


def _whole_numbers(value: Any, least: int) -> bool:
    return isinstance(value, list) and all(type(n) is int and least <= n <= MAX_FILE_BYTES for n in value)


def _shown(value: Any) -> str:
    """Something from the file, short and without control characters."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
