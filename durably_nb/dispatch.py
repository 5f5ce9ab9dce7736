"""The dispatch: creates runs, hands out handles of them, and carries out their commands."""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from durably_nb.codecs import artifact_names, outlined
from durably_nb.definitions import Options
from durably_nb.errors import ConflictError, NotFoundError, ValidationError
from durably_nb.events import LogWriteEvent, OperationalEvent, RunEvent, RunProgressEvent, event_from_dict
from durably_nb.history import checked_count, one_or_many
from durably_nb.ids import new_id
from durably_nb.models import ACTIVE, RUN_STATUSES, LogData, NewRun
from durably_nb.names import checked_labels, storable_text
from durably_nb.rows import EMITTED
from durably_nb.runlist import RunList
from durably_nb.runs import Run
from durably_nb.store import RunQuery
from durably_nb.views import STATE_CHANGES
from durably_nb.waiting import Wakeup
from durably_nb.weakgroups import WeakGroups
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from durably_nb.bus import EventBus, Unsubscribe
    from durably_nb.codecs import Codec
    from durably_nb.definitions import Definition
    from durably_nb.engine import Engine
    from durably_nb.history import History
    from durably_nb.models import Disposition, JSONValue, ProgressData, RunRecord, RunStatus
    from durably_nb.outbox import Outbox
    from durably_nb.store import Created, Overview, Receipt, RecentEvents, Store
    from durably_nb.widgets.following import Follower
    from durably_nb.widgets.host import View


_logger = logging.getLogger("durably_nb")


class Dispatch:
    """Between what users hold (jobs and handles) and what does the work (store and engine)."""

    def __init__(  # noqa: PLR0913 - it stands between all of them
        self,
        store: Store,
        bus: EventBus,
        outbox: Outbox,
        engine: Engine,
        codec: Codec,
        *,
        history: History,
        checked_labels: Callable[[dict[str, str]], dict[str, str]],
    ) -> None:
        """Take the parts; `checked_labels` validates the labels of each new run."""
        self.history = history
        self._store = store
        self._bus = bus
        self._outbox = outbox
        self._engine = engine
        self._codec = codec
        self._checked_labels = checked_labels
        self._changed = Wakeup()
        self._handles: WeakGroups[Run] = WeakGroups()
        self._followers: WeakGroups[Follower] = WeakGroups()
        self._views: weakref.WeakSet[View] = weakref.WeakSet()
        self._registering = threading.Lock()
        self._has_retired_views = False
        self._noting: list[Callable[[], object]] = []

    # --- creating ---

    def create(self, definition: Definition, inputs: list[tuple[dict[str, Any], Options]]) -> list[Run]:
        """Create a run for each validated input, all or none."""
        run_ids = [new_id() for _ in inputs]
        try:
            new = [self._new_run(definition, run_id, *given) for run_id, given in zip(run_ids, inputs, strict=True)]
        except BaseException:
            for run_id in run_ids:
                self._store.discard_artifacts(run_id)
            raise
        return self._create(new, [options for _, options in inputs])

    def _new_run(self, definition: Definition, run_id: str, values: dict[str, Any], options: Options) -> NewRun:
        return NewRun(
            run_id=run_id,
            job_name=definition.name,
            input=self._codec.encode(values, run_id=run_id, where="input"),
            labels=self._checked_labels(dict(options.labels)),
            idempotency_key=options.idempotency_key,
            concurrency_key=options.concurrency_key,
            coalesce=options.coalesce is not None,
        )

    def _create(self, new: list[NewRun], options: list[Options]) -> list[Run]:
        run_ids = [request.run_id for request in new]
        # Not to be claimed before its run:trigger is told: the rest is told by the thread that executes it.
        self._engine.withhold(run_ids)
        try:
            created = self._created(new)
            runs = [self.handle(one.run, one.disposition, withheld=one.disposition == "created") for one in created]
            for run, chosen in zip(runs, options, strict=True):
                if run.is_active:
                    self._call_back(run.id, chosen.on_progress, chosen.on_log)
            for one in created:
                self._outbox.tell(one.run.run_id)
        finally:
            self._engine.offer(run_ids)
        return runs

    def _created(self, new: list[NewRun]) -> list[Created]:
        used: set[str] = set()
        try:
            created = self._store.create_runs(new)
            used = {one.run.run_id for one in created}
        except Exception:
            self._discard(new)
            raise
        self._discard(request for request in new if request.run_id not in used)
        return created

    def _discard(self, unused: Iterable[NewRun]) -> None:
        """Let go of runs that were not created. Not after a Ctrl-C, which leaves open whether they were."""
        for request in unused:
            self._outbox.tell(request.run_id)  # what is void is not told, and forgotten
            if artifact_names(request.input):
                self._store.discard_artifacts(request.run_id)

    # --- handles ---

    def get_run(self, run_id: str) -> Run | None:
        """Give a handle of a run; None if there is none of that id."""
        self._store.flush()
        record = self._store.get_run(checked_id(run_id))
        return None if record is None else self.handle(record)

    def get_runs(
        self,
        *,
        status: RunStatus | Iterable[RunStatus] | None = None,
        job_name: str | Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> RunList:
        """Give handles of the runs that match, newest first; see `Durably.get_runs`."""
        statuses: Any = None if status is None else one_or_many(status, "status", RUN_STATUSES)
        query = RunQuery(
            status=statuses,
            job_names=None if job_name is None else one_or_many(job_name, "job_name"),
            labels=None if labels is None else checked_labels(labels),
            limit=None if limit is None else checked_count(limit, "limit"),
            offset=checked_count(offset, "offset"),
        )
        return RunList(self.handle(record) for record in self._store.find_runs(query))

    def handle(self, record: RunRecord, disposition: Disposition = "created", *, withheld: bool = False) -> Run:
        """Give a handle that follows its run; of one that is `withheld` nothing was told yet."""
        run = Run(self, record, self._changed, disposition)
        self._handles.add(record.run_id, run)
        if record.status in ACTIVE and not withheld:
            # What was told between the reading of the record and the adding is in the store by now.
            run.refresh(self.run_record(record.run_id))
        return run

    def follow(self, run_id: str, follower: Follower) -> None:
        """Bring a run's events to a follower from now on, as long as somebody holds it."""
        self._followers.add(run_id, follower)

    def register_view(self, view: View) -> None:
        """Retire a view before the store closes, unless nobody holds it any more; now, if it is too late for that."""
        with self._registering:
            self._views.add(view)
            is_late = self._has_retired_views
        if is_late:
            view.retire()

    def retire_views(self) -> None:
        """Have all views drawn a last time, and those that are made from now on as well."""
        with self._registering:
            self._has_retired_views = True
            views = list(self._views)
        for view in views:
            view.retire()

    def on_change(self, noted: Callable[[], object]) -> Unsubscribe:
        """Call `noted` after whatever changes a list of runs, until the returned function is called."""
        unsubscribe = self._bus.on([*STATE_CHANGES, "run:trigger", "run:progress"], lambda _: noted())
        self._noting.append(noted)

        def end() -> None:
            unsubscribe()
            if noted in self._noting:
                self._noting.remove(noted)

        return end

    def changed(self) -> None:
        """Have it noted that something is not as it was, and that there is no event of it."""
        for noted in list(self._noting):
            noted()

    def refresh(self, run_id: str) -> None:
        """Bring the state of a run, which changed without an event, to its handles and views."""
        record = self.run_record(run_id)
        for follower in self._following(run_id):
            try:
                follower.refresh(record)
            except Exception:  # an observer of the user's: it must not keep the others from hearing of it
                _logger.warning("An observer of run %s raised.", run_id, exc_info=True)
        self.changed()

    def _following(self, run_id: str) -> list[Follower]:
        """Give the views and the handles of a run; these last, so that whoever waits for one finds those up to date."""
        return [*self._followers.members(run_id), *self._handles.members(run_id)]

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them."""
        return self._store.overview(query)

    @property
    def is_working(self) -> bool:
        """Whether worker threads are started."""
        return self._engine.is_running

    def is_defined(self, job_name: str) -> bool:
        """Whether a job is defined here and now."""
        return self._engine.is_defined(job_name)

    def run_record(self, run_id: str) -> RunRecord:
        """Give the state of a run. Raises NotFoundError."""
        record = self._store.get_run(checked_id(run_id))
        if record is None:
            raise NotFoundError(f"There is no run {shown(run_id)} in this store; d.runs() lists those there are.")
        return record

    def recent_events(self, run_id: str, most: int) -> RecentEvents:
        """Give the latest events of a run, at most so many of each kind. Raises NotFoundError."""
        return self._store.recent_events(checked_id(run_id), most)

    def outlined(self, stored: JSONValue) -> str:
        """Give a stored value in one line, without reading what lies in files."""
        return outlined(stored)

    def decode(self, stored: JSONValue, where: str) -> Any:  # noqa: ANN401 - any value that was stored
        """Give the value that was stored."""
        return self._codec.decode(stored, where=where)

    def waits_for(self, job_name: str) -> str | None:
        """Say what keeps a pending run of a job from being executed; None if nothing does."""
        return self._engine.waits_for(job_name)

    def waiting(self) -> AbstractContextManager[None]:
        """Know that this thread waits, in this block, for as long as it takes."""
        return self._engine.waiting()

    def refuse_endless(self, run_id: str) -> None:
        """Refuse to wait for a run that nobody executes, nor will.

        Raises:
            ConflictError: It says why, and what to do.

        """
        run = self.run_record(run_id)  # which refuses once the store is closed, and in a forked child
        if run.status not in ACTIVE or self._engine.is_executing(run_id):
            return
        if not self._engine.is_running:
            why = "and no worker runs: call d.start(), or d.process_until_idle()"
        elif run.status == "pending" and not self._engine.is_defined(run.job_name):
            why = f"and job {run.job_name!r} is not defined here: run the cell that defines it first"
        elif not self._engine.has_free_worker():
            why = (
                "and every worker executes a run that waits for another: raise max_concurrent_runs, or leave it to "
                "the notebook to wait"
            )
        else:
            return
        raise ConflictError(
            f"Run {run_id} of {run.job_name} is {run.status} {why}. Waiting for it would never end, except with a "
            "timeout."
        )

    def step_output(self, run_id: str, step_name: str) -> Any:  # noqa: ANN401 - any value that was stored
        """Give what a completed step of a run returned. Raises NotFoundError."""
        stored = self._store.step_output(run_id, step_name)
        return self._codec.decode(stored, where=f"the result of step {step_name!r}")

    # --- waiting ---

    def wait_for_run(
        self,
        run_id: str,
        timeout: float | None,
        on_progress: Callable[[ProgressData], object] | None,
        on_log: Callable[[LogData], object] | None,
    ) -> Run:
        """Wait for a run, told of its progress and log meanwhile; raises as `Run.result` does."""
        unfollow = self._call_back(run_id, on_progress, on_log)
        try:
            self._store.flush()
            return self.wait_until_ended(self.handle(self.run_record(run_id)), timeout)
        finally:
            unfollow()

    def wait_until_ended(self, run: Run, timeout: float | None) -> Run:
        """Wait for a run, and raise as `Run.result` does."""
        _ = run.wait(timeout)
        run.raise_if_not_completed()
        return run

    def _call_back(
        self,
        run_id: str,
        on_progress: Callable[[ProgressData], object] | None,
        on_log: Callable[[LogData], object] | None,
    ) -> Unsubscribe:
        """Bring progress and log of a run to two functions, until it ends or the returned one is called."""
        if on_progress is None and on_log is None:
            return lambda: None

        def deliver(event: Any) -> None:  # noqa: ANN401 - one of the kinds below
            if event.run_id != run_id:
                return
            if isinstance(event, RunProgressEvent):
                if on_progress is not None:
                    on_progress(event.progress)
            elif isinstance(event, LogWriteEvent):
                if on_log is not None:
                    data = self._codec.decode(event.data, where="data")
                    on_log(LogData(level=event.level, message=event.message, data=data, step_name=event.step_name))
            else:
                unsubscribe()

        unsubscribe = self._bus.on(
            ["run:progress", "log:write", "run:complete", "run:fail", "run:cancel", "run:delete"], deliver
        )
        return unsubscribe

    # --- commands ---

    def retrigger(self, run_id: str) -> Run:
        """Create a fresh run with the input, labels and concurrency key of one that has ended."""
        record = self.run_record(run_id)
        if record.status in {"pending", "leased"}:
            raise ConflictError(
                f"Run {run_id} is {record.status} and cannot be retriggered before it has ended. "
                "Wait for it or cancel it first."
            )
        fresh = new_id()
        # Encoded anew: what lies in files belongs to one run alone, and is deleted with it.
        value = self._codec.decode(record.input, where="input")
        stored = self._codec.encode(value, run_id=fresh, where="input")
        new = NewRun(
            run_id=fresh,
            job_name=record.job_name,
            input=stored,
            labels=record.labels,
            concurrency_key=record.concurrency_key,
        )
        return self._create([new], [Options()])[0]

    def resume(self, run_id: str) -> Run:
        """Let a failed or cancelled run go on after its last completed step."""
        run_id = checked_id(run_id)
        self._store.resume_run(run_id).result()
        self.refresh(run_id)
        self._engine.wake()
        return self.handle(self.run_record(run_id))

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""
        run_id = checked_id(run_id)
        receipt = self._store.cancel_run(run_id)
        # The function is asked to stop before the wait: by its end the run may be forgotten, and the reason with it.
        self._engine.abort(run_id, "cancelled")
        try:
            receipt.wait()
        except BaseException:  # a Ctrl-C ends the wait, not the cancel
            self._outbox.tell_when_ready(receipt)
            raise
        self._outbox.tell(run_id)

    def delete_run(self, run_id: str) -> None:
        """Delete a run that has ended."""
        run_id = checked_id(run_id)
        self._store.delete_run(run_id)
        self._outbox.tell(run_id)

    def emit(self, event: OperationalEvent) -> None:
        """Store an operational event of a user's and tell listeners."""
        if not isinstance(event, get_args(OperationalEvent)):
            raise ValidationError(f"emit takes one of the operational events, not {shown(event)}.")
        run_id = event.run_id
        values = {item.name: getattr(event, item.name) for item in fields(event)}
        if isinstance(event, RunEvent):
            record = self.run_record(event.run_id)
            values |= {"job_name": record.job_name, "labels": dict(record.labels)}
        for name in {"input", "output", "data"} & values.keys():
            values[name] = self._codec.encode(values[name], run_id=run_id or "", where=name)
        event_class: Callable[..., Any] = type(event)
        checked = event_from_dict(event_class(**values).to_dict())
        draft = partial(
            event_class,
            **{name: getattr(checked, name) for name in values if name not in {"sequence", "timestamp"}},
        )
        self._store.append_foreign(draft, run_id, {EMITTED: True})
        self._outbox.tell(run_id)

    # --- telling ---

    def tell(self, receipt: Receipt) -> None:
        """Bring an event to the handles and panels of its run, then to the listeners."""
        event = receipt.event
        # What a user emits changes no state; a line of the log does not either.
        if event.run_id is not None and (not receipt.emitted or event.type == "log:write"):
            for follower in self._following(event.run_id):
                self._bus.call(follower.on_event, event)
        self._bus.emit(event)


def checked_id(run_id: object) -> str:
    """Give a run's id; whether there is such a run is another question.

    Raises:
        ValidationError: If it is no string.

    """
    if not isinstance(run_id, str):
        raise ValidationError(f"A run is named by its id, a string such as run.id, not by {type(run_id).__name__}.")
    return storable_text(run_id)
