"""Teachers: ANNs whose feature maps guide the spiking student. One file per architecture, one door: `build_teacher`."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from simulator.files import write_atomically
from train.teachers.restormer import Restormer, RestormerConfig, config_from_weights

TEACHERS = ("restormer", "promptir", "adair")


class TeacherError(ValueError):
    """A teacher that cannot be built or loaded; the message is a sentence for the person at the keyboard."""


def check_teacher(name: str) -> None:
    """Raises TeacherError unless a teacher of that name can be built."""
    if name not in TEACHERS:
        raise TeacherError(f"The teacher {name} is unknown; known teachers are {', '.join(TEACHERS)}.")
    if name != "restormer":
        raise TeacherError(f"The teacher {name} is not available yet; available is restormer.")


def build_teacher(name: str | None, weights: str | Path | None = None, **config) -> nn.Module:
    """Build a teacher, in evaluation mode, with `forward(x)` and `features(x, stages 1..7) -> (output, {stage: map})`.

    name: "restormer" ("promptir" and "adair" are not available yet); None takes the name from the weights' file.
    weights: a .safetensors file from `python -m train.teacher`, an official checkpoint (.pth, weights under `params`)
    or a plain state dict; loaded strictly. Width, blocks and variant come from the file: from its header if it has
    one, else from the names and shapes of the weights. Without a file the published network is built.
    config: fields of RestormerConfig that override either.
    Input and output are float32 RGB in [0, 1], [B, 3, H, W].

    Raises TeacherError for an unknown name, an unreadable file, or weights that do not fit the configuration.
    """
    state: dict[str, Tensor] | None = None
    metadata: dict[str, str] = {}
    if weights is not None:
        state, metadata = read_weights(weights)
        found = metadata.get("teacher.arch", "restormer")
        if name is not None and name != found:
            raise TeacherError(f"{weights} holds a {found} teacher, but {name} was asked for.")
        name = found
    if name is None:
        raise TeacherError("Name a teacher or pass the file of its weights.")
    check_teacher(name)
    try:
        if state is None:
            base = {}
        elif "teacher.config" in metadata:
            base = json.loads(metadata["teacher.config"])
        else:
            base = asdict(config_from_weights(state))
        teacher = Restormer(RestormerConfig(**{**base, **config}))
    except (ValueError, TypeError) as error:
        origin = f"{weights}: " if weights is not None else ""
        raise TeacherError(f"{origin}{error}") from error
    if state is not None:
        try:
            teacher.load_state_dict(state, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise TeacherError(f"The weights in {weights} do not fit the teacher: {reason}") from error
    return teacher.eval()


def save_teacher(teacher: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the teacher's weights, float32, with architecture and configuration in the header, atomically."""
    header = {"teacher.arch": teacher.arch, "teacher.config": json.dumps(asdict(teacher.config)), **(metadata or {})}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in teacher.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state, metadata=header))


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state dict on the CPU, metadata) of a checkpoint; nothing in it is executed. Raises TeacherError."""
    path = Path(path)
    if not path.is_file():
        raise TeacherError(f"The teacher's weights {path} do not exist.")
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
        except (safetensors.SafetensorError, OSError) as error:
            raise TeacherError(f"{path} is not a readable safetensors file: {error}.") from error
    try:
        content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises almost anything; to the user it is all one
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TeacherError(f"{path} cannot be read as a checkpoint of weights alone: {reason}") from error
    if isinstance(content, dict):
        content = next((content[key] for key in ("params", "state_dict") if key in content), content)
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise TeacherError(f"{path} holds no state dict; expected names with tensors, or those under the key params.")
    return dict(content), {}
