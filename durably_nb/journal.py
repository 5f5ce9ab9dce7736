"""The journal: what the holder of a lease writes about its run, and when listeners hear of it."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from durably_nb.errors import CancelledError, LeaseLostError, NotFoundError, StoreError
from durably_nb.events import (
    LogWriteEvent,
    RunCompleteEvent,
    RunFailEvent,
    RunProgressEvent,
    StepCancelEvent,
    StepCompleteEvent,
    StepFailEvent,
    StepStartEvent,
)
from durably_nb.rows import failure_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from durably_nb.models import Failure, JSONValue, Lease, LogLevel, ProgressData, RunRecord
    from durably_nb.outbox import Outbox
    from durably_nb.signals import Signal
    from durably_nb.store import Draft, Receipt, Store


class Journal:
    """Every write is refused, by leaving the job function, once the lease is over."""

    def __init__(self, store: Store, outbox: Outbox, run: RunRecord, lease: Lease, signal: Signal) -> None:
        """Open the journal of a run that was claimed."""
        self.run_id = run.run_id
        self.run = run
        self._store = store
        self._outbox = outbox
        self._lease = lease
        self._signal = signal
        self._about: dict[str, Any] = {"run_id": run.run_id, "job_name": run.job_name, "labels": run.labels}
        # One partial for the kind that is written most, and for the other by the thousand.
        self._log = partial(LogWriteEvent, **self._about)
        self._progress = partial(RunProgressEvent, **self._about)

    def tell(self) -> None:
        """Tell what is ready of this run."""
        self._outbox.tell(self.run_id)

    # --- told at once ---

    def progress(self, progress: ProgressData) -> None:
        """Say how far the run is; nothing happens if the run is no longer ours."""
        self._note(partial(self._progress, progress=progress))

    def log(self, level: LogLevel, message: str, data: JSONValue, step_name: str | None) -> None:
        """Write a line of the run's log; nothing happens if the run is no longer ours."""
        self._note(partial(self._log, level=level, message=message, data=data, step_name=step_name))

    def step_started(self, name: str, index: int) -> None:
        """Say that a step begins to execute."""
        self._write(partial(StepStartEvent, step_name=name, step_index=index, **self._about), self._generation)
        self.tell()

    def step_cancelled(self, name: str, index: int) -> None:
        """Say that the run was cancelled while the step was executing; the lease is over by then."""
        draft = partial(StepCancelEvent, step_name=name, step_index=index, **self._about)
        try:
            self._store.append_foreign(draft, self.run_id, self._generation)
        except NotFoundError:  # the cancelled run was deleted while its function still stood
            return
        self.tell()

    # --- told once they are on disk ---

    def step_completed(  # noqa: PLR0913 - what is known of a completed step
        self,
        name: str,
        index: int,
        output: JSONValue,
        duration_ms: float,
        extra: dict[str, JSONValue],
        *,
        within: duckdb.DuckDBPyConnection | None = None,
    ) -> Receipt:
        """Accept a checkpoint, `within` an open transaction that is committed with it."""
        draft = partial(
            StepCompleteEvent, step_name=name, step_index=index, output=output, duration=duration_ms, **self._about
        )
        extra |= self._generation
        if within is None:
            return self._write(draft, extra, durable=True)
        with self._leaving_if_lost():
            return self._store.append_in(within, draft, self._lease, extra)

    def step_failed(self, name: str, index: int, failure: Failure) -> None:
        """Keep that a step raised."""
        draft = partial(StepFailEvent, step_name=name, step_index=index, error=str(failure), **self._about)
        self.settle(self._write(draft, failure_extra(failure) | self._generation, durable=True))

    def run_completed(self, output: JSONValue, duration_ms: float) -> None:
        """Keep what the run returned."""
        self.settle(
            self._write(partial(RunCompleteEvent, output=output, duration=duration_ms, **self._about), durable=True)
        )

    def run_failed(self, failure: Failure, failed_step_name: str | None) -> None:
        """Keep why the run failed."""
        draft = partial(RunFailEvent, error=str(failure), failed_step_name=failed_step_name, **self._about)
        self.settle(self._write(draft, failure_extra(failure), durable=True))

    def release(self) -> None:
        """Give the run back, unfinished."""
        self._store.release_lease(self._lease)

    def settle(self, receipt: Receipt) -> None:
        """Wait until an event is on disk, and tell it."""
        if receipt.committed is not None:
            try:
                receipt.committed.result()
            except StoreError:
                self.refuse_if_lost()
                raise
            except KeyboardInterrupt:  # ends the wait, not the commit
                self._outbox.tell_when_ready(receipt)
                raise
        self.tell()

    def settle_later(self, receipt: Receipt) -> None:
        """Have an event told when it is on disk, without waiting; tell what is ready by now."""
        self._outbox.tell_when_ready(receipt)
        self.tell()

    def refuse_if_lost(self) -> None:
        """Leave the job function if the lease is over, as it is after a commit that failed."""
        with self._leaving_if_lost():
            self._store.check_lease(self._lease)

    @property
    def _generation(self) -> dict[str, JSONValue]:
        return {"generation": self._lease.generation}

    def _note(self, draft: Draft) -> None:
        try:
            self._store.append(draft, self._lease)
        except (LeaseLostError, CancelledError, StoreError):
            # The function still stands, but what it says has no place any more.
            return
        self.tell()

    def _write(self, draft: Draft, extra: dict[str, JSONValue] | None = None, *, durable: bool = False) -> Receipt:
        with self._leaving_if_lost():
            return self._store.append(draft, self._lease, extra, durable=durable)

    @contextmanager
    def _leaving_if_lost(self) -> Iterator[None]:
        try:
            yield
        except CancelledError:
            self._signal.abort("cancelled")
        except LeaseLostError:
            self._signal.abort("lease-lost")
        else:
            return
        self._signal.throw_if_aborted()
