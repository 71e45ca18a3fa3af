"""What every figure shares: matplotlib without a screen, and PNG files that appear whole."""

from __future__ import annotations

import importlib
import io
import textwrap
from pathlib import Path
from typing import Any

from simulator.files import write_atomically

DPI = 130


class FigureError(ValueError):
    """A figure that cannot be drawn; the message is a sentence for the person at the keyboard."""


def pyplot() -> Any:
    """matplotlib.pyplot, drawing to files; FigureError where matplotlib is missing."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise FigureError("Figures need matplotlib; `pip install 'spikerir-edge[train]'` brings it.") from error
    matplotlib.use("Agg")
    return importlib.import_module("matplotlib.pyplot")


def caption(figure: Any, text: str, width: int = 110, below: float = 0.012) -> None:
    """The protocol, in small print below everything that is drawn.

    width: characters per line. below: distance from the figure's lower edge, in heights of the figure.
    """
    figure.supxlabel(textwrap.fill(text, width), fontsize=8, color="0.3", x=0.5, y=-below, va="top")


def save(figure: Any, path: Path) -> Path:
    """Write PNG, atomically, cut to what is drawn; the figure is closed."""
    content = io.BytesIO()
    figure.savefig(content, dpi=DPI, format="png", bbox_inches="tight", pad_inches=0.15)
    pyplot().close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
    return path
