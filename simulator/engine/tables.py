"""The tables that row operations add up from: weights, neurons' parameters, and combinations of weights.

None of it depends on the image's size. The arrays are laid out for the vectors of `kernels/` and start at multiples of
64 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import INT16_LIMIT
from simulator.engine.records import TABLE_VECTORS
from simulator.graph import MAX_TIME_STEPS, Node

Tensors = Mapping[str, npt.NDArray[np.int32]]

LANES = 16  # channels are padded to this
VECTOR = 32  # lanes of int16 in 64 bytes
INDEX_LIMIT = 1 << 16  # events are uint16
TABLE_BYTES = 32 * 1024  # a weight table should stay in the first-level cache beside events and sums
LEAST_BLOCK = 8  # columns
UNLIMITED = 1 << 30  # events
SLIDES = 3  # columns of a kernel whose sums slide along
TOGETHER = 4  # spikes of a neuron that integrates before it fires, at most, which one event stands for
POINT_WORDS = 64  # of 4 KiB each, in the table of a 1x1 convolution
LOOKED_UP = 16  # words of spikes times vectors of outputs, for a pixel of it: beyond them a list of spikes is faster
ALIGNMENT = 64
WINOGRAD_SCALE = 4  # of combined inputs and of sums, by Winograd's filtering
LEAST_WINOGRAD, MOST_WINOGRAD = 8, 256  # input channels


def padded(n: int, to: int = LANES) -> int:
    return -(-n // to) * to


def aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that starts at a multiple of 64 bytes: a vector that straddles two cache lines costs two loads."""
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@dataclass(frozen=True)
class SpikeTable:
    """Weights of some input channels of one group of a spiking convolution, for `records.Conv`.

    A block of `rows` x `columns` output pixels shares one run of events. table [chunks, candidates + 1, vectors * 64
    bytes of output lanes], the last row zero; where one event stands for up to `together` spikes, twice the weights of
    all candidates come before that one, three times, and so on (see `kernels/events.py`). bias [chunks, lanes of these
    vectors]; pieces: where each 16 lanes go, in bytes from the block's first pixel, without the `piece_rows` rows below
    it. With `slides` = 3 the sums of three columns slide over the row, and a row of the table has `vectors` for each,
    the leftmost first.

    The table is of int16, also where outputs and biases are of int32: twice as many lanes. The weights of `most` events
    surely add up in that; then the sums are widened.
    """

    first_word: int
    words: int
    adds: bool  # to what another table left for the same outputs
    rows: int
    columns: int
    slides: int
    most: int
    together: int
    vectors: int
    chunks: int
    table: npt.NDArray[Any]
    bias: npt.NDArray[Any]
    pieces: npt.NDArray[np.int64]
    piece_rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PointTable:
    """Weights of a 1x1 spiking convolution for `records.PointConv`: [vectors, words, 4, 16, 64 bytes], the sums of all
    combinations of each four channels; or, for two words and four planes, [vectors, 2, 2, 256, 64 bytes], of eight."""

    words: int
    vectors: int
    table: npt.NDArray[Any]
    bias: npt.NDArray[Any]


@dataclass(frozen=True)
class DenseTable:
    """Weights of one group of a real-valued convolution, for `records.DenseConv`: [chunks, ky, kx, pairs of channels,
    vectors, 16 lanes, 2] int16, or [..., channels, vectors, 16] int32. Or for `records.Winograd`, combined: [chunks, 4,
    4, pairs, ...].

    channels: even for int16. bias: int32 [chunks, vectors, 16], or [chunks, zeros and bias, vectors, 16].
    """

    first_channel: int
    channels: int
    first_lane: int
    vectors: int
    chunks: int
    weight: npt.NDArray[Any]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True)
class NeuronTable:
    """Threshold, bias and, where they have one, leak of a layer's neurons, 32 lanes at a time, `repeat` times until
    they start again. fine: binary digits that the membrane has below its input; threshold and bias have them here."""

    wide: bool
    repeat: int
    fine: int
    parameters: npt.NDArray[Any]


def _merged_groups(groups: int, inputs: int, outputs: int) -> int:
    """How many neighbouring groups are computed as one (zeros between them): both sides fill words of 16 lanes."""
    for merge in range(1, groups):
        if groups % merge == 0 and merge * inputs % LANES == 0 and merge * outputs % LANES == 0:
            return merge
    return groups


def _group_weights(weight: npt.NDArray[np.int32], groups: int) -> list[npt.NDArray[np.int32]]:
    """Dense weights [C_out, C_in, k, k] of each group, small groups merged into block-diagonal ones."""
    c_out, inputs, kernel, _ = weight.shape
    outputs = c_out // groups
    merge = _merged_groups(groups, inputs, outputs)
    result = []
    for first in range(0, groups, merge):
        whole = np.zeros((merge * outputs, merge * inputs, kernel, kernel), np.int32)
        for i in range(merge):
            rows, columns = slice(i * outputs, (i + 1) * outputs), slice(i * inputs, (i + 1) * inputs)
            whole[rows, columns] = weight[(first + i) * outputs : (first + i + 1) * outputs]
        result.append(whole)
    return result


def _block_shape(kernel: int, stride: int, words: int, lanes: int) -> tuple[int, int]:
    """Rows and columns of the block of output pixels that share a run of events: the cheapest that fits the cache.

    Per event a block loads a row of `lanes` for each of its pixels; a larger block reads more events that do not
    concern all of its pixels, but pays for the run's start and mispredicted end once. In cycles, at 10 % spikes.
    """

    def cost(rows: int, columns: int) -> float:
        events = 0.1 * ((rows - 1) * stride + kernel) * ((columns - 1) * stride + kernel) * words * LANES
        vectors = rows * columns * lanes / VECTOR
        return (events * (vectors / 2 + 0.15) + 35) / (rows * columns)

    def table_bytes(rows: int, columns: int) -> int:
        cells = ((rows - 1) * stride + kernel) * ((columns - 1) * stride + kernel)
        return 2 * cells * words * LANES * rows * columns * lanes

    shapes = [s for s in ((1, 1), (1, 2), (2, 1), (2, 2)) if s[0] * s[1] * lanes % VECTOR == 0]
    small = [s for s in shapes if table_bytes(*s) <= TABLE_BYTES]
    return min(small or shapes[:1], key=lambda shape: cost(*shape))


def _events_of_16_bits(rows: npt.NDArray[Any], times: int) -> int:
    """How many events, a multiple of four, surely add up in int16: rows of a table [n, ...], each at most so many
    times among them."""
    most = UNLIMITED
    for signed in (rows, -rows.astype(np.int32)):
        largest = np.sort(np.maximum(signed, 0).reshape(len(rows), -1), axis=0)[::-1].repeat(times, axis=0)
        sums = np.cumsum(largest, axis=0, dtype=np.int64).max(1)
        if sums[-1] > INT16_LIMIT:
            most = min(most, int(np.searchsorted(sums, INT16_LIMIT, "right")) // 4 * 4)
    return most


def spike_tables(node: Node, own: Tensors, wide: bool, planes: int) -> tuple[SpikeTable, ...]:
    """planes: how often a synapse may be reached within one sum."""
    kernel, stride = node["kernel"], node["stride"]
    slides = SLIDES if (kernel, stride) == (SLIDES, 1) else 0
    size = 4 if wide else 2  # of outputs
    weights = _group_weights(own["weight"], node["groups"])
    c_out, c_in = weights[0].shape[:2]
    lanes, all_lanes = padded(c_out), padded(node["channels"])
    words = padded(c_in) // LANES
    rows, columns = _block_shape(kernel, stride, words, lanes)
    if slides:  # half a vector of lanes together with that of the row below
        rows, columns = (1 if lanes % VECTOR == 0 else 2), 1
    cells = ((rows - 1) * stride + kernel, (columns - 1) * stride + kernel)
    total = rows * columns * lanes
    needed = total // VECTOR
    widest = 1 if slides and rows == 2 else 2 if slides else TABLE_VECTORS
    vectors = max(v for v in range(1, widest + 1) if needed % v == 0)
    together = min(planes, TOGETHER)
    while together > 2 and together * np.abs(own["weight"]).max(initial=0) > INT16_LIMIT // 4:
        together //= 2  # the sums of four events must surely fit int16, of neurons that fire so often
    # As many input channels at once as leave room for all events, of a small block's columns, among 2^16 offsets.
    cells_listed = together if slides else LEAST_BLOCK * stride + kernel + together * cells[1]
    most_words = max(1, (INDEX_LIMIT - 1) // (cells_listed * cells[0] * LANES * 8 * vectors * max(slides, 1)))
    most_words = -(-words // -(-words // most_words))  # of about the same number
    tables = []
    for g, weight in enumerate(weights):
        for first in range(0, words, most_words):
            count = min(most_words, words - first)
            part = weight[:, first * LANES : (first + count) * LANES]
            table = np.zeros((cells[1], cells[0], count * LANES, total), np.int16)
            bias, pieces, piece_rows = np.zeros(total, np.int32 if wide else np.int16), [], []
            for p in range(rows * columns):
                row, column = divmod(p, columns)
                own_lanes = slice(p * lanes, p * lanes + c_out)
                for dy in range(kernel):
                    for dx in range(kernel):
                        place = table[column * stride + dx, row * stride + dy, : part.shape[1], own_lanes]
                        place[:] = part[:, :, dy, dx].T
                if "bias" in own and first == 0:
                    bias[own_lanes] = own["bias"][g * c_out : (g + 1) * c_out]
                pieces += [(column * all_lanes + g * c_out + i) * size for i in range(0, lanes, LANES)]
                piece_rows += [row] * (lanes // LANES)
            step = vectors * VECTOR
            if slides:  # the columns of the kernel side by side; the last is for the leftmost output column
                flat = np.ascontiguousarray(table[::-1].transpose(1, 2, 0, 3)).reshape(-1, slides, total)
            else:
                flat = table.reshape(-1, 1, total)
            most = _events_of_16_bits(together * flat, planes // together)
            flat = np.concatenate([*(n * flat for n in range(1, together + 1)), np.zeros_like(flat[:1])])
            chunks = [flat[:, :, i : i + step].reshape(-1) for i in range(0, total, step)]
            made = SpikeTable(
                g * (c_in // LANES) + first, count, first > 0, rows, columns, slides, most, together, vectors,
                needed // vectors, aligned(np.concatenate(chunks)), aligned(bias), np.array(pieces, np.int64),
                np.array(piece_rows, np.int64),
            )  # fmt: skip
            tables.append(made)
    return tuple(tables)


def point_table(node: Node, own: Tensors, wide: bool, planes: int) -> PointTable | None:
    """For a 1x1 convolution without stride or groups whose output lanes fill vectors; None for any other.

    None also for so many channels that the table would outgrow the cache, or for so many and so many `planes` (see
    `spike_tables`) that a list of spikes costs less.
    """
    lanes, kind = padded(node["channels"]), np.int32 if wide else np.int16
    per_vector = 16 if wide else 32
    weight = own["weight"][:, :, 0, 0]
    words = padded(weight.shape[1]) // LANES
    looked_up = words * (lanes // per_vector)
    large = looked_up > POINT_WORDS or (planes > 1 and planes * looked_up > LOOKED_UP)
    if (node["kernel"], node["stride"], node["groups"]) != (1, 1, 1) or lanes % per_vector or large:
        return None
    whole = np.zeros((lanes, words * LANES), kind)
    whole[: weight.shape[0], : weight.shape[1]] = weight
    together = 8 if (words, planes) == (2, 4) else 4
    parts = whole.reshape(-1, per_vector, words, LANES // together, together)  # [vector, lane, word, part, channel]
    combinations = np.arange(1 << together)[:, None] >> np.arange(together) & 1
    table = np.einsum("vlwpi,ci->vwpcl", parts, combinations.astype(kind))
    bias = np.zeros(lanes, kind)
    if "bias" in own:
        bias[: node["channels"]] = own["bias"]
    return PointTable(words, lanes // per_vector, aligned(table), aligned(bias))


def dense_tables(node: Node, own: Tensors, wide_input: bool, half: int) -> tuple[DenseTable, ...]:
    """half: what to add to all sums, of the rounding that follows."""
    tables = []
    for g, weight in enumerate(_group_weights(own["weight"], node["groups"])):
        order = _dense_order(weight, 1, pairs=not wide_input)
        bias = _dense_bias(node, own, g, len(weight), len(order), half)
        c_out, c_in = weight.shape[:2]
        channels = c_in if wide_input else padded(c_in, 2)
        made = DenseTable(g * c_in, channels, g * c_out, 1, len(order), aligned(order), aligned(bias))
        tables.append(made)
    return tuple(tables)


def winograd_tables(node: Node, own: Tensors, largest: int, half: int) -> tuple[DenseTable, ...]:
    """For a 3x3 convolution of stride 1 whose combined inputs fit int16; none for any other, and where the combinations
    would cost more than they save. largest: magnitude of the input."""
    if (node["kernel"], node["stride"]) != (3, 1) or WINOGRAD_SCALE * largest > INT16_LIMIT:
        return ()
    g = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.int32)  # twice Winograd's
    tables = []
    for i, weight in enumerate(_group_weights(own["weight"], node["groups"])):
        c_out, c_in = weight.shape[:2]
        combined = np.einsum("ay,ocyx,bx->ocab", g, weight, g)
        if c_in < LEAST_WINOGRAD or c_in > MOST_WINOGRAD or np.abs(combined).max() > INT16_LIMIT:
            return ()
        vectors = 2 if padded(c_out) % (2 * LANES) == 0 else 1
        order = _dense_order(combined, vectors, pairs=True)
        bias = WINOGRAD_SCALE * _dense_bias(node, own, i, c_out, len(order) * vectors, half)
        bias = bias.reshape(len(order), 1, -1) * np.array([[0], [1]], np.int32)
        tables.append(
            DenseTable(i * c_in, padded(c_in, 2), i * c_out, vectors, len(order), aligned(order), aligned(bias))
        )
    return tuple(tables)


def _dense_order(weight: npt.NDArray[np.int32], vectors: int, pairs: bool) -> npt.NDArray[Any]:
    """Weights [C_out, C_in, ky, kx] in the order of `DenseTable`."""
    c_out, c_in, *kernel = weight.shape
    together = 2 if pairs else 1  # channels
    full = np.zeros((padded(c_out, vectors * LANES), padded(c_in, together), *kernel), np.int32)
    full[:c_out, :c_in] = weight
    order = full.reshape(-1, vectors, LANES, full.shape[1] // together, together, *kernel).transpose(
        0, 5, 6, 3, 1, 2, 4
    )
    return order.astype(np.int16) if pairs else order


def _dense_bias(node: Node, own: Tensors, group: int, c_out: int, vectors: int, half: int) -> npt.NDArray[np.int32]:
    bias = np.full(vectors * LANES, half, np.int32)
    if "bias" in own:
        bias[:c_out] += own["bias"][group * c_out : (group + 1) * c_out]
    return bias


def neuron_table(node: Node, own: Tensors, lanes: int, wide: bool) -> NeuronTable:
    kind = np.int32 if wide else np.int16
    repeat = int(np.lcm(lanes, 32)) // 32
    fine, above = (node["fine"], node["above"]) if node.kind == "lif" else (0, 0)
    rows = []
    # Lanes beyond the channels receive no current and never fire, nor at a multiple of their threshold.
    for part, beyond in (("threshold", np.iinfo(kind).max // MAX_TIME_STEPS), ("bias", 0), ("leak", 0)):
        if part not in own:
            continue
        row = np.full(lanes, beyond, np.int64)
        row[: len(own["bias"])] = own[part].astype(np.int64) << (0 if part == "leak" else fine)
        if part == "threshold":
            row[: len(own["bias"])] += above
        rows.append(np.tile(row, repeat * 32 // lanes).reshape(repeat, 32))
    return NeuronTable(wide, repeat, fine, aligned(np.stack(rows, axis=1).astype(kind)))
