"""`Run`: the handle a user holds. It follows its run live, and sends commands."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Unpack

import traitlets

from durably_nb.capture.origin import FromHere
from durably_nb.definitions import checked_timeout
from durably_nb.errors import CancelledError, NotFoundError, RunFailedError, StoreError
from durably_nb.filters import RunEventFilters, RunLogFilters, RunStepFilters
from durably_nb.interrupts import uninterrupted
from durably_nb.keywords import showing
from durably_nb.models import ACTIVE, TERMINAL, Failure, ProgressData
from durably_nb.widgets.host import ListHost as ViewHost
from durably_nb.widgets.pump import pump

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    import ipywidgets
    import pandas as pd

    from durably_nb.events import DurablyEvent
    from durably_nb.history import History
    from durably_nb.models import Disposition, JSONValue, RunRecord
    from durably_nb.waiting import Wakeup

_LOOK_S: Final = 0.5
"""How often somebody who waits without a limit looks whether a worker is still there."""

_DRAW_S: Final = 0.1
"""How often somebody who waits draws: some front ends ignore what other threads than the cell's send."""


class Host(ViewHost, Protocol):
    """What carries out the commands of a handle."""

    history: History

    def decode(self, stored: JSONValue, where: str) -> Any:  # noqa: ANN401 - any value that was stored
        """Give the value that was stored."""

    def waiting(self) -> AbstractContextManager[None]:
        """Know that this thread waits, in this block, for as long as it takes."""

    def refuse_endless(self, run_id: str) -> None:
        """Refuse to wait for a run that nobody executes, nor will."""

    def resume(self, run_id: str) -> Run:
        """Make a failed or cancelled run pending again."""

    def retrigger(self, run_id: str) -> Run:
        """Create a fresh run with the same input."""

    def step_output(self, run_id: str, step_name: str) -> Any:  # noqa: ANN401 - any value that was stored
        """Give what a completed step returned."""


class Run(traitlets.HasTraits):
    """A run of a job. Its traits follow the run while it executes; observe them, or link them to widgets.

    They change on the thread where listeners are called; see `Durably.on`.

    Attributes:
        id: ULID of the run.
        job_name: Name of its job.
        status: ``"pending"``, ``"leased"``, ``"completed"``, ``"failed"`` or ``"cancelled"``.
        progress: The latest `ProgressData`, or None.
        current_step: Name of the step that executes, or None.
        output: What the job function returned; None before that.
        error: ``"ValueError: no such month"``, or None.
        disposition: How the trigger that gave this handle was answered: ``"created"``,
            ``"idempotent"`` or ``"coalesced"``.

    """

    id = traitlets.Unicode(read_only=True)
    job_name = traitlets.Unicode(read_only=True)
    status = traitlets.Unicode(read_only=True)
    progress = traitlets.Instance(ProgressData, allow_none=True, read_only=True)
    current_step = traitlets.Unicode(allow_none=True, default_value=None, read_only=True)
    output = traitlets.Any(allow_none=True, read_only=True)
    error = traitlets.Unicode(allow_none=True, default_value=None, read_only=True)

    def __init__(self, host: Host, record: RunRecord, changed: Wakeup, disposition: Disposition = "created") -> None:
        """Take the state so far; the host brings what follows. Handles share `changed`: a lock each is dear."""
        super().__init__()
        self._host = host
        self._record = record
        self._ended = record.status in TERMINAL
        self._deleted = False
        self._changed = changed
        # Events come on the thread that executes, states on any: each is taken whole, and none after a later one.
        self._lock = threading.RLock()
        self.disposition = disposition

    def __repr__(self) -> str:
        """Show what it is and where it stands, in a line."""
        about = [self._standing()]
        if self.progress is not None and self.is_active:
            total = "" if self.progress.total is None else f"/{self.progress.total}"
            about.append(f"{self.progress.current}{total}")
        if self.current_step is not None:
            about.append(f"in step {self.current_step!r}")
        if self.error is not None:
            about.append(self.error.partition("\n")[0])
        return f"<Run {self.id} of {self.job_name}: {', '.join(about)}>"

    # --- what is known of it ---

    @property
    def input(self) -> dict[str, Any]:
        """The input, by parameter name, as it was validated."""
        return self._host.decode(self._record.input, "input")  # type: ignore[no-any-return]

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels it was triggered with."""
        return dict(self._record.labels)

    @property
    def created_at(self) -> datetime:
        """When it was triggered."""
        return self._record.created_at

    @property
    def started_at(self) -> datetime | None:
        """When a worker first claimed it."""
        return self._now().started_at

    @property
    def completed_at(self) -> datetime | None:
        """When it ended."""
        return self._now().completed_at

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether it is pending or executing."""
        return self.status in ACTIVE

    # --- waiting ---

    def wait(self, timeout: float | None = None) -> Run:
        """Return when the run has ended, however it ended. Ctrl-C stops the waiting, not the run.

        Raises:
            TimeoutError: If it has not ended after `timeout` seconds.
            ConflictError: If no timeout is given and it would wait for ever: no worker runs or is left for it, or
                its job is not defined here.

        """
        checked_timeout(timeout)
        try:
            has_ended = self._wait_without_limit() if timeout is None else self._wait(timeout)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._waiting_stopped()) from None
        if not has_ended:
            raise TimeoutError(
                f"Waited {timeout} seconds for run {self.id} of {self.job_name}, which is {self._standing()}. "
                "It was not stopped: wait again, or cancel it with run.cancel()."
            )
        return self

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - what the job function returned
        """Wait for the run to end and give what the job function returned.

        Raises:
            RunFailedError: If it failed.
            CancelledError: If it was cancelled.
            TimeoutError: If it has not ended after `timeout` seconds.
            ConflictError: If no timeout is given and it would wait for ever, as in `wait`.

        """
        self.wait(timeout).raise_if_not_completed()
        return self.output

    def __await__(self) -> Generator[Any, None, Any]:
        """Await the run in a cell: the same as `result`, without blocking the kernel."""
        return self._result_soon().__await__()

    def raise_if_not_completed(self) -> None:
        """Raise as `result` does if the run failed or was cancelled.

        Raises:
            RunFailedError: If it failed.
            CancelledError: If it was cancelled.

        """
        if self.status == "failed":
            record = self._now()
            failure = record.failure or Failure(type="Error", message=self.error or "")
            raise RunFailedError(
                self.id,
                type=failure.type,
                message=failure.message,
                traceback=failure.traceback,
                failed_step_name=record.failed_step_name,
            )
        if self.status == "cancelled":
            raise CancelledError(
                f"Run {self.id} of {self.job_name} was cancelled. run.resume() goes on after its last completed step."
            )

    # --- commands ---

    def cancel(self) -> None:
        """Cancel the run: at once if it is pending; else its function is asked to stop.

        Raises:
            ConflictError: If it has ended.

        """
        self._host.cancel(self.id)

    def resume(self) -> Run:
        """Let a failed or cancelled run go on after its last completed step; gives this handle.

        Raises:
            ConflictError: If it is pending, executing or completed.

        """
        _ = self._host.resume(self.id)
        return self

    def retrigger(self) -> Run:
        """Create a fresh run with the same input, labels and concurrency key.

        Raises:
            ConflictError: If this one is pending or executing.

        """
        return self._host.retrigger(self.id)

    def delete(self) -> None:
        """Delete the run, its events and its files.

        Raises:
            ConflictError: If it is pending or executing.

        """
        self._host.delete_run(self.id)

    # --- what people look at ---

    def _ipython_display_(self) -> None:
        """Show its live panel in the cell; of a run that has ended, the record; where it is not found any more, why."""
        from durably_nb.widgets.panel import show  # noqa: PLC0415 - ipywidgets is loaded when it is needed

        try:
            show(self._host, self.id)
        except (NotFoundError, StoreError) as error:
            print(f"{self!r}\n{error}")  # noqa: T201 - what the cell shows

    def progress_bar(self) -> ipywidgets.HBox:
        """Give a progress bar and a label that follow the run: core widgets, for a layout of one's own."""
        from durably_nb.widgets.panel import progress_bar  # noqa: PLC0415 - as above

        return progress_bar(self._host, self.id)

    # --- history ---

    @showing(RunEventFilters)
    def events(self, **filters: Unpack[RunEventFilters]) -> pd.DataFrame:
        """Give its events as a DataFrame; filters as in `Durably.events`."""
        return self._host.history.events(run_id=self.id, **filters)

    @showing(RunStepFilters)
    def steps(self, **filters: Unpack[RunStepFilters]) -> pd.DataFrame:
        """Give its steps as a DataFrame, a row for each execution of one; filters as in `Durably.steps`."""
        return self._host.history.steps(run_id=self.id, **filters)

    @showing(RunLogFilters)
    def logs(self, **filters: Unpack[RunLogFilters]) -> pd.DataFrame:
        """Give its log as a DataFrame; filters as in `Durably.logs`."""
        return self._host.history.logs(run_id=self.id, **filters)

    def step_output(self, step_name: str) -> Any:  # noqa: ANN401 - what the step returned
        """Give what a completed step returned.

        Raises:
            NotFoundError: If no step of that name is completed.

        """
        return self._host.step_output(self.id, step_name)

    # --- following ---

    def observe(self, handler: Callable[..., Any], names: Any = traitlets.All, type: Any = "change") -> None:  # noqa: A002, ANN401 - the signature of HasTraits
        """Call `handler` when a trait changes, on the thread where listeners are called; see `Durably.on`."""
        for trait in self.trait_names():
            getattr(self, trait)  # traits are filled when they are first asked for: a change needs what was before
        super().observe(FromHere(handler), names, type)

    def __dir__(self) -> list[str]:
        """Complete what is for users; the rest is for the host."""
        return sorted({*super().__dir__()} - {"on_event", "raise_if_not_completed", "refresh"})

    def on_event(self, event: DurablyEvent) -> None:
        """Follow an event of the run; called by the host, in sequence order."""
        change = _CHANGES.get(event.type)
        if change is None:
            return
        with self._lock:
            if event.sequence > self._record.last_sequence:
                change(self, event)

    def refresh(self, record: RunRecord) -> None:
        """Take a state of the run, unless a later one is known already."""
        with self._lock:
            if record.last_sequence >= self._record.last_sequence:
                self._take(record)

    def _take(self, record: RunRecord) -> None:
        self._record = record
        self._ended = False
        try:
            with self.hold_trait_notifications():  # whoever observes one of them finds the others as they are now
                self.set_trait("status", record.status)
                self.set_trait("error", None if record.failure is None else str(record.failure))
                if record.progress is not None:
                    self.set_trait("progress", record.progress)
                if record.status != "leased":
                    self.set_trait("current_step", None)
                if self.trait_has_value("output"):
                    self.set_trait("output", self._decoded_output())
                self._ended = record.status in TERMINAL
        finally:  # an observer may raise; whoever waits must not wait for ever
            if record.status in TERMINAL:
                self._ended = True
                self._changed.notify()

    @traitlets.default("id")
    def _first_id(self) -> str:
        return self._record.run_id

    @traitlets.default("job_name")
    def _first_job_name(self) -> str:
        return self._record.job_name

    @traitlets.default("status")
    def _first_status(self) -> str:
        return self._record.status

    @traitlets.default("progress")
    def _first_progress(self) -> ProgressData | None:
        return self._record.progress

    @traitlets.default("error")
    def _first_error(self) -> str | None:
        return None if self._record.failure is None else str(self._record.failure)

    @traitlets.default("output")
    def _decoded_output(self) -> Any:  # noqa: ANN401 - what the job function returned
        if self._record.status != "completed":
            return None
        return self._host.decode(self._record.output, f"the output of run {self._record.run_id}")

    def _on_leased(self, event: DurablyEvent) -> None:
        self._record = replace(self._record, status="leased", last_sequence=event.sequence)
        self._ended = False
        self.set_trait("status", "leased")

    def _on_progress(self, event: Any) -> None:  # noqa: ANN401 - the event of this name
        self.set_trait("progress", event.progress)

    def _on_step_start(self, event: Any) -> None:  # noqa: ANN401 - the event of this name
        self.set_trait("current_step", event.step_name)

    def _on_step_end(self, event: Any) -> None:  # noqa: ANN401 - the event of this name
        if self.current_step == event.step_name:
            self.set_trait("current_step", None)

    def _on_end(self, _: DurablyEvent) -> None:
        with suppress(NotFoundError):  # deleted meanwhile, which is told next
            self._take(self._host.run_record(self.id))

    def _on_delete(self, _: DurablyEvent) -> None:
        self._ended = self._deleted = True
        self._changed.notify()

    def _standing(self) -> str:
        if self._deleted:
            return "deleted"
        reason = self._host.waits_for(self.job_name) if self.status == "pending" else None
        return self.status if reason is None else f"{self.status}, waiting for {reason}"

    def _has_ended(self) -> bool:
        return self._ended

    def _wait_without_limit(self) -> bool:
        with self._host.waiting():
            while not self._changed.wait_for(self._has_ended, 0):
                self._host.refuse_endless(self.id)
                self._wait(_LOOK_S)
        return True

    def _waiting_stopped(self) -> str:
        return f"The waiting was stopped; run {self.id} of {self.job_name} goes on."

    def _wait(self, timeout_s: float) -> bool:
        """Wait for the end, up to so many seconds, and draw meanwhile what is to be drawn."""
        deadline = time.monotonic() + min(timeout_s, threading.TIMEOUT_MAX)
        while not self._changed.wait_for(self._has_ended, min(_DRAW_S, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                return False
            _draw()
        _draw(early=True)
        return True

    def _now(self) -> RunRecord:
        return self._record if self._record.status in TERMINAL else self._host.run_record(self.id)

    def _tick(self) -> None:
        self._host.refuse_endless(self.id)
        _draw()

    async def _result_soon(self) -> Any:  # noqa: ANN401 - what the job function returned
        try:
            with self._host.waiting():
                await self._changed.until(self._has_ended, each_tick=self._tick)
        except asyncio.CancelledError:
            # By the stop button, most of all: it is asyncio's, and easily taken for the run's own.
            raise asyncio.CancelledError(self._waiting_stopped()) from None
        _draw(early=True)
        self.raise_if_not_completed()
        return self.output


def _draw(*, early: bool = False) -> None:
    """Draw what is to be drawn; at the end early: what executes notebooks takes nothing more when the cell is done."""
    if threading.current_thread() is threading.main_thread():
        with uninterrupted():  # half a drawing would leave out what it took, for good
            pump.turn(early=early)


_CHANGES: Final[dict[str, Callable[[Run, Any], None]]] = {
    "run:leased": Run._on_leased,  # noqa: SLF001 - the table of this class
    "run:progress": Run._on_progress,  # noqa: SLF001
    "run:complete": Run._on_end,  # noqa: SLF001
    "run:fail": Run._on_end,  # noqa: SLF001
    "run:cancel": Run._on_end,  # noqa: SLF001
    "run:delete": Run._on_delete,  # noqa: SLF001
    "step:start": Run._on_step_start,  # noqa: SLF001
    "step:complete": Run._on_step_end,  # noqa: SLF001
    "step:fail": Run._on_step_end,  # noqa: SLF001
    "step:cancel": Run._on_step_end,  # noqa: SLF001
}
