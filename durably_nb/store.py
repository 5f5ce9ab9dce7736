"""`Store`: all that the runtime knows of storage, in domain words.

The contract, for whoever implements it:

- Every verb is atomic, may be called from any thread, and numbers its events in the order in which
  they take effect. The state it answers from includes everything that was accepted before.
- A verb returns once the change is accepted. `Receipt.committed` tells when it is on disk; None
  means that nobody needs to wait: it reaches the disk with the next commit, within 100 ms, and
  always before a later event of its run does.
- What is on disk is always a prefix of what was accepted. If a commit fails, everything accepted
  and not yet on disk is void: its receipts get the error, and every lease is lost.
- A verb that takes a `Lease` raises `LeaseLostError` (or `CancelledError`, if that is why) once
  that lease is no longer the newest of its run, and changes nothing.
- After `close` every verb raises `StoreError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import datetime
    from pathlib import Path
    from threading import Thread

    import duckdb

    from durably_nb.artifacts import Artifacts
    from durably_nb.events import DurablyEvent
    from durably_nb.models import CompletedStep, Disposition, JSONValue, Lease, NewRun, RunRecord, RunStatus

Draft = partial[Any]
"""An event class with its fields bound; the store adds `sequence` and `timestamp`."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepted event.

    Attributes:
        event: The event, numbered.
        committed: Done when it is on disk; None: nobody needs to wait.
        emitted: Whether a user emitted it, so that it says nothing of its run's state.

    """

    event: DurablyEvent
    committed: Future[None] | None = None
    emitted: bool = False

    def wait(self) -> None:
        """Return when it is on disk. Raises StoreError if its commit failed."""
        if self.committed is not None:
            self.committed.result()

    @property
    def ready(self) -> bool:
        """Whether listeners may hear of it."""
        return self.committed is None or self.committed.done()

    @property
    def void(self) -> bool:
        """Whether its commit failed, so that it never happened."""
        return self.committed is not None and self.committed.done() and self.committed.exception() is not None


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to one trigger; `receipt` is None for an idempotent hit, which has no event."""

    run: RunRecord
    disposition: Disposition
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A run to execute: its lease, its input, and the steps it has completed before."""

    run: RunRecord
    lease: Lease
    receipt: Receipt
    completed: Mapping[str, CompletedStep]


@dataclass(frozen=True, slots=True)
class RecentEvents:
    """The latest events of a run in sequence order; `hidden` counts, by type, those there were before."""

    events: list[DurablyEvent]
    hidden: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunQuery:
    """Which runs are asked for, newest first: those that match all of it, `limit` of them after `offset`.

    Attributes:
        status: Their states; as with the others, None is no condition.
        job_names: The names of their jobs.
        labels: They have all of these.
        text: It is in their id, job, input, labels or error.
        run_ids: Their ids.
        limit: So many at most; None: all.
        offset: So many are passed over.

    """

    status: Collection[RunStatus] | None = None
    job_names: Collection[str] | None = None
    labels: Mapping[str, str] | None = None
    text: str | None = None
    run_ids: Collection[str] | None = None
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """Many runs at a glance.

    Attributes:
        by_job: How many runs there are of each job in each state, whatever else is asked for than `run_ids`.
        counts: How many match what is asked for but the state, by state.
        runs: Those that match all of it, newest first, so many after so many.

    """

    by_job: Mapping[str, Mapping[RunStatus, int]]
    counts: Mapping[RunStatus, int]
    runs: list[RunRecord]


class Store(Protocol):
    """Where runs and their events are kept."""

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""

    @property
    def path(self) -> Path | None:
        """The database file, if there is one."""

    @property
    def artifacts(self) -> Artifacts | None:
        """Where large values go; None: they stay in the database."""

    def open(self) -> None:
        """Bring the schema up to date, read the state, and release the leases of dead holders."""

    def close(self) -> None:
        """Write what is still to be written, and let go of file and lock; may be called twice."""

    # --- triggers ---

    def create_runs(self, new: Sequence[NewRun]) -> list[Created]:
        """Create runs, all or none, and wait until they are on disk.

        Raises:
            ConflictError: A pending run has the concurrency key, and `coalesce` is not asked for.

        """

    # --- execution ---

    def claim_run(
        self, job_names: Collection[str], owner: str, lease_ms: int, excluding: Collection[str]
    ) -> Claim | None:
        """Lease the pending run of these jobs that is next; None if there is none."""

    def renew_lease(self, lease: Lease, lease_ms: int) -> Receipt:
        """Extend a lease by `lease_ms` from now."""

    def check_lease(self, lease: Lease) -> None:
        """Raise if the lease is no longer the newest of its run."""

    def release_lease(self, lease: Lease) -> None:
        """Give a run back, unfinished: it is pending again, and first in line."""

    def expire_leases(self) -> list[Receipt]:
        """Give back the runs whose lease is over; those that cannot be pending beside another fail."""

    def append(
        self, draft: Draft, lease: Lease, extra: Mapping[str, JSONValue] | None = None, *, durable: bool = False
    ) -> Receipt:
        """Add an event of the run that `lease` holds; run:complete and run:fail end the lease.

        `extra` is kept in the event's row, beside its fields; `durable` asks for a receipt to wait for.
        """

    def append_in(
        self, transaction: duckdb.DuckDBPyConnection, draft: Draft, lease: Lease, extra: Mapping[str, JSONValue]
    ) -> Receipt:
        """Add an event and commit the open transaction of that connection with it: both or neither."""

    def append_foreign(self, draft: Draft, run_id: str | None, extra: Mapping[str, JSONValue] | None = None) -> Receipt:
        """Add an event that changes no state: one that a user emits, a worker:error, a late step:cancel."""

    # --- commands ---

    def cancel_run(self, run_id: str) -> Receipt:
        """Cancel a pending or leased run. Raises NotFoundError, ConflictError."""

    def resume_run(self, run_id: str) -> Future[None]:
        """Make a failed or cancelled run pending again. Raises NotFoundError, ConflictError."""

    def delete_run(self, run_id: str) -> Receipt:
        """Take a terminal run and all its events out, and wait; its run:delete stays. Raises as `cancel_run`."""

    def purge_runs(self, before: datetime, limit: int) -> int:
        """Take out up to `limit` terminal runs that ended before a time, oldest first; tell how many."""

    def drop_step_outputs(self, run_id: str) -> None:
        """Forget what the steps of a run returned."""

    def discard_artifacts(self, run_id: str) -> None:
        """Remove the files of a run that was not created after all."""

    # --- questions ---

    def flush(self) -> None:
        """Return when everything accepted so far is on disk and folded."""

    def get_run(self, run_id: str) -> RunRecord | None:
        """Give the state of a run."""

    def find_runs(self, query: RunQuery) -> list[RunRecord]:
        """Give the states of the runs that match, newest first."""

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them, all as of one moment."""

    def latest_events(self, run_id: str) -> list[DurablyEvent]:
        """Give a run's latest state event and its latest progress, in sequence order."""

    def recent_events(self, run_id: str, most: int) -> RecentEvents:
        """Give a run's latest events: at most so many of its steps, log, progress, and of all else together."""

    def step_output(self, run_id: str, step_name: str) -> JSONValue:
        """Give what a completed step returned. Raises NotFoundError."""

    def pending_by_job(self) -> Mapping[str, int]:
        """Give the numbers of pending runs by job."""

    # --- the user's own ---

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Give this thread's own connection to the database, for the user's tables."""

    def interrupt(self, thread: Thread) -> None:
        """Stop the query that a thread's own connection executes, if it does."""

    def reading_cursor(self) -> duckdb.DuckDBPyConnection:
        """Give this thread's connection that sees the library's tables, everything written and folded."""

    def backup(self, path: Path) -> None:
        """Write a copy of the whole database, as it is now, to a new file."""

    def on_accepted(self, post: Callable[[Receipt], None]) -> None:
        """Call `post` with each event as it is numbered, in that order; it must not call back."""

    def on_failure(self, report: Callable[[Exception], None]) -> None:
        """Call `report` after a commit failed and the state was read again."""
