"""An emulator of Lynxi's SDK: the names of the maker's Python module, held to the way its public code uses them.

It stands where `import pylynchipsdk` finds it (`conftest.lynxi`). Calls that no card would survive are noted in
`CARD.misuses` and raise: what is used after it was freed, a wrong direction, length, device or stream, work without a
current context, a network that was not reset, memory that is freed twice. `CARD.leaks` names what is still held.
Streams work as the card's do: nothing happens before they are synchronised. Networks are computed in float16.
"""

from __future__ import annotations

import enum
import itertools
import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from export.half import HalfModel


class lyn_data_type_t(enum.Enum):
    DT_FLOAT = 8
    DT_FLOAT16 = 9


class lyn_memcpy_dir_t(enum.Enum):
    ClientToServer = 0
    ServerToClient = 1


TYPES = {"float32": (np.float32, lyn_data_type_t.DT_FLOAT), "float16": (np.float16, lyn_data_type_t.DT_FLOAT16)}


class Misuse(AssertionError):
    """A call that breaks the SDK's rules."""


@dataclass
class Memory:
    where: str  # "card", "host" or "array"
    size: int
    data: Any
    freed: bool = False


@dataclass
class Handle:
    """A context, stream or network. context: that it belongs to."""

    kind: str
    context: Handle | None = None
    freed: bool = False
    work: list[Callable[[], None]] = field(default_factory=list)
    network: HalfModel | None = None
    types: tuple[str, str] = ("float16", "float16")
    reset: bool = False


class Card:
    """What tests set and look at. devices: chips. failing: error codes by the name of a call. stream_error: reported to
    the handler when a network is computed. spoil: changes what comes back, an array. sdk_types: pointers are read by
    the SDK's own types. describe: changes a network's description."""

    def __init__(self) -> None:
        self.devices, self.rounding = 1, "stored"
        self.failing: dict[str, int] = {}
        self.stream_error = 0
        self.spoil: Callable[[np.ndarray], np.ndarray] = lambda found: found
        self.describe: Callable[[Any], None] = lambda description: None
        self.sdk_types = False
        self.calls: list[str] = []
        self.misuses: list[str] = []
        self.handles: list[Handle] = []
        self.memory: dict[int, Memory] = {}
        self.current: Handle | None = None
        self.handler: Callable[..., Any] | None = None
        self.addresses = itertools.count(0x1000, 0x1000)

    def misuse(self, text: str) -> Misuse:
        self.misuses.append(text)
        return Misuse(text)

    @property
    def leaks(self) -> list[str]:
        held = [handle.kind for handle in self.handles if not handle.freed]
        return held + [f"{one.where} memory" for one in self.memory.values() if one.where != "array" and not one.freed]


CARD = Card()


def start_anew() -> Card:
    global CARD
    CARD = Card()
    return CARD


def _called(name: str, needs_context: bool = True) -> int:
    CARD.calls.append(name)
    if needs_context and (CARD.current is None or CARD.current.freed):
        raise CARD.misuse(f"{name} without a current context")
    return CARD.failing.get(name, 0)


def _alive(handle: Any, kind: str) -> Handle:
    if not isinstance(handle, Handle) or handle.kind != kind:
        raise CARD.misuse(f"{handle!r} is no {kind}")
    if handle.freed:
        raise CARD.misuse(f"{kind} used after it was released")
    if handle.context is not None and handle.context is not CARD.current:
        raise CARD.misuse(f"{kind} of another context than the current one")
    return handle


def _memory(pointer: Any, where: tuple[str, ...], size: int) -> Memory:
    memory = CARD.memory.get(pointer)
    if memory is None or memory.where not in where:
        raise CARD.misuse(f"{pointer!r} is no pointer to memory of {' or '.join(where)}")
    if memory.freed or (memory.where == "array" and memory.data() is None):
        raise CARD.misuse(f"memory of {memory.where} used after it was freed")
    if size > memory.size:
        raise CARD.misuse(f"{size} bytes of {memory.size} in memory of {memory.where}")
    return memory


def _place(where: str, size: int, data: Any) -> int:
    pointer = next(CARD.addresses)
    CARD.memory[pointer] = Memory(where, size, data)
    return pointer


def _made(kind: str) -> Handle:
    handle = Handle(kind, None if kind == "context" else CARD.current)
    CARD.handles.append(handle)
    return handle


def _release(name: str, handle: Any, kind: str) -> int:
    code = _called(name)
    found = _alive(handle, kind)
    if found.work:
        raise CARD.misuse(f"{name}: its stream has not been synchronised")
    found.freed = True
    return code


def lyn_get_device_count() -> tuple[int, int]:
    return CARD.devices, _called("lyn_get_device_count", needs_context=False)


def lyn_create_context(device: int) -> tuple[Any, int]:
    code = _called("lyn_create_context", needs_context=False)
    if not 0 <= device < CARD.devices:
        return None, 0xD1
    return (None, code) if code else (_made("context"), 0)


def lyn_set_current_context(context: Any) -> int:
    code = _called("lyn_set_current_context", needs_context=False)
    CARD.current = _alive(context, "context")
    return code


def lyn_destroy_context(context: Any) -> int:
    code = _called("lyn_destroy_context")
    found = _alive(context, "context")
    inside = [one.kind for one in CARD.handles if one.context is found and not one.freed]
    if inside:
        raise CARD.misuse(f"a context destroyed before its {', '.join(inside)}")
    found.freed, CARD.current, CARD.handler = True, None, None
    return code


def lyn_register_error_handler(handler: Callable[..., Any]) -> int:
    code = _called("lyn_register_error_handler")
    CARD.handler = handler
    return code


def lyn_create_stream() -> tuple[Any, int]:
    code = _called("lyn_create_stream")
    return (None, code) if code else (_made("stream"), 0)


def lyn_destroy_stream(stream: Any) -> int:
    return _release("lyn_destroy_stream", stream, "stream")


def lyn_load_model(folder: str) -> tuple[Any, int]:
    code = _called("lyn_load_model")
    if code:
        return None, code
    try:
        types = json.loads((Path(folder) / "types.json").read_text())
        network = HalfModel.of_file(Path(folder) / "network", CARD.rounding)
    except OSError:
        return None, 0xE1
    model = _made("model")
    model.network, model.types = network, (types["in"], types["out"])
    return model, 0


def lyn_unload_model(model: Any) -> int:
    return _release("lyn_unload_model", model, "model")


def lyn_model_get_desc(model: Any) -> tuple[Any, int]:
    code = _called("lyn_model_get_desc")
    found = _alive(model, "model")
    assert found.network is not None
    description = SimpleNamespace()
    for side, type_name, shapes in zip(
        ("input", "output"), found.types, (found.network.inputs, found.network.outputs), strict=True
    ):
        attributes = [
            SimpleNamespace(batchSize=1, dims=list(shape), dtype=TYPES[type_name][1]) for shape in shapes.values()
        ]
        size = np.dtype(TYPES[type_name][0]).itemsize
        setattr(description, f"{side}TensorAttrArray", attributes)
        setattr(description, f"{side}DataLen", sum(size * int(np.prod(shape)) for shape in shapes.values()))
    CARD.describe(description)
    return description, code


def lyn_malloc(size: int) -> tuple[int, int]:
    code = _called("lyn_malloc")
    return (0, code) if code else (_place("card", size, bytearray(size)), 0)


def c_malloc(size: int) -> int:
    return 0 if _called("c_malloc") else _place("host", size, np.zeros(size, np.uint8))


def lyn_free(pointer: int) -> int:
    code = _called("lyn_free")
    _memory(pointer, ("card",), 0).freed = True
    return code


def c_free(pointer: int) -> None:
    _called("c_free")
    memory = _memory(pointer, ("host",), 0)
    memory.freed = True
    memory.data[:] = 0xFF  # who still looks at it sees NaN


def lyn_numpy_contiguous_to_ptr(array: np.ndarray) -> tuple[int, int]:
    code = _called("lyn_numpy_contiguous_to_ptr")
    if not array.flags.c_contiguous:
        raise CARD.misuse("a pointer to an array that is not contiguous")
    return _place("array", array.nbytes, weakref.ref(array)), code


def lyn_memcpy_async(stream: Any, target: int, source: int, size: int, direction: lyn_memcpy_dir_t) -> int:
    code = _called("lyn_memcpy_async")
    up = direction is lyn_memcpy_dir_t.ClientToServer
    here = ("host", "array")

    def copy() -> None:
        from_memory = _memory(source, here if up else ("card",), size)
        to_memory = _memory(target, ("card",) if up else here, size)
        array = from_memory.data() if from_memory.where == "array" else from_memory.data
        data = array.tobytes() if isinstance(array, np.ndarray) else bytes(array)
        if up:
            to_memory.data[:size] = data[:size]
        else:
            to_memory.data[:size] = np.frombuffer(data[:size], np.uint8)

    _memory(source, here if up else ("card",), size)
    _memory(target, ("card",) if up else here, size)
    _alive(stream, "stream").work.append(copy)
    return code


def lyn_model_reset_async(stream: Any, model: Any) -> int:
    code = _called("lyn_model_reset_async")
    found = _alive(model, "model")
    found.reset = True
    _alive(stream, "stream")
    return code


def lyn_execute_model_async(stream: Any, model: Any, given: int, found: int, batch: int) -> int:
    code = _called("lyn_execute_model_async")
    loaded = _alive(model, "model")
    network = loaded.network
    assert network is not None
    if not loaded.reset:
        raise CARD.misuse("a network computed without a reset at its first step")
    loaded.reset = False
    if batch != 1:
        raise CARD.misuse(f"a batch of {batch}")
    wide, narrow = (np.dtype(TYPES[name][0]) for name in loaded.types)
    counts = {name: int(np.prod(shape)) for name, shape in network.inputs.items()}
    size = wide.itemsize * sum(counts.values())
    result_size = narrow.itemsize * sum(int(np.prod(shape)) for shape in network.outputs.values())

    def compute() -> None:
        numbers = np.frombuffer(bytes(_memory(given, ("card",), size).data[:size]), wide)
        pieces = np.split(numbers, np.cumsum(list(counts.values()))[:-1])
        inputs = {name: piece.reshape(network.inputs[name]) for name, piece in zip(network.inputs, pieces, strict=True)}
        result = np.concatenate([value.ravel() for value in network.run(inputs).values()])
        result = CARD.spoil(result.astype(narrow))
        _memory(found, ("card",), result_size).data[:result_size] = result.tobytes()
        if CARD.stream_error and CARD.handler:
            CARD.handler(stream, SimpleNamespace(errCode=CARD.stream_error), None)

    _memory(given, ("card",), size)
    _memory(found, ("card",), result_size)
    _alive(stream, "stream").work.append(compute)
    return code


def lyn_synchronize_stream(stream: Any) -> int:
    code = _called("lyn_synchronize_stream")
    found = _alive(stream, "stream")
    work, found.work = found.work, []
    for step in work:
        step()
    return code


def lyn_ptr_to_numpy(pointer: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A view of the memory, as the SDK gives it."""
    _called("lyn_ptr_to_numpy")
    if isinstance(dtype, lyn_data_type_t) != CARD.sdk_types:
        raise TypeError("lyn_ptr_to_numpy(): incompatible function arguments")
    kinds = {sdk_type: kind for kind, sdk_type in TYPES.values()}
    real = np.dtype(kinds[dtype] if isinstance(dtype, lyn_data_type_t) else dtype)
    size = real.itemsize * int(np.prod(shape))
    memory = _memory(pointer, ("host",), size)
    return memory.data[:size].view(real).reshape(shape)
