"""An emulator of lyngor, Lynxi's compiler: its published names, as the maker's public code calls them.

What it makes of an ONNX file is that file again, which the emulated card computes. `OLD` has it use the other pair of
names for what a model holds, which public code has, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

OLD = False


class DLModel:
    def load(
        self, model: str, model_type: str, inputs_dict: dict[str, tuple[int, ...]], in_type: str, out_type: str
    ) -> None:
        if model_type != "ONNX":
            raise ValueError(f"model_type {model_type!r}")
        loaded = onnx.load(model)
        shapes = {
            one.name: tuple(length.dim_value for length in one.type.tensor_type.shape.dim) for one in loaded.graph.input
        }
        if shapes != {name: tuple(shape) for name, shape in inputs_dict.items()}:
            raise ValueError(f"the model's inputs are {shapes}, not {inputs_dict}")
        graph, parameters = loaded, {"in": in_type, "out": out_type}
        if OLD:
            self.mod, self.param = graph, parameters
        else:
            self.graph, self.params = graph, parameters


class Builder:
    def __init__(self, target: str):
        if target != "apu":
            raise ValueError(f"target {target!r}")

    def build(self, graph: Any, params: Any, out_path: str) -> str:
        net = Path(out_path) / "Net_0"
        net.mkdir(parents=True, exist_ok=True)
        (net / "network").write_bytes(graph.SerializeToString())
        (net / "types.json").write_text(json.dumps(params))
        return out_path
