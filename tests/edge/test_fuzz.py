"""A short run of `python -m tests.edge.fuzz`; the long one is run by hand."""

from __future__ import annotations

from tests.edge import fuzz


def test_mutated_files_of_every_format_leave_sentences_and_whole_outputs(tmp_path):
    wrong, codes = fuzz.run(0, 150, tmp_path)
    assert wrong == [] and codes.keys() == {"0", "2"} and codes.total() == 150
