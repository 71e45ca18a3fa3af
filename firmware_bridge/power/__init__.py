"""Power that was measured, or none at all: sensors of Linux boards, and meters that write CSV files.

`sensors` has a file for each kind of sensor and finds what can be read, `meter` samples and integrates, `meter_file`
reads an external meter's CSV, and `recording` puts a run together: idle first, then the run, then joules per frame.
`python -m firmware_bridge.power` lists the sensors of this machine.
"""
