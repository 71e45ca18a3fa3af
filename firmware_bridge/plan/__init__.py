"""The device plan: a network compiled into what the C core runs. PLAN.md beside this folder is the format.

`compiler` turns nodes into operations, `memory` gives what they store its place, `records` writes the bytes, `program`
has what passes between them. `python -m firmware_bridge.plan` says what a plan needs.
"""

from firmware_bridge.plan.compiler import PlanError, compile_bundle, compile_plan
from firmware_bridge.plan.program import Plan, StoredValue

__all__ = ["Plan", "PlanError", "StoredValue", "compile_bundle", "compile_plan"]
