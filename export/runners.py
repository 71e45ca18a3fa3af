"""Models in the runtimes that people have, with what each needs to be exact, or as it comes by default.

    onnx_runner       ONNX Runtime: plain models (`export/onnx_plain.py`)
    openvino_runner   OpenVINO: the same
    ncnn_runner       ncnn, through its converter pnnx: the same
    litert_runner     LiteRT: the spiking network of `export/tflite.py`, uint8 [1, H, W, 3] in and out

A runner takes a model's inputs by name and returns its outputs by name, arrays as the model has them. Every function
raises ExportError, a sentence, where a package is missing or the runtime refuses the model.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from export.files import ExportError, missing_package

if TYPE_CHECKING:  # imported only where it is used, so that a missing package is reported in a sentence
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]
Runner = Callable[[Arrays], dict[str, npt.NDArray[Any]]]

CONVERSION_SECONDS = 300
# On x86-64 OpenVINO adds products. On ARM it computes through another library, which may transform, and was not tried.
OPENVINO_EXACT = platform.machine().lower() in ("x86_64", "amd64")
# Each of them rounds: Winograd's transforms, and storage or arithmetic in 16 bits where the processor has them.
NCNN_ROUNDING = (
    "use_winograd_convolution", "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed",
    "use_bf16_storage",
)  # fmt: skip
# LiteRT's kernels: with XNNPACK, the built-in ones without it, and the plain reference.
RESOLVERS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")


def onnx_runner(model: onnx.ModelProto, threads: int) -> Runner:
    """ONNX Runtime on the CPU: exact by default."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(missing_package("onnxruntime")) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def openvino_runner(model: onnx.ModelProto, threads: int, exact: bool = True) -> Runner:
    """OpenVINO on the CPU. exact: asks for float32, where the default is bfloat16 on processors that have it.

    The model is read as it is: `convert_model` was seen to miscompile a Gather in front of a convolution.
    """
    try:
        import openvino
    except ImportError as error:
        raise ExportError(missing_package("openvino", "runtimes")) from error
    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if exact:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    names = [output.name for output in model.graph.output]

    def run(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        found = compiled(dict(inputs))
        return {name: found[name] for name in names}

    return run


def ncnn_runner(model: onnx.ModelProto, threads: int, exact: bool = True) -> Runner:
    """ncnn on the CPU, batch 1. exact: without Winograd and 16-bit floats, which are its default."""
    try:
        import ncnn
    except ImportError as error:
        raise ExportError(missing_package("ncnn", "runtimes")) from error
    net = ncnn.Net()
    net.opt.num_threads = threads
    if exact:
        for name in NCNN_ROUNDING:
            setattr(net.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        _convert(model, Path(folder))
        for what, load, suffix in (("structure", net.load_param, "param"), ("weights", net.load_model, "bin")):
            if load(str(Path(folder) / f"model.ncnn.{suffix}")):
                raise ExportError(f"ncnn does not read the {what} that pnnx wrote for it.")
    names, results = [one.name for one in model.graph.input], [one.name for one in model.graph.output]

    def run(inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        # ncnn works in an array's own memory and gives its extractor's back: copy both while they live.
        found = {}
        with net.create_extractor() as extractor:
            for i, name in enumerate(names):
                array = np.ascontiguousarray(inputs[name][0], np.float32)
                extractor.input(f"in{i}", ncnn.Mat(array).clone())
            for i, name in enumerate(results):
                failed, value = extractor.extract(f"out{i}")
                if failed:
                    raise ExportError(f"ncnn does not compute {name!r} of this model.")
                found[name] = np.array(value)[None]  # a copy
        return found

    return run


def _convert(model: onnx.ModelProto, folder: Path) -> None:
    """Writes model.ncnn.param and model.ncnn.bin there, weights in float32."""
    package = importlib.util.find_spec("pnnx")  # which imports PyTorch, only to start the program that lies beside it
    if package is None or package.origin is None:
        raise ExportError(missing_package("pnnx", "runtimes"))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    program = [str(Path(package.origin).with_name("pnnx")), "model.onnx", "fp16=0"]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=CONVERSION_SECONDS)
    if done.returncode or not (folder / "model.ncnn.bin").exists():
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise ExportError(f"pnnx does not convert this model: {last[:200]}")


def litert_runner(model: bytes, threads: int, resolver: str = "AUTO") -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """LiteRT, for models with one input and one output: arrays as the model has them. resolver: one of RESOLVERS.

    Models without a fixed size take any; another than the last one is prepared for anew.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise ExportError(missing_package("ai-edge-litert")) from error
    with quiet_stderr():
        interpreter = Interpreter(
            model_content=model, num_threads=threads, experimental_op_resolver_type=getattr(OpResolverType, resolver)
        )
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    prepared: tuple[int, ...] = ()

    def run(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        nonlocal prepared
        if value.shape != prepared:
            with quiet_stderr():
                interpreter.resize_tensor_input(source["index"], value.shape)
                interpreter.allocate_tensors()
            prepared = value.shape
        interpreter.set_tensor(source["index"], value)
        interpreter.invoke()
        result: npt.NDArray[Any] = interpreter.get_tensor(target["index"])
        return result

    return run


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """LiteRT announces its delegate from C++, past Python's streams."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
