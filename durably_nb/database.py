"""Opening the DuckDB file, and what DuckDB's own errors mean to a user."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import duckdb

from durably_nb import schema
from durably_nb.errors import StoreCorruptError, StoreError, StoreLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What this version writes, DuckDB 1.x can read: a notebook may be opened under either.
_STORAGE: Final[dict[str, str | bool | int | float | list[str]]] = {"storage_compatibility_version": "v1.0.0"}

# What DuckDB says of a damaged file, or of one of another kind (of SQLite's, for which it wants an extension).
_DAMAGE: Final = ("not a valid DuckDB database", "Could not read", "Corrupt", "Failure while replaying WAL", "sqlite_")


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a database file, made if there is none.

    Raises:
        StoreLockedError: If another process has it.
        StoreCorruptError: If it is not a DuckDB database, or a damaged one.
        StoreError: If it cannot be opened for another reason.

    """
    with explained(str(path)):
        if not path.exists():
            # Only the first connection may choose the format. It is closed again, since other
            # connections of this process can join only one that was opened without options.
            duckdb.connect(path, config=_STORAGE).close()
        return duckdb.connect(path)


def use(cursor: duckdb.DuckDBPyConnection, catalog: str) -> duckdb.DuckDBPyConnection:
    """Make unqualified names mean the library's own tables, and times mean UTC."""
    cursor.execute(f"use {identifier(catalog)}.{schema.NAME}")
    cursor.execute("set TimeZone = 'UTC'")
    return cursor


def catalog_of(connection: duckdb.DuckDBPyConnection) -> tuple[str, str | None]:
    """Give the name of the connection's current database, and the path of its file if it has one."""
    row = connection.execute(
        "select database_name, path from duckdb_databases() where database_name = current_database()"
    ).fetchall()[0]
    return row[0], row[1]


def identifier(name: str) -> str:
    """Quote a name of the catalog, which comes from the file's name."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a path, for the one statement (ATTACH) that takes no parameters."""
    return "'" + text.replace("'", "''") + "'"


class Atomic:
    """A transaction that is committed at the end of the block, or rolled back if it raises."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Take a connection that is in no transaction."""
        self._connection = connection

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        """Begin."""
        return self._connection.begin()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit, or roll back."""
        if kind is None:
            self._connection.commit()
            return
        # A transaction that DuckDB itself has given up is rolled back already.
        with suppress(duckdb.Error):
            self._connection.rollback()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what DuckDB raises into a sentence about `what`."""
    try:
        yield
    except duckdb.Error as error:
        raise explain(error, what) from error
    except RuntimeError as error:  # DuckDB raises it for a connection that was closed
        raise StoreError(f"{what}: {error}") from error


def explain(error: Exception, what: str) -> StoreError:
    """Give the error of this library that says what an error of DuckDB means."""
    said = str(error).strip()
    if "lock on file" in said:
        return StoreLockedError(
            f"{what} is in use by another program, and one process at a time can have it. DuckDB says: {said}"
        )
    if _is_damage(error) or any(sign in said for sign in _DAMAGE):
        return StoreCorruptError(
            f"{what} is not a DuckDB database, or a damaged one; nothing was changed. "
            f"Open another file, or restore this one from a backup. DuckDB says: {said}"
        )
    return StoreError(f"{what}: DuckDB says: {said}")


def _is_damage(error: Exception) -> bool:
    return isinstance(error, (duckdb.SerializationException, duckdb.InternalException))
