"""The writer: commits all that is queued in one go, in the order in which it was put.

Whoever must know that something is on disk waits for its `Commit`; while one commit is under way,
the next batch gathers (group commit). What nobody waits for rides along with the next commit, or
goes within 100 ms. The fold of what was written follows in the table `run_state`, at the latest
100 ms behind the log.

One thread owns all this. But a worker that waits, and finds that nobody is writing, does the
writing itself: waking another thread and being woken by it costs a fifth of a commit.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import duckdb

from durably_nb import schema
from durably_nb.database import Atomic, explain, identifier
from durably_nb.errors import StoreError
from durably_nb.fold import fold
from durably_nb.models import TERMINAL
from durably_nb.rows import EMITTED, Row, data_of, encode_json
from durably_nb.run_state import write_states

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durably_nb.events import Event
    from durably_nb.models import JSONValue, RunRecord
    from durably_nb.recovery import Recovered

LAG_S: Final = 0.1
"""How long, in seconds, something waits for a commit that nobody asked for."""

MAX_UNWRITTEN: Final = 50_000
"""How far the numbering may run ahead of the disk: a bound on memory, and on what a crash can lose."""

_NEVER: Final = math.inf
_FEW: Final = 8  # up to here, one list of VALUES a row is quicker than lists of columns


@dataclass(frozen=True, slots=True)
class Transaction:
    """What else is committed with a row: a user's open transaction, or statements of the store."""

    connection: duckdb.DuckDBPyConnection | None = None
    statements: Sequence[tuple[str, list[object]]] = ()


@dataclass(slots=True, kw_only=True)
class Entry:
    """Something queued: what its row is made of, who waits for it, what is committed with it.

    `base` is the state of its run before it, where the writer cannot know it: a run that had ended.
    """

    sequence: int
    ms: int
    run_id: str | None
    type: str
    event: Event | None = None
    extra: Mapping[str, JSONValue] | None = None
    commit: Commit | None = None
    transaction: Transaction | None = None
    base: RunRecord | None = None
    overtaken: bool = False

    def row(self) -> Row:
        """Give the row of the log."""
        data = {} if self.event is None else data_of(self.event)
        if self.extra:
            data |= self.extra
        return Row(self.sequence, self.ms, self.run_id, self.type, data)


class Commit(Future[None]):
    """Done when what it stands for is on disk."""

    writer: Writer | None = None

    def result(self, timeout: float | None = None) -> None:
        """Wait for it. Raises StoreError if the commit failed."""
        if self.writer is not None and not self.done():
            self.writer.hasten(self)
        return super().result(timeout)

    def add_done_callback(self, fn: Callable[[Future[None]], object]) -> None:
        """Have `fn` called when it is done."""
        super().add_done_callback(fn)
        if self.writer is not None and not self.done():
            self.writer.wake()


class Writer:
    """Writes entries in the order in which they were put."""

    def __init__(  # noqa: PLR0913 - a thread is given all it works with
        self,
        connection: duckdb.DuckDBPyConnection,
        catalog: str,
        lock: threading.RLock,
        *,
        written: int,
        states: dict[str, RunRecord],
        folded: Callable[[Sequence[RunRecord]], None],
        failed: Callable[[], Recovered],
        report: Callable[[Exception], None],
    ) -> None:
        """Take over the write connection and start the thread.

        Args:
            connection: Nobody else uses it from now on.
            catalog: DuckDB's name of the database.
            lock: The lock under which entries are numbered and put.
            written: The sequence of the last row on disk.
            states: The runs that are not ended, as the disk has them.
            folded: Called with runs whose state is in `run_state` now.
            failed: Called, with the lock held, when a commit failed and all that was put is void;
                gives the state that the disk tells of.
            report: Called afterwards, with the error, without the lock.

        """
        # The inserts are as plain as can be; the optimizer only costs them a tenth of a commit.
        self._connection = connection.execute("pragma disable_optimizer")
        self._schema = f"{identifier(catalog)}.{schema.NAME}"
        self._changed = threading.Condition(lock)
        self._tell_folded = folded
        self._recover = failed
        self._report = report
        # Guarded by the lock:
        self._queue: list[Entry] = []
        self._progress: dict[str | None, Entry] = {}
        self._put = self._written = self._folded = written
        self._write_by = self._fold_by = _NEVER
        self._failures = 0
        self._urgent = self._folding_asked = self._closing = False
        # Of whoever writes, one at a time:
        self._writing = threading.Lock()
        self._states = states
        self._reached = written
        self._unfolded: list[tuple[Entry, Row]] = []
        self._dirty: dict[str, RunRecord] = {}
        self._thread = threading.Thread(target=self._loop, name="durably-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Queue an entry; called with the lock held."""
        if entry.type == "run:progress" and not (entry.extra and EMITTED in entry.extra):
            self._overtake(entry)
        self._queue.append(entry)
        self._put = entry.sequence
        if entry.commit is not None:
            entry.commit.writer = self
        if self._write_by == _NEVER:
            self._write_by = time.monotonic() + LAG_S
            self._changed.notify_all()

    def hasten(self, commit: Commit) -> None:
        """Have what is queued written now: by this thread if it may and nobody else does, else by the writer's."""
        # Not by the main thread: a Ctrl-C could strike in the middle.
        if threading.current_thread() is not threading.main_thread() and self._writing.acquire(blocking=False):
            try:
                self._turn(folding=False)
            finally:
                self._writing.release()
        if not commit.done():
            self.wake()

    def wake(self) -> None:
        """Have the writer's thread write what is queued now."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def wait_for_space(self) -> None:
        """Return when the disk is not too far behind; called with the lock held, which it gives up."""
        if self._put - self._written > MAX_UNWRITTEN:
            self._changed.wait_for(lambda: self._put - self._written <= MAX_UNWRITTEN or self._closing)

    def flush(self) -> None:
        """Return when everything put so far is on disk and folded, or void."""
        with self._changed:
            target, failures = self._put, self._failures
            if self._folded < target:
                self._urgent = self._folding_asked = True
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._folded >= target or self._failures > failures or not self._thread.is_alive()
                )

    def close(self) -> None:
        """Write what is left and end the thread; may be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # --- the thread ---

    def _loop(self) -> None:
        closing = False
        while not closing:
            folding, closing = self._wait()
            with self._writing:
                self._turn(folding=folding)

    def _wait(self) -> tuple[bool, bool]:
        """Wait until something is to be done; tell whether to fold, and whether it is the last time."""
        with self._changed:
            while not (self._urgent or self._closing):
                wait_s = min(self._write_by, self._fold_by) - time.monotonic()
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s if wait_s < _NEVER else None)
            folding = self._folding_asked or self._closing or time.monotonic() >= self._fold_by
            self._urgent = self._folding_asked = False
            return folding, self._closing

    # --- whoever writes ---

    def _turn(self, *, folding: bool) -> None:
        entries = self._take()
        try:
            self._write(entries)
            if folding:
                self._fold()
            self._settle()
        except Exception as error:  # noqa: BLE001 - every waiter gets it, and the thread must live on
            self._fail(error, entries)

    def _take(self) -> list[Entry]:
        with self._changed:
            entries, self._queue = self._queue, []
            self._progress.clear()
            self._write_by = _NEVER
            return entries

    def _write(self, entries: list[Entry]) -> None:
        alive = (entry for entry in entries if not entry.overtaken)
        # What has a transaction of its own is committed by itself, in its place among the others.
        for alone, group in groupby(alive, key=lambda entry: entry.sequence if entry.transaction else None):
            batch = list(group)
            if alone is None:
                self._commit(batch)
            else:
                self._commit_alone(batch[0])
        if entries:
            self._reached = entries[-1].sequence

    def _settle(self) -> None:
        with self._changed:
            self._written = self._reached
            if not self._unfolded:
                self._folded = self._reached
            self._changed.notify_all()

    def _fail(self, error: Exception, entries: list[Entry]) -> None:
        with self._changed:
            void = [*entries, *self._queue]
            self._queue = []
            self._progress.clear()
            self._failures += 1
            self._write_by = _NEVER
            self._written = self._reached = self._put
            found = self._recover()
            self._states = found.states
            self._dirty = found.unfolded
            self._unfolded.clear()
            self._fold_by = time.monotonic() + LAG_S  # what was read is folded again, for whoever looks into the table
            self._changed.notify_all()
        for entry in void:
            _resolve(entry, error)
        self._report(error)

    def _commit(self, entries: Sequence[Entry]) -> None:
        rows = [entry.row() for entry in entries]
        self._insert(self._connection, rows)
        self._committed(entries, rows)

    def _commit_alone(self, entry: Entry) -> None:
        transaction = entry.transaction or Transaction()
        row = entry.row()
        if transaction.connection is not None:
            try:
                self._insert(transaction.connection, [row])
                transaction.connection.commit()
            except duckdb.Error as error:  # of the user's own work; nobody else is concerned
                _resolve(entry, error)
            else:
                self._committed([entry], [row])
            return
        with Atomic(self._connection) as connection:
            for statement, parameters in transaction.statements:
                connection.execute(statement, parameters)
            self._insert(connection, [row])
        self._committed([entry], [row])

    def _insert(self, connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
        values = [(row.sequence, row.ms, row.run_id, row.type, encode_json(row.data)) for row in rows]
        if len(values) <= _FEW:
            places = ", ".join(["(?, ?, ?, ?, ?)"] * len(values))
            connection.execute(f"insert into {self._schema}.log values {places}", [v for row in values for v in row])  # noqa: S608 - places only
        elif values:
            columns = [list(column) for column in zip(*values, strict=True)]
            connection.execute(
                f"insert into {self._schema}.log "
                "select unnest($1), unnest($2), unnest($3::varchar[]), unnest($4), unnest($5)",
                columns,
            )

    def _committed(self, entries: Sequence[Entry], rows: Sequence[Row]) -> None:
        for entry in entries:
            _resolve(entry, None)
        # Folded later: whoever was waiting has the processor now.
        self._unfolded.extend(zip(entries, rows, strict=True))
        if self._fold_by == _NEVER:
            self._fold_by = time.monotonic() + LAG_S

    def _fold(self) -> None:
        for entry, row in self._unfolded:
            self._follow(entry, row)
        self._unfolded.clear()
        runs = list(self._dirty.values())
        write_states(self._connection, self._schema, runs)
        self._dirty.clear()
        self._fold_by = _NEVER
        for run in runs:
            if run.status in TERMINAL:
                self._states.pop(run.run_id, None)
        self._tell_folded(runs)

    def _follow(self, entry: Entry, row: Row) -> None:
        if row.run_id is None:
            return
        before = entry.base or self._states.get(row.run_id)
        after = fold(before, row)
        if after is None:  # deleted: its transaction took it out of run_state too
            self._states.pop(row.run_id, None)
            self._dirty.pop(row.run_id, None)
        elif after is not before:
            self._states[row.run_id] = self._dirty[row.run_id] = after

    def _overtake(self, entry: Entry) -> None:
        """Of the progress that waits to be written, keep only the latest of each run."""
        before = self._progress.get(entry.run_id)
        if before is not None:
            before.overtaken = True
        self._progress[entry.run_id] = entry


def _resolve(entry: Entry, error: Exception | None) -> None:
    commit = entry.commit
    if commit is None or commit.done():
        return
    if error is None:
        commit.set_result(None)
    elif isinstance(error, duckdb.Error):
        commit.set_exception(explain(error, "The database"))
    else:
        commit.set_exception(StoreError(f"The database could not be written: {error!r}"))
