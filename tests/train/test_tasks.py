"""The table of tasks: whole in itself, at one with what bundles may be for, and with edge's pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import nn

from simulator import tasks as names
from train import published
from train.architectures import build_graph
from train.data import load_image
from train.datasets import DATASETS
from train.patches import fixed
from train.student import EquivalentAnn, Student
from train.tasks import SINGLE, TASKS, paper_order, parts_of
from train.teachers import TEACHERS, build_narrow_teacher

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "edge" / "samples"


def test_a_bundle_may_be_for_every_task_that_is_trained():
    assert tuple(TASKS) == names.TASKS and names.ALL_IN_ONE in TASKS


@pytest.mark.parametrize("task", SINGLE)
def test_an_entry_is_whole(task):
    entry = TASKS[task]
    assert entry.variants and set(entry.drawn) <= set(entry.variants) and parts_of(task) == (task,)
    assert all(row.task == task for row in entry.datasets)
    if entry.paper:
        assert set(entry.paper.datasets) <= {row.name for row in entry.datasets if row.role == "test"}


def test_an_all_in_one_names_its_tasks_itself_so_that_a_new_one_does_not_change_it():
    assert parts_of("auto") == ("denoise", "derain", "dehaze", "deblur", "defocus")


def test_every_set_that_the_paper_prints_figures_of_is_a_tasks():
    assert set(published.PAIRS) <= set(DATASETS)


def test_tables_stand_in_the_papers_order():
    assert sorted(SINGLE, key=paper_order)[:5] == ["denoise", "derain", "deblur", "defocus", "dehaze"]


@pytest.mark.parametrize("task", [task for task in SINGLE if TASKS[task].sample])
def test_edges_picture_is_the_variant_that_the_entry_names(task):
    degraded = fixed(task, str(TASKS[task].sample), load_image(SAMPLES / "clean.png"), 0, 0)
    shipped = cv2.cvtColor(cv2.imread(str(SAMPLES / f"{task}.png")), cv2.COLOR_BGR2RGB)
    # Another machine's arithmetic may round a pixel in a thousand the other way.
    assert np.abs(degraded.astype(int) - shipped).max() <= 1 and (degraded != shipped).mean() < 1e-3


def test_no_module_hides_a_name_of_torchs():
    graph = build_graph("edge", (8, 8, 8, 8))
    networks = [Student(graph), EquivalentAnn(build_graph("edge", (8, 8, 8, 8), ("time_steps=1",)))]
    networks += [build_narrow_teacher(name, 64, dim=8, heads=(1, 2, 4, 8), blocks=(1,) * 4) for name in TEACHERS]
    taken = {name for name in dir(nn.Module) if not name.startswith("__")}
    meant = {"forward"}
    for network in networks:
        for module in network.modules():
            own = [kind for kind in type(module).__mro__ if kind.__module__.startswith("train.")]
            hidden = {name for kind in own for name in vars(kind)} & taken - meant
            hidden |= set(vars(module)) & {name for name in taken if callable(getattr(nn.Module, name))}
            assert not hidden, f"{type(module).__name__} hides {hidden} of torch.nn.Module"
