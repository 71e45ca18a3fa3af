"""Power is measured by the sensors that a board has, in their units, or it is absent with a reason."""

import json
import math
import subprocess
import time
from pathlib import Path

import pytest

from firmware_bridge.power import __main__ as command
from firmware_bridge.power.meter import FAILURES, Meter, NotMeasured, Span
from firmware_bridge.power.meter_file import MeterFile, MeterFileError
from firmware_bridge.power.recording import Recording, evaluate, from_file, open_recording
from firmware_bridge.power.sensors import Found, Sensor, SensorError, choose, find

PMIC = """\
   3V7_WL_SW_A current(0)=0.00292764A
   3V3_SYS_A current(1)=0.07808080A
     VDD_CORE_A current(7)=1.64100000A
   3V7_WL_SW_V volt(8)=3.72510600V
   3V3_SYS_V volt(9)=3.31501800V
     VDD_CORE_V volt(15)=0.84350470V
      EXT5V_V volt(24)=5.15286000V
       BATT_V volt(25)=0.00000000V
"""


def tree(root: Path, folder: str, **files: object) -> Path:
    """Files of a sysfs folder; two underscores in a name stand for a colon."""
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_text(f"{content}\n")
    return place


def no_command(command: list[str]) -> str:
    raise FileNotFoundError(2, "No such file or directory", command[0])


def only(root: Path) -> Sensor:
    found = find(root, no_command)
    assert len(found.sensors) == 1, found
    return found.sensors[0]


def sensor(readings, interval_s: float = 0.005, counts: bool = False) -> Sensor:
    """Reads one after the other; a text is a failure, and the last one stays."""
    values = list(readings)

    def read() -> float:
        value = values.pop(0) if len(values) > 1 else values[0]
        if isinstance(value, str):
            raise SensorError(value)
        return value

    return Sensor("fake", "a made-up rail", read, counts=counts, interval_s=interval_s)


@pytest.fixture
def rapl(tmp_path: Path) -> Path:
    for number, zone in enumerate(
        ["intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1", "intel-rapl:2", "intel-rapl-mmio:0"]
    ):
        name = {2: "package-1", 3: "psys", 1: "core"}.get(number, "package-0")
        tree(tmp_path, f"sys/class/powercap/{zone}", name=name, energy_uj=1_000_000, max_energy_range_uj=2_000_000)
    return tmp_path


@pytest.mark.parametrize("chip", ["ina219", "ina220", "ina226", "ina230", "ina231", "ina260"])
def test_an_ina_chip_is_found_by_its_name_and_read_in_microwatts(tmp_path, chip):
    tree(tmp_path, "sys/class/hwmon/hwmon0", name="cpu_thermal", temp1_input=51000)
    tree(tmp_path, "sys/class/hwmon/hwmon7", name=chip, in1_input=5112, curr1_input=612, power1_input=3128544,
         shunt_resistor=10000)  # fmt: skip
    assert only(tmp_path).name == f"{chip}@hwmon7"
    assert only(tmp_path).read() == pytest.approx(3.128544)


def test_without_a_power_file_voltage_times_current_is_the_power(tmp_path):
    tree(tmp_path, "sys/class/hwmon/hwmon2", name="ina219", in1_input=5000, curr1_input=500)
    assert only(tmp_path).read() == pytest.approx(2.5)


def test_a_shunt_that_the_driver_was_not_told_makes_the_sensor_unusable(tmp_path):
    tree(tmp_path, "sys/class/hwmon/hwmon2", name="ina226", in1_input=5000, curr1_input=500, shunt_resistor=0)
    found = find(tmp_path, no_command)
    assert not found.sensors
    assert "shunt_resistor is not set" in found.problems[0]


def test_of_a_jetsons_ina3221_the_input_rail_speaks_for_the_board(tmp_path):
    tree(tmp_path, "sys/class/hwmon/hwmon4", name="ina3221",
         in1_label="VDD_IN", in1_input=19064, curr1_input=288, in2_label="VDD_CPU_GPU_CV", in2_input=19056,
         curr2_input=32, in3_label="NC", in3_input=0, curr3_input=0, in7_label="Sum", in7_input=1)  # fmt: skip
    found = find(tmp_path, no_command)
    assert [s.name for s in found.sensors] == ["ina3221@hwmon4:VDD_IN", "ina3221@hwmon4:VDD_CPU_GPU_CV"]
    assert choose(found).name == "ina3221@hwmon4:VDD_IN"
    assert choose(found).read() == pytest.approx(19.064 * 0.288)


def test_a_chip_is_named_by_its_place_on_the_bus_where_that_is_known(tmp_path):
    folder = tree(tmp_path, "sys/class/hwmon/hwmon2", name="ina219", in1_input=5000, curr1_input=500)
    (folder / "device").symlink_to(tree(tmp_path, "sys/devices/i2c-1/1-0040"))
    assert only(tmp_path).name == "ina219@1-0040"


def test_a_jetson_with_jetpack_4_names_its_rails_in_iio(tmp_path):
    tree(tmp_path, "sys/bus/iio/devices/iio:device0", name="ina3221x", rail_name_0="POM_5V_IN", in_power0_input=2310,
         rail_name_1="POM_5V_GPU", in_power1_input=80, rail_name_2="POM_5V_CPU", in_power2_input=520)  # fmt: skip
    chosen = choose(find(tmp_path, no_command))
    assert (chosen.name, chosen.read()) == ("ina3221x:POM_5V_IN", pytest.approx(2.31))


def test_an_iio_power_channel_is_raw_times_scale_in_milliwatts(tmp_path):
    tree(tmp_path, "sys/bus/iio/devices/iio:device1", name="ina226", in_power2_raw=125, in_power2_scale="12.5",
         in_voltage1_raw=4000, in_voltage1_scale="1.25", in_current3_raw=500, in_current3_scale="0.5")  # fmt: skip
    assert only(tmp_path).read() == pytest.approx(1.5625)


def test_iio_voltage_and_current_of_one_index_are_multiplied_with_offset_and_shared_scale(tmp_path):
    tree(tmp_path, "sys/bus/iio/devices/iio:device0", name="pac1934", in_voltage1_raw=1000, in_voltage1_offset=-10,
         in_voltage_scale="5", in_current1_raw=200, in_current1_scale="2.0", in_voltage2_raw=9)  # fmt: skip
    assert only(tmp_path).read() == pytest.approx(4.95 * 0.4)


def test_an_iio_device_without_power_is_no_power_sensor(tmp_path):
    tree(tmp_path, "sys/bus/iio/devices/iio:device0", name="mpu6050", in_accel_x_raw=1, in_temp_raw=2)
    assert find(tmp_path, no_command) == Found((), ())


def test_a_raspberry_pi_5_adds_up_the_rails_that_have_both_current_and_voltage(tmp_path):
    tree(tmp_path, "proc/device-tree", model="Raspberry Pi 5 Model B Rev 1.0\0")
    found = find(tmp_path, lambda command: PMIC if command == ["vcgencmd", "pmic_read_adc"] else "")
    expected = 0.00292764 * 3.725106 + 0.0780808 * 3.315018 + 1.641 * 0.8435047
    assert found.sensors[0].read() == pytest.approx(expected)


@pytest.mark.parametrize("said", ["", "VDD_CORE_A current(7)=1.2.3A", "error=1"])
def test_a_raspberry_pi_5_that_answers_nonsense_has_no_sensor_and_says_so(tmp_path, said):
    tree(tmp_path, "proc/device-tree", model="Raspberry Pi 5 Model B Rev 1.0")
    found = find(tmp_path, lambda command: said)
    assert not found.sensors and "pmic_read_adc" in found.problems[0]


def test_a_vcgencmd_that_is_missing_hangs_or_fails_is_a_problem_and_no_crash(tmp_path):
    tree(tmp_path, "proc/device-tree", model="Raspberry Pi 5 Model B Rev 1.0")
    for error in (FileNotFoundError(2, "missing"), subprocess.TimeoutExpired("vcgencmd", 2)):

        def fail(command, error=error):
            raise error

        assert "cannot be run" in find(tmp_path, fail).problems[0]


def test_a_raspberry_pi_4_is_sent_to_an_external_meter(tmp_path):
    tree(tmp_path, "proc/device-tree", model="Raspberry Pi 4 Model B Rev 1.4")
    with pytest.raises(SensorError, match="Raspberry Pi 4 .* external meter"):
        choose(find(tmp_path, no_command))


def test_rapl_adds_up_packages_and_neither_subzones_nor_the_platform_nor_copies(rapl):
    rapl_sensor = only(rapl)
    assert rapl_sensor.read() == 0
    for zone in (rapl / "sys/class/powercap").iterdir():
        (zone / "energy_uj").write_text("1500000\n")
    assert rapl_sensor.read() == pytest.approx(2 * 0.5)


def test_a_rapl_counter_that_wraps_goes_on_counting(rapl):
    rapl_sensor = only(rapl)
    rapl_sensor.read()
    zone = rapl / "sys/class/powercap/intel-rapl:0/energy_uj"
    total = 0.0
    for now, step in ((1_900_000, 0.9), (100_000, 0.2), (1_800_000, 1.7), (300_000, 0.5)):
        zone.write_text(f"{now}\n")
        total += step
        assert rapl_sensor.read() == pytest.approx(total)


def test_a_rapl_counter_beyond_its_own_range_is_an_error(rapl):
    rapl_sensor = only(rapl)
    zone = rapl / "sys/class/powercap/intel-rapl:0"
    (zone / "energy_uj").write_text("5000000\n")
    rapl_sensor.read()
    (zone / "energy_uj").write_text("100\n")
    with pytest.raises(SensorError, match="went from 5000000 to 100"):
        rapl_sensor.read()


def test_what_root_alone_may_read_is_named(rapl, monkeypatch):
    real = Path.read_text

    def read_text(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(SensorError, match=r"rapl: .*energy_uj can be read by root only"):
        choose(find(rapl, no_command))


@pytest.mark.parametrize("content", ["", "n/a", "nan", "inf", "-9000000", "99999999999999", "\udcff"])
def test_a_sensor_that_reads_nonsense_is_not_used(tmp_path, content):
    folder = tree(tmp_path, "sys/class/hwmon/hwmon1", name="ina219", in1_input=5000, curr1_input=500)
    (folder / "power1_input").write_bytes(content.encode(errors="surrogateescape"))
    found = find(tmp_path, no_command)
    assert not found.sensors and found.problems[0].startswith("ina219@hwmon1: ")


def test_a_file_that_goes_missing_is_named(tmp_path):
    folder = tree(tmp_path, "sys/class/hwmon/hwmon1", name="ina219", in1_input=5000, curr1_input=500)
    chosen = only(tmp_path)
    (folder / "curr1_input").unlink()
    with pytest.raises(SensorError, match="curr1_input cannot be read: No such file"):
        chosen.read()


def test_several_rails_are_never_added_up_unasked(tmp_path):
    for number in (1, 2):
        tree(tmp_path, f"sys/class/hwmon/hwmon{number}", name="ina219", in1_input=5000, curr1_input=100 * number)
    found = find(tmp_path, no_command)
    with pytest.raises(SensorError, match="ina219@hwmon1, ina219@hwmon2"):
        choose(found)
    assert choose(found, "ina219@hwmon2").read() == pytest.approx(1.0)
    assert choose(found, "ina219@hwmon1+ina219@hwmon2").read() == pytest.approx(1.5)
    with pytest.raises(SensorError, match="not one twice"):
        choose(found, "ina219@hwmon1+ina219@hwmon1")
    with pytest.raises(SensorError, match="no power sensor called x .*ina219@hwmon1"):
        choose(found, "x")


def test_a_board_sensor_goes_before_the_processors_own(rapl):
    tree(rapl, "sys/class/hwmon/hwmon1", name="ina226", in1_input=5000, curr1_input=500)
    assert choose(find(rapl, no_command)).name == "ina226@hwmon1"


def test_a_machine_without_sensors_has_no_power_and_a_reason(tmp_path):
    recording = open_recording("auto", find(tmp_path, no_command))
    begin = time.perf_counter()
    with recording.run():
        pass
    assert time.perf_counter() - begin < 0.1  # nothing to measure idle with
    with pytest.raises(NotMeasured, match="no power sensor was found"):
        recording.power(1)


def test_watts_are_integrated_by_the_trapezoid_rule():
    span = Span(at=10.0)
    for at, watts in ((10.0, 2.0), (10.5, 4.0), (11.5, 4.0), (12.0, 0.0)):
        span.add(at, watts)
    assert span.joules == pytest.approx(1.5 + 4.0 + 1.0)
    assert span.watts(0.5) == pytest.approx(3.25)


def test_a_counters_joules_are_differences():
    span = Span(counts=True, at=1.0)
    for at, joules in ((1.0, 5.0), (1.1, 5.5), (2.0, 7.0)):
        span.add(at, joules)
    assert (span.joules, span.seconds) == (pytest.approx(2.0), pytest.approx(1.0))


def test_a_counter_that_leaps_is_no_measurement():
    span = Span(counts=True)
    for at, joules in ((0.0, 0.0), (0.1, 1.0), (0.2, 1e6)):
        span.add(at, joules)
    with pytest.raises(NotMeasured, match="counter moved by"):
        span.watts(0.1)


def test_idle_is_subtracted_and_stated():
    idle, run = Span(), Span()
    for at in (0.0, 0.5, 1.0):
        idle.add(at, 2.0)
        run.add(4 * at, 5.0)
    power = evaluate(idle, run, 10, "ina219", "a rail", 0.5)
    assert (power.measured_w, power.idle_w, power.joules_per_frame) == pytest.approx((3.0, 2.0, 1.2))
    assert power.report()["label"] == "measured" and power.report()["sensor"] == "ina219"


def test_a_run_that_takes_no_more_than_idle_has_no_figure():
    spans = [Span(), Span()]
    for span, watts in zip(spans, (2.0, 1.9), strict=True):
        for at in (0.0, 0.5, 1.0):
            span.add(at, watts)
    with pytest.raises(NotMeasured, match="fake read 1.9 W in the run and 2 W before"):
        evaluate(*spans, 1, "fake", "", 0.5)


def test_the_meter_samples_in_the_background_while_the_run_computes():
    clock = time.perf_counter
    with Meter(Sensor("fake", "", lambda: 3.0, interval_s=0.005)) as meter, meter.span() as span:
        begin = clock()
        while clock() - begin < 0.2:
            math.factorial(2000)
    assert span.samples > 10
    assert span.watts(0.005) == pytest.approx(3.0)
    assert span.seconds == pytest.approx(0.2, abs=0.1)


def test_a_run_shorter_than_the_sensors_pace_has_no_figure():
    with Meter(sensor([3.0], interval_s=10)) as meter, meter.span() as span:
        pass
    with pytest.raises(NotMeasured, match="too short for a sensor that is read every 10 s"):
        span.watts(10)


def test_one_failed_reading_does_not_spoil_a_measurement():
    with Meter(sensor([3.0, "busy", 3.0])) as meter, meter.span() as span:
        time.sleep(0.1)
    assert span.watts(0.005) == pytest.approx(3.0)


def test_a_sensor_that_vanishes_in_the_run_leaves_no_figure_and_is_left_alone():
    readings = 0

    def read() -> float:
        nonlocal readings
        readings += 1
        if readings > 3:
            raise SensorError("power1_input cannot be read: No such device")
        return 3.0

    with Meter(Sensor("fake", "", read, interval_s=0.002)) as meter:
        with meter.span() as first:
            time.sleep(0.1)
        with meter.span() as second:
            pass
    for span in (first, second):
        with pytest.raises(NotMeasured, match="stopped answering: power1_input cannot be read: No such device"):
            span.watts(0.002)
    assert readings == 3 + FAILURES


def test_a_gap_in_the_samples_is_no_measurement():
    span = Span()
    for at in (0.0, 0.1, 0.2, 9.0, 9.1):
        span.add(at, 1.0)
    with pytest.raises(NotMeasured, match="gave nothing for 8.8 s"):
        span.watts(0.1)


def test_a_recording_measures_idle_first():
    watts = [2.0]
    recording = Recording(Sensor("fake", "a rail", lambda: watts[0], interval_s=0.01))
    with recording.run():
        watts[0] = 6.0
        time.sleep(0.2)
    power = recording.power(4)
    assert power.idle_w == pytest.approx(2.0, abs=0.05)
    assert power.measured_w == pytest.approx(4.0, abs=0.3)
    assert power.joules_per_frame == pytest.approx(power.measured_w * power.seconds / 4)


POWER_FORM = "time_s,power_w\n" + "".join(f"{t / 10:.1f},{2 if t < 20 else 5}\n" for t in range(61))
PRODUCT_FORM = "note,Time_s,Voltage_V,Current_A\n" + "".join(
    f"x,{t / 10:.1f},5.0,{0.4 if t < 20 else 1.0}\n" for t in range(61)
)


@pytest.mark.parametrize("text", [POWER_FORM, PRODUCT_FORM])
def test_an_external_meters_file_gives_joules_per_frame(tmp_path, text):
    path = tmp_path / "meter.csv"
    path.write_text(text)
    power = from_file(path, (0.0, 1.5), (2.0, 4.05), 10)
    assert (power.idle_w, power.measured_w) == pytest.approx((2.0, 3.0))
    assert power.joules_per_frame == pytest.approx(3.0 * 2.05 / 10)
    assert power.sensor == "meter.csv"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected the header time_s,power_w or time_s,voltage_v,current_a"),
        ("1,2\n3,4\n", "begins with '1,2'"),
        ("time_s,power_w\n", "no complete row"),
        ("time_s,power_w\n1,2\n2,x\n", "line 3: '2,x' is not time_s,power_w in numbers"),
        ("time_s,power_w\n1,2\n2\n", "line 3: '2' is not"),
        ("time_s,power_w\n1,2\n2,nan\n", "line 3: nan W"),
        ("time_s,power_w\n1,2\n2,1e9\n", "line 3: 1e\\+09 W"),
        ("time_s,power_w\n1,2\n3,2\n2,2\n", "line 4: the time 2.0000 s is not after 3.0000 s"),
        ("time_s,power_w\n1,2\n1,2\n", "line 3: the time 1.0000 s is not after 1.0000 s"),
        ("time_s,power_w\ninf,2\n", "line 2"),
    ],
)
def test_a_meters_file_that_is_none_is_refused_by_line(tmp_path, text, complaint):
    path = tmp_path / "meter.csv"
    path.write_text(text)
    with pytest.raises(MeterFileError, match=complaint):
        MeterFile(path)


def test_a_last_line_that_is_still_being_written_is_left_out(tmp_path):
    path = tmp_path / "meter.csv"
    path.write_text("time_s,power_w\n1,2\n2,2\n3,2")
    assert MeterFile(path).times.tolist() == [1.0, 2.0]


def test_a_meters_file_that_does_not_cover_the_run_gives_no_figure(tmp_path):
    path = tmp_path / "meter.csv"
    path.write_text(POWER_FORM)
    for idle, run in (((-1.0, 1.0), (2.0, 3.0)), ((0.0, 1.0), (5.0, 7.0))):
        with pytest.raises(NotMeasured, match="covers 0.000 to 6.000 s since 1970"):
            from_file(path, idle, run, 1)


def test_power_from_a_meter_is_filled_in_after_the_run(tmp_path, capsys):
    meter, stats = tmp_path / "meter.csv", tmp_path / "stats.json"
    meter.write_text(POWER_FORM)
    stats.write_text(json.dumps({"frames": 10, "power": None, "power_windows": {"idle": [0, 1.5], "run": [2, 4]}}))
    assert command.main([str(meter), str(stats)]) == 0
    assert json.loads(stats.read_text())["power"]["measured_w"] == pytest.approx(3.0)
    assert "3.000 W above 2.000 W idle, 0.6 J a frame" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"frames": 1, "power_windows": {"idle": [0]}}'])
def test_a_stats_file_that_does_not_say_when_its_run_was_is_refused(tmp_path, content, capsys):
    meter, stats = tmp_path / "meter.csv", tmp_path / "stats.json"
    meter.write_text(POWER_FORM)
    stats.write_text(content)
    assert command.main([str(meter), str(stats)]) == 2
    assert "does not say when its run was" in capsys.readouterr().err


def test_a_named_sensor_that_is_not_there_and_a_wrong_meters_file_are_refused_before_the_run(tmp_path):
    with pytest.raises(SensorError, match="no power sensor called ina219"):
        open_recording("ina219", find(tmp_path, no_command))
    (tmp_path / "meter.csv").write_text("a,b\n")
    with pytest.raises(MeterFileError, match="expected the header"):
        open_recording(str(tmp_path / "meter.csv"))
