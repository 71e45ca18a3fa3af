"""Lynxi's cards (HP300 and others with KA200 chips), through the maker's SDK, pylynchipsdk.

Not verified on a card: the calls, their order and what they return are those of the maker's public code
(github.com/LynxiTech/BIDL), in `tests/firmware_bridge/lynxi_sdk` an emulator holds this file to them. Getters return
(value, error), actions an error, 0 if all is well.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import importlib.util
import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards.base import BoardError
from firmware_bridge.boards.card import Card, Half
from firmware_bridge.power.recording import Recording
from firmware_bridge.power.sensor import Sensor, SensorError, plausible
from simulator.bundle import Bundle
from simulator.compiled import Compiled, Tensor

SDK = "pylynchipsdk"
NO_SDK = f"{SDK}, the maker's SDK, which comes with the card's driver (firmware_bridge/CARDS.md)"
NET = "Net_0"  # the folder that lyngor, the compiler, makes of a network
MOST_BYTES = 1 << 31  # of one buffer on the card
SERVICE = ("localhost", 5432)  # LynDevicePlugin's lynsmi-service
MOST_ANSWER, PATIENCE_S = 1 << 20, 2.0  # of the service: bytes, and seconds until an answer is whole


class Lynxi(Card):
    scheme = "lynxi"
    about = "a Lynxi card (HP300, KA200 chips); not verified on a card"

    @classmethod
    def missing(cls) -> str:
        if importlib.util.find_spec(SDK) is None:
            return NO_SDK
        try:
            count, code = importlib.import_module(SDK).lyn_get_device_count()
        except Exception as error:  # a driver's library may fail in any way when it is loaded
            return f"a driver that works: {SDK} fails with {error or type(error).__name__}"
        return "" if not code and count else "a card: the driver finds none; does `lynxi-smi` list it?"

    def load(self, bundle: Bundle) -> None:
        if importlib.util.find_spec(SDK) is None:
            raise BoardError(f"{self.name} cannot be used yet, missing: {NO_SDK}")
        super().load(bundle)

    def _open(self, body: Compiled, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Session:
        net = body.folder / NET
        if not net.is_dir():
            raise BoardError(
                f"{self.name}: {body.folder} is not compiled yet: there is no {NET}; run `python compile.py` in it "
                "where lyngor is installed"
            )
        shapes = tuple([one.shape(body.height, body.width) for one in group] for group in (inputs, outputs))
        try:
            return Session(importlib.import_module(SDK), self.number, str(net), *shapes)
        except (BoardError, ImportError) as error:
            raise BoardError(f"{self.name}: {error}") from error

    def recording(self) -> Recording:
        """The board's power as the maker's device service measures it, all of its chips together."""
        sensor = Sensor(
            f"lynxi{self.number}",
            "the whole card, all chips, by the maker's device service",
            plausible(lambda: board_power(self.number)),
            whole=True,
            interval_s=0.1,
        )
        try:
            sensor.read()
        except SensorError as error:
            return Recording(missing=f"{self.name}: {error}")
        return Recording(sensor)


class Session:
    """A compiled network in a card, with its context, stream and buffers, released in the reverse order."""

    def __init__(
        self,
        sdk: Any,
        device: int,
        folder: str,
        inputs: Sequence[tuple[int, ...]],
        outputs: Sequence[tuple[int, ...]],
    ):
        """folder: Net_0. inputs, outputs: shapes, the first dimension is the batch, 1. Raises `BoardError`."""
        self._sdk, self._outputs = sdk, outputs
        self._faults: list[str] = []
        self._handler = self._fault  # the SDK may call it as long as the context lives
        with contextlib.ExitStack() as release:
            self._context = self._get("lyn_create_context", device)
            release.callback(self._do, "lyn_destroy_context", self._context)
            self._do("lyn_set_current_context", self._context)
            self._do("lyn_register_error_handler", self._handler)
            self._stream = self._get("lyn_create_stream")
            release.callback(self._do, "lyn_destroy_stream", self._stream)
            count = self._get("lyn_get_device_count")
            if device >= count:
                raise BoardError(f"there is no card {device}: the driver finds {count}")
            self._model = self._get("lyn_load_model", folder)
            release.callback(self._do, "lyn_unload_model", self._model)
            description = self._get("lyn_model_get_desc", self._model)
            self._given = self._tensors(description, "input", inputs)
            self._found = self._tensors(description, "output", outputs)
            self._received = self._host_buffer(self._bytes(self._found, outputs))
            release.callback(self._sdk.c_free, self._received)
            self._out = self._get("lyn_malloc", self._bytes(self._found, outputs))
            release.callback(self._do, "lyn_free", self._out)
            self._in = self._get("lyn_malloc", self._bytes(self._given, inputs))
            release.callback(self._do, "lyn_free", self._in)
            self._release = release.pop_all()

    def run(self, values: Sequence[Half]) -> list[npt.NDArray[np.float16 | np.float32]]:
        sdk, directions = self._sdk, self._sdk.lyn_memcpy_dir_t
        self._do("lyn_set_current_context", self._context)
        sent = np.concatenate([value.ravel() for value in values]).astype(self._given)
        size = self._bytes(self._found, self._outputs)
        try:
            pointer = self._get("lyn_numpy_contiguous_to_ptr", sent)
            self._do("lyn_memcpy_async", self._stream, self._in, pointer, sent.nbytes, directions.ClientToServer)
            self._do("lyn_model_reset_async", self._stream, self._model)
            self._do("lyn_execute_model_async", self._stream, self._model, self._in, self._out, 1)
            self._do("lyn_memcpy_async", self._stream, self._received, self._out, size, directions.ServerToClient)
        except BaseException:  # Ctrl-C, too
            with contextlib.suppress(BoardError):  # what is under way reads `sent`, which ends with this call
                self._do("lyn_synchronize_stream", self._stream)
            raise
        self._do("lyn_synchronize_stream", self._stream)
        if self._faults:
            raise BoardError(f"the card reported an error while it computed: {'; '.join(self._faults)}")
        count = size // self._found.itemsize
        with _known_interface("lyn_ptr_to_numpy"):
            try:
                received = sdk.lyn_ptr_to_numpy(self._received, (count,), self._found)
            except TypeError:  # of two usages in the maker's code the other one
                received = sdk.lyn_ptr_to_numpy(self._received, (count,), _sdk_types(sdk)[self._found])
        if not isinstance(received, np.ndarray) or received.dtype != self._found or received.size != count:
            raise BoardError(f"the card's SDK gave {type(received).__name__} for {count} numbers of {self._found}")
        ends = np.cumsum([math.prod(shape) for shape in self._outputs])[:-1]
        pieces = np.split(received.reshape(-1).copy(), ends)  # its memory is the SDK's
        return [piece.reshape(shape) for piece, shape in zip(pieces, self._outputs, strict=True)]

    def close(self) -> None:
        with contextlib.suppress(BoardError):  # of a card that is gone, what can be released is released
            self._do("lyn_set_current_context", self._context)
        self._release.close()

    def _tensors(self, description: Any, side: str, shapes: Sequence[tuple[int, ...]]) -> np.dtype[Any]:
        """The type of one side's tensors, which are those that were compiled, one picture at a time."""
        with _known_interface("lyn_model_get_desc"):
            attributes = list(getattr(description, f"{side}TensorAttrArray"))
            found = [tuple(int(length) for length in one.dims) for one in attributes]
            batches = {int(one.batchSize) for one in attributes}
            length = int(getattr(description, f"{side}DataLen"))
            names = {sdk_type: dtype for dtype, sdk_type in _sdk_types(self._sdk).items()}
            types = {names.get(one.dtype) for one in attributes}
        if [_sizes(one) for one in found] != [_sizes(one) for one in shapes]:
            raise BoardError(
                f"the compiled network has the {side}s {found[:4]}; expected {list(shapes)[:4]}: compile it anew"
            )
        if batches != {1}:
            raise BoardError(f"the network was compiled for batches of {sorted(batches)} pictures; expected 1")
        if len(types) != 1 or None in types:
            raise BoardError(f"the compiled network's {side}s are neither all float16 nor all float32")
        dtype = np.dtype(types.pop())
        if length != self._bytes(dtype, shapes):
            raise BoardError(
                f"the compiled network's {side}s take {length} bytes; expected {self._bytes(dtype, shapes)}"
            )
        return dtype

    def _bytes(self, dtype: np.dtype[Any], shapes: Sequence[tuple[int, ...]]) -> int:
        size = int(dtype.itemsize * sum(math.prod(shape) for shape in shapes))
        if size > MOST_BYTES:
            raise BoardError(f"{size} bytes at once are too many for a card; compile for a smaller size")
        return size

    def _host_buffer(self, size: int) -> Any:
        pointer = self._sdk.c_malloc(size)
        if not pointer:
            raise BoardError(f"c_malloc failed: there are no {size} bytes for the card's result")
        return pointer

    def _fault(self, stream: Any, message: Any, parameters: Any) -> None:
        code = getattr(message, "errCode", None)
        self._faults.append(f"error {code:#x}" if isinstance(code, int) else f"error {str(code)[:40]}")

    def _get(self, name: str, *arguments: Any) -> Any:
        """A getter of the SDK."""
        with _known_interface(name):
            value, error = getattr(self._sdk, name)(*arguments)
        self._check(name, error)
        return value

    def _do(self, name: str, *arguments: Any) -> None:
        """An action of the SDK."""
        with _known_interface(name):
            error = getattr(self._sdk, name)(*arguments)
        self._check(name, error)

    def _check(self, name: str, error: Any) -> None:
        if error:
            code = f"{error:#x}" if isinstance(error, int) else str(error)[:40]
            raise BoardError(f"{name} failed: error {code} of the card's driver")


def board_power(device: int) -> float:
    """Watts of the board that holds a chip, as LynDevicePlugin's service says (GET /devices); raises `SensorError`."""
    try:
        devices = json.loads(_fetch(SERVICE))
        board = devices[str(device)]["Ok"]["board"]
        milliwatts = board["power_draw"]
    except (ValueError, RecursionError) as error:
        raise SensorError("the card's device service answers something else than JSON") from error
    except (KeyError, TypeError, IndexError) as error:
        raise SensorError(f"the card's device service has no power_draw of device {device}") from error
    if isinstance(milliwatts, bool) or not isinstance(milliwatts, int | float) or not math.isfinite(milliwatts):
        raise SensorError(f"the card's device service says that it draws {str(milliwatts)[:40]!r} mW")
    return float(milliwatts) * 1e-3


def _fetch(service: tuple[str, int]) -> bytes:
    """The answer to GET /devices, at most MOST_ANSWER bytes, whole within PATIENCE_S; raises `SensorError`."""
    where = f"{service[0]}:{service[1]}"
    connection = http.client.HTTPConnection(*service, timeout=PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    try:
        connection.request("GET", "/devices")
        answer = connection.getresponse()
        if answer.status != 200:
            raise SensorError(f"{where} answers with status {answer.status}, which is not the card's device service")
        content = b""
        while piece := answer.read1(1 << 16):
            content += piece
            if len(content) > MOST_ANSWER or time.monotonic() > end:
                raise SensorError(f"{where} does not come to an end; it is not the card's device service")
        return content
    except (OSError, http.client.HTTPException) as error:
        raise SensorError(
            f"the card's device service does not answer at {where} ({error or type(error).__name__}); "
            "LynDevicePlugin's lynsmi-service has to run for power"
        ) from error
    finally:
        connection.close()


@contextlib.contextmanager
def _known_interface(name: str) -> Iterator[None]:
    """Says of an SDK that takes or gives something else which call it was."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raise BoardError(f"{SDK} has another interface than the one that is known here: {name}: {error}") from error


def _sdk_types(sdk: Any) -> dict[np.dtype[Any], Any]:
    return {np.dtype(np.float16): sdk.lyn_data_type_t.DT_FLOAT16, np.dtype(np.float32): sdk.lyn_data_type_t.DT_FLOAT}


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its lengths of 1: whether the batch is among the dimensions is the compiler's choice."""
    return tuple(length for length in shape if length != 1)
