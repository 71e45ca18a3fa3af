"""Compiles the body.onnx beside this file for a Lynxi card, with lyngor, the maker's compiler: `python compile.py`.

It needs lyngor and onnx, and nothing else of this project: `python -m export.lynxi` puts a copy into each folder.
"""

import pathlib
import sys


def compile_body(folder: pathlib.Path) -> pathlib.Path:
    """Makes folder/Net_0 of folder/body.onnx, float16 in and out; returns it. Raises RuntimeError if there is none."""
    import lyngor
    import onnx

    body = folder / "body.onnx"
    inputs = {
        one.name: tuple(length.dim_value for length in one.type.tensor_type.shape.dim)
        for one in onnx.load(str(body)).graph.input
    }
    model = lyngor.DLModel()
    model.load(str(body), model_type="ONNX", inputs_dict=inputs, in_type="float16", out_type="float16")
    # Its releases call what they hold by different names.
    graph = model.graph if hasattr(model, "graph") else model.mod
    parameters = model.params if hasattr(model, "params") else model.param
    lyngor.Builder(target="apu").build(graph, parameters, out_path=str(folder))
    net = folder / "Net_0"
    if not net.is_dir():
        raise RuntimeError(f"lyngor ended without an error, but there is no {net}")
    return net


if __name__ == "__main__":
    print(f"compiled {compile_body(pathlib.Path(sys.argv[0]).resolve().parent)}")
