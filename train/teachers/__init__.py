"""Teachers: ANNs whose feature maps guide the spiking student. One file per architecture, one door: `build_teacher`.

`unet.py` holds what the three share and lists the seven stages; `restormer.py`, `promptir.py` and `adair.py` what each
adds, with the variants that were published.
"""

import io
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from simulator.files import write_atomically
from train.teachers.adair import AdaIR
from train.teachers.promptir import PromptIR
from train.teachers.restormer import Restormer
from train.teachers.unet import UNet

_FAMILY: dict[str, type[UNet]] = {network.arch: network for network in (Restormer, PromptIR, AdaIR)}
TEACHERS = tuple(_FAMILY)


class TeacherError(ValueError):
    """A teacher that cannot be built or loaded; the message is a sentence for the person at the keyboard."""


def build_teacher(name: str | None, weights: str | Path | None = None, **config: Any) -> UNet:
    """Build a teacher, in evaluation mode, with `forward(x)` and `features(x, stages 1..7) -> (output, {stage: map})`.

    name: "restormer", "promptir" or "adair"; None takes the name from the weights' file.
    weights: a .safetensors file from `python -m train.teacher`, an official checkpoint (weights under `params`; or a
    Lightning checkpoint, weights under `state_dict` with the prefix `net.`) or a plain state dict, .pth, .ckpt or
    .safetensors; loaded strictly. Width, blocks and variant come from the file: from its header if it has one, else
    from the names and shapes of the weights. Without a file the published network is built.
    config: fields of the network's configuration that override either. An AdaIR without its decoder's frequency blocks
    is a Restormer in all but name and loads with name "adair" and decoder=False, or as what it is.
    Input and output are float32 in [0, 1], [B, 3, H, W], RGB; gray and dual-pixel networks differ (`config`).

    Raises TeacherError for an unknown name, an unreadable file, or weights that do not fit the configuration.
    """
    state: dict[str, Tensor] | None = None
    metadata: dict[str, str] = {}
    if weights is not None:
        state, metadata = read_weights(weights)
        found = metadata.get("teacher.arch") or _architecture(state)
        if name == "adair" and found == "restormer" and config.get("decoder") is False:
            found = name
        if name is not None and name != found:
            raise TeacherError(f"{weights} holds a {found} teacher, but {name} was asked for.")
        name = found
    if name is None:
        raise TeacherError("Name a teacher or pass the file of its weights.")
    network = _network(name)
    try:
        if state is None:
            base = {}
        elif "teacher.config" in metadata:
            base = json.loads(metadata["teacher.config"])
        else:
            base = asdict(network.Config.from_weights(state))
        teacher = network(network.Config(**{**base, **config}))
    except (ValueError, TypeError) as error:
        origin = f"{weights}: " if weights is not None else ""
        raise TeacherError(f"{origin}{error}") from error
    if state is not None and weights is not None:
        _load_strictly(teacher, state, weights)
    return teacher.eval()


def build_narrow_teacher(name: str, patch: int, *, dim: int, heads: Sequence[int], **config: Any) -> UNet:
    """An untrained teacher of one's own width, for training on patches of `patch` pixels; in evaluation mode.

    What only this architecture has is scaled to width and patch (`narrow` of its configuration). Raises TeacherError.
    """
    network = _network(name)
    try:
        return network(network.Config.narrow(patch, dim=dim, heads=heads, **config)).eval()
    except (ValueError, TypeError) as error:
        raise TeacherError(str(error)) from error


def save_teacher(teacher: UNet, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the teacher's weights, float32, with architecture and configuration in the header, atomically."""
    header = {"teacher.arch": teacher.arch, "teacher.config": json.dumps(asdict(teacher.config)), **(metadata or {})}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in teacher.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state, metadata=header))


def read_header(path: str | Path) -> dict[str, str]:
    """The metadata of a .safetensors file, such as `teacher.arch`. Raises TeacherError."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise TeacherError(f"{path} is not a readable safetensors file: {error}.") from error


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state dict on the CPU, metadata) of a checkpoint; nothing in it is executed. Raises TeacherError."""
    path = Path(path)
    if not path.is_file():
        raise TeacherError(f"The teacher's weights {path} do not exist.")
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        metadata = read_header(path)
        try:
            content: Any = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise TeacherError(f"{path} is not a readable safetensors file: {error}.") from error
    else:
        try:
            content = _load_tensors(path.read_bytes())
        except Exception as error:  # a damaged or hostile file raises almost anything; to the user it is all one
            raise TeacherError(f"{path} cannot be read as a checkpoint of weights alone: {_reason(error)}") from error
    if isinstance(content, dict):
        content = next((content[key] for key in ("params", "state_dict") if key in content), content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise TeacherError(
            f"{path} holds no state dict; expected names with tensors, alone or under the key params or state_dict."
        )
    if content and all(name.startswith("net.") for name in content):  # the attribute of the Lightning module
        content = {name.removeprefix("net."): tensor for name, tensor in content.items()}
    return dict(content), metadata


class _Mapping:
    """Stands in for an object in a checkpoint that is no tensor: whatever it was, an empty mapping comes of it."""

    def __new__(cls, *arguments: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # of another class on purpose
        return OrderedDict()


class _Scalar:
    """Stands in for NumPy's numbers, which are built in steps that a mapping does not take."""

    def __init__(self, *arguments: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _load_tensors(data: bytes) -> Any:
    """torch.load with weights_only. Every other class or function that the file names is replaced by a stand-in.

    Lightning stores its callbacks, schedulers and hyperparameters beside the weights, often as objects of packages that
    are not here. What they stand for is never looked up, so nothing of it can run; weights are unaffected.
    """
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    if data[:4] == b"PK\x03\x04":  # older files, without an archive, cannot be listed; they hold weights or are refused
        for name in torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)):
            stand_ins.append((_Scalar if name.startswith("numpy.") else _Mapping, name))
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    """Why a file cannot be loaded, without PyTorch's advice to load it and run what it holds."""
    paragraphs = [text.strip() for text in str(error).split("\n\n") if text.strip()]
    if len(paragraphs) > 2 and paragraphs[0].startswith("Weights only load failed"):
        return f"it holds an object that cannot be set aside ({paragraphs[-2].rstrip('.')})."
    return f"it is damaged or was not written by torch.save ({type(error).__name__})."


def _network(name: str) -> type[UNet]:
    if name not in _FAMILY:
        raise TeacherError(f"The teacher {name} is unknown; known teachers are {', '.join(TEACHERS)}.")
    return _FAMILY[name]


def _architecture(weights: Mapping[str, Tensor]) -> str:
    """Whose weights these are, by the names that only one network has."""
    own = {"noise_level": "promptir", "prompt": "promptir", "fre": "adair"}
    found = (arch for start, arch in own.items() if any(name.startswith(start) for name in weights))
    return next(found, "restormer")


def _load_strictly(teacher: UNet, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load all weights and no others. Raises TeacherError with how many do not fit and the first of them."""
    expected = teacher.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    other = [name for name in expected if name in state and expected[name].shape != state[name].shape]
    faults = [
        f"{len(names)} {what}, first {names[0]}"
        for names, what in ((missing, "missing"), (unknown, "unexpected"))
        if names
    ]
    if other:
        name = other[0]
        found, wanted = tuple(state[name].shape), tuple(expected[name].shape)
        faults.append(f"{len(other)} of another shape, first {name} with {found} where {wanted} was expected")
    if faults:
        raise TeacherError(
            f"The {len(state)} weights in {path} do not fit the {len(expected)} of {teacher.config.title}: "
            f"{'; '.join(faults)}."
        )
    teacher.load_state_dict(state, strict=True)
