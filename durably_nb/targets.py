"""What a store can be opened on: a path, memory, or a connection of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import duckdb

from durably_nb.errors import ValidationError
from durably_nb.wording import shown

_WANTED: Final = 'A store is a path, ":memory:" or an open DuckDB connection'


def checked_target(store: object) -> Path | str | duckdb.DuckDBPyConnection:
    """Give what can be opened.

    Raises:
        ValidationError: If it is neither.

    """
    if isinstance(store, duckdb.DuckDBPyConnection) or (isinstance(store, str) and store == ":memory:"):
        return store
    return checked_path(store)


def checked_path(path: object, wanted: str = _WANTED) -> Path:
    """Give a path of a file with all links resolved; the file need not exist. `wanted` begins what refuses it.

    Raises:
        ValidationError: If it is none.

    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValidationError(f"{wanted}, not {type(path).__name__}.")
    text = os.fspath(path)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValidationError(f"{shown(text)} is no path of a file; give one such as 'jobs.duckdb'.")
    try:
        resolved = Path(text).expanduser().resolve()
        is_directory = resolved.is_dir()
    except (OSError, RuntimeError, UnicodeError) as error:  # too long, links in a circle, nobody's home
        raise ValidationError(f"{text[:100]!a} is no path of a file: {error!s:.100}.") from None
    if is_directory:
        raise ValidationError(
            f"{resolved} is a directory; give the path of a file, such as {resolved / 'jobs.duckdb'}."
        )
    return resolved


def shown_target(target: Path | str | duckdb.DuckDBPyConnection) -> str:
    """Give what a repr says of a target."""
    return "(a DuckDB connection)" if isinstance(target, duckdb.DuckDBPyConnection) else repr(str(target))
