"""The student in PyTorch is the contract: bit-equal to the integer reference, and within the parameter budget."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.graph import Graph, GraphError
from simulator.reference import Reference
from train import neuron
from train.architectures import build_graph, edge, nir, paper, reconciliation
from train.losses import align, hint_loss, psnr_loss, restoration_loss, synapse_share
from train.student import Student


def _network(graph: Graph, seed: int = 1) -> Student:
    """An untrained student with every tensor stirred, roundings on."""
    student = Student(graph, leak=1, threshold=0.3, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, x in student.weights.items():
            noise = torch.randn(x.shape, generator=generator)
            x += noise * (0.02 if name.endswith("threshold") else 0.1)
    student.clamp()
    student.rounded = True
    return student


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (3, height, width)).astype(np.int16) - 128


@pytest.mark.parametrize(
    "graph",
    [
        edge((8, 8, 16, 8)),
        edge((8, 8, 8, 8), block="full", reset="zero", leak="shift", time_steps=2),
        edge((8, 8, 8, 8), attention=True),
        edge((8, 8, 8, 8), time_steps=1),
        edge((8, 8, 8, 8), shrink=1),
        edge((8, 8, 8, 8), shrink=1, readout="spikes"),
        paper((4, 6, 8, 10), blocks=1),
    ],
    ids=[
        "edge",
        "edge, reset to zero, T = 2",
        "edge, attention",
        "edge, T = 1",
        "edge, full",
        "edge, full, spikes",
        "paper",
    ],
)
def test_evaluation_equals_the_integer_reference_in_every_pixel_and_spike(graph):
    student = _network(graph)
    frozen = student.freeze()
    analysis = analyse(graph, frozen)
    rows, columns = analysis.padded(40, 56)
    pixels = _picture(rows, columns)
    restored, maps = Reference(analysis, frozen).run_padded(pixels)
    real = torch.from_numpy(pixels / 128).float()[None]
    with torch.no_grad():
        output = student(real)
        assert np.array_equal(student.restore(real)[0].numpy(), restored)
    for name, rate in output.rates.items():
        neurons = maps[name].size * analysis.values[name].channels * graph.time_steps
        assert rate.item() == pytest.approx(maps[name].sum() / neurons, abs=1e-6)
    assert sum(int(m.sum()) for m in maps.values()) > 0


def test_freeze_and_thaw_are_inverse():
    graph = edge((8, 8, 8, 8), attention=True)
    frozen = _network(graph).freeze()
    other = Student(graph, seed=9)
    other.thaw(frozen)
    other.rounded = True
    again = other.freeze()
    assert frozen.keys() == again.keys()
    assert all(np.array_equal(frozen[name], again[name]) for name in frozen)


def test_edge_student_counts_every_tensor_and_stays_within_70000_parameters():
    student = Student(edge())
    leaks = sum(b.numel() for b in student.buffers())
    assert sum(p.numel() for p in student.parameters()) + leaks == student.analysis.parameters
    assert student.analysis.parameters <= 70_000


def test_paper_student_is_reconciled_with_the_originals_15478207_parameters_to_the_unit():
    graph = paper()
    counts = reconciliation(graph)
    student = Student(graph)
    tensors = sum(x.numel() for x in (*student.parameters(), *student.buffers()))
    assert sum(original for original, _ in counts.values()) == 15_478_207
    assert sum(own for _, own in counts.values()) == analyse(graph).parameters == tensors == 15_485_887
    assert counts == {
        "convolutions": (15_399_216, 15_399_216),
        "batch norm": (15_840, 0),
        "attention": (63_148, 63_022),
        "biases of convolutions": (3, 3_219),
        "thresholds, biases and leaks of neurons": (0, 18_000),
        "biases of attention": (0, 2_430),
    }


def test_every_batch_norm_of_the_original_has_its_gain_and_its_shift_in_the_paper_student():
    """The gain in the weights or the one reader's threshold; the shift in a bias that reaches the same current."""
    graph = paper((16, 16, 32, 32))

    def shifted(name: str) -> bool:
        node = graph.node(name)
        readers = graph.consumers(name)
        if node.kind == "lif" or node.attrs.get("bias"):
            return True
        # A block's second convolution is added to its shortcut, which has the bias.
        return all(shifted(r.name) or any(graph.node(i).kind == "requantise" for i in r.inputs) for r in readers)

    convolutions = [node.name for node in graph.nodes if node.kind in ("conv", "dense_conv")]
    assert all(shifted(name) for name in convolutions if name != "encode.conv")


def test_roundings_are_the_only_difference_between_the_two_modes():
    student = _network(edge((8, 8, 8, 8)))
    pixels = torch.from_numpy(_picture(32, 32) / 128).float()[None]
    student.thaw(student.freeze())  # parameters on their grids: what is left are leak and requantise
    with torch.no_grad():
        exact = student(pixels).change
        student.rounded = False
        free = student(pixels).change
    assert 0 < (exact - free).abs().mean() < 0.5 * free.abs().mean()


def test_gradients_reach_every_parameter_through_the_roundings():
    graph = paper((4, 6, 8, 10), blocks=1)
    student = _network(graph)
    pixels = torch.from_numpy(_picture(32, 32) / 128).float()[None]
    student(pixels).change.square().mean().backward()
    silent = [name for name, p in student.weights.items() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not silent
    assert sum(p.grad.abs().sum().item() > 0 for p in student.weights.values()) > 0.8 * len(student.weights)


def test_synapse_shares_weigh_the_rates_to_the_total_spike_rate():
    graph = edge((8, 8, 16, 8))
    share = synapse_share(analyse(graph))
    assert sum(share.values()) == pytest.approx(1)
    assert set(share) == {node.name for node in graph.nodes if node.kind == "lif"}
    assert share["encoder1.1.lif1"] > share["latent.1.lif1"]  # sixty-four times the positions


def test_hints_are_compared_after_pooling_and_interpolation():
    teacher = torch.arange(2 * 4 * 8 * 8, dtype=torch.float32).reshape(2, 4, 8, 8)
    pooled = align(teacher, torch.Size((2, 2, 4, 4)))
    assert torch.equal(pooled[0, 0, 0, 0], teacher[0, :2, :2, :2].mean())
    assert align(teacher, torch.Size((2, 8, 16, 16))).shape == (2, 8, 16, 16)
    assert hint_loss({4: pooled}, {4: teacher}).item() == 0
    assert hint_loss({4: pooled + 2, 5: pooled}, {4: teacher, 5: teacher}).item() == pytest.approx(2)


def test_the_psnr_loss_counts_a_halved_error_the_same_whether_it_was_large_or_small():
    clean = torch.zeros(1, 3, 8, 8)
    large, small = torch.full_like(clean, 0.4), torch.full_like(clean, 0.1)
    gains = [psnr_loss(x, clean, 0.0) - psnr_loss(x / 2, clean, 0.0) for x in (large, small)]
    assert float(gains[0]) == pytest.approx(2 * math.log(2)) == float(gains[1])
    both = torch.cat([large, small])
    expected = (psnr_loss(large, clean) + psnr_loss(small, clean)) / 2
    assert float(psnr_loss(both, torch.zeros_like(both))) == pytest.approx(float(expected))  # per picture, not pooled
    assert torch.isfinite(psnr_loss(clean, clean))


def test_restoration_loss_is_l1_and_l1_of_an_orthonormal_transform():
    x = torch.zeros(1, 3, 4, 4)
    x[0, 0, 0, 0] = 1.0
    l1, fft = restoration_loss(x, torch.zeros_like(x))
    assert l1.item() == pytest.approx(1 / 48)
    assert fft.item() == pytest.approx(12 * 0.25 / (3 * 4 * 3 * 2))  # a peak has a flat spectrum, real 1 / 4


def test_a_students_own_channels_can_be_given_by_name():
    assert build_graph("paper", (4, 4, 8, 8)).node("encode.conv")["channels"] == 4
    with pytest.raises(GraphError, match="groups"):
        analyse(edge((7, 8, 8, 8)))


def test_bfloat16_student_is_close_to_float32():
    student = Student(edge((16, 16, 16, 16)))
    pixels = torch.from_numpy(_picture(32, 32) / 128).float()[None]
    with torch.no_grad():
        full = student(pixels)
        student.bfloat16_currents = True
        half = student(pixels)
    assert half.rates["encoder1.1.lif1"].item() == pytest.approx(full.rates["encoder1.1.lif1"].item(), abs=0.02)


@pytest.mark.parametrize("graph", [edge((8, 8, 8, 8)), paper((4, 6, 8, 10), blocks=1)], ids=["edge", "paper"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_training_step_keeps_to_the_device_that_it_is_given(graph, half):
    """The meta device computes shapes only, but refuses every tensor that was left on the CPU."""
    student = Student(graph).to("meta")
    student.bfloat16_currents = half
    student.rounded = not half
    output = student(torch.empty(2, 3, 32, 32, device="meta"), (4, 7))
    loss = output.change.square().mean() + sum(output.rates.values()) + sum(f.mean() for f in output.features.values())
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in student.parameters())
    student.clamp()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_training_step_of_other_devices_equals_the_cpus(monkeypatch, half):
    pixels = torch.from_numpy(_picture(32, 32) / 128).float()[None]

    def step(device_type: str):
        monkeypatch.setattr(neuron, "on_cpu", lambda x: device_type == "cpu")
        student = Student(paper((4, 6, 8, 10), blocks=1), leak=1, threshold=0.3)
        student.bfloat16_currents = half
        output = student(pixels)
        output.change.square().mean().backward()
        return output, {name: p.grad for name, p in student.weights.items()}

    (kernel, gradients), (plain, others) = step("cpu"), step("other")
    assert torch.equal(kernel.change, plain.change)
    assert all(kernel.rates[name] == plain.rates[name] for name in kernel.rates)
    for name, gradient in gradients.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(gradient, others[name], rtol=0, atol=scale * (0.05 if half else 1e-4) + 1e-12)


def test_requantise_clips_as_clamp_does_with_its_gradient():
    b = Builder(time_steps=1)
    x = b.requantise("relu", b.dense_conv("head", b.image(), 3, 1, q=4), 0, 1 << 9, least=0)
    student = Student(b.finish(x))
    node = student.graph.node("relu")
    values = torch.tensor([-1.0, 0.0, 0.25, (2**9 - 1) / 2**11, 0.5, 3.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    ours, expected = values.clone().requires_grad_(), values.clone().requires_grad_()
    clipped = student.evaluate_node(node, [ours])
    assert torch.equal(clipped, expected.clamp(0, (2**9 - 1) / 2**11))
    clipped.sum().backward()
    expected.clamp(0, (2**9 - 1) / 2**11).sum().backward()
    assert torch.equal(ours.grad, expected.grad)


def test_a_picture_of_one_window_gets_the_gates_that_it_gets_beside_another():
    """One window needs neither pooling nor enlarging; the values are those of the general way."""
    student = _network(paper((4, 6, 8, 10), blocks=1))
    with torch.no_grad():
        x = torch.randn((4, 4, 64, 64), generator=torch.Generator().manual_seed(0)).mul(256).round() / 512
        for name in ("encoder1.1.time", "encoder1.1.channel"):
            node = student.graph.node(name)
            alone = student._attend(node, [x])
            beside = student._attend(node, [torch.cat([x, torch.zeros_like(x)], 3)])
            assert torch.equal(alone, beside[..., :64])


def test_builder_documents_itself():
    b = Builder(time_steps=4)
    graph = b.finish(b.dense_conv("head", b.image(), 3, q=8))
    assert [node.kind for node in graph.nodes] == ["image", "dense_conv", "readout"]


def test_a_kind_without_a_form_is_refused_by_name_and_place():
    graph = build_graph("edge", (8, 8, 8, 8))
    place = next(i for i, node in enumerate(graph.nodes) if node.kind == "sum")
    nodes = list(graph.nodes)
    nodes[place] = replace(nodes[place], kind="maximum")
    with pytest.raises(GraphError, match=rf"layer '{nodes[place].name}' is of the kind 'maximum'"):
        Student(replace(graph, nodes=tuple(nodes)))


def test_the_student_for_nir_has_what_nir_and_eight_bits_ask_for():
    student = Student(nir(), leak=2, threshold=1.0)
    assert student.deployed_parameters < 70_000
    for parameter in student.parameters():
        parameter.data.mul_(100)
    student.clamp()
    frozen = student.freeze()
    for node in student.graph.nodes:
        if node.kind == "lif":
            assert frozen[f"{node.name}.threshold"].shape == frozen[f"{node.name}.leak"].shape == (1,)
            assert node["fine"] == 2 * 3 and node["above"] and node["reset"] == "zero"
        if node.kind == "conv":
            assert np.abs(frozen[f"{node.name}.weight"]).max() == 127 and node["groups"] == node["stride"] == 1
    assert set(student.graph.stages) == set(range(1, 8))


def test_a_threshold_of_a_whole_layer_learns_from_all_of_its_channels():
    student = Student(nir(4, (1, 2)), threshold=0.3)
    student(torch.randn(2, 3, 16, 16)).change.square().mean().backward()
    thresholds = [p for name, p in student.weights.items() if name.endswith("threshold")]
    assert [p.shape for p in thresholds] == [(1,)] * 4 and all(p.grad.abs().sum() > 0 for p in thresholds[:3])


def test_options_of_the_student_for_nir_are_checked():
    assert len(build_graph("nir", None, ("dilations=1,2,3", "width=4")).nodes) == len(nir(4, (1, 2, 3)).nodes)
    with pytest.raises(ValueError, match="The nir student has no four levels of channels; it takes width, dilations"):
        build_graph("nir", (8, 8, 8, 8))
    with pytest.raises(ValueError, match="'dilations=x': expected some whole numbers with commas"):
        build_graph("nir", None, ("dilations=x",))
