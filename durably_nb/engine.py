"""The engine: claims runs whose job is defined here and now, and executes them."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from durably_nb.errors import DurablyError
from durably_nb.events import WorkerErrorEvent
from durably_nb.execution import Execution
from durably_nb.ids import new_id
from durably_nb.lease import LeaseKeeper
from durably_nb.names import storable_text
from durably_nb.worker import Bell, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from durably_nb.codecs import Codec
    from durably_nb.definitions import Definition
    from durably_nb.errors import UnwindReason
    from durably_nb.models import Lease
    from durably_nb.outbox import Outbox
    from durably_nb.store import Store

_logger: Final = logging.getLogger("durably_nb")

STOP_GRACE_S: Final = 5.0
"""What runs in flight are given by `stop` before they are asked to stop."""

_BETWEEN_COMMIT_REPORTS_S: Final = 10.0

_ABORT_GRACE_S: Final = 1.0
"""What they are given after that, at most."""


class Settings(Protocol):
    """The options that the engine looks at, each time anew: they may be changed while it runs."""

    polling_interval_ms: int
    max_concurrent_runs: int
    lease_ms: int
    lease_renew_interval_ms: int
    preserve_steps: bool
    checkpoint: str
    capture_output: bool


class Engine:
    """The worker threads, the lease keeper, and the executions under way."""

    def __init__(  # noqa: PLR0913 - an engine is given all it works with
        self,
        settings: Settings,
        store: Store,
        outbox: Outbox,
        codec: Codec,
        jobs: Mapping[str, Definition],
        *,
        idle: Callable[[], None],
        given_back: Callable[[str], None],
    ) -> None:
        """Take the parts; no thread is started yet.

        `idle` is called by a worker that found nothing to do, `given_back` with each run that was left unfinished.
        """
        self._settings = settings
        self._store = store
        self._outbox = outbox
        self._codec = codec
        self._jobs = jobs
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
        self._bell = Bell()
        self._keeper = LeaseKeeper(self._renew, self._renewal_interval_s, self._renewal_failed)
        self._lock = threading.RLock()
        self._workers: list[Worker] = []
        self._leaving: list[Worker] = []  # above `max_concurrent_runs` since that was lowered: each ends after its run
        self._claiming = threading.Lock()
        self._is_exiting = False
        self._executions: dict[str, Execution] = {}
        self._withheld: set[str] = set()
        self._waiting: list[threading.Thread] = []  # for runs, as long as it takes; one for each wait
        self._idle = idle
        self._given_back = given_back
        self._next_commit_report = 0.0
        store.on_failure(self._commit_failed)

    # --- workers ---

    @property
    def is_running(self) -> bool:
        """Whether worker threads are started."""
        return bool(self._workers)

    def start(self) -> None:
        """Start the workers, or bring their number to `max_concurrent_runs`."""
        with self._lock:
            for number in range(len(self._workers) + 1, self._settings.max_concurrent_runs + 1):
                worker = Worker(
                    self._turn,
                    bell=self._bell,
                    interval_s=lambda: self._settings.polling_interval_ms / 1000,
                    failed=lambda error: self.report(repr(error), "turn", None),
                    name=f"durably-worker-{number}",
                )
                worker.start()
                self._workers.append(worker)
            surplus = self._workers[self._settings.max_concurrent_runs :]
            del self._workers[self._settings.max_concurrent_runs :]
            self._leaving += surplus
        for worker in surplus:
            worker.stop()

    def adjust(self) -> None:
        """Let changed settings hold now, if workers are started."""
        with self._lock:
            if self.is_running:
                self.start()
                self._bell.ring_all()

    def stop(self, grace_s: float = STOP_GRACE_S) -> bool:
        """Take no new run, wait for those in flight, then ask them to stop; False if one still stands."""
        with self._lock:
            workers, self._workers, self._leaving = self._workers + self._leaving, [], []
        for worker in workers:
            worker.stop()
        if _joined(workers, grace_s):
            return True
        for execution in list(self._executions.values()):
            execution.signal.abort("stopping")
        return _joined(workers, min(grace_s, _ABORT_GRACE_S))

    def close(self) -> None:
        """End the lease keeper; the workers are stopped before."""
        for execution in list(self._executions.values()):
            execution.signal.abort("stopping")
        self._keeper.close()

    def wake(self) -> None:
        """Have a worker look for work now."""
        self._bell.ring()

    # --- whoever waits ---

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Know that this thread waits for a run, in this block: a worker that does so executes none meanwhile."""
        thread = threading.current_thread()
        self._waiting.append(thread)
        try:
            yield
        finally:
            self._waiting.remove(thread)

    def has_free_worker(self) -> bool:
        """Whether a worker executes pending runs, now or after the one that it executes."""
        waiting = list(self._waiting)
        return not all(worker.thread in waiting for worker in self._workers)

    # --- turns ---

    def process_one(self) -> bool:
        """Execute one run on this thread; False if there was none to execute."""
        for receipt in self._store.expire_leases():
            self._outbox.tell_when_ready(receipt)
        execution = None if self._is_exiting else self._claimed()
        if execution is None:
            return False
        self._bell.ring()  # there may be more; let another worker look while this one executes
        self._execute(execution)
        return True

    def withhold(self, run_ids: Iterable[str]) -> None:
        """Keep new runs from being claimed before their run:trigger was told."""
        self._withheld.update(run_ids)

    def offer(self, run_ids: Iterable[str]) -> None:
        """Let withheld runs be claimed."""
        self._withheld.difference_update(run_ids)
        self.wake()

    # --- executions ---

    def is_defined(self, job_name: str) -> bool:
        """Whether a job is defined here and now; runs of others stay pending."""
        return job_name in self._jobs

    def waits_for(self, job_name: str) -> str | None:
        """Say what keeps a pending run of a job from being executed; None if nothing does."""
        if not self.is_defined(job_name):
            return f"job {job_name!r} to be defined"
        if not self.is_running:
            return "a worker to be started: d.start()"
        most = self._settings.max_concurrent_runs
        if len(self._executions) >= most:
            return f"a worker that is free: {', '.join(self._executions)} in flight (max_concurrent_runs={most})"
        return None

    def is_executing(self, run_id: str) -> bool:
        """Whether the function of a run stands in this process."""
        return run_id in self._executions

    def abort(self, run_id: str, reason: UnwindReason) -> None:
        """Ask the function of a run to stop, if it stands here."""
        execution = self._executions.get(run_id)
        if execution is not None:
            execution.signal.abort(reason)

    def report(self, error: str, context: str, run_id: str | None) -> None:
        """Say that something inside the worker went wrong: worker:error."""
        draft = partial(WorkerErrorEvent, error=storable_text(error), context=context, run_id=run_id)
        try:
            self._outbox.tell_when_ready(self._store.append_foreign(draft, run_id))
        except DurablyError as unsaid:
            # The store is closed, or the run deleted: the only place left to say it.
            _logger.warning("%s: %s (not stored: %s)", context, error, unsaid)

    def _turn(self) -> bool:
        found = self.process_one()
        if not found:
            self._idle()
        return found

    def _claimed(self) -> Execution | None:
        """Claim the run that is next, and let it be known that its function stands here."""
        # One at a time: a run that is cancelled and resumed in between must not be claimed a second time.
        with self._claiming:
            claim = self._store.claim_run(
                list(self._jobs), self._owner, self._settings.lease_ms, {*self._executions, *self._withheld}
            )
            if claim is None:
                return None
            self._executions[claim.run.run_id] = execution = Execution(
                claim,
                self._jobs[claim.run.job_name],
                store=self._store,
                outbox=self._outbox,
                codec=self._codec,
                keeper=self._keeper,
                pipelined=self._settings.checkpoint == "pipelined",
                capture_output=self._settings.capture_output,
                failed=self.report,
            )
            return execution

    def _execute(self, execution: Execution) -> None:
        run_id = execution.run_id
        try:
            execution.run()
            if execution.has_completed and not self._settings.preserve_steps:
                self._store.drop_step_outputs(run_id)
        finally:
            # What it could not do, no other run will be able to: nothing is begun any more.
            self._is_exiting |= execution.signal.reason == "exiting"
            del self._executions[run_id]
            self._bell.ring()  # it may have been resumed while it still stood
            if execution.is_given_back:
                self._given_back(run_id)

    def _commit_failed(self, error: Exception) -> None:
        # The report is a commit itself: while each of them fails, one would follow the other without end.
        if time.monotonic() >= self._next_commit_report:
            self._next_commit_report = time.monotonic() + _BETWEEN_COMMIT_REPORTS_S
            self.report(str(error), "commit", None)

    def _renewal_interval_s(self) -> float:
        # Whoever asks for a short lease wants it renewed in time, without having to say so.
        return min(self._settings.lease_renew_interval_ms, self._settings.lease_ms / 3) / 1000

    def _renew(self, lease: Lease) -> None:
        # Told on the outbox's thread: a slow listener must not keep the next lease waiting.
        self._outbox.tell_when_ready(self._store.renew_lease(lease, self._settings.lease_ms))

    def _renewal_failed(self, error: Exception, run_id: str) -> None:
        self.report(str(error), "lease-renewal", run_id)


def _joined(workers: list[Worker], grace_s: float) -> bool:
    deadline = time.monotonic() + grace_s
    still_standing = [worker for worker in workers if not worker.join(max(0.0, deadline - time.monotonic()))]
    return not still_standing
