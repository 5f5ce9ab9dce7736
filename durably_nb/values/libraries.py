"""NumPy, pandas and pyarrow, each imported when something of it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["np", "pa", "pc", "pd", "pq"]


class _Library:
    """Stands for a module that is slow to load."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)
        return found


if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:
    np = _Library("numpy")
    pd = _Library("pandas")
    pa = _Library("pyarrow")
    pc = _Library("pyarrow.compute")
    pq = _Library("pyarrow.parquet")
