"""`python -m firmware_bridge.plan BUNDLE [--out FILE] [--size HxW]`: what a network's plan needs; and writes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_bridge.plan import Plan, PlanError, compile_bundle
from simulator.bundle import BundleError, read_bundle
from simulator.files import reason, write_atomically


def describe(plan: Plan, height: int, width: int) -> str:
    """What the plan needs for an image of that size, in words: sizes in bytes, and what sets the peak."""
    units = plan.units(height, width)
    where, live = plan.peak()
    lines = [
        f"plan        {len(plan.data):,} bytes, {plan.hash}",
        f"operations  {len(plan.operations)} for {len(plan.layers)} nodes; {len(plan.values)} values are stored",
        f"at once     {plan.arena_bytes(height, width):,} bytes for {height}x{width} pixels",
        f"by rows     {plan.arena_bytes(height, width, True):,} bytes for any height at a width of {width} pixels",
    ]
    for side in (plan.align * 4**power for power in range(1, 4)):
        if side < max(height, width):
            rows, columns, times = plan.tiled(height, width, side)
            lines.append(
                f"in tiles    {plan.arena_bytes(rows, columns):,} bytes for tiles of {side} pixels with a halo of "
                f"{plan.halo}, {rows}x{columns}; {times:.2f} times the image's pixels are computed"
            )
    lines.append(f"Most is stored during {where}:")
    for value in sorted(live, key=lambda v: -v.unit_bytes):
        what = f"{value.channels} channels, {value.steps} steps, {value.storage}, scale 1/{value.scale}"
        lines.append(f"{units * value.unit_bytes:>18,} {value.node} ({what})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 for a bundle that cannot be used or a file that cannot be written."""
    parser = argparse.ArgumentParser("python -m firmware_bridge.plan", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="a .safetensors file written by `python -m export.bundle`")
    parser.add_argument("--out", type=Path, help="write the plan to this file")
    parser.add_argument("--size", default="64x64", help="image for which memory is stated, HEIGHTxWIDTH (64x64)")
    options = parser.parse_args(arguments)
    height, _, width = options.size.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        parser.error(f"--size {options.size[:40]!r}: expected HEIGHTxWIDTH in pixels, as 64x64")
    try:
        plan = compile_bundle(read_bundle(options.bundle))
        if options.out:
            write_atomically(options.out, plan.data)
    except (BundleError, PlanError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {options.out} cannot be written: {reason(error)}", file=sys.stderr)
        return 2
    print(describe(plan, int(height), int(width)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
