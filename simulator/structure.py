"""A graph's structure: checked against the kinds of nodes, and written and read as JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from simulator.graph import MAX_NODES, MAX_TIME_STEPS, Graph, GraphError, Node
from simulator.kinds import kind_of


def with_defaults(node: Node) -> Node:
    """The node with the defaults of those attributes that it lacks; GraphError for an unknown kind."""
    attributes = kind_of(node).attributes
    defaults = {key: what.default for key, what in attributes.items() if what.default is not None}
    return replace(node, attrs={**defaults, **node.attrs})


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """The graph as a JSON object. An attribute that equals its default is left out, so that one which is added to a
    kind changes nothing about networks without it."""
    nodes = []
    for node in graph.nodes:
        attributes = kind_of(node).attributes
        attrs = {key: node[key] for key in sorted(node.attrs) if node[key] != attributes[key].default}
        nodes.append({"name": node.name, "kind": node.kind, "inputs": list(node.inputs), **attrs})
    return {
        "time_steps": graph.time_steps,
        "stages": {str(stage): name for stage, name in sorted(graph.stages.items())},
        "nodes": nodes,
    }


def graph_from_json(data: Any) -> Graph:
    """The graph of a parsed JSON object; `GraphError` for anything that is not one."""
    if not isinstance(data, dict) or set(data) != {"time_steps", "stages", "nodes"}:
        raise GraphError("the graph is not an object with time_steps, stages and nodes")
    if not isinstance(data["nodes"], list) or not 2 <= len(data["nodes"]) <= MAX_NODES:
        raise GraphError(f"the graph needs a list of 2 to {MAX_NODES} nodes")
    if not isinstance(data["stages"], dict):
        raise GraphError("the graph's stages are not an object")
    nodes = []
    for entry in data["nodes"]:
        if not isinstance(entry, dict) or not {"name", "kind", "inputs"} <= set(entry):
            raise GraphError("a node of the graph lacks its name, kind or inputs")
        inputs = entry["inputs"]
        if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
            raise GraphError(f"node {str(entry['name'])[:60]!r}: inputs is not a list of names")
        attrs = {k: v for k, v in entry.items() if k not in ("name", "kind", "inputs")}
        nodes.append(with_defaults(Node(entry["name"], entry["kind"], tuple(inputs), attrs)))
    if not all(re.fullmatch("[1-7]", key) for key in data["stages"]):
        raise GraphError("the graph's stages are not numbered 1 to 7")
    stages = {int(key): name for key, name in data["stages"].items()}
    graph = Graph(tuple(nodes), data["time_steps"], stages)
    check_structure(graph)
    return graph


def check_structure(graph: Graph) -> None:
    """Refuse unknown kinds, attributes out of range, missing inputs and a graph without one image and one readout."""
    steps = graph.time_steps
    if type(steps) is not int or not 1 <= steps <= MAX_TIME_STEPS or steps & (steps - 1):
        raise GraphError(f"T = {steps!r} time steps: a power of two up to {MAX_TIME_STEPS} is supported")
    seen: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.name, str) or not 1 <= len(node.name) <= 80 or not node.name.isprintable():
            raise GraphError("a node's name is not a short printable word")
        if node.name in seen:
            raise GraphError(f"two nodes are called {node.name!r}")
        kind = kind_of(node)
        low, high = kind.inputs
        if not low <= len(node.inputs) <= high:
            raise GraphError(f"layer {node.name!r} ({node.kind}) has {len(node.inputs)} inputs")
        for name in node.inputs:
            if name not in seen:
                raise GraphError(f"layer {node.name!r} reads {name[:60]!r}, which does not stand before it")
        if set(node.attrs) != set(kind.attributes):
            raise GraphError(
                f"layer {node.name!r} ({node.kind}) has the attributes {sorted(map(str, node.attrs))[:12]}; "
                f"expected {sorted(kind.attributes)}"
            )
        for key, attribute in kind.attributes.items():
            fault = attribute.fault(key, node[key])
            if fault:
                raise GraphError(f"layer {node.name!r}: {fault}")
        seen.add(node.name)
    kinds = [node.kind for node in graph.nodes]
    if kinds.count("image") != 1 or kinds[0] != "image" or kinds.count("readout") != 1 or kinds[-1] != "readout":
        raise GraphError("a graph starts with its one image node and ends with its one readout node")
    for stage, name in graph.stages.items():
        if not 1 <= stage <= 7 or not isinstance(name, str) or name not in seen:
            raise GraphError(f"stage {stage} names {str(name)[:60]!r}; stages 1 to 7 name nodes of the graph")
