"""In CI a skipped test of an exporter, of conformance or of a board is a failure: what was not run was not shown."""

import os

import pytest

# Of what speed is compared with, CI has not every spiking framework: the extra `dev` lacks Norse and sinabs.
NEVER_SKIPPED = ("tests/export/test_", "tests/export/bench/test_ann", "tests/conformance", "tests/firmware_bridge")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and item.nodeid.startswith(NEVER_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
