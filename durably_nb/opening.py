"""Opening a store: the lock, the file, the schema, and the state that the log tells of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from durably_nb import schema
from durably_nb.artifacts import Artifacts
from durably_nb.codecs import artifact_names
from durably_nb.database import Atomic, catalog_of, connect, explained, identifier, use
from durably_nb.errors import SerializationError, StoreCorruptError, StoreError, StoreLockedError
from durably_nb.ownership import Ownership
from durably_nb.recovery import recover
from durably_nb.run_state import set_meta, write_states
from durably_nb.writer import MAX_UNWRITTEN

if TYPE_CHECKING:
    from durably_nb.models import RunRecord


@dataclass(slots=True)
class Database:
    """An open database: `runs` are those that are not ended, `sequence` the last that was given."""

    connection: duckdb.DuckDBPyConnection
    catalog: str
    path: Path | None
    ownership: Ownership | None
    artifacts: Artifacts | None
    is_ours: bool
    runs: list[RunRecord]
    sequence: int

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Give a new connection that sees the library's own tables."""
        return use(self.connection.cursor(), self.catalog)

    def close(self, *, sequence: int | None) -> None:
        """Let go of file and lock; note the last sequence if all that was accepted is on disk."""
        try:
            if sequence is not None or self.path is None:  # in memory nothing is left behind
                with Atomic(self.connection) as connection:
                    set_meta(connection, _schema(self.catalog), "closed", str(sequence or 0))
        finally:
            self.connection.close()
            if self.ownership is not None:
                self.ownership.release()


def open_database(target: Path | str | duckdb.DuckDBPyConnection) -> Database:
    """Open a file, an in-memory database (``":memory:"``) or a user's own connection.

    Raises:
        StoreLockedError: If another process has the file.
        StoreCorruptError: If it is no database, a damaged one, or one of a newer version.
        StoreError: If it cannot be opened for another reason.

    """
    if isinstance(target, duckdb.DuckDBPyConnection):
        with explained("The connection"):
            catalog, file = catalog_of(target)
            _refuse_attached(target, catalog)
        path = Path(file).resolve() if file else None
    else:
        path = None if target == ":memory:" else Path(target)
    ownership = None
    if path is not None:
        ownership = Ownership(path)
        ownership.acquire()
    try:
        with explained(str(target)):
            return _opened(target, path, ownership)
    except BaseException:
        if ownership is not None:
            ownership.release()
        raise


def _refuse_attached(connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Refuse a connection that uses a database it attached: its cursors would go to the other one."""
    with connection.cursor() as cursor:
        main, _ = catalog_of(cursor)
    if main != catalog:
        raise StoreError(
            f"The connection uses the database {catalog!r}, which it has attached beside {main!r}. Detach it and give "
            "the path of its file, or a connection that was opened on it."
        )


def _refuse_shared(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a database in memory that another store has: there is no file to lock, and no crash it outlives."""
    if connection.execute("select 1 from meta where key = 'closed' and value = ''").fetchall():
        raise StoreLockedError(
            "The database in memory behind this connection is in use by another Durably of this process. "
            "Go on with that one, or close() it first."
        )


def _opened(target: Path | str | duckdb.DuckDBPyConnection, path: Path | None, ownership: Ownership | None) -> Database:
    is_ours = not isinstance(target, duckdb.DuckDBPyConnection)
    if isinstance(target, duckdb.DuckDBPyConnection):
        connection = target.cursor()
    elif path is None:
        connection = duckdb.connect(":memory:")
    else:
        connection = connect(path)
    try:
        catalog, _ = catalog_of(connection)
        _migrate(connection, catalog)
        use(connection, catalog)
        if path is None:
            _refuse_shared(connection)
        artifacts = None if path is None else Artifacts(path.with_name(path.name + ".artifacts"))
        runs, sequence, was_closed = _read(connection, _schema(catalog))
        if artifacts is not None and not was_closed:
            _sweep(connection, artifacts)
    except BaseException:
        connection.close()
        raise
    return Database(connection, catalog, path, ownership, artifacts, is_ours, runs, sequence)


def _migrate(connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Bring the schema up to date, in one transaction; a file of a newer version is not touched."""
    version = _version(connection, catalog)
    if version > schema.VERSION:
        raise StoreCorruptError(
            f"The database {catalog!r} was written by a newer version of durably_nb (schema {version}; this one knows "
            f"{schema.VERSION}); nothing was changed. Upgrade with: pip install --upgrade durably_nb"
        )
    with Atomic(connection):
        if version == 0:
            connection.execute(f"create schema if not exists {_schema(catalog)}")
        use(connection, catalog)
        for migration in schema.MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        for statement in schema.VIEWS:
            connection.execute(statement)
        set_meta(connection, _schema(catalog), "version", str(schema.VERSION))


def _version(connection: duckdb.DuckDBPyConnection, catalog: str) -> int:
    tables = connection.execute(
        "select table_name from information_schema.tables where table_catalog = ? and table_schema = ?",
        [catalog, schema.NAME],
    ).fetchall()
    if not tables:
        return 0
    try:
        query = f"select value::integer from {_schema(catalog)}.meta where key = 'version'"  # noqa: S608 - the catalog's name, quoted
        ((version,),) = connection.execute(query).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ConversionException, ValueError):
        raise StoreCorruptError(
            f"The database {catalog!r} has a schema named {schema.NAME!r} that is not this library's; nothing was "
            "changed. Rename that schema, or open another file."
        ) from None
    return int(version)


def _read(connection: duckdb.DuckDBPyConnection, qualified: str) -> tuple[list[RunRecord], int, bool]:
    """Read the runs that are not ended, the last sequence, and whether the store was closed properly."""
    meta = dict(connection.execute("select key, value from meta").fetchall())
    found = recover(connection)
    with Atomic(connection):
        write_states(connection, qualified, list(found.unfolded.values()))
        set_meta(connection, qualified, "closed", "")
    closed = meta.get("closed")
    was_closed = closed != ""
    # Listeners may have heard of events that never reached the disk: their numbers are not used again.
    sequence = max(found.last, int(closed or 0)) if was_closed else found.last + MAX_UNWRITTEN
    return list(found.active.values()), sequence, was_closed


def _sweep(connection: duckdb.DuckDBPyConnection, artifacts: Artifacts) -> None:
    """Remove what a crash left behind: artifacts that no row names."""
    for run_id in artifacts.run_ids():
        try:
            named = _named(connection, run_id)
        except SerializationError:
            continue  # a value is damaged: which files are its own, nobody can tell
        artifacts.sweep(run_id, named)


def _named(connection: duckdb.DuckDBPyConnection, run_id: str) -> set[str]:
    """Return the names of all files that the rows of a run name."""
    found = connection.execute("select data from log where run_id = ? and contains(data, '\"$\"')", [run_id]).fetchall()
    named: set[str] = set()
    for (data,) in found:
        fields: dict[str, Any] = json.loads(data)
        named.update(*map(artifact_names, fields.values()))
    return named


def _schema(catalog: str) -> str:
    return f"{identifier(catalog)}.{schema.NAME}"
