"""A sheet: the Arrow table in which the columns of a pandas value lie, each found by its position.

What Arrow does not know of pandas (index, dtypes, labels, attrs) stands in the JSON beside it, so nothing
depends on what another version of pandas makes of Arrow's metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durably_nb.values.arrow import get_table, put_table
from durably_nb.values.libraries import pa

if TYPE_CHECKING:
    from durably_nb.values.kinds import Fields, Reader, Writer


class NewSheet:
    """A sheet that is being filled, and the walk for what stands beside it."""

    def __init__(self, walk: Writer, *, text_beside: bool = False) -> None:
        """Begin; with ``text_beside``, text stays out of the table, so that people can read it in the JSON."""
        self.walk = walk
        self.text_beside = text_beside
        self._columns: dict[str, pa.Array] = {}

    def add(self, column: pa.Array, label: object) -> int:
        """Take a column, under its label if that can be its name, and return its position."""
        at = len(self._columns)
        name = label.encode(errors="replace").decode() if isinstance(label, str) else f"column {at}"
        while name in self._columns:
            name += "_"
        self._columns[name] = column
        return at

    def put(self) -> Fields:
        """Put the table away and return what stands for it."""
        return {"table": put_table(pa.table(self._columns), self.walk)} if self._columns else {}


class Sheet:
    """A sheet that is read back, and the walk for what stands beside it."""

    def __init__(self, stored: Fields, walk: Reader) -> None:
        """Read the table, if there is one."""
        self.walk = walk
        self._columns: list[pa.ChunkedArray] = get_table(stored["table"], walk).columns if "table" in stored else []

    def __getitem__(self, at: int) -> pa.ChunkedArray:
        """Return the column at a position."""
        return self._columns[at]
