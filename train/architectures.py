"""The students as graphs: `edge` (the default, at most 70,000 parameters), `paper` (the architecture as worded) and
`nir` (what an exchange format for neuromorphic hardware can express).

All are lists of nodes of the kinds in `simulator/kinds`; `train/student.py` gives them trainable parameters.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.graph import Graph
from simulator.kinds import kind_of

CURRENT_GRID = 9  # weights of spiking convolutions, hence currents, thresholds and the stream, on 2^-9
READOUT_GRID = 6  # the time-sum is rounded to 2^-6 before the last convolution
STREAM_LIMIT = 16  # the first convolution's output and the time-sum are clipped to +-16


ENCODERS = {"wide": 6, "4x4": 4, "3x3": 3, "thin": 2}  # side of what one position of the first convolution sees, pixels


def edge(
    channels: tuple[int, int, int, int] = (32, 32, 32, 32),
    blocks: tuple[int, int, int, int, int, int, int] = (1, 1, 1, 1, 1, 1, 2),
    groups: tuple[int, int, int, int] = (2, 2, 2, 2),
    time_steps: int = 4,
    reset: str = "subtract",
    leak: str = "decay",
    attention: bool = False,
    block: str = "thin",
    encode: str = "wide",
    readout: str = "wide",
    shrink: int = 2,
    neuron: str = "lif",
) -> Graph:
    """4-level encoder-decoder; every convolution but the first and the last is spike-driven.

    Its first level works at half the picture's resolution, or with `shrink` 1 at the picture's own: better, and several
    times the operations.

    A spiking block adds to the real-valued stream: neuron -> 3x3 convolution in groups -> neuron -> 1x1 convolution
    (`block` "thin"), or two 3x3 convolutions ("full"). Down: neuron -> 2x2 convolution with stride 2. Up: neuron ->
    1x1 convolution -> nearest, added to the stream of the encoder. `blocks` counts stages 1..7.

    Real-valued multiply-accumulates cost most of the energy, and they are in the ends only. `encode`: pixels that one
    position of the first convolution sees, 6x6 ("wide"), 4x4, 3x3 or 2x2 ("thin"). `readout`: the last convolution
    reads the stream's time-sum by 3x3 ("wide") or by 1x1 ("thin"), or by 1x1 with a 3x3 convolution of the stream's
    spikes beside it ("spikes"). At the picture's own resolution `encode` is 3x3 pixels.

    `neuron`: "lif", or "window" for neurons that take in everything before they fire; then the stream is one value and
    not one per step, `reset` and `leak` have no meaning, and the readout reads the stream itself.

    Raises ValueError for a `shrink` or an `encode` that is not offered.
    """
    if shrink not in (1, 2):
        raise ValueError(f"'shrink={shrink}': expected 1 or 2.")
    if shrink == 1 and encode not in ("wide", "3x3"):
        raise ValueError(f"'encode={encode}' is for shrink=2; with shrink=1 the first convolution sees 3x3 pixels.")
    b = Builder(time_steps, CURRENT_GRID)

    def fire(name: str, x: str) -> str:
        return b.window(name, x) if neuron == "window" else b.lif(name, x, leak, reset)

    def over_time(name: str, x: str) -> str:
        return x if neuron == "window" else b.time_sum(name, x)

    def spiking_block(name: str, x: str, width: int, group: int) -> str:
        y = b.conv(f"{name}.conv1", fire(f"{name}.lif1", x), width, 3, groups=group)
        kernel, second = (1, 1) if block == "thin" else (3, group)
        y = b.conv(f"{name}.conv2", fire(f"{name}.lif2", y), width, kernel, groups=second)
        return b.sum(f"{name}.add", x, y)

    if shrink == 1:
        x = b.dense_conv("encode.conv", b.image(), channels[0], 3, q=10)
    elif encode == "wide":
        x = b.dense_conv("encode.conv", b.space_to_depth("encode.pixels", b.image(), 2), channels[0], 3, q=10)
    else:
        x = b.dense_conv("encode.conv", b.image(), channels[0], ENCODERS[encode], stride=2, q=10)
    x = b.requantise("encode.round", x, 17 - CURRENT_GRID, STREAM_LIMIT << CURRENT_GRID)
    skips: list[str] = []
    for level in range(4):
        if level:
            down = fire(f"down{level}.lif", x)
            x = b.conv(f"down{level}.conv", down, channels[level], 2, stride=2)
        name = "latent" if level == 3 else f"encoder{level + 1}"
        for i in range(blocks[level]):
            x = spiking_block(f"{name}.{i + 1}", x, channels[level], groups[level])
        if attention and level == 3:
            x = b.attend("latent.attend", x, "channel", 16, max(4, channels[3] // 4))
        b.stages[level + 1] = x
        skips.append(x)
    for stage, level in ((5, 2), (6, 1), (7, 0)):
        up = b.conv(f"up{level + 1}.conv", fire(f"up{level + 1}.lif", x), channels[level], 1)
        x = b.sum(f"up{level + 1}.add", skips[level], b.upsample(f"up{level + 1}.nearest", up))
        for i in range(blocks[stage - 1]):
            x = spiking_block(f"decoder{level + 1}.{i + 1}", x, channels[level], groups[level])
        b.stages[stage] = x
    stream = x
    x = over_time("readout.sum", stream)
    x = b.requantise("readout.round", x, CURRENT_GRID - READOUT_GRID, STREAM_LIMIT << READOUT_GRID)
    x = b.dense_conv("readout.conv", x, 3 * shrink**2, 3 if readout == "wide" else 1, q=11, bias=True)
    if readout == "spikes":
        around = b.conv("readout.around", fire("readout.lif", stream), 3 * shrink**2, 3, q=11)
        x = b.sum("readout.add", x, over_time("readout.spikes", around))
    return b.finish(b.upsample("readout.pixels", x, 2, "depth_to_space") if shrink == 2 else x)


NIR_GRID = 7  # currents, thresholds and the stream of `nir`, on 2^-7: weights of 8 bits are within +-1
NIR_WEIGHTS = 127  # the largest weight of 8 bits, in units
NIR_LEAK = 2  # v - (v >> 2)


def nir(
    width: int = 32, dilations: tuple[int, ...] = (1, 2, 3, 4, 2, 1), time_steps: int = 4, limit: int = NIR_WEIGHTS
) -> Graph:
    """A network whose body is nothing but neurons and convolutions that NIR and Loihi 2 can express; export/NIR.md.

    The body, from the first rounding to the sum over time, has one scale, half of the picture's, and convolutions with
    taps apart in place of levels. Each of `dilations` is a block that adds to the real-valued stream: neuron -> 3x3
    convolution with taps so far apart -> neuron -> 1x1 convolution. Nothing is grouped; each layer has one threshold;
    neurons fire above it, not at it, and reset to zero; their membranes have the binary digits that a leak of a quarter
    per step takes, so that it is never rounded. The ends, with space-to-depth and depth-to-space, are the host's.

    limit: the largest weight of the body, in units of 2^-7; 127 are 8 bits.
    """
    b = Builder(time_steps, NIR_GRID)

    def fire(name: str, x: str) -> str:
        return b.lif(name, x, "decay", "zero", fine=NIR_LEAK * (time_steps - 1), shared=1, above=1)

    x = b.dense_conv("encode.conv", b.space_to_depth("encode.pixels", b.image(), 2), width, 3, q=10)
    x = b.requantise("encode.round", x, 17 - NIR_GRID, STREAM_LIMIT << NIR_GRID)
    outputs = []
    for i, dilation in enumerate(dilations, 1):
        name = f"body.{i}"
        y = b.conv(f"{name}.conv1", fire(f"{name}.lif1", x), width, 3, dilation=dilation, limit=limit)
        y = b.conv(f"{name}.conv2", fire(f"{name}.lif2", y), width, 1, limit=limit)
        x = b.sum(f"{name}.add", x, y)
        outputs.append(x)
    b.stages = {stage: outputs[(stage * len(outputs) - 1) // 7] for stage in range(1, 8)}
    x = b.requantise(
        "readout.round", b.time_sum("readout.sum", x), NIR_GRID - READOUT_GRID, STREAM_LIMIT << READOUT_GRID
    )
    x = b.dense_conv("readout.conv", x, 12, 3, q=11, bias=True)
    return b.finish(b.upsample("readout.pixels", x, 2, "depth_to_space"))


PAPER_UNIT = 4  # what the paper calls 1 in currents and membranes is 4 here, so its threshold 0.15 is 0.6


def paper(channels: tuple[int, int, int, int] = (48, 96, 192, 384), blocks: int = 2, time_steps: int = 4) -> Graph:
    """The student as the paper words it, built from ESDNet's blocks; `reconciliation` counts it beside the original.

    A block on the stream x: neuron -> 3x3 convolution -> neuron -> 3x3 convolution, plus a 3x3 convolution of x itself
    (real-valued), then gates over time, channels and space, then ReLU, then plus x. Neurons halve their membrane each
    step and reset to zero. Down: neuron -> 3x3 convolution with stride 2. Up: neuron -> nearest -> 3x3 convolution to
    half the channels, concatenated with the encoder's stream; levels 3 and 2 fuse both by neuron -> 1x1 convolution;
    the first level works on twice its channels. The last convolution reads the time-sum.

    What the numerics contract makes different from the original:

    - threshold-dependent batch norm is folded: its gain is in the weights or, where one neuron alone reads a
      convolution, in that neuron's threshold; its shift is a bias (of that neuron, or of the convolution).
      The second convolution of a block and its shortcut are added, so they share one bias.
    - the stream is enlarged by repetition, not bilinearly; then a neuron before it spikes as one after it would, and
      there are a quarter as many.
    - attention averages over windows of 64x64 pixels (the training patch) instead of the whole picture, has biases, and
      its gates are hard sigmoids of the average alone, where the original adds one of the maximum.
    - a neuron's behaviour depends on its current in units of its threshold only. Values are PAPER_UNIT times the
      original's: threshold 0.6 on the grid 2^-9 leaves the weights their precision where 0.15 would not. A
      student of 8, 16, 24, 32 channels spikes at a rate of 0.17 in its first 50 steps, on every level; with 1.2 at
      0.02 and with 0.15 at 0.44 in its first 100, the former with silent deep levels.
    """
    b = Builder(time_steps, CURRENT_GRID)

    def neuron(name: str, x: str) -> str:
        return b.lif(name, x, "shift", "zero")

    def spiking_block(name: str, x: str, width: int, scale: int) -> str:
        y = b.conv(f"{name}.conv1", neuron(f"{name}.lif1", x), width, 3)
        y = b.conv(f"{name}.conv2", neuron(f"{name}.lif2", y), width, 3)
        # Real-valued terms would grow without end: the stream enters in 10 bits, and both leave clipped to +-8.
        real = b.requantise(f"{name}.enter", x, CURRENT_GRID - 5, STREAM_LIMIT << 5)
        real = b.dense_conv(f"{name}.shortcut", real, width, 3, q=8, bias=True)
        real = b.requantise(f"{name}.leave", real, 13 - CURRENT_GRID, 1 << 12)
        y = b.requantise(f"{name}.unit", b.sum(f"{name}.both", y, real), 0, 1 << 12)
        window = max(1, 64 // scale)
        y = b.attend(f"{name}.time", y, "time", window, max(1, time_steps // 4))
        y = b.attend(f"{name}.channel", y, "channel", window, max(1, width // 16))
        y = b.attend(f"{name}.space", y, "space")
        return b.sum(f"{name}.add", x, b.requantise(f"{name}.relu", y, 0, 1 << 12, least=0))

    x = b.dense_conv("encode.conv", b.image(), channels[0], 3, q=10)
    x = b.requantise("encode.round", x, 17 - CURRENT_GRID, STREAM_LIMIT << CURRENT_GRID)
    skips: list[str] = []
    for level in range(4):
        if level:
            down = neuron(f"down{level}.lif", x)
            x = b.conv(f"down{level}.conv", down, channels[level], 3, stride=2, bias=True)
        name = "latent" if level == 3 else f"encoder{level + 1}"
        for i in range(blocks):
            x = spiking_block(f"{name}.{i + 1}", x, channels[level], 2**level)
        b.stages[level + 1] = x
        skips.append(x)
    for stage, level in ((5, 2), (6, 1), (7, 0)):
        name, width = f"up{level + 1}", channels[level]
        up = b.upsample(f"{name}.nearest", neuron(f"{name}.lif", x))
        x = b.concat(f"{name}.concat", b.conv(f"{name}.conv", up, width, 3, bias=level == 0), skips[level])
        if level:
            x = b.conv(f"{name}.fuse", neuron(f"{name}.fuse_lif", x), width, 1, bias=True)
        else:
            width *= 2
        for i in range(blocks):
            x = spiking_block(f"decoder{level + 1}.{i + 1}", x, width, 2**level)
        b.stages[stage] = x
    x = b.time_sum("readout.sum", x)
    x = b.requantise("readout.round", x, CURRENT_GRID - 5, 64 << 5)
    return b.finish(b.dense_conv("readout.conv", x, 3, 3, q=11, bias=True))


def reconciliation(graph: Graph) -> dict[str, tuple[int, int]]:
    """Parameters of the original with the layers of a `paper` graph, and of the graph: {part: (original, graph)}.

    The original has a batch norm (gain and shift per channel) after every convolution but the first and the last, no
    other biases but the last convolution's, one fixed threshold and leak for all neurons, attention without biases,
    and two maps (average and maximum) under its convolution over space.
    """
    original, own = Counter[str](), Counter[str]()
    for tensor, shape in analyse(graph).shapes.items():
        name, _, part = tensor.rpartition(".")
        node, size = graph.node(name), math.prod(shape)
        if kind_of(node).neurons:
            own["thresholds, biases and leaks of neurons"] += size
        elif node.kind == "attend":
            own["biases of attention" if "bias" in part else "attention"] += size
            if "bias" not in part:
                original["attention"] += 2 * size if node["over"] == "space" else size
        elif part == "weight":
            original["convolutions"] += size
            own["convolutions"] += size
            if name not in ("encode.conv", "readout.conv"):
                original["batch norm"] += 2 * node["channels"]
        else:
            own["biases of convolutions"] += size
            if name == "readout.conv":
                original["biases of convolutions"] += size
    return {part: (original[part], own[part]) for part in dict.fromkeys([*original, *own])}


STUDENTS: dict[str, Callable[..., Graph]] = {"edge": edge, "paper": paper, "nir": nir}


def build_graph(student: str, channels: tuple[int, ...] | None = None, options: Sequence[str] = ()) -> Graph:
    """The graph of a student by name, with its own channels or the four given.

    options: "name=value" for other arguments of the student's function, tuples as "1,1,1,1". Raises ValueError, a
    sentence, for what it does not take.
    """
    build = STUDENTS[student]
    arguments: dict[str, Any] = {"channels": channels} if channels else {}
    defaults = {name: parameter.default for name, parameter in inspect.signature(build).parameters.items()}
    if channels and "channels" not in defaults:
        raise ValueError(f"The {student} student has no four levels of channels; it takes {', '.join(defaults)}.")
    for option in options:
        name, _, text = option.partition("=")
        if name not in defaults:
            raise ValueError(f"{option!r} is no option of the {student} student; it takes {', '.join(defaults)}.")
        arguments[name] = _like(defaults[name], option, text)
    return build(**arguments)


CHOICES = {
    "reset": ("subtract", "zero"),
    "leak": ("decay", "shift"),
    "block": ("thin", "full"),
    "encode": tuple(ENCODERS),
    "readout": ("wide", "thin", "spikes"),
    "neuron": ("lif", "window"),
}

ANY_NUMBER = ("dilations",)  # options that are as many numbers as one likes


def _like(default: Any, option: str, text: str) -> Any:
    """The value of "name=text", of the type and length of the default; ValueError otherwise."""
    name = option.partition("=")[0]
    if name in CHOICES:
        if text not in CHOICES[name]:
            raise ValueError(f"{option!r}: expected one of {', '.join(CHOICES[name])}.")
        return text
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    count = len(numbers) if name in ANY_NUMBER else len(default) if isinstance(default, tuple) else 1
    if not numbers or min(numbers) < 0 or len(numbers) != count:
        wanted = f"{count or 'some'} whole numbers with commas" if isinstance(default, tuple) else "a whole number"
        raise ValueError(f"{option!r}: expected {wanted}.")
    return numbers if isinstance(default, tuple) else numbers[0]
