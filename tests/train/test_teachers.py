"""Teachers: the published networks' sizes and names, their files, their stages."""

import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from train.teachers import TeacherError, build_teacher, save_teacher
from train.teachers.restormer import Restormer, RestormerConfig, config_from_weights

TINY = {"dim": 8, "blocks": (1, 2, 1, 2), "heads": (1, 2, 4, 8), "refinement": 1}


@pytest.mark.parametrize(
    ("parameters", "config"),
    [
        (26_126_644, {}),
        (26_111_668, {"norm": "BiasFree"}),
        (26_109_076, {"norm": "BiasFree", "in_channels": 1, "out_channels": 1}),
        (26_132_548, {"in_channels": 6, "dual_pixel": True}),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(parameters, config):
    with torch.device("meta"):
        teacher = Restormer(RestormerConfig(**config))
    assert sum(parameter.numel() for parameter in teacher.parameters()) == parameters


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


def test_stages_have_the_documented_channels_and_scales():
    teacher = build_teacher("restormer", **TINY)
    with torch.no_grad():
        output, maps = teacher.features(torch.rand(2, 3, 32, 48), range(1, 8))
    sizes = {1: (8, 1), 2: (16, 2), 3: (32, 4), 4: (64, 8), 5: (32, 4), 6: (16, 2), 7: (16, 1)}
    assert {stage: tuple(m.shape) for stage, m in maps.items()} == {
        stage: (2, channels, 32 // scale, 48 // scale) for stage, (channels, scale) in sizes.items()
    }
    assert teacher.stage_channels() == {stage: channels for stage, (channels, _) in sizes.items()}
    assert output.shape == (2, 3, 32, 48)


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


def test_both_memory_layouts_give_the_same_restoration():
    teacher, x = build_teacher("restormer", **TINY), torch.rand(2, 3, 24, 16)
    with torch.no_grad():
        plain = teacher(x)
        channels_last = teacher.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(plain, channels_last, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        {**TINY, "norm": "BiasFree", "conv_bias": True, "expansion": 2.0, "refinement": 0},
        {**TINY, "in_channels": 1, "out_channels": 1, "expansion": 2.5},
        {**TINY, "in_channels": 6, "dual_pixel": True},
    ],
)
@pytest.mark.parametrize("form", ["official", "plain", "safetensors", "own"])
def test_a_file_of_weights_rebuilds_its_network_by_itself(tmp_path, config, form):
    teacher = build_teacher("restormer", **config)
    path = tmp_path / ("teacher.pth" if form in ("official", "plain") else "teacher.safetensors")
    if form == "official":
        torch.save({"params": teacher.state_dict()}, path)
    elif form == "plain":
        torch.save(teacher.state_dict(), path)
    elif form == "safetensors":
        safetensors.torch.save_file(teacher.state_dict(), path)
    else:
        save_teacher(teacher, path)
    again = build_teacher(None, weights=path)
    assert again.config == teacher.config and not again.training
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), again.parameters(), strict=True))


def test_the_published_expansion_is_read_off_the_published_shapes():
    with torch.device("meta"):
        state = Restormer(RestormerConfig()).state_dict()
    assert config_from_weights(state) == RestormerConfig()


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
    with pytest.raises(TeacherError, match=r"do not fit.*extra\.weight"):
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


def test_teachers_that_are_not_there_say_so():
    for name in ("promptir", "adair"):
        with pytest.raises(TeacherError, match=f"{name} is not available yet; available is restormer"):
            build_teacher(name)
    with pytest.raises(TeacherError, match="unknown; known teachers are restormer, promptir, adair"):
        build_teacher("resnet")
    with pytest.raises(TeacherError, match="Name a teacher"):
        build_teacher(None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dim": 9}, "must be even"),
        ({"dim": 8, "heads": (3, 2, 4, 8)}, "3 heads cannot share"),
        ({"blocks": (1, 1)}, "4 levels"),
        ({"blocks": (1, 0, 1, 1)}, "at least 1"),
        ({"norm": "batch"}, "WithBias or BiasFree"),
        ({"in_channels": 4}, "as many channels in as out"),
        ({"width": 8}, "width"),
    ],
)
def test_impossible_configurations_are_refused(config, message):
    with pytest.raises(TeacherError, match=message):
        build_teacher("restormer", **config)
