"""The execution of one run, from its claim to its outcome."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from durably_nb.capture import captured
from durably_nb.context import AsyncStepContext, StepContext
from durably_nb.course import current_step
from durably_nb.errors import DurablyError, StoreError, Unwind
from durably_nb.failures import failure_of, is_of_exit, step_of
from durably_nb.journal import Journal
from durably_nb.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import duckdb

    from durably_nb.codecs import Codec
    from durably_nb.definitions import Definition
    from durably_nb.lease import LeaseKeeper
    from durably_nb.models import JSONValue
    from durably_nb.outbox import Outbox
    from durably_nb.store import Claim, Store


class Execution:
    """Runs a job's function for a claimed run; a function that was replaced since goes on as it was."""

    def __init__(  # noqa: PLR0913 - an execution is given all it works with
        self,
        claim: Claim,
        job: Definition,
        *,
        store: Store,
        outbox: Outbox,
        codec: Codec,
        keeper: LeaseKeeper,
        pipelined: bool,
        capture_output: bool,
        failed: Callable[[str, str, str], None],
    ) -> None:
        """Prepare; `failed(error, context, run_id)` is told of what is the worker's to know."""
        self.run_id = claim.run.run_id
        self.signal = Signal()
        self.has_completed = False
        self.is_given_back = False
        self._claim = claim
        self._job = job
        self._store = store
        self._codec = codec
        self._keeper = keeper
        self._capture_output = capture_output
        self._failed = failed
        self._journal = Journal(store, outbox, claim.run, claim.lease, self.signal)
        context_class = AsyncStepContext if job.is_async else StepContext
        self._context = context_class(
            self._journal,
            self.signal,
            codec,
            claim.completed,
            self._new_cursor,
            pipelined=pipelined,
            rerun_changed=job.on_code_change == "rerun",
        )

    def run(self) -> None:
        """Execute the run to its end, whatever that is."""
        began = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(self._keeper.holding(self._claim.lease, self.signal.abort))
            stack.enter_context(self.signal.interrupting(partial(self._store.interrupt, threading.current_thread())))
            if self._capture_output:
                stack.enter_context(captured(self._context.write_log, current_step))
            try:
                self._journal.tell()
                self._note_reuse()
                output = self._output()
                stack.close()
                self._journal.run_completed(output, (time.perf_counter() - began) * 1000)
                self.has_completed = True
            except BaseException as error:  # whatever a job raises ends its run, not the worker
                stack.close()
                if _is_ctrl_c(error):
                    # Ctrl-C in process_one() gives the run back: whoever turns next goes on with it.
                    self.signal.abort("stopping")
                    self._release()
                    raise
                self._fail(error)

    def _output(self) -> JSONValue:
        value = self._job.signature.validate_output(self._call())
        return self._codec.encode(value, run_id=self._claim.run.run_id, where="output")

    def _call(self) -> object:
        arguments: Any = self._codec.decode(self._claim.run.input, where="input")
        bound = self._job.signature.replay(arguments)
        self.signal.throw_if_aborted()
        self._journal.refuse_if_lost()  # a cancel between the claim and our being known could not set the signal
        result = self._job.fn(self._context, **bound)
        if not self._job.is_async:
            return result
        try:
            return _run_in_loop(self._cancellable(self._whole(result)))
        finally:
            self._context.calls.close()

    async def _cancellable(self, coroutine: Coroutine[Any, Any, object]) -> object:
        task = asyncio.ensure_future(coroutine)
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        self.signal.on_abort(cancel)
        try:
            return await task
        except asyncio.CancelledError:
            self.signal.throw_if_aborted()
            raise

    async def _whole(self, coroutine: Coroutine[Any, Any, object]) -> object:
        value = await coroutine
        self._context.calls.refuse_forgotten()
        return value

    def _note_reuse(self) -> None:
        count = len(self._claim.completed)
        if count:
            steps = "1 completed step is" if count == 1 else f"{count} completed steps are"
            self._context.log.info(f"Going on after an interruption: {steps} reused.")

    def _fail(self, error: BaseException) -> None:
        if is_of_exit(error):
            self.signal.abort("exiting")
        try:
            self.signal.throw_if_aborted()
            self._journal.run_failed(failure_of(error), step_of(error, self._claim.run.run_id))
        except Unwind as unwind:
            self._left(unwind)
        except StoreError as broken:
            self._failed(str(broken), "run-fail", self._claim.run.run_id)

    def _left(self, unwind: Unwind) -> None:
        run_id = self._claim.run.run_id
        if unwind.reason in {"stopping", "exiting"}:
            self._release()
        elif unwind.reason == "lease-lost":
            self._failed(f"The lease of run {run_id} was lost; nothing more of it is stored.", "lease-lost", run_id)

    def _release(self) -> None:
        try:
            self._journal.release()
            self.is_given_back = True
        except DurablyError as error:
            # Its lease is over, or the store is: the run is given back without us.
            self._failed(str(error), "lease-release", self._claim.run.run_id)

    def _new_cursor(self) -> duckdb.DuckDBPyConnection:
        return self._store.cursor().cursor()


def _is_ctrl_c(error: BaseException) -> bool:
    """Python raises it on the main thread alone; elsewhere it is the job's own, and would end a worker."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _run_in_loop(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine in a loop of its own, on this thread unless it has a running loop (a notebook cell)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    outcome: list[object] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run, name="durably-async", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
