"""`Durably`: builds the parts, starts them and closes them in order."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, Unpack, overload

from durably_nb import lifetimes
from durably_nb.bus import EventBus
from durably_nb.codecs import Codec
from durably_nb.definitions import Definition, job
from durably_nb.dispatch import Dispatch, checked_id
from durably_nb.duckdb_store import DuckDBStore
from durably_nb.durations import parse_moment
from durably_nb.engine import STOP_GRACE_S, Engine
from durably_nb.errors import ConflictError, ValidationError
from durably_nb.filters import EventFilters, HandleFilters, LogFilters, RunFilters, StepFilters, refuse_unknown
from durably_nb.history import History, checked_count, sql_cursor
from durably_nb.interrupts import uninterrupted
from durably_nb.jobs import Job, Jobs
from durably_nb.keywords import showing
from durably_nb.options import DEFAULTS, Configured, OptionsDict
from durably_nb.outbox import Outbox
from durably_nb.subscriptions import Subscription
from durably_nb.targets import checked_path, checked_target
from durably_nb.widgets import tables
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta
    from pathlib import Path

    import duckdb
    import pandas as pd

    from durably_nb.bus import ErrorHandler, EventSelector, Listener, Unsubscribe
    from durably_nb.definitions import OnCodeChange
    from durably_nb.events import OperationalEvent
    from durably_nb.models import LogData, ProgressData, RunStatus
    from durably_nb.runlist import RunList
    from durably_nb.runs import Run
    from durably_nb.store import Receipt
    from durably_nb.widgets.dashboard import Dashboard
    from durably_nb.widgets.panel import Panel

_RETENTION_INTERVAL_S: Final = 60.0
_PURGE_LIMIT: Final = 500


class Durably(Configured):
    """Durable jobs in one DuckDB file; made by `open`, or by hand and started with `init` or ``with``.

    Args:
        store: Path of the file, ``":memory:"``, or an open DuckDB connection.
        jobs: Functions, or what `job` made of them, to register.
        options: See `Configured` for each; an IPython configuration (``c.Durably.lease_ms = …``) sets defaults.

    Raises:
        ValidationError: If an option is unknown, or its value cannot be meant.

    """

    @showing(OptionsDict, DEFAULTS)
    def __init__(
        self,
        store: str | os.PathLike[str] | duckdb.DuckDBPyConnection = ":memory:",
        *,
        jobs: Iterable[Callable[..., Any] | Definition] = (),
        **options: Unpack[OptionsDict],
    ) -> None:
        """Build the parts; nothing is opened or started yet."""
        super().__init__(**options)
        self._target = checked_target(store)
        self._store = DuckDBStore(self._target)
        self._bus = EventBus()
        self._outbox = Outbox(self._tell)
        self._store.on_accepted(self._outbox.post)
        self._codec = Codec(allow_pickle=self.allow_pickle)
        self._history = History(self._store, self._codec)
        self._definitions: dict[str, Definition] = {}
        self._engine = Engine(
            self,
            self._store,
            self._outbox,
            self._codec,
            self._definitions,
            idle=self._retain,
            given_back=self._given_back,
        )
        self._dispatch = Dispatch(
            self._store,
            self._bus,
            self._outbox,
            self._engine,
            self._codec,
            history=self._history,
            checked_labels=self.checked_run_labels,
        )
        self._jobs = Jobs(self._dispatch, self._definitions)
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._lifecycle = threading.RLock()
        self._next_retention = 0.0
        self._is_closed = False
        self._pid = os.getpid()
        self.observe(lambda change: setattr(self._codec, "allow_pickle", change["new"]), "allow_pickle")
        self.observe(lambda _: self._engine.adjust(), ["max_concurrent_runs", "polling_interval_ms"])
        self.register(*_listed(jobs))

    def __repr__(self) -> str:
        """Show the file, and what goes on."""
        count = len(self._jobs)
        about = [f"{self._store.name} {self._standing()}", f"{count} {'job' if count == 1 else 'jobs'}"]
        if self._store.is_open:
            pending = self._store.pending_by_job()
            about += [
                f"{n} pending for {job!r}, not defined yet" for job, n in pending.items() if job not in self._jobs
            ]
        return f"<Durably {', '.join(about)}>"

    def _repr_html_(self) -> str:
        """Show the file, the worker, and the jobs with the numbers of their runs."""
        overview = tables.glimpse(self._dispatch)
        return tables.durably_html(self._store.name, self._standing(), self._definitions.values(), overview)

    def __dir__(self) -> list[str]:
        """Complete what is for users; the rest is for the parts of the library that call it."""
        return sorted({*super().__dir__()} - {"checked_run_labels", "close_at_exit", "refuse_unknown", "set_options"})

    # --- life ---

    def init(self) -> Self:
        """Open the store and start the worker."""
        self.migrate()
        self.start()
        return self

    def migrate(self) -> None:
        """Open the store and bring its schema up to date, without a worker.

        Raises:
            StoreLockedError: If another process has the file; the message names it.
            StoreCorruptError: If it is not a database, damaged, or of a newer version.
            StoreError: If it cannot be opened for another reason.

        """
        with self._lifecycle:
            if self._is_closed:
                raise ConflictError("This Durably is closed, for good. Open the file again with dn.open(...).")
            if self._store.is_open:
                self._store.flush()  # it says so if it is out of order, or was opened before a fork
            else:
                self._store.open()
                self._codec.artifacts = self._store.artifacts
                lifetimes.register(self, self._store.path, self._target)
                self._retain()

    def start(self) -> None:
        """Start the worker; does nothing if it runs."""
        with self._lifecycle:
            self.migrate()
            self._engine.start()
        self._dispatch.changed()

    def stop(self) -> None:
        """Stop the worker: no new run; those in flight get five seconds, then are asked to stop and go on later."""
        self._stop(STOP_GRACE_S)

    def close(self) -> None:
        """Stop the worker and close the store, for good; may be called twice."""
        self._close(STOP_GRACE_S)

    def __enter__(self) -> Self:
        """Open and start."""
        return self.init()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    async def __aenter__(self) -> Self:
        """Open and start."""
        return self.init()

    async def __aexit__(self, *_: object) -> None:
        """Close, without blocking the loop."""
        await asyncio.to_thread(self.close)

    # --- jobs ---

    @property
    def jobs(self) -> Jobs:
        """The jobs, by attribute and by item."""
        return self._jobs

    @overload
    def job(self, fn: Callable[..., Any], /) -> Job: ...
    @overload
    def job(
        self, fn: None = None, /, *, name: str | None = None, on_code_change: OnCodeChange = "reuse"
    ) -> Callable[[Callable[..., Any]], Job]: ...
    def job(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        on_code_change: OnCodeChange = "reuse",
    ) -> Job | Callable[[Callable[..., Any]], Job]:
        """Define a job, or replace the one of that name; runs in flight keep the function they started with.

        Args:
            fn: ``def name(step, …)`` or ``async def name(step, …)``.
            name: Its name, if not the function's.
            on_code_change: ``"rerun"`` executes a completed step again if its own function was edited since.

        Raises:
            ValidationError: If the function cannot be a job.

        """
        define = partial(Definition, name=name, on_code_change=on_code_change)
        return self._define(define(fn)) if fn is not None else lambda function: self._define(define(function))

    def register(self, *jobs: Callable[..., Any] | Definition | Job) -> list[Job]:
        """Define jobs from functions, or from what `dn.job` made of them."""
        return [self._define(_definition(one)) for one in jobs]

    def get_job(self, name: str) -> Job | None:
        """Give the job of a name; None if it is not defined here."""
        return self._jobs.get(name)

    def use(self, plugin: Any) -> Self:  # noqa: ANN401 - anything with install(durably)
        """Call ``plugin.install(self)``.

        Raises:
            ValidationError: If it has no such method.

        """
        install: object = getattr(plugin, "install", None)
        if not callable(install):
            raise ValidationError(f"A plugin has a method install(durably); {shown(plugin)} has none.")
        install(self)
        return self

    # --- events ---

    @overload
    def on(self, type: EventSelector, listener: Listener) -> Unsubscribe: ...
    @overload
    def on(self, type: EventSelector) -> Callable[[Listener], Listener]: ...
    def on(
        self,
        type: EventSelector,  # noqa: A002
        listener: Listener | None = None,
    ) -> Unsubscribe | Callable[[Listener], Listener]:
        """Call `listener` with each event of a type, on the thread that makes it; keep listeners quick.

        That is the thread that triggers, cancels or deletes; else the one that executes the run. Lease renewals,
        worker:error and steps with ``checkpoint="pipelined"`` may be told on the library's own "durably-teller", and
        so may be what is ready behind them. `input`, `output` and `data` of an event are as they are stored: plain
        JSON values themselves, others as JSON that describes them.

        Args:
            type: An event name, an event class, a pattern (``"run:*"``, ``"*"``), or a list of these.
            listener: A function or an ``async def`` function; left out where this is used as a decorator.

        Returns:
            A function that ends the subscription, and may be called twice.

        Raises:
            ValidationError: If `type` names no event.

        """
        if listener is not None:
            return self._bus.on(type, listener)

        def decorate(function: Listener) -> Listener:
            self._bus.on(type, function)
            return function

        return decorate

    def on_error(self, handler: ErrorHandler) -> Unsubscribe:
        """Call ``handler(error, event)`` for each exception that a listener raises."""
        return self._bus.on_error(handler)

    def emit(self, event: OperationalEvent) -> None:
        """Store an operational event of your own and tell listeners; it changes no run's state.

        Its sequence and time are assigned anew, job name and labels are those of its run.

        Raises:
            ValidationError: If it is no operational event, or its fields do not fit.
            NotFoundError: If its run does not exist.

        """
        self._dispatch.emit(event)

    def subscribe(self, run_id: str) -> Subscription:
        """Iterate over the events of a run: its latest stored state and progress, then all that come, until it ends.

        Raises:
            NotFoundError: If there is no such run.

        """
        run_id = checked_id(run_id)
        subscription = Subscription(self._bus, run_id, lambda: self._store.latest_events(run_id))
        self._subscriptions.add(subscription)
        return subscription

    # --- work without a thread ---

    def process_one(self) -> bool:
        """Execute one pending run on this thread; False if there was none whose job is defined here."""
        return self._engine.process_one()

    def process_until_idle(self, max_runs: int | None = None) -> int:
        """Execute pending runs on this thread until there are none, at most `max_runs`; tell how many."""
        if max_runs is not None:
            checked_count(max_runs, "max_runs")
        count = 0
        while (max_runs is None or count < max_runs) and self._engine.process_one():
            count += 1
        return count

    # --- runs ---

    def get_run(self, run_id: str) -> Run | None:
        """Give a handle of a run; None if there is none of that id."""
        return self._dispatch.get_run(run_id)

    @showing(HandleFilters, {"offset": 0})
    def get_runs(self, **filters: Unpack[HandleFilters]) -> RunList:
        """Give handles of the runs that match, newest first.

        Args:
            filters: `status` and `job_name` (each one or many), `labels` (the run has all of these), `limit` and
                `offset` (so many rows, after so many).

        Raises:
            ValidationError: If a filter is unknown, or cannot be meant.

        """
        refuse_unknown(filters, HandleFilters)
        return self._dispatch.get_runs(**filters)

    def wait_for_run(
        self,
        run_id: str,
        timeout: float | None = None,
        on_progress: Callable[[ProgressData], object] | None = None,
        on_log: Callable[[LogData], object] | None = None,
    ) -> Run:
        """Wait for a run to end; raises as `Run.result` does, and gives its handle.

        Args:
            run_id: The run.
            timeout: Seconds to wait; None: as long as it takes.
            on_progress: Called with each `ProgressData` meanwhile, on the thread where listeners are called; see `on`.
            on_log: Called with each `LogData` meanwhile, likewise; its `data` is the value, not its stored form.

        Raises:
            NotFoundError: If there is no such run.
            RunFailedError: If it failed.
            CancelledError: If it was cancelled.
            TimeoutError: If it has not ended in time.

        """
        return self._dispatch.wait_for_run(run_id, timeout, on_progress, on_log)

    def retrigger(self, run_id: str) -> Run:
        """Create a fresh run with the input, labels and concurrency key of one that has ended.

        Raises:
            NotFoundError: If there is no such run.
            ConflictError: If it is pending or executing.

        """
        return self._dispatch.retrigger(run_id)

    def resume(self, run_id: str) -> Run:
        """Let a failed or cancelled run go on after its last completed step; the same run.

        Raises:
            NotFoundError: If there is no such run.
            ConflictError: If it is pending, executing or completed.

        """
        return self._dispatch.resume(run_id)

    def cancel(self, run_id: str) -> None:
        """Cancel a run: at once in the store; a function that executes is asked to stop.

        Raises:
            NotFoundError: If there is no such run.
            ConflictError: If it has ended.

        """
        self._dispatch.cancel(run_id)

    def delete_run(self, run_id: str) -> None:
        """Delete a run that has ended, its events and its files; its run:delete event stays.

        Raises:
            NotFoundError: If there is no such run.
            ConflictError: If it is pending or executing.

        """
        self._dispatch.delete_run(run_id)

    def purge_runs(self, older_than: datetime | timedelta | str, limit: int = _PURGE_LIMIT) -> int:
        """Delete up to `limit` ended runs, the oldest first, that ended before a time; tell how many.

        Args:
            older_than: An aware datetime, or how long ago: a timedelta, or ``"30d"``, ``"24h"``, ``"60m"``.
            limit: The most to delete in this call.

        """
        purged = self._store.purge_runs(parse_moment(older_than, "older_than"), checked_count(limit, "limit"))
        self._dispatch.changed()
        return purged

    # --- what people look at ---

    def run_id_of(self, part: str) -> str:
        """Give the id of the run whose id begins or ends like this: panels and tables show the end of an id.

        Raises:
            NotFoundError: If there is none, or more than one; it names those that may be meant.

        """
        return self._history.run_id_of(checked_id(part))

    def watch(self, run: Run | str) -> Panel:
        """Give the live panel of a run, of any day: as the last expression of a cell it is shown.

        Args:
            run: A run, its id, or so much of the end or the beginning of its id that no other run is meant.

        Raises:
            NotFoundError: If there is no such run, or more than one.

        """
        from durably_nb.widgets.panel import Panel  # noqa: PLC0415 - ipywidgets is loaded when it is needed

        part: Any = getattr(run, "id", run)
        return Panel(self._dispatch, self.run_id_of(part))

    def dashboard(
        self, job: Job | str | None = None, status: RunStatus | Iterable[RunStatus] | None = None
    ) -> Dashboard:
        """Give a live table of the runs, newest first: as the last expression of a cell it is shown.

        Args:
            job: A job or its name; only its runs are shown, until another is chosen there.
            status: Only runs in this state are shown, or in these, likewise.

        Raises:
            ValidationError: If the job is no name, or there is no such state.
            StoreError: If the store is not open.

        """
        from durably_nb.widgets.dashboard import Dashboard  # noqa: PLC0415 - as above
        from durably_nb.widgets.question import question  # noqa: PLC0415 - as above

        return Dashboard(self._dispatch, self._store.name, question(getattr(job, "name", job), status))

    # --- history ---

    @showing(EventFilters)
    def events(self, **filters: Unpack[EventFilters]) -> pd.DataFrame:
        """Give events as a DataFrame, in sequence order.

        Args:
            filters: `type` (an event name, class, pattern such as ``"run:*"``, or a list of these), `run_id`,
                `job_name`, `step_name`, `level` (each one or many), `labels` (the run has all of these), `since`
                and `until` (an aware time, or ``"24h"`` ago), `limit` (the first so many rows).

        Raises:
            ValidationError: If a filter is unknown, or cannot be meant.

        """
        return self._history.events(**filters)

    @showing(RunFilters)
    def runs(self, **filters: Unpack[RunFilters]) -> pd.DataFrame:
        """Give runs as a DataFrame, newest first; filters as in `events`, and `status`. Times: when created."""
        return self._history.runs(**filters)

    @showing(StepFilters)
    def steps(self, **filters: Unpack[StepFilters]) -> pd.DataFrame:
        """Give executions of steps as a DataFrame, by their beginning; filters as in `events`, and `status`."""
        return self._history.steps(**filters)

    @showing(LogFilters)
    def logs(self, **filters: Unpack[LogFilters]) -> pd.DataFrame:
        """Give log lines as a DataFrame, in sequence order; filters as in `events`."""
        return self._history.logs(**filters)

    def sql(self, query: str, params: Any = None) -> duckdb.DuckDBPyRelation:  # noqa: ANN401 - what DuckDB takes
        """Give a DuckDB relation of any SQL over events, runs, steps, logs, your own tables and DataFrames in scope."""
        _ask = partial(sql_cursor(self._store, query).sql, query, params=params)
        # DuckDB looks for DataFrames by name among the variables of each caller, this one first.
        del self, query, params
        return _ask()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Give this thread's DuckDB cursor on the same database, for your own tables."""
        return self._store.cursor()

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Write a copy of the database as it is now, with the files beside it; a run that executes goes on.

        Raises:
            ValidationError: If something is at `path` already.
            StoreError: If it cannot be written.

        """
        target = checked_path(path, "A backup is written to the path of a file that does not exist yet")
        if target.exists():
            raise ValidationError(f"There is something at {target} already; choose another name for the backup.")
        self._store.backup(target)
        return target

    @property
    def storage(self) -> DuckDBStore:
        """The store."""
        return self._store

    def close_at_exit(self, within_s: float) -> None:
        """Close within about so many seconds; what is in flight goes on at the next open."""
        self._close(within_s / 2)

    # --- what these share ---

    def _standing(self) -> str:
        return "closed" if self._is_closed else "running" if self._engine.is_running else "stopped"

    def _define(self, definition: Definition) -> Job:
        self._definitions[definition.name] = definition  # runs in flight keep theirs
        self._engine.wake()  # runs may be waiting for it
        self._dispatch.changed()
        return Job(self._dispatch, definition)

    def _stop(self, grace_s: float) -> None:
        with self._lifecycle:
            self._engine.stop(grace_s)
        self._dispatch.changed()

    def _close(self, grace_s: float) -> None:
        if os.getpid() != self._pid:
            return  # threads, connection and lock are those of the process this one was forked from
        with self._lifecycle:
            if self._is_closed:
                return
            self._engine.stop(grace_s)
            self._dispatch.retire_views()
            self._engine.close()
            self._outbox.close()
            for subscription in list(self._subscriptions):
                subscription.close()  # whoever iterates would wait for ever
            self._bus.close()
            # Together or not at all: a Ctrl-C before this leaves a store that can be closed again.
            with uninterrupted():
                self._is_closed = True
                lifetimes.unregister(self)
                self._store.close()

    def _tell(self, receipt: Receipt) -> None:
        self._dispatch.tell(receipt)

    def _given_back(self, run_id: str) -> None:
        self._dispatch.refresh(run_id)

    def _retain(self) -> None:
        """Purge what `retain_runs` does not keep, at most once a minute."""
        if self.retain_runs is None or time.monotonic() < self._next_retention:
            return
        self._next_retention = time.monotonic() + _RETENTION_INTERVAL_S
        before = parse_moment(self.retain_runs, "retain_runs")
        while self._store.purge_runs(before, _PURGE_LIMIT) == _PURGE_LIMIT:
            continue


@showing(OptionsDict, DEFAULTS)
def open(  # noqa: A001 - the public name
    path: str | os.PathLike[str],
    *,
    jobs: Iterable[Callable[..., Any] | Definition] = (),
    **options: Unpack[OptionsDict],
) -> Durably:
    """Open a file and start its worker; opened again in the same process, the same object is given.

    Jobs and options that are given again hold from now on; other options stay. See `Configured` for what there is.

    Raises:
        StoreLockedError: If another process has the file; the message names it.
        StoreCorruptError: If it is not a database, damaged, or of a newer version.
        StoreError: If it cannot be opened for another reason.
        ValidationError: If the path or an option cannot be meant.

    """
    target = checked_target(path)
    with lifetimes.one_at_a_time():
        found: Durably | None = None if target == ":memory:" else lifetimes.find(target)
        if found is None:
            return Durably(target, jobs=jobs, **options).init()
        found.set_options(dict(options))
        found.register(*_listed(jobs))
        found.start()
        return found


def _listed(jobs: object) -> list[Any]:
    if isinstance(jobs, str) or not isinstance(jobs, Iterable):
        raise ValidationError(f"jobs is a list of job functions, such as jobs=[import_flights], not {shown(jobs)}.")
    return list(jobs)


def _definition(one: Callable[..., Any] | Definition | Job) -> Definition:
    if isinstance(one, Job):
        return one.definition
    return one if isinstance(one, Definition) else job(one)
