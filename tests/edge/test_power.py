"""`edge-restore` measures power where there is a sensor or a meter, and says why where there is no figure."""

import json
import threading
import time

import pytest

from firmware_bridge.power import recording
from firmware_bridge.power.sensors import Found, Sensor
from tests.edge.files import assert_refused, picture, store


@pytest.fixture
def sensor(monkeypatch):
    """A sensor that reads 2 W, and 5 W while pictures are restored."""
    from edge import pipeline

    busy = threading.Event()

    def slow(*arguments, **options):
        busy.set()
        time.sleep(0.2)  # a sensor is slower than so small a picture
        return restore(*arguments, **options)

    restore = pipeline.restore
    monkeypatch.setattr(pipeline, "restore", slow)
    found = Sensor("ina226@1-0040", "rail VDD_IN", lambda: 5.0 if busy.is_set() else 2.0, interval_s=0.01)
    monkeypatch.setattr(recording, "find", lambda: Found((found,), ()))
    monkeypatch.setattr("firmware_bridge.power.meter.IDLE_S", 0.1)


def test_with_a_sensor_the_statistics_have_measured_power_and_idle(work, restore, sensor):
    run = restore(store(work / "a.png", picture()), "--stats", work / "s.json")
    assert run.code == 0
    power = json.loads((work / "s.json").read_text())["power"]
    assert power["label"] == "measured" and power["sensor"] == "ina226@1-0040"
    assert power["idle_w"] == pytest.approx(2.0)
    assert power["measured_w"] == pytest.approx(3.0, abs=0.5)
    assert power["joules_per_frame"] == pytest.approx(power["measured_w"] * power["seconds"])
    assert "J a frame (measured by ina226@1-0040: rail VDD_IN)" in run.out


@pytest.mark.parametrize("options", [["--power", "none", "--stats", "s.json"], []])
def test_power_is_not_measured_where_nobody_asks_for_it(work, restore, sensor, options, monkeypatch):
    monkeypatch.chdir(work)
    run = restore(store(work / "a.png", picture()), *options)
    assert run.code == 0 and "W idle" not in run.out and "nothing is measured" not in run.err


def test_a_sensor_that_is_not_there_is_named_with_those_that_are(work, restore, sensor):
    run = restore(store(work / "a.png", picture()), "--power", "ina219@1-0041")
    assert_refused(run, "no power sensor called ina219@1-0041", "ina226@1-0040")


def test_an_external_meter_that_has_not_recorded_the_run_gives_null_and_the_times_of_the_run(
    work, restore, monkeypatch
):
    monkeypatch.setattr(recording, "IDLE_S", 0.1)
    meter = work / "meter.csv"
    meter.write_text("time_s,power_w\n1,2\n2,2\n")
    run = restore(store(work / "a.png", picture()), "--power", meter, "--stats", work / "s.json")
    assert run.code == 0
    assert "power was not measured: " in run.err and "covers 1.000 to 2.000 s since 1970" in run.err
    figures = json.loads((work / "s.json").read_text())
    assert figures["power"] is None
    assert figures["power_windows"]["idle"][1] <= figures["power_windows"]["run"][0] <= time.time()


def test_a_meters_file_that_is_none_is_refused(work, restore):
    (work / "meter.csv").write_text("volts\n")
    run = restore(store(work / "a.png", picture()), "--power", work / "meter.csv")
    assert_refused(run, "expected the header time_s,power_w")
