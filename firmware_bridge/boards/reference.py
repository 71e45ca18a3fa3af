"""The NumPy reference as a board."""

from firmware_bridge.boards.sim import Simulator


class Reference(Simulator):
    name = "reference"
    about = "plain NumPy on this machine, slow: what every other backend is measured against"
    backend = "reference"
