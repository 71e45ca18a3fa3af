"""The bundles that ship: one for each task's small and large network, and how `--quality` chooses."""

import json
import re
import shutil

import simulator
from edge import cli, shipped
from edge.networks import describe
from tests.edge.files import assert_refused, picture, store, store_video


def test_every_shipped_bundle_is_for_the_task_in_its_name_and_within_the_budget_of_parameters():
    for path in shipped.BUNDLES.glob("*.safetensors"):
        network = simulator.load(path)
        assert network.params <= (1_000_000 if path.stem.endswith("-large") else 70_000), path
        assert path.with_suffix(".md").exists() and path.stem.split("-")[0] == network.task
        assert not json.loads(network.meta["training.settings"]).get("init", "").startswith("/"), path


def test_the_page_and_the_list_say_the_same_of_what_each_network_does_to_other_pictures():
    harm = json.loads((shipped.BUNDLES / "harm.json").read_text())["networks"]
    lines = (shipped.BUNDLES / "HARM.md").read_text().splitlines()
    rows = {row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    assert sorted(harm) == shipped.names()
    for name, cases in harm.items():
        mean, *stated = [float(cell.strip("*").split(" ")[0]) for cell in rows[f"[{name}]({name}.md)"]]
        assert mean == round(cases["clean"]["back"], 2)
        assert stated == [round(one["change"], 2) for case, one in cases.items() if case != "clean"]
    clean = {name: f"{cases['clean']['back']:.1f}" for name, cases in harm.items()}
    lines = describe(shipped.BUNDLES)[1:]
    assert all(clean[line.split()[0]] in line for line in lines)
    chosen = {line.split()[0]: re.split(r"\s{2,}", line)[2] for line in lines}
    assert (chosen["denoise-large"], chosen["denoise"], chosen["dehaze"]) == ("best", "fast", "fast, best")
    assert chosen["denoise-lean"] == "-"


def test_quality_names_the_small_or_the_large_network_of_a_task(work, monkeypatch, capfd):
    def ran(*arguments: object) -> str:
        capfd.readouterr()
        assert cli.main(["--task", "denoise", *map(str, arguments)]) == 0
        return capfd.readouterr().out

    small, large = shipped.named("denoise-lean"), shipped.named("denoise")
    monkeypatch.setattr(shipped, "BUNDLES", work / "bundles")
    shipped.BUNDLES.mkdir()
    shutil.copy(small, shipped.named("denoise"))
    image, out = store(work / "a.png", picture()), ("--out", work / "b.png")
    assert "denoise (denoise):" in ran(image, *out)  # no large one yet
    shutil.copy(large, shipped.named("denoise-large"))
    assert "denoise (denoise-large):" in ran(image, *out)
    assert "denoise (denoise-large):" in ran(image, *out, "--quality", "best")
    assert "denoise (denoise):" in ran(image, *out, "--quality", "fast")
    store_video(work / "a.avi", 2)
    assert "denoise (denoise):" in ran(work / "a.avi", "--out", work / "b.mkv")


def test_quality_and_a_bundle_are_not_given_together(restore):
    assert_refused(restore("sample", "--quality", "best"), "--quality", "--bundle", "one of the two")
