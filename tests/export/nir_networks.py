"""Networks that NIR can express, without any training."""

from __future__ import annotations

import numpy as np

from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import Bundle
from tests.conformance.agreement import bundled
from train.architectures import nir
from train.student import Student


def untrained(**options: object) -> Bundle:
    """The student for NIR, with biases."""
    student = Student(nir(**options), leak=2, threshold=0.6, seed=3)
    generator = np.random.default_rng(4)
    for name, parameter in student.weights.items():
        if name.endswith("bias"):
            parameter.data += student.weights[name].new_tensor(generator.uniform(-0.3, 0.3, parameter.shape))
    student.rounded = True
    return bundled(student.graph, student.freeze())


def random_body(seed: int) -> Bundle:
    """Neurons and convolutions, connected by chance: skips, taps apart, biases everywhere."""
    rng = np.random.default_rng(seed)
    b = Builder(int(rng.choice([1, 2, 4])), 7)
    width, k = int(rng.integers(3, 9)), int(rng.integers(1, 3))
    x = b.dense_conv("head", b.space_to_depth("pixels", b.image(), 2), width, 3, q=8)
    streams = [b.requantise("head.round", x, 8, 1 << 10)]

    def fire(name: str, x: str) -> str:
        above = int(rng.integers(2))
        return b.lif(name, x, "decay", "zero", fine=k * (b.time_steps - 1), shared=int(rng.integers(2)), above=above)

    for i in range(int(rng.integers(2, 6))):
        some = rng.permutation(len(streams))[: int(rng.integers(1, 4))]
        terms = [streams[j] for j in sorted(some)]
        x = b.sum(f"in {i}", *terms) if len(terms) > 1 else terms[0]
        kernel = int(rng.choice([1, 3, 5]))
        y = b.conv(
            f"conv/{i}", fire(f"neurons.{i}", x), width, kernel, q=int(rng.choice([6, 7])), bias=bool(rng.integers(2)),
            dilation=int(rng.integers(1, 4)),
        )  # fmt: skip
        streams.append(y)
    x = b.sum("out", *streams)
    x = b.requantise("tail.round", b.time_sum("tail.sum", x), 1, 1 << 10)
    graph = b.finish(b.upsample("tail.pixels", b.dense_conv("tail", x, 12, 3, q=9), 2, "depth_to_space"))
    tensors = {}
    for node, specs in analyse(graph).tensors.items():
        for part, spec in specs.items():
            numbers = rng.integers(-40, 41, spec.shape)
            if part == "threshold":
                numbers = np.full(spec.shape, rng.integers(20, 80))
            if part == "leak":
                numbers = np.full(spec.shape, k)
            tensors[f"{node}.{part}"] = numbers.astype(np.int32)
    return bundled(graph, tensors)
