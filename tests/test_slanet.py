"""The network's output becomes a grid of cells."""

from __future__ import annotations

import numpy as np
import pytest

from mineru_daemon.engines.ppocr.image_tables.slanet import decoded
from mineru_daemon.engines.ppocr.table_html import to_html


def test_spans_of_the_network_become_attributes_and_push_later_cells_aside() -> None:
    vocabulary = ["sos", "<tr>", "</tr>", "<td", ">", "</td>", ' rowspan="2"', "<td></td>", "eos"]
    written = [1, 3, 6, 4, 5, 7, 2, 1, 7, 2, 8, 7]
    chances = np.zeros((len(written), len(vocabulary)), np.float32)
    chances[range(len(written)), written] = 0.75
    structure = decoded(np.full((len(written), 8), 0.5, np.float32), chances, vocabulary, 100.0)
    assert [(cell.row, cell.column, cell.row_span) for cell in structure.cells] == [
        (0, 0, 2),
        (0, 1, 1),
        (1, 1, 1),
    ]
    assert structure.score == pytest.approx(0.75)
    assert '<td rowspan="2"></td>' in to_html(structure.cells)
