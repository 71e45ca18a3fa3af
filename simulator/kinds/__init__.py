"""The kinds of nodes a network is made of: one file each, with everything that the simulator knows of it.

A new kind is a new file here, named like the kind, with one class that derives from `simulator.kinds.base.Kind`; it is
found automatically, and with it come its bundles, its statistics and its place in the conformance suite. The page in
`simulator/reference.py` lists what each kind computes.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType

from simulator.graph import GraphError, Node
from simulator.kinds.base import Kind
from simulator.kinds.layer import Whole

_SHARED = ("base", "convolution", "layer", "sketch")  # what kinds have in common; every other file is a kind


def kind_in(module: ModuleType) -> Kind:
    """The kind that a file of this folder defines; TypeError, a sentence, if it does not define one whole kind."""
    name = module.__name__.rpartition(".")[2]
    classes = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Kind) and member.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(
            f"simulator/kinds/{name}.py defines {len(classes)} kinds of node; one class that derives from Kind was "
            "expected (simulator/kinds/base.py)"
        )
    lacking = sorted(classes[0].__abstractmethods__)
    if lacking:
        raise TypeError(f"simulator/kinds/{name}.py: the kind {classes[0].__name__} lacks {', '.join(lacking)}")
    kind = classes[0]()
    if kind.name != name:
        raise TypeError(f"simulator/kinds/{name}.py defines the kind {kind.name!r}; the file must have the same name")
    return kind


def _found() -> dict[str, Kind]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: kind_in(importlib.import_module(f"{__name__}.{name}")) for name in names if name not in _SHARED}


KINDS: Mapping[str, Kind] = _found()  # by name, in alphabetical order


def kind_of(node: Node) -> Kind:
    """The kind of a node; GraphError, naming both, if there is none of that name."""
    kind = KINDS.get(node.kind) if isinstance(node.kind, str) else None
    if kind is None:
        raise GraphError(
            f"layer {str(node.name)[:80]!r} is of the unknown kind {str(node.kind)[:40]!r}; known: {', '.join(KINDS)}"
        )
    return kind


# What a backend has rules for, by kind and attribute: attributes that are words, with the words; and those that have a
# default, because they were added to a kind that backends knew already (numbers: no words).
KnownAttributes = Mapping[str, Mapping[str, tuple[str, ...]]]


def unknown_attribute(node: Node, known: KnownAttributes) -> str:
    """What a backend that has rules for `known` would pass over in a node, as "dilation = 2"; "" if nothing.

    A number without a default need not be listed: its kind has always had it. An attribute that equals its default
    means what the kind meant without it.
    """
    listed, attributes = known.get(node.kind, {}), kind_of(node).attributes
    for name, value in node.attrs.items():
        attribute = attributes.get(name)
        if name in listed:
            fine = not listed[name] or value in listed[name]
        else:
            fine = isinstance(attribute, Whole) and attribute.default is None
        if not fine and (attribute is None or value != attribute.default):
            return f"{name} = {value!r}"
    return ""
