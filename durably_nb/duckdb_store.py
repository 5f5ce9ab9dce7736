"""`DuckDBStore`: the store in a DuckDB file; the contract of its verbs is in store.py.

The live runs in memory answer, the writer thread makes it durable, and one lock orders both.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from durably_nb.admission import about, admit, expire
from durably_nb.clock import Clock
from durably_nb.codecs import artifact_names
from durably_nb.database import explained, identifier, literal
from durably_nb.errors import ConflictError, NotFoundError
from durably_nb.events import (
    RunCancelEvent,
    RunDeleteEvent,
    RunLeasedEvent,
    RunLeaseRenewedEvent,
)
from durably_nb.ids import new_id
from durably_nb.interrupts import uninterrupted
from durably_nb.ledger import Ledger, closed_error
from durably_nb.models import ACTIVE, Lease
from durably_nb.opening import open_database
from durably_nb.reading import Cursors, Reading
from durably_nb.rows import from_ms, to_ms
from durably_nb.store import Claim, Created
from durably_nb.targets import shown_target
from durably_nb.wording import shown
from durably_nb.writer import Commit, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import datetime
    from pathlib import Path

    import duckdb

    from durably_nb.artifacts import Artifacts
    from durably_nb.events import DurablyEvent
    from durably_nb.models import JSONValue, NewRun, RunRecord
    from durably_nb.opening import Database
    from durably_nb.store import Draft, Overview, Receipt, RecentEvents, RunQuery


@dataclass(frozen=True, slots=True)
class _Opened:
    database: Database
    ledger: Ledger
    reading: Reading
    cursors: Cursors


class DuckDBStore:
    """Keeps runs and their events in a DuckDB file, in memory, or in a connection of the user's."""

    def __init__(self, target: Path | str | duckdb.DuckDBPyConnection, *, clock: Clock | None = None) -> None:
        """Take a path, ``":memory:"`` or an open connection; nothing is opened yet."""
        self._target = target
        self._clock = clock or Clock()
        self._opening = threading.Lock()
        self._post: Callable[[Receipt], None] = lambda _: None
        self._report: Callable[[Exception], None] = lambda _: None
        self._deadlines: dict[str, float] = {}
        self._opened: _Opened | None = None

    # --- opening and closing ---

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._opened is not None

    @property
    def name(self) -> str:
        """What it is opened on, as a repr shows it."""
        return shown_target(self.path or self._target)

    def __repr__(self) -> str:
        """Show the file, and whether it is open."""
        return f"<DuckDBStore {self.name} {'open' if self.is_open else 'not open'}>"

    @property
    def path(self) -> Path | None:
        """The database file; None in memory or while it is not open."""
        return None if self._opened is None else self._opened.database.path

    @property
    def artifacts(self) -> Artifacts | None:
        """The files beside the database; None in memory or while it is not open."""
        return None if self._opened is None else self._opened.database.artifacts

    def open(self) -> None:
        """Open the database; does nothing if it is open."""
        with self._opening:
            if self._opened is None:
                database = open_database(self._target)
                self._opened = _Opened(
                    database=database,
                    ledger=Ledger(database, self._clock, accepted=self._accepted, failed=self._report_failure),
                    reading=Reading(database.cursor),
                    cursors=Cursors(database.connection.cursor),
                )

    def close(self) -> None:
        """Write what is left and let go of the file; may be called twice."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            with explained("The database"), uninterrupted():
                opened.reading.cursors.close()
                opened.cursors.close()
                opened.ledger.close()

    def _accepted(self, receipt: Receipt) -> None:
        self._post(receipt)

    def _report_failure(self, error: Exception) -> None:
        self._report(error)

    def on_accepted(self, post: Callable[[Receipt], None]) -> None:
        """Call `post` with each event as it is numbered, in that order; it must not call back."""
        self._post = post

    def on_failure(self, report: Callable[[Exception], None]) -> None:
        """Call `report` after a commit failed and the state was read again."""
        self._report = report

    # --- triggers ---

    def create_runs(self, new: Sequence[NewRun]) -> list[Created]:
        """Create runs, all or none, and wait until they are on disk."""
        commit = Commit()
        with self._ledger as ledger:
            created, some = admit(ledger, new, self._with_idempotency_keys(new), commit)
        if some:
            commit.result()
        return created

    def _with_idempotency_keys(self, new: Sequence[NewRun]) -> dict[tuple[str, str], RunRecord]:
        keys = [(request.job_name, request.idempotency_key) for request in new if request.idempotency_key is not None]
        if not keys:
            return {}
        runs = self._reading.runs_with_idempotency_keys(keys)
        gone = self._ledger.live.gone
        return {(run.job_name, run.idempotency_key or ""): run for run in runs if run.run_id not in gone}

    # --- execution ---

    def claim_run(
        self, job_names: Collection[str], owner: str, lease_ms: int, excluding: Collection[str]
    ) -> Claim | None:
        """Lease the pending run of these jobs that is next; None if there is none."""
        with self._ledger as ledger:
            run = None
            if self._clock.monotonic() >= ledger.held_until:
                run = ledger.live.next_pending(job_names, excluding)
            if run is None:
                return None
            lease = self._lease(run.run_id, owner, ledger.live.next_generation(run), lease_ms)
            draft = partial(
                RunLeasedEvent, input=run.input, lease_owner=owner, lease_expires_at=lease.expires_at, **about(run)
            )
            receipt = ledger.accept(draft, run.run_id, {"generation": lease.generation})
        if run.lease_generation == 0:
            return Claim(run, lease, receipt, {})
        self.flush()  # a former holder's last checkpoints may still be on their way
        return Claim(run, lease, receipt, self._reading.completed_steps(run.run_id))

    def renew_lease(self, lease: Lease, lease_ms: int) -> Receipt:
        """Extend a lease by `lease_ms` from now."""
        with self._ledger as ledger:
            ledger.live.check(lease)
            run = self._known(lease.run_id)
            renewed = self._lease(run.run_id, lease.owner, lease.generation, lease_ms)
            draft = partial(
                RunLeaseRenewedEvent, lease_owner=lease.owner, lease_expires_at=renewed.expires_at, **about(run)
            )
            return ledger.accept(draft, run.run_id)

    def check_lease(self, lease: Lease) -> None:
        """Raise if the lease is no longer the newest of its run."""
        with self._ledger as ledger:
            ledger.live.check(lease)

    def release_lease(self, lease: Lease) -> None:
        """Give a run back, unfinished: it is pending again, and first in line."""
        with self._ledger as ledger:
            ledger.live.check(lease)
            ledger.accept_internal("store:release", lease.run_id)

    def expire_leases(self) -> list[Receipt]:
        """Give back the runs whose lease is over; those that cannot be pending beside another fail."""
        with self._ledger as ledger:
            now = self._clock.monotonic()
            leased = ledger.live.leased
            self._deadlines = {run.run_id: self._deadlines[run.run_id] for run in leased}
            over = [run for run in leased if self._deadlines[run.run_id] <= now]
            receipts = [expire(ledger, run) for run in over]
        return [receipt for receipt in receipts if receipt is not None]

    def append(
        self, draft: Draft, lease: Lease, extra: Mapping[str, JSONValue] | None = None, *, durable: bool = False
    ) -> Receipt:
        """Add an event of the run that `lease` holds."""
        with self._ledger as ledger:
            ledger.live.check(lease)
            return ledger.accept(draft, lease.run_id, extra, commit=Commit() if durable else None)

    def append_in(
        self, transaction: duckdb.DuckDBPyConnection, draft: Draft, lease: Lease, extra: Mapping[str, JSONValue]
    ) -> Receipt:
        """Add an event and commit the open transaction of that connection with it: both or neither."""
        commit = Commit()
        with self._ledger as ledger:
            ledger.live.check(lease)
            receipt = ledger.accept(draft, lease.run_id, extra, commit=commit, transaction=Transaction(transaction))
            live = ledger.live

        def take_back(done: Future[None]) -> None:
            """Undo what the memory made of a checkpoint whose transaction was refused."""
            run = live.get(lease.run_id)
            if done.exception() is not None and run is not None:
                with self._ledger:
                    live.put(replace(run, step_count=run.step_count - 1))

        commit.add_done_callback(take_back)
        return receipt

    def append_foreign(self, draft: Draft, run_id: str | None, extra: Mapping[str, JSONValue] | None = None) -> Receipt:
        """Add an event that changes no state."""
        with self._ledger as ledger:
            if run_id is not None:
                self._known(run_id)
            return ledger.accept(draft, run_id, extra)

    # --- commands ---

    def cancel_run(self, run_id: str) -> Receipt:
        """Cancel a pending or leased run."""
        with self._ledger as ledger:
            run = self._known(run_id)
            if run.status not in ACTIVE:
                raise ConflictError(
                    f"Run {run_id} is {run.status} and cannot be cancelled; only a pending or a leased run can."
                )
            return ledger.accept(partial(RunCancelEvent, **about(run)), run_id, commit=Commit())

    def resume_run(self, run_id: str) -> Future[None]:
        """Make a failed or cancelled run pending again."""
        commit = Commit()
        with self._ledger as ledger:
            run = self._known(run_id)
            if run.status not in {"failed", "cancelled"}:
                raise ConflictError(
                    f"Run {run_id} is {run.status} and cannot be resumed; only a failed or a cancelled run can. "
                    "Use retrigger() for a fresh run with the same input."
                )
            other = ledger.live.with_concurrency_key(run.job_name, run.concurrency_key, "pending")
            if other is not None:
                raise ConflictError(
                    f"Run {run_id} cannot be pending again: run {other.run_id} is, with the same "
                    f"concurrency_key={run.concurrency_key!r}. Cancel that one first, or wait for it."
                )
            ledger.accept_internal("store:resume", run_id, base=run, commit=commit)
        return commit

    def delete_run(self, run_id: str) -> Receipt:
        """Take a terminal run and all its events out; its run:delete stays."""
        with self._ledger as ledger:
            run = self._known(run_id)
            if run.status in ACTIVE:
                raise ConflictError(
                    f"Run {run_id} is {run.status} and cannot be deleted; cancel it first, with cancel()."
                )
            receipt = ledger.accept(
                partial(RunDeleteEvent, **about(run)), run_id, commit=Commit(), transaction=_removal([run_id])
            )
            ledger.live.gone.add(run_id)
        receipt.wait()
        self._have_left([run_id])
        return receipt

    def purge_runs(self, before: datetime, limit: int) -> int:
        """Take out up to `limit` terminal runs that ended before a time, oldest first; tell how many."""
        self.flush()
        commit = Commit()
        with self._ledger as ledger:
            ended = self._reading.ended_before(to_ms(before), limit)
            run_ids = [run_id for run_id in ended if not ledger.is_active(run_id) and run_id not in ledger.live.gone]
            if not run_ids:
                return 0
            ledger.accept_internal(
                "store:purge", None, extra={"runs": len(run_ids)}, commit=commit, transaction=_removal(run_ids)
            )
            for run_id in run_ids:
                ledger.live.drop(run_id)
            ledger.live.gone.update(run_ids)
        commit.result()
        self._have_left(run_ids)
        return len(run_ids)

    def drop_step_outputs(self, run_id: str) -> None:
        """Forget what the steps of a run returned."""
        commit = Commit()
        with self._ledger as ledger:
            run = self._known(run_id)
            ledger.accept_internal("store:drop-outputs", run_id, commit=commit, transaction=_blanking(run_id))
        commit.result()
        if self.artifacts is not None:
            self.artifacts.sweep(run_id, artifact_names(run.input) | artifact_names(run.output))

    def _have_left(self, run_ids: list[str]) -> None:
        with self._ledger as ledger:
            ledger.live.gone.difference_update(run_ids)
        self._remove_artifacts(run_ids)

    def discard_artifacts(self, run_id: str) -> None:
        """Remove the files of a run that was not created after all."""
        self._remove_artifacts([run_id])

    def _remove_artifacts(self, run_ids: list[str]) -> None:
        if self.artifacts is not None:
            for run_id in run_ids:
                self.artifacts.delete_run(run_id)

    # --- questions ---

    def flush(self) -> None:
        """Return when everything accepted so far is on disk and folded."""
        self._ledger.flush()

    def get_run(self, run_id: str) -> RunRecord | None:
        """Give the state of a run."""
        with self._ledger as ledger:
            if run_id in ledger.live.gone:
                return None
            return ledger.live.get(run_id) or self._reading.run(run_id)

    def find_runs(self, query: RunQuery) -> list[RunRecord]:
        """Give the states of the runs that match, newest first."""
        self.flush()
        return self._reading.find_runs(query)

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them, all as of one moment."""
        self.flush()
        return self._reading.overview(query)

    def latest_events(self, run_id: str) -> list[DurablyEvent]:
        """Give a run's latest state event and its latest progress, in sequence order."""
        self.flush()
        return self._reading.latest_events(self._known(run_id))

    def recent_events(self, run_id: str, most: int) -> RecentEvents:
        """Give a run's latest events: at most so many of its steps, log, progress, and of all else together."""
        self.flush()
        return self._reading.recent_events(self._known(run_id), most)

    def step_output(self, run_id: str, step_name: str) -> JSONValue:
        """Give what a completed step returned."""
        self._known(run_id)
        self.flush()
        return self._reading.step_output(run_id, step_name)

    def pending_by_job(self) -> Mapping[str, int]:
        """Give the numbers of pending runs by job."""
        with self._ledger as ledger:
            return Counter(run.job_name for run in ledger.live if run.status == "pending")

    # --- connections ---

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Give this thread's own connection to the database, for the user's tables."""
        with self._ledger:
            return self._open.cursors.get()

    def interrupt(self, thread: threading.Thread) -> None:
        """Stop the query that a thread's own connection executes, if it does."""
        if self._opened is not None:
            self._opened.cursors.interrupt(thread)

    def reading_cursor(self) -> duckdb.DuckDBPyConnection:
        """Give this thread's connection that sees the library's tables, everything written and folded."""
        self.flush()
        return self._reading.cursors.get()

    def backup(self, path: Path) -> None:
        """Write a copy of the whole database, as it is now, to a new file, with the files beside it."""
        self.flush()
        artifacts = self.artifacts
        if artifacts is None:
            self._copy_database(path)
            return
        with artifacts.removing:
            self._copy_database(path)
            artifacts.copy_to(path.with_name(path.name + ".artifacts"))

    def _copy_database(self, path: Path) -> None:
        database = self._open.database
        copy = identifier(f"backup {new_id()}")  # a name that no other database has, nor another backup meanwhile
        with explained(str(path)):
            cursor = database.connection.cursor()
            try:
                cursor.execute(f"attach {literal(str(path))} as {copy} (storage_version 'v1.0.0')")
                try:
                    cursor.execute(f"copy from database {identifier(database.catalog)} to {copy}")
                finally:
                    cursor.execute(f"detach {copy}")
            finally:
                cursor.close()

    # --- what the verbs share ---

    @property
    def _open(self) -> _Opened:
        if self._opened is None:
            raise closed_error()
        return self._opened

    @property
    def _ledger(self) -> Ledger:
        return self._open.ledger

    @property
    def _reading(self) -> Reading:
        return self._open.reading

    def _known(self, run_id: str) -> RunRecord:
        run = self.get_run(run_id)
        if run is None:
            raise NotFoundError(f"There is no run {shown(run_id)} in this store; d.runs() lists those there are.")
        return run

    def _lease(self, run_id: str, owner: str, generation: int, lease_ms: int) -> Lease:
        self._deadlines[run_id] = self._clock.monotonic() + lease_ms / 1000
        expires_at = from_ms(self._clock.now_ms() + lease_ms)
        return Lease(run_id=run_id, owner=owner, generation=generation, expires_at=expires_at)


def _blanking(run_id: str) -> Transaction:
    blank = """update log set data = json_merge_patch(data::json, '{"output": null, "outputBytes": 0}')::varchar
               where run_id = ? and type = 'step:complete'"""
    return Transaction(statements=((blank, [run_id]),))


def _removal(run_ids: list[str]) -> Transaction:
    return Transaction(
        statements=(
            ("delete from log where run_id in (select unnest($1::varchar[])) and type <> 'run:delete'", [run_ids]),
            ("delete from run_state where run_id in (select unnest($1::varchar[]))", [run_ids]),
        )
    )
