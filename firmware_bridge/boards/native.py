"""The C core in this process as a board."""

from __future__ import annotations

from firmware_bridge.boards.core import CoreBoard
from firmware_bridge.machine import HOST
from firmware_bridge.native import Core, CoreError
from firmware_bridge.toolchain import BuildError


class Native(CoreBoard):
    name = "native"
    about = "the C core on this machine, in this process"

    @classmethod
    def packages(cls) -> tuple[str, ...]:
        return HOST.missing_packages()

    @classmethod
    def missing(cls) -> str:
        try:
            Core(b"")
        except CoreError:
            pass  # it is there and refuses an empty plan
        except BuildError as error:
            return str(error)
        return ""

    def _open(self, plan: bytes) -> Core:
        return Core(plan)

    def _look(self, plan: bytes) -> Core:
        return Core(plan)
