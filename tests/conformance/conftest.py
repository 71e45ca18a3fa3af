"""The conformance report: which layers of which networks float32 is not guaranteed to compute exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from export.onnx import inexact_nodes
from simulator.analysis import Analysis
from tests.conformance.agreement import guaranteed

_REPORT: dict[str, str] = {}


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Analysis], None]:
    """Enter the test's network into the report."""

    def note(analysis: Analysis) -> None:
        inexact = inexact_nodes(analysis)
        after = len(analysis.graph.nodes) - len(guaranteed(analysis)) - len(inexact)
        _REPORT[request.node.name] = f"{', '.join(inexact)} and {after} layers that depend on them" if inexact else ""

    return note


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _REPORT:
        return
    terminalreporter.section("conformance of the float backends (PyTorch, ONNX Runtime)")
    whole = sum(not layers for layers in _REPORT.values())
    terminalreporter.line(
        f"{whole} of {len(_REPORT)} networks have bounds below 2^24 everywhere: exact in every layer."
    )
    for name, layers in _REPORT.items():
        if layers:
            terminalreporter.line(f"{name}: not guaranteed in {layers}")
