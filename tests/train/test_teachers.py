"""Teachers: the published networks' sizes and names, their files, their stages."""

import argparse
import json
import os
import pathlib
from collections import OrderedDict, defaultdict
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from train import hkd
from train import teacher as teacher_command
from train.teachers import TEACHERS, TeacherError, build_narrow_teacher, build_teacher, read_weights, save_teacher
from train.teachers.restormer import Restormer, RestormerConfig

TINY = {"dim": 8, "blocks": (1, 2, 1, 2), "heads": (1, 2, 4, 8), "refinement": 1}
PROMPTS = {"prompt_channels": (8, 16, 32), "prompt_sizes": (4, 3, 2), "prompts": 3}


def small(name: str, **config):
    """A narrow teacher of that architecture for 64 x 64 patches; config: fields set after narrowing."""
    narrow = build_narrow_teacher(name, 64, **TINY)
    return build_teacher(name, **{**asdict(narrow.config), **config}) if config else narrow


@pytest.mark.parametrize(
    ("name", "parameters", "trained", "config"),
    [
        ("restormer", 26_126_644, 26_126_644, {}),
        ("restormer", 26_111_668, 26_111_668, {"norm": "BiasFree"}),
        ("restormer", 26_109_076, 26_109_076, {"norm": "BiasFree", "in_channels": 1, "out_channels": 1}),
        ("restormer", 26_132_548, 26_132_548, {"in_channels": 6, "dual_pixel": True}),
        ("promptir", 35_592_263, 35_592_263 - 215_296, {}),
        ("adair", 28_784_824, 28_784_824 - 43_098, {}),
        ("adair", 26_126_644, 26_126_644, {"decoder": False}),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(name, parameters, trained, config):
    with torch.device("meta"):
        teacher = build_teacher(name, **config)
    assert sum(parameter.numel() for parameter in teacher.parameters()) == parameters
    assert sum(p.numel() for p in teacher.parameters() if p.requires_grad) == trained


def test_parameter_names_and_shapes_are_those_of_the_published_checkpoints():
    with torch.device("meta"):
        state = Restormer(RestormerConfig(norm="WithBias")).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert (
        shapes.items()
        >= {
            "patch_embed.proj.weight": (48, 3, 3, 3),
            "encoder_level1.3.norm1.body.weight": (48,),
            "encoder_level1.3.norm2.body.bias": (48,),
            "encoder_level2.5.attn.temperature": (2, 1, 1),
            "encoder_level3.0.attn.qkv.weight": (576, 192, 1, 1),
            "encoder_level3.0.attn.qkv_dwconv.weight": (576, 1, 3, 3),
            "latent.7.attn.project_out.weight": (384, 384, 1, 1),
            "latent.7.ffn.project_in.weight": (2042, 384, 1, 1),
            "latent.7.ffn.dwconv.weight": (2042, 1, 3, 3),
            "latent.7.ffn.project_out.weight": (384, 1021, 1, 1),
            "down1_2.body.0.weight": (24, 48, 3, 3),
            "down3_4.body.0.weight": (96, 192, 3, 3),
            "up4_3.body.0.weight": (768, 384, 3, 3),
            "up2_1.body.0.weight": (192, 96, 3, 3),
            "reduce_chan_level3.weight": (192, 384, 1, 1),
            "reduce_chan_level2.weight": (96, 192, 1, 1),
            "decoder_level1.3.attn.temperature": (1, 1, 1),
            "refinement.3.ffn.project_out.weight": (96, 255, 1, 1),
            "output.weight": (3, 96, 3, 3),
        }.items()
    )
    # 44 blocks of 11 tensors, the first convolution, 6 resamplings, 2 channel reductions, the last convolution
    assert len(shapes) == 44 * 11 + 1 + 6 + 2 + 1


def test_names_and_shapes_beyond_restormers_are_those_of_the_published_promptir():
    with torch.device("meta"):
        state = build_teacher("promptir").state_dict()
        restormer = Restormer(RestormerConfig()).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert (
        shapes.items()
        >= {
            "prompt1.prompt_param": (1, 5, 64, 64, 64),
            "prompt2.prompt_param": (1, 5, 128, 32, 32),
            "prompt3.prompt_param": (1, 5, 320, 16, 16),
            "prompt3.linear_layer.weight": (5, 384),
            "prompt1.linear_layer.bias": (5,),
            "prompt2.conv3x3.weight": (128, 128, 3, 3),
            "noise_level3.attn.temperature": (4, 1, 1),
            "noise_level3.norm1.body.bias": (704,),
            "noise_level2.attn.temperature": (4, 1, 1),
            "noise_level1.attn.temperature": (4, 1, 1),
            "reduce_noise_level3.weight": (192, 704, 1, 1),
            "reduce_noise_level2.weight": (192, 320, 1, 1),
            "reduce_noise_level1.weight": (96, 160, 1, 1),
            "up4_3.body.0.weight": (384, 192, 3, 3),
            "reduce_chan_level3.weight": (192, 288, 1, 1),
            "chnl_reduce3.weight": (256, 320, 1, 1),
            "reduce_noise_channel_1.weight": (48, 112, 1, 1),
            "reduce_noise_channel_3.weight": (192, 448, 1, 1),
        }.items()
    )
    assert state.keys() >= restormer.keys()
    assert len(state) == len(restormer) + 3 * (4 + 11 + 1) + 6  # prompt, block and reduction thrice; unused layers


def test_names_and_shapes_beyond_restormers_are_those_of_the_published_adair():
    with torch.device("meta"):
        state = build_teacher("adair").state_dict()
        restormer = Restormer(RestormerConfig()).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert (
        shapes.items()
        >= {
            "fre1.conv.weight": (384, 3, 3, 3),
            "fre2.conv1.weight": (192, 3, 3, 3),
            "fre3.para1": (96, 1, 1),
            "fre3.para2": (96, 1, 1),
            "fre1.score_gen.bias": (2,),
            "fre3.channel_cross_l.temperature": (4, 1, 1),
            "fre1.channel_cross_h.q_dwconv.weight": (384, 1, 3, 3),
            "fre1.channel_cross_agg.kv.weight": (768, 384, 1, 1),
            "fre2.channel_cross_agg.kv_dwconv.weight": (384, 1, 3, 3),
            "fre2.frequency_refine.SpatialGate.spatial.weight": (1, 2, 7, 7),
            "fre2.frequency_refine.ChannelGate.mlp.0.weight": (12, 192, 1, 1),
            "fre2.frequency_refine.ChannelGate.mlp.2.weight": (192, 12, 1, 1),
            "fre2.frequency_refine.proj.bias": (192,),
            "fre3.rate_conv.0.weight": (12, 96, 1, 1),
            "fre3.rate_conv.2.weight": (2, 12, 1, 1),
        }.items()
    )
    with torch.device("meta"):
        plain = build_teacher("adair", decoder=False).state_dict()
    assert {name: tensor.shape for name, tensor in plain.items()} == {n: t.shape for n, t in restormer.items()}
    assert len(state) == len(restormer) + 3 * (2 + 2 + 2 + 3 * 6 + 5 + 2)


@pytest.mark.parametrize("norm", ["WithBias", "BiasFree"])
def test_norm_follows_its_equation(norm):
    torch.manual_seed(0)
    norm1 = build_teacher("restormer", **TINY, norm=norm).encoder_level1[0].norm1
    torch.nn.init.normal_(norm1.body.weight)
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64).float() + 2
    variance = x.var(dim=1, correction=0, keepdim=True)
    wanted = x / (variance + 1e-5).sqrt() * norm1.body.weight.view(8, 1, 1)
    if norm == "WithBias":
        torch.nn.init.normal_(norm1.body.bias)
        centred = (x - x.mean(dim=1, keepdim=True)) / (variance + 1e-5).sqrt()
        wanted = centred * norm1.body.weight.view(8, 1, 1) + norm1.body.bias.view(8, 1, 1)
    else:
        assert norm1.body.bias is None
    assert torch.allclose(norm1(x), wanted, atol=1e-5)


def test_attention_follows_its_equation_head_by_head():
    torch.manual_seed(0)
    attention = build_teacher("restormer", **TINY).encoder_level2[0].attn  # 16 channels, 2 heads
    attention.temperature.data = torch.tensor([0.5, 3.0]).view(2, 1, 1)
    x = torch.randn(1, 16, 4, 6)
    q, k, v = attention.qkv_dwconv(attention.qkv(x))[0].flatten(1).split(16)
    rows = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        unit_q, unit_k = (m[part] / m[part].norm(dim=1, keepdim=True) for m in (q, k))
        rows.append(torch.softmax(unit_q @ unit_k.T * attention.temperature[head], dim=1) @ v[part])
    wanted = attention.project_out(torch.cat(rows).view(1, 16, 4, 6))
    assert torch.allclose(attention(x), wanted, atol=1e-6)


def test_a_prompt_is_the_mixture_of_its_maps_that_the_features_ask_for():
    torch.manual_seed(0)
    prompt = small("promptir").prompt2  # features of 32 channels
    x = torch.randn(2, 32, 6, 10)
    logits = x.flatten(2).mean(2) @ prompt.linear_layer.weight.T + prompt.linear_layer.bias
    for image, weights in zip(x, torch.softmax(logits, dim=1), strict=True):
        mixture = sum(w * p for w, p in zip(weights, prompt.prompt_param[0], strict=True))
        resized = F.interpolate(mixture[None], (6, 10), mode="bilinear")
        assert torch.allclose(prompt(image[None]), prompt.conv3x3(resized), atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (20, 11)])
def test_adair_splits_a_box_of_low_frequencies_from_the_rest(size):
    torch.manual_seed(0)
    block = small("adair").fre3
    block.rate_conv[2].weight.data.normal_(std=20)  # rates far from one half, another for each image
    x = torch.randn(3, 16, *size) + torch.tensor([0.0, 2.0, -2.0]).view(3, 1, 1, 1)
    with torch.no_grad():
        low, high = block.split(x)
        rates = torch.sigmoid(block.rate_conv(x.mean((2, 3), keepdim=True)))[:, :, 0, 0]
    reaches = [[int(side // 2 * rate) for side, rate in zip(size, pair, strict=True)] for pair in rates]
    assert len({tuple(reach) for reach in reaches}) > 1 and max(max(reach) for reach in reaches) > 2
    for i, reach in enumerate(reaches):
        spectrum = np.fft.fftshift(np.fft.fft2(x[i].numpy()), axes=(1, 2))
        box = np.zeros(size)
        box[tuple(slice(side // 2 - r, side // 2 + r) for side, r in zip(size, reach, strict=True))] = 1
        for part, wanted in ((low, spectrum * box), (high, spectrum * (1 - box))):
            wanted = np.abs(np.fft.ifft2(np.fft.ifftshift(wanted, axes=(1, 2))))
            assert np.allclose(part[i].numpy(), wanted, atol=1e-4)


def test_the_published_adair_has_no_low_frequencies_below_256_pixels_and_a_narrow_one_has_on_64_pixel_patches():
    published, narrow = small("adair", box_divisor=128).fre3, small("adair")
    for block in (published, narrow.fre1):
        block.rate_conv[2].weight.data.zero_()  # rate 1/2
    with torch.no_grad():
        assert not published.split(torch.rand(1, 16, 255, 255))[0].any()
        assert published.split(torch.rand(1, 16, 256, 256))[0].any()
        assert narrow.fre1.split(torch.rand(1, 64, 8, 8))[0].any()  # the latent of 64 x 64 pixels


def test_adairs_change_starts_at_nothing_and_follows_its_equation():
    torch.manual_seed(0)
    block = small("adair").fre2
    image, features = torch.rand(2, 3, 40, 24), torch.randn(2, 32, 10, 6)
    with torch.no_grad():
        assert torch.equal(block(image, features), features)
        block.para1.fill_(2.0)
        block.para2.fill_(0.5)
        low, high = block.split(block.conv1(F.interpolate(image, (10, 6), mode="bilinear")))
        low, high = block.channel_cross_h(low, features), block.channel_cross_l(high, features)
        refine = block.frequency_refine
        spatial = refine.SpatialGate.spatial(torch.stack([high.max(1).values, high.mean(1)], 1)).sigmoid()
        pooled = low.flatten(2).mean(2), low.flatten(2).max(2).values
        channel = sum(refine.ChannelGate.mlp(p[:, :, None, None]) for p in pooled).sigmoid()
        change = block.channel_cross_agg(features, refine.proj(low * spatial + high * channel))
        assert torch.allclose(block(image, features), 2 * change + features / 2, atol=1e-6)


@pytest.mark.parametrize("name", TEACHERS)
def test_stages_have_the_documented_channels_and_scales(name):
    teacher = small(name)
    with torch.no_grad():
        output, maps = teacher.features(torch.rand(2, 3, 32, 48), range(1, 8))
    sizes = {1: (8, 1), 2: (16, 2), 3: (32, 4), 4: (64, 8), 5: (32, 4), 6: (16, 2), 7: (16, 1)}
    assert {stage: tuple(m.shape) for stage, m in maps.items()} == {
        stage: (2, channels, 32 // scale, 48 // scale) for stage, (channels, scale) in sizes.items()
    }
    assert teacher.stage_channels() == {stage: channels for stage, (channels, _) in sizes.items()}
    assert output.shape == (2, 3, 32, 48)


def test_every_trainable_parameter_of_a_narrow_teacher_gets_a_gradient_on_64_pixel_patches():
    torch.manual_seed(0)
    for name in TEACHERS:
        teacher = small(name).train()
        if name == "adair":  # which starts with its change switched off
            for block in (teacher.fre1, teacher.fre2, teacher.fre3):
                block.para1.data.fill_(1.0)
        teacher(torch.rand(1, 3, 64, 64)).square().mean().backward()
        idle = [n for n, p in teacher.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert idle == [], name
        frozen = {n.split(".")[1] for n, p in teacher.named_parameters() if not p.requires_grad}
        assert frozen == ({"rate_conv"} if name == "adair" else set())


def test_features_restore_as_forward_does_and_give_only_the_wanted_stages():
    teacher = build_teacher("restormer", **TINY)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        output, maps = teacher.features(x, [4, 7])
        assert torch.equal(output, teacher(x)) and set(maps) == {4, 7}
        with pytest.raises(ValueError, match="stages 1 to 7, not 0, 8"):
            teacher.features(x, [0, 4, 8])


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (13, 17), (8, 9)])
def test_sides_that_are_no_multiple_of_eight_are_restored_at_their_own_size(size):
    teacher = build_teacher("restormer", **TINY)
    with torch.no_grad():
        output = teacher(torch.rand(1, 3, *size))
    assert output.shape == (1, 3, *size) and output.isfinite().all()


def test_padding_is_mirrored_right_and_bottom():
    teacher = build_teacher("restormer", **TINY)
    x = torch.rand(1, 3, 13, 17)
    with torch.no_grad():
        wanted = teacher(F.pad(x, (0, 7, 0, 3), mode="reflect"))[..., :13, :17]
        assert torch.equal(teacher(x), wanted)


@pytest.mark.parametrize("name", TEACHERS)
def test_both_memory_layouts_give_the_same_restoration(name):
    teacher, x = small(name), torch.rand(2, 3, 24, 16)
    with torch.no_grad():
        plain = teacher(x)
        channels_last = teacher.channels_last()(x.to(memory_format=torch.channels_last))
    assert torch.allclose(plain, channels_last, atol=1e-5)


def lightning_checkpoint(teacher) -> dict:
    """What Lightning writes: the weights, and beside them the state of the training, some of it as objects."""
    return {
        "epoch": 119,
        "global_step": 1000,
        "pytorch-lightning_version": "2.0.1",
        "state_dict": OrderedDict((f"net.{name}", tensor) for name, tensor in teacher.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 120}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': None}": {
                "best_model_path": pathlib.PurePosixPath("/ckpt/last.ckpt"),
                "best_model_score": np.float64(0.031),
                "kth_value": torch.tensor(1.5),
                "history": np.arange(3),
            }
        },
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 2e-4, "params": [0]}]}
        ],
        "lr_schedulers": [{"warmup_epochs": 15, "_last_lr": [np.float32(1e-6)], "counts": defaultdict(int, a=1)}],
        "hyper_parameters": argparse.Namespace(batch_size=8, de_type=["denoise_15"]),
    }


FORMS = {
    "official.pth": lambda teacher, path: torch.save({"params": teacher.state_dict()}, path),
    "lightning.ckpt": lambda teacher, path: torch.save(lightning_checkpoint(teacher), path),
    "plain.pth": lambda teacher, path: torch.save(teacher.state_dict(), path),
    "before_archives.pth": lambda teacher, path: torch.save(
        {"params": teacher.state_dict()}, path, _use_new_zipfile_serialization=False
    ),
    "plain.safetensors": lambda teacher, path: safetensors.torch.save_file(teacher.state_dict(), path),
    "prefixed.safetensors": lambda teacher, path: safetensors.torch.save_file(
        {f"net.{name}": tensor for name, tensor in teacher.state_dict().items()}, path
    ),
    "own.safetensors": save_teacher,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("restormer", TINY),
        ("restormer", {**TINY, "norm": "BiasFree", "conv_bias": True, "expansion": 2.0, "refinement": 0}),
        ("restormer", {**TINY, "in_channels": 1, "out_channels": 1, "expansion": 2.5}),
        ("restormer", {**TINY, "in_channels": 6, "dual_pixel": True}),
        ("promptir", {**TINY, **PROMPTS}),
        ("promptir", {**TINY, **PROMPTS, "norm": "BiasFree", "conv_bias": True, "unused_layers": False}),
        ("adair", TINY),
        ("adair", {**TINY, "norm": "BiasFree", "conv_bias": True, "unused_layers": False}),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_weights_rebuilds_its_network_by_itself(tmp_path, name, config, form):
    teacher = build_teacher(name, **config)
    FORMS[form](teacher, tmp_path / form)
    again = build_teacher(None, weights=tmp_path / form)
    assert again.arch == name and again.config == teacher.config and not again.training
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), again.parameters(), strict=True))
    x = torch.rand(1, config.get("in_channels", 3), 16, 24)
    with torch.no_grad():
        assert torch.equal(teacher(x), again(x))


def test_an_adair_without_its_frequency_blocks_loads_as_the_restormer_that_it_is_or_by_name(tmp_path):
    teacher = build_teacher("adair", **TINY, decoder=False)
    torch.save(lightning_checkpoint(teacher), tmp_path / "adair.ckpt")
    named = build_teacher("adair", weights=tmp_path / "adair.ckpt", decoder=False)
    unnamed = build_teacher(None, weights=tmp_path / "adair.ckpt")
    assert (named.arch, unnamed.arch) == ("adair", "restormer")
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.equal(named(x), teacher(x)) and torch.equal(unnamed(x), teacher(x))
    with pytest.raises(TeacherError, match="holds a restormer teacher, but adair was asked for"):
        build_teacher("adair", weights=tmp_path / "adair.ckpt")


def test_own_files_keep_what_the_weights_do_not_show(tmp_path):
    save_teacher(small("adair"), tmp_path / "teacher.safetensors")
    assert build_teacher("adair", weights=tmp_path / "teacher.safetensors").config.box_divisor == 2


def test_the_published_expansion_is_read_off_the_published_shapes():
    with torch.device("meta"):
        state = Restormer(RestormerConfig()).state_dict()
    assert RestormerConfig.from_weights(state) == RestormerConfig()


def test_own_files_carry_architecture_configuration_and_extras_in_their_header(tmp_path):
    teacher = build_teacher("restormer", **TINY)
    save_teacher(teacher, tmp_path / "teacher.safetensors", {"teacher.task": "denoise"})
    with safetensors.safe_open(tmp_path / "teacher.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["teacher.arch"] == "restormer" and metadata["teacher.task"] == "denoise"
    assert RestormerConfig(**json.loads(metadata["teacher.config"])) == teacher.config
    assert [path.name for path in tmp_path.iterdir()] == ["teacher.safetensors"]


def test_loading_is_strict(tmp_path):
    teacher = build_teacher("restormer", **TINY)
    state = teacher.state_dict()
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    with pytest.raises(
        TeacherError, match=r"The 132 weights in .* the 131 of Restormer: 1 unexpected, first extra\.weight"
    ):
        build_teacher("restormer", weights=tmp_path / "extra.pth")
    missing = {name: tensor for name, tensor in state.items() if name != "latent.1.ffn.dwconv.weight"}
    torch.save(missing, tmp_path / "missing.pth")
    with pytest.raises(TeacherError, match=r"do not fit.*latent\.1\.ffn\.dwconv\.weight"):
        build_teacher("restormer", weights=tmp_path / "missing.pth")
    torch.save(state, tmp_path / "whole.pth")
    with pytest.raises(TeacherError, match="do not fit"):
        build_teacher("restormer", weights=tmp_path / "whole.pth", dim=16)


class _Payload:
    def __reduce__(self):
        return print, ("executed",)


def test_files_that_are_no_weights_are_refused_with_a_sentence_and_not_executed(tmp_path, capsys):
    torch.save({"params": _Payload()}, tmp_path / "hostile.pth")
    torch.save({"params": [1, 2]}, tmp_path / "list.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.safetensors").write_text("not weights")
    whole = tmp_path / "whole.pth"
    torch.save(build_teacher("restormer", **TINY).state_dict(), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:5000])
    for name in ("hostile.pth", "list.pth", "other.pth", "text.pth", "empty.pth", "text.safetensors", "cut.pth", "no"):
        with pytest.raises(TeacherError, match=name.replace(".", r"\.")):
            build_teacher("restormer", weights=tmp_path / name)
    assert capsys.readouterr().out == ""


def test_objects_beside_the_weights_are_not_run_and_not_kept(tmp_path, capsys):
    teacher = small("promptir")
    torch.save({**lightning_checkpoint(teacher), "payload": _Payload()}, tmp_path / "model.ckpt")
    state, _ = read_weights(tmp_path / "model.ckpt")
    assert state.keys() == teacher.state_dict().keys()
    assert capsys.readouterr().out == ""
    torch.save({**lightning_checkpoint(teacher), "payload": os.system}, tmp_path / "system.ckpt")
    message = r"system\.ckpt cannot be read as a checkpoint of weights alone: it holds an object .*\.system"
    with pytest.raises(TeacherError, match=message) as refused:
        read_weights(tmp_path / "system.ckpt")
    assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value)
    with pytest.raises(Exception, match="PurePosixPath|Unsupported"):  # no stand-in outlives its file
        torch.load(tmp_path / "model.ckpt", weights_only=True)


def test_a_teacher_of_another_kind_or_another_shape_is_refused_with_what_was_found(tmp_path):
    for name in TEACHERS:
        torch.save({"params": small(name).state_dict()}, tmp_path / f"{name}.pth")
        for other in set(TEACHERS) - {name}:
            with pytest.raises(TeacherError, match=f"holds a {name} teacher, but {other} was asked for"):
                build_teacher(other, weights=tmp_path / f"{name}.pth")
    state = small("adair").state_dict()
    state["fre2.para1"] = torch.zeros(7, 1, 1)
    torch.save(state, tmp_path / "shape.pth")
    message = r"1 of another shape, first fre2\.para1 with \(7, 1, 1\) where \(32, 1, 1\) was expected"
    with pytest.raises(TeacherError, match=message):
        build_teacher(None, weights=tmp_path / "shape.pth")
    state = {name: tensor for name, tensor in small("promptir").state_dict().items() if not name.startswith("prompt")}
    torch.save(state, tmp_path / "decoder_off.pth")
    with pytest.raises(TeacherError, match=r"without its prompts \(decoder off\) cannot run"):
        build_teacher(None, weights=tmp_path / "decoder_off.pth")
    torch.save({"patch_embed.proj.weight": torch.zeros(8)}, tmp_path / "flat.pth")
    with pytest.raises(TeacherError, match=r"flat\.pth: These are not the weights of Restormer"):
        build_teacher(None, weights=tmp_path / "flat.pth")
    torch.save({0: torch.zeros(8)}, tmp_path / "numbered.pth")
    with pytest.raises(TeacherError, match="holds no state dict"):
        build_teacher(None, weights=tmp_path / "numbered.pth")


def test_unknown_teachers_are_refused():
    for build in (build_teacher, lambda name: build_narrow_teacher(name, 64, **TINY)):
        with pytest.raises(TeacherError, match="unknown; known teachers are restormer, promptir, adair"):
            build("resnet")
    with pytest.raises(TeacherError, match="Name a teacher"):
        build_teacher(None)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("restormer", {"dim": 9}, "must be even"),
        ("restormer", {"dim": 8, "heads": (3, 2, 4, 8)}, "3 heads cannot share"),
        ("restormer", {"blocks": (1, 1)}, "4 levels"),
        ("restormer", {"blocks": (1, 0, 1, 1)}, "at least 1"),
        ("restormer", {"norm": "batch"}, "WithBias or BiasFree"),
        ("restormer", {"in_channels": 4}, "as many channels in as out"),
        ("restormer", {"width": 8}, "width"),
        ("promptir", {"decoder": False}, "latent has 384 channels and the next convolution takes 192"),
        ("promptir", {"prompt_channels": (64, 128)}, "3 prompts"),
        ("promptir", {"prompts": 0}, "at least 1"),
        ("promptir", {"prompt_channels": (65, 128, 320)}, "Level 1 with its prompt has 161 channels"),
        ("adair", {"box_divisor": 1}, "divisor of 2 or more"),
        ("adair", {"dim": 4, "heads": (1, 1, 1, 1)}, "width of at least 8"),
        ("adair", {"dim": 10, "heads": (1, 1, 8, 1)}, "Level 2 has 20 channels, which 8 heads"),
    ],
)
def test_impossible_configurations_are_refused(name, config, message):
    with pytest.raises(TeacherError, match=message):
        build_teacher(name, **config)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of a few pictures; the commands run beside it, in a folder without runs, on one thread."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"photos/{i}.png"), cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (128, 96)))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield "photos"
    torch.set_num_threads(threads)


SHORT = "--task denoise --batch 2 --warmup 2 --threads 1 --device cpu --steps 6".split()


def test_a_teacher_of_each_kind_trains_by_command_and_then_guides_a_student(photos, tmp_path):
    narrow = "--width 8 --blocks 1 1 1 1 --heads 1 1 2 2 --expansion 1 --patch 64 --rate 3e-3 --bfloat16".split()
    for name in TEACHERS:
        assert teacher_command.main([*SHORT, *narrow, "--data", photos, "--arch", name]) == 0
    for name in TEACHERS:  # the newest of its kind, not the newest
        path = tmp_path / f"runs/teacher_denoise_{name}/teacher.safetensors"
        assert hkd.newest_teacher("denoise", name).resolve() == path
        trained = build_teacher(name, weights=path)
        untrained = teacher_command.build(teacher_command.Settings(**settings_of(path.parent)))
        moved = [not torch.equal(a, b) for a, b in zip(trained.parameters(), untrained.parameters(), strict=True)]
        assert trained.config == untrained.config and sum(moved) > 0.8 * len(moved)
        student = ["--channels", "8", "8", "8", "8", "--patch", "32", "--validate-every", "3"]
        out = tmp_path / name
        assert (
            hkd.main([*SHORT, *student, "--data", photos, "--teacher", name, "--stages", "1-7", "--out", str(out)]) == 0
        )
        rows = (out / "log.csv").read_text().splitlines()
        hints = [float(row.split(",")[rows[0].split(",").index("hint")]) for row in rows[1:]]
        assert len(hints) == 2 and all(0 < hint < 100 for hint in hints)


def settings_of(run) -> dict:
    return torch.load(run / "checkpoint.pt", weights_only=True)["settings"]


@pytest.mark.parametrize("config", [{"in_channels": 1, "out_channels": 1}, {"in_channels": 6, "dual_pixel": True}])
def test_a_teacher_that_takes_no_rgb_images_gives_no_hints(photos, tmp_path, capsys, config):
    save_teacher(build_teacher("restormer", **TINY, **config), tmp_path / "other.safetensors")
    assert hkd.main([*SHORT, "--data", photos, "--teacher-weights", "other.safetensors"]) == 2
    message = capsys.readouterr().err
    assert f"takes {config['in_channels']} channels, but hints are for RGB images" in message
