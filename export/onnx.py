"""`python -m export.onnx BUNDLE [--out FILE]`: a bundle as an ONNX model that equals the device to the last bit.

The network is unrolled over its T time steps, straight from the bundle; PyTorch is not needed. Shapes:

    image     uint8 [N, 3, H, W], RGB; any N, H and W from 1 (the model pads and crops by itself)
    restored  uint8 [N, 3, H, W]

Weights are stored as float16 (every k * 2^-q is one) and cast to float32, which a runtime does once when it loads the
model. float32 computes a node exactly if its bound is below 2^24; `inexact_nodes` names the others. How each kind of
node is written stands in `export/onnx_network.py`.

`--plain --size HxW` writes the plain dialect (`export/onnx_plain.py`) for runtimes and compilers that read less, and
with `--body` the part for a neuromorphic card alone. export/RUNTIMES.md says what each runtime needs to be exact.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from export import forms
from export.checks import CHECKED, checked_size, coarse_note, differing_pixels, size_of
from export.files import ExportError, check_attributes, missing_package, write_atomically
from export.onnx_network import FORM, KNOWN, PRODUCER, Network, Writer, model_entries, observed_name
from export.onnx_plain import body_restorer, build_body, build_whole, plain_restorer
from export.runners import onnx_runner
from simulator.analysis import Analysis, Tensors
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.cut import CutError, cut
from simulator.graph import IMAGE_GRID, Graph

if TYPE_CHECKING:  # imported only where they are used, so that a missing package is reported in a sentence
    import onnx
    import onnxruntime

OPSET = 18
IR_VERSION = 8  # what opset 18 came with: older runtimes refuse newer files


def build_model(
    graph: Graph, tensors: Tensors, analysis: Analysis, meta: Mapping[str, str], observe: Collection[str] = ()
) -> onnx.ModelProto:
    """The network as an ONNX model (opset 18); the same network and metadata give the same model.

    graph, tensors (int32 units), meta: as a bundle holds them. analysis: `analyse(graph, tensors)`.
    observe: names of nodes to have as further outputs, float32 real numbers k * 2^-q (their names: `observed_name`).
    Raises ExportError if the onnx package is missing, and for a kind of node, or an attribute, without a rule here.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ExportError(missing_package("onnx")) from error
    w = Writer()
    network = Network(graph, tensors, analysis, w)
    stride = analysis.stride
    extra = []
    pixels = size = ""
    for node in graph.nodes:
        check_attributes(node, KNOWN, FORM)
        w.scope = node.name
        if node.kind == "image":
            pixels = w.cast("image", "FLOAT")
            if stride > 1:
                size = w.op("Shape", "image", start=2, end=4)
                pixels = network.pad(pixels, size, stride, "edge")
            network.values[node.name] = (w.times(w.op("Sub", pixels, w.constant(128)), 2.0**-IMAGE_GRID),)
        elif node.kind == "readout":
            source = analysis.values[node.inputs[0]]
            change = w.requantise(network.values[node.inputs[0]][0], source.q, source.q - IMAGE_GRID, None, 0)
            restored = w.op("Clip", w.op("Add", pixels, change), w.constant(0), w.constant(255))
            restored = w.cast(restored, "UINT8", None if stride > 1 else "restored")
            if stride > 1:
                network.crop(restored, size, "restored")
        else:
            network.values[node.name] = network.write(node)
        if node.name in observe and node.kind != "readout":
            observed = network.values[node.name]
            if analysis.values[node.name].window:  # k spikes are those of the first k steps
                observed = tuple(
                    w.cast(w.op("Greater", observed[0], w.constant(t)), "FLOAT") for t in range(graph.time_steps)
                )
            for t, name in enumerate(observed):
                extra.append(w.op("Identity", name, output=observed_name(node.name, t)))
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    outputs = [helper.make_tensor_value_info("restored", TensorProto.UINT8, shape)]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None, None, None]) for name in extra]
    model = helper.make_model(
        helper.make_graph(
            w.nodes,
            "spiking_restoration",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
            outputs,
            w.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        doc_string="image: uint8 RGB [N, 3, H, W]; restored: the same. float32 arithmetic on dyadic grids, exact.",
    )
    helper.set_model_props(model, model_entries(meta))
    onnx.checker.check_model(model, full_check=True)
    return model


def inexact_nodes(analysis: Analysis) -> list[str]:
    """Layers whose bound reaches 2^24: there float32 is not guaranteed to be exact."""
    return [node.name for node in analysis.graph.nodes if not analysis.float_exact(node.name)]


class OnnxBackend:
    """The network in ONNX Runtime on the CPU; the interface of `simulator.reference.Reference`, but for the maps."""

    name = "onnx"

    def __init__(self, analysis: Analysis, tensors: Tensors, threads: int | None = None):
        self.analysis, self.tensors, self.threads = analysis, tensors, threads
        self._session = self._open(())
        self._observed: onnxruntime.InferenceSession | None = None

    def _open(self, observe: Collection[str]) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(missing_package("onnxruntime")) from error
        model = build_model(self.analysis.graph, self.tensors, self.analysis, {}, observe)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.threads:
            options.intra_op_num_threads = options.inter_op_num_threads = self.threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 [N, 3, H, W] of any size -> restored, the same shape."""
        restored: npt.NDArray[np.uint8] = self._session.run(["restored"], {"image": images})[0]
        return restored

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Callable[[str, npt.NDArray[Any]], None] | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        """Restore int16 [3, H, W] (u8 - 128); `observe(name, value)` sees every node's integers, [T or 1, C, h, w].

        Spikes per position are counted by the integer backends; the dictionary that they return is empty here.
        """
        image = (pixels + 128).astype(np.uint8)[None]
        if observe is None:
            return self.run(image)[0], {}
        *inner, last = self.analysis.graph.nodes
        if self._observed is None:
            self._observed = self._open([node.name for node in inner])
        names = [output.name for output in self._observed.get_outputs()]
        found = dict(zip(names, self._observed.run(names, {"image": image}), strict=True))
        for node in inner:
            steps: list[npt.NDArray[np.float32]] = []
            while (name := observed_name(node.name, len(steps))) in found:
                steps.append(found[name][0])
            units = np.stack(steps).astype(np.float64) * 2.0 ** self.analysis.values[node.name].q
            observe(node.name, np.rint(units).astype(np.int64))
        restored = found["restored"][0]
        observe(last.name, restored.astype(np.int64)[None])
        return restored, {}


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 1 if it would not equal the reference, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.onnx",
        description="Write a bundle as an ONNX model: uint8 RGB [N, 3, H, W] in, the same out, any size.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .safetensors file of a bundle")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <name of the bundle>.onnx in this folder")
    parser.add_argument(
        "--plain", action="store_true", help="float32 in and out, one size, few operators: for runtimes that read less"
    )
    parser.add_argument("--size", type=size_of, metavar="HxW", help="of a plain model's pictures, in pixels")
    parser.add_argument("--body", action="store_true", help="of a plain model only the part for a neuromorphic card")
    options = parser.parse_args(arguments)
    if options.plain and not options.size:
        parser.error("a plain model has one size: give it with --size HxW")
    if (options.size or options.body) and not options.plain:
        parser.error("--size and --body are for plain models: give --plain as well")
    out = options.out or Path(options.bundle.with_suffix(".onnx").name)
    try:
        bundle = read_bundle(options.bundle)
        if options.plain:
            model, inexact, check = _plain(bundle, options.size, options.body)
        else:
            model = build_model(bundle.graph, bundle.tensors, bundle.analysis, bundle.meta)
            inexact, check = inexact_nodes(bundle.analysis), partial(_differing_pixels, bundle)
        content = model.SerializeToString(deterministic=True)
        if inexact:
            limit = "are too large for the plain form" if options.plain else "reach 2^24"
            print(f"float32 is not guaranteed to be exact in {', '.join(inexact)}: their bounds {limit}.")
        try:
            differing = check()
        except ExportError as missing:
            print(f"Not compared with the reference: {missing}")
        else:
            print(f"ONNX Runtime against the reference, one image: {differing} pixels differ.")
            if differing and not inexact:
                print(f"export.onnx: {out} was not written, because it would not equal the device.", file=sys.stderr)
                return 1
        write_atomically(out, content)
    except (BundleError, CutError, ExportError) as error:
        print(f"export.onnx: {error}", file=sys.stderr)
        return 2
    opset = model.opset_import[0].version
    print(f"wrote {out} ({len(content)} bytes, {bundle.graph.time_steps} time steps, opset {opset})")
    if note := coarse_note(bundle.meta):
        print(note)
    return 0


def _differing_pixels(bundle: Bundle) -> int:
    backend = OnnxBackend(bundle.analysis, bundle.tensors, threads=1)
    return differing_pixels(lambda pixels: backend.run(pixels[None])[0], bundle.analysis, bundle.tensors, CHECKED)


def _plain(bundle: Bundle, size: tuple[int, int], body: bool) -> tuple[onnx.ModelProto, list[str], Callable[[], int]]:
    """A plain model, what is not guaranteed to be exact in it, and what counts differing pixels of a smaller one."""
    analysis, tensors = bundle.analysis, bundle.tensors
    small = checked_size(analysis, size)
    inexact = forms.inexact_nodes(analysis)
    if not body:

        def check_whole() -> int:
            restore = plain_restorer(build_whole(analysis, tensors, {}, *small), onnx_runner)
            return differing_pixels(restore, analysis, tensors, small)

        return build_whole(analysis, tensors, bundle.meta, *size), inexact, check_whole
    parts = cut(analysis)

    def check_body() -> int:
        restore = body_restorer(parts, tensors, build_body(parts, tensors, {}, *small), onnx_runner)
        return differing_pixels(restore, analysis, tensors, small)

    on_the_host = {node.name for node in (*parts.head, *parts.tail)}
    model = build_body(parts, tensors, bundle.meta, *size)
    return model, [name for name in inexact if name not in on_the_host], check_body


if __name__ == "__main__":
    sys.exit(main())
