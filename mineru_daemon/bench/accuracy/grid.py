"""A table laid out on a grid, so that a cell knows what stands above and beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mineru_daemon.bench.accuracy.tables import Cell

Place = tuple[int, int]
"""Row and column of a cell's upper left corner."""

STEPS: dict[str, Place] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


class Grid:
    """Cells of a table, each known by its place."""

    def __init__(self, rows: Sequence[Sequence[Cell]]) -> None:
        self.cells: dict[Place, Cell] = {}
        self._owner: dict[Place, Place] = {}
        """For each field of the grid the place of the cell that covers it."""
        for number, row in enumerate(rows):
            column = 0
            for cell in row:
                while (number, column) in self._owner:
                    column += 1
                self.cells[number, column] = cell
                for down in range(cell.rowspan):
                    for across in range(cell.colspan):
                        field = (number + down, column + across)
                        self._owner.setdefault(field, (number, column))
                column += cell.colspan
        self._height = 1 + max((row for row, _ in self._owner), default=-1)
        self._width = 1 + max((column for _, column in self._owner), default=-1)

    def beside(self, place: Place, direction: str) -> set[Place]:
        """The next cells in a direction: several where spans meet, none at the border."""
        cell = self.cells[place]
        found: set[Place] = set()
        for down in range(cell.rowspan):
            for across in range(cell.colspan):
                start = (place[0] + down, place[1] + across)
                if self._owner.get(start) == place:
                    found |= set(self._first(place, self._path(start, STEPS[direction])))
        return found

    def _path(self, start: Place, step: Place) -> Iterator[Place]:
        row, column = start[0] + step[0], start[1] + step[1]
        while 0 <= row < self._height and 0 <= column < self._width:
            yield row, column
            row, column = row + step[0], column + step[1]

    def _first(self, own: Place, path: Iterable[Place]) -> Iterator[Place]:
        for field in path:
            owner = self._owner.get(field)
            if owner == own:
                # Another field of the cell looks from there.
                return
            if owner is not None:
                yield owner
                return

    def headings(self, place: Place, direction: str) -> set[Place]:
        """Headings between a cell and the border, or what stands at the border without any."""
        seen: set[Place] = set()
        waiting = [place]
        border: set[Place] = set()
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            further = self.beside(here, direction)
            waiting += further
            if not further:
                border.add(here)
        headings = {one for one in seen if self.cells[one].heading} - {place}
        return headings or border - {place}
