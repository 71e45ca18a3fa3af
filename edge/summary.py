"""The lines at the end of a run, from the figures that --stats stores."""

from __future__ import annotations

from typing import Any

from edge import terminal
from edge.errors import UserError
from simulator.files import reason


def tell(lines: list[str], *, quiet: bool, beside_stats: bool, kept: str = "") -> None:
    """Prints the summary, on standard error where standard output is for programs (`--stats -`).

    Raises UserError where it cannot be printed; kept: what is there all the same, as the end of that sentence.
    """
    if quiet:
        return
    try:
        if beside_stats:
            for text in lines:
                terminal.say(text)
        else:
            terminal.print_out(lines)
    except OSError as error:
        raise UserError(f"the summary cannot be printed: {reason(error)}{kept}.") from error


def frames_line(figures: dict[str, Any]) -> str:
    """What every run says."""
    frames = figures["frames"]
    latency = figures["latency_ms"]
    return (
        f"{figures['task']} ({figures['network']}): {frames} frame{'s' * (frames != 1)},"
        f" latency {latency['median']:.1f} ms median, {latency['p95']:.1f} ms p95"
        + (
            f", spike rate {figures['totals']['spike_rate']:.4f},"
            f" energy {figures['energy']['estimated_uj']:.1f} uJ a frame (estimated)"
            if figures["energy"]
            else ""
        )
    )


def board_lines(figures: dict[str, Any]) -> list[str]:
    """Which board it was, what its clock counts, and what the whole way took; of several, what each did."""
    latency, computed = figures["end_to_end_ms"], figures.get("computed_pixels_per_pixel")
    first = (
        f"on {figures['backend']}, whose latency is {figures['latency_clock']};"
        f" end to end {latency['median']:.1f} ms median, {latency['p95']:.1f} ms p95"
        + (f"; in tiles, {computed:.2f} pixels computed for each of the picture" if computed else "")
    )
    return [first, *map(_board_line, figures.get("boards", []))]


def _board_line(board: dict[str, Any]) -> str:
    latency, power, failures = board["end_to_end_ms"], board["power"], board["failures"]
    pictures, pieces = board["pictures"], board["pieces"]
    line = (
        f"  {board['board']}: {pictures:.4g} picture{'s' * (pictures != 1)} in"
        f" {pieces} piece{'s' * (pieces != 1)}, busy {board['busy']:.0%}"
    )
    if latency:
        line += f", {latency['median']:.1f} ms median, {latency['p95']:.1f} ms p95 a piece"
    if power:
        line += f"; {power['measured_w']:.3f} W above {power['idle_w']:.3f} W idle (measured by {power['sensor']})"
    if failures:
        line += f"; failed {failures} time{'s' * (failures != 1)}, the last time because {board['reason'].rstrip('.')}"
    return line


def workers_lines(figures: dict[str, Any]) -> list[str]:
    """Of many machines: how many there were, and what each did."""
    machines: dict[str, list[int]] = {}
    for worker, pictures in figures["workers"].items():
        machines.setdefault(worker.rpartition(":")[0], []).append(pictures)
    return [
        f"  {machine}: {sum(pictures)} picture{'s' * (sum(pictures) != 1)}"
        f" by {len(pictures)} process{'es' * (len(pictures) != 1)}"
        for machine, pictures in machines.items()
    ]


def power_line(power: dict[str, Any]) -> str:
    """What was measured."""
    return (
        f"power {power['measured_w']:.3f} W above {power['idle_w']:.3f} W idle,"
        f" {power['joules_per_frame']:.4g} J a frame (measured by {power['sensor']}: {power['covers']})"
    )


def live_line(live: dict[str, Any]) -> str:
    """What became of the pictures of a live source."""
    delay = live["delay_ms"]
    age = f"; {delay['median']:.0f} ms from arrival until restored, {delay['p95']:.0f} ms p95" if delay else ""
    dropped, broken, again = live["dropped"], live["broken"], live["reconnects"]
    return (
        f"live: {dropped} picture{'s' * (dropped != 1)} dropped for newer ones, {broken} broken,"
        f" connected again {again} time{'s' * (again != 1)}{age}"
    )
