"""Runs spiking networks from bundles, without torch.

>>> network = simulator.load("edge/bundles/denoise.safetensors")
>>> restored = network.run(image).image
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.network import Network

__all__ = ["load"]


def load(path: str | os.PathLike[str], backend: str = "numba", threads: int | None = None) -> Network:
    """The network in a bundle file, ready to run; see `simulator.network.load`."""
    # Imported here so that `import simulator` does not wait for NumPy and Numba.
    from simulator import network

    return network.load(path, backend, threads)
