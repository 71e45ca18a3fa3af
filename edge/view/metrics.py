"""The numbers of a run in Prometheus's text format."""

from __future__ import annotations

from typing import Any

# Name, type, what it says, and its name in `edge.live.Figures.report`.
_METRICS = (
    ("frames_total", "counter", "Pictures that were restored.", "frames"),
    ("dropped_total", "counter", "Pictures that came while the network was busy.", "dropped"),
    ("broken_total", "counter", "Pictures that could not be decoded.", "broken"),
    ("reconnects_total", "counter", "Times that the source was connected to again.", "reconnects"),
    ("frames_per_second", "gauge", "Pictures restored per second, of the last seconds.", "fps"),
    ("latency_milliseconds", "gauge", "Time that the network took for the last picture.", "latency_ms"),
    ("delay_milliseconds", "gauge", "Time from arrival until restored, of the last picture.", "delay_ms"),
    ("spike_rate", "gauge", "Synaptic operations through those if every neuron fired.", "spike_rate"),
    ("energy_estimated_microjoules", "gauge", "Estimated from the operations of the last picture.", "estimated_uj"),
    ("power_watts", "gauge", "Measured by the machine's sensor.", "power_w"),
)


def text(figures: dict[str, Any]) -> str:
    """`figures` as `Figures.report` gives them, with power_w where there is a sensor."""
    labels = f'task="{_escaped(figures["task"])}",bundle="{_escaped(figures["bundle"])}"'
    lines = []
    for name, kind, says, key in _METRICS:
        value = figures.get(key)
        if value is not None:
            lines += _head(name, kind, says)
            lines.append(f"edge_restore_{name}{{{labels}}} {value}")
    lines += _head("up", "gauge", "1 while the source gives pictures.")
    lines.append(f"edge_restore_up{{{labels}}} {int(figures['status'] == 'running')}")
    if figures.get("layers"):
        lines += _head("layer_spike_rate", "gauge", "Spikes per neuron and time step of the last picture.")
        for layer in figures["layers"]:
            each = f'{labels},layer="{_escaped(layer["name"])}"'
            lines.append(f"edge_restore_layer_spike_rate{{{each}}} {layer['spike_rate']}")
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, says: str) -> list[str]:
    return [f"# HELP edge_restore_{name} {says}", f"# TYPE edge_restore_{name} {kind}"]


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
