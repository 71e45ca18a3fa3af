"""Tables as people read them: one content, as aligned text, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 116  # characters of a caption's line


@dataclass(frozen=True)
class Table:
    """rows: (label, one cell per column). caption: the protocol; notes: sentences that stand below."""

    headline: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """For a terminal: labels to the left, cells to the right."""
        first = max(len(label) for label, _ in self.rows)
        widths = [max(len(cell) for cell in column) + 2 for column in zip(self.columns, *self._cells(), strict=True)]
        lines = [self.headline, _wrapped(self.caption)]
        for label, cells in (("", self.columns), *self.rows):
            aligned = (f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{label:{first}s}" + "".join(aligned))
        return "\n".join([*lines, *map(_wrapped, self.notes)]) + "\n"

    def markdown(self) -> str:
        head = [f"| | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        rows = [f"| {label} | {' | '.join(cells)} |" for label, cells in self.rows]
        parts = [f"### {self.headline}", self.caption, "\n".join(head + rows), *(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts[:3]) + ("\n\n" + "\n".join(parts[3:]) if self.notes else "") + "\n"

    def csv(self) -> str:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["", *self.columns])
        writer.writerows([label, *cells] for label, cells in self.rows)
        return text.getvalue()

    def _cells(self) -> list[Sequence[str]]:
        return [cells for _, cells in self.rows]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
