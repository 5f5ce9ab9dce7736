"""The step context: what a job function is given."""

from __future__ import annotations

import asyncio
import inspect
import numbers
import sys
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, overload

import duckdb

from durably_nb.awaiting import Calls
from durably_nb.capture import finish_line
from durably_nb.codecs import describe
from durably_nb.database import explain
from durably_nb.errors import ConflictError, DuplicateStepError, StoreError, ValidationError
from durably_nb.failures import failure_of, is_of_exit, note_step
from durably_nb.fingerprint import fingerprint, has_changed
from durably_nb.interrupts import uninterrupted
from durably_nb.models import ProgressData
from durably_nb.names import checked_name, storable_text
from durably_nb.tracking import Track
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping

    from durably_nb.codecs import Codec
    from durably_nb.journal import Journal
    from durably_nb.models import CompletedStep, JSONValue, LogLevel
    from durably_nb.signals import Signal
    from durably_nb.store import Receipt

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

current_step: Final[ContextVar[tuple[str, str] | None]] = ContextVar("durably_nb_step", default=None)
"""The run and the step that this thread or task is inside of."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that was entered; `stored` is its checkpoint if it was completed before."""

    name: str
    index: int
    code: str | None
    stored: CompletedStep | None
    began: float


class Log:
    """``step.log``: lines of the run's log, with data beside the message if you like."""

    def __init__(self, write: Callable[[LogLevel, object, object], None]) -> None:
        """Take what writes a line."""
        self._write = write

    def info(self, message: object, data: object = None) -> None:
        """Write a line of level info."""
        self._write("info", message, data)

    def warn(self, message: object, data: object = None) -> None:
        """Write a line of level warn."""
        self._write("warn", message, data)

    warning = warn

    def error(self, message: object, data: object = None) -> None:
        """Write a line of level error."""
        self._write("error", message, data)


class BaseContext:
    """What the contexts of plain and of async job functions have in common."""

    def __init__(  # noqa: PLR0913 - all that a run works with
        self,
        journal: Journal,
        signal: Signal,
        codec: Codec,
        completed: Mapping[str, CompletedStep],
        connect: Callable[[], duckdb.DuckDBPyConnection],
        *,
        pipelined: bool,
        rerun_changed: bool,
    ) -> None:
        """Begin a run, or go on with one that has completed steps."""
        self.run_id = journal.run_id
        self.log = Log(self.write_log)
        self.signal = signal
        self.calls = Calls()
        self._journal = journal
        self._codec = codec
        self._completed = completed
        self._connect = connect
        self._pipelined = pipelined
        self._rerun_changed = rerun_changed
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._indices = count()
        self._executing_now: set[str] = set()

    def __dir__(self) -> list[str]:
        """Complete what is for job functions; the rest is for whoever executes them."""
        return sorted({*super().__dir__()} - {"calls", "write_log"})

    def is_aborted(self) -> bool:
        """Tell whether the run was cancelled or must stop; a long loop looks now and then."""
        return self.signal.aborted

    def throw_if_aborted(self) -> None:
        """Leave the job function if the run was cancelled or must stop."""
        self.signal.throw_if_aborted()

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the run is: `current` of `total` (None: not known).

        Raises:
            ValidationError: If a number is negative, NaN, infinite or no number.

        """
        self._journal.progress(
            ProgressData(
                current=_amount(current, "current"),
                total=None if total is None else _amount(total, "total"),
                message=None if message is None else storable_text(str(message)),
            )
        )

    def track(
        self, iterable: Iterable[T] | AsyncIterable[T], total: float | None = None, message: str | None = None
    ) -> Track[T]:
        """Go over an iterable and report progress while you loop; a cancel ends the loop."""
        return Track(
            iterable,
            total=None if total is None else _amount(total, "total"),
            report=lambda current, whole: self.progress(current, whole, message),
            throw_if_aborted=self.throw_if_aborted,
        )

    def write_log(self, level: LogLevel, message: object, data: object = None) -> None:
        """Write a line of the log; captured output comes this way too."""
        self._journal.log(
            level,
            storable_text(str(message)),
            None if data is None else self._codec.encode(data, run_id=self.run_id, where="data"),
            self._current_step(),
        )

    # --- the course of a step ---

    def _current_step(self) -> str | None:
        """Name the step that the caller is inside of; a thread has it from its starter, and may outlive it."""
        run_id, name = current_step.get() or (None, "")
        return name if run_id == self.run_id and name in self._executing_now else None

    def _enter(self, name: str, fn: Callable[..., object]) -> _Step:
        self.throw_if_aborted()
        checked_name(name, "A step's name")
        _refuse_unusable(name, fn)
        inside = self._current_step()
        if inside is not None:
            raise ConflictError(
                f"Step {name!r} was started inside step {inside!r}. Steps are not nested: call the function itself "
                "there, or start this step from the job function."
            )
        with self._lock:
            if name in self._names:
                raise DuplicateStepError(
                    f"This run has a step {name!r} already. Give each step a name of its own, such as "
                    f'f"{name} {{i}}" in a loop, so that its result can be found again.'
                )
            index = next(self._indices)
            self._names.add(name)
        code = fingerprint(fn)
        stored = self._completed.get(name)
        if stored is not None and has_changed(stored.code, code):
            if self._rerun_changed:
                stored = None
            else:
                self.log.warning(
                    f"The code of step {name!r} has changed since its result was stored; the stored result is reused. "
                    'Use @d.job(on_code_change="rerun") to execute such steps again.'
                )
        if stored is None:
            self._journal.step_started(name, index)
        return _Step(name, index, code, stored, time.perf_counter())

    @contextmanager
    def _executing(self, step: _Step) -> Iterator[None]:
        """Run the step's function in this block; whatever it raises becomes the step's end."""
        token = current_step.set((self.run_id, step.name))
        self._executing_now.add(step.name)
        try:
            try:
                yield
            finally:
                finish_line()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if is_of_exit(error):
                self.signal.abort("exiting")
            if self.signal.aborted:
                self._stopped(step)
                if isinstance(error, asyncio.CancelledError):
                    raise
                self.throw_if_aborted()
            note_step(error, self.run_id, step.name)
            self._journal.step_failed(step.name, step.index, failure_of(error))
            self._names.discard(step.name)  # it has no result that could be taken for another's
            raise
        finally:
            self._executing_now.discard(step.name)
            current_step.reset(token)

    def _stopped(self, step: _Step) -> None:
        if self.signal.reason == "cancelled":
            self._journal.step_cancelled(step.name, step.index)

    def _stored_value(self, stored: CompletedStep) -> Any:  # noqa: ANN401 - what the step returned
        return self._codec.decode(stored.output, where=f"the result of step {stored.name!r}")

    def _encoded(self, step: _Step, value: object) -> JSONValue:
        return self._codec.encode(value, run_id=self.run_id, where=f"the result of step {step.name!r}")

    def _checkpoint(self, step: _Step, output: JSONValue, within: duckdb.DuckDBPyConnection | None = None) -> Receipt:
        kind, size = describe(output)
        extra: dict[str, JSONValue] = {"outputType": kind, "outputBytes": size}
        if step.code is not None:
            extra["code"] = step.code
        duration_ms = (time.perf_counter() - step.began) * 1000
        return self._journal.step_completed(step.name, step.index, output, duration_ms, extra, within=within)

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor in a transaction, which is rolled back unless the checkpoint committed it."""
        cursor = self._connect()
        try:
            cursor.begin()
            with self.signal.interrupting(cursor.interrupt):  # a long query stops as soon as it is asked to
                yield cursor
        finally:
            cursor.close()  # rolls back what was not committed


class StepContext(BaseContext):
    """The first argument of a job function."""

    def run(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``fn(*args, **kwargs)`` and keep what it returns: a checkpoint.

        If this run completed a step of that name before, its stored result is returned and `fn` is
        not called. A step that failed may be tried again by the same name; history shows each try.

        Raises:
            DuplicateStepError: If this run has used the name already, for a step that did not fail.
            ConflictError: If it is called inside another step.
            SerializationError: If the result cannot be stored exactly.
            ValidationError: If the name or the function cannot be used.

        """
        step = self._enter(name, fn)
        if step.stored is not None:
            return self._stored_value(step.stored)  # type: ignore[no-any-return]
        with self._executing(step):
            value = fn(*args, **kwargs)
            _refuse_lazy(name, value)
            receipt = self._checkpoint(step, self._encoded(step, value))
        self._settle(receipt)
        return value

    def transaction(
        self,
        name: str,
        fn: Callable[Concatenate[duckdb.DuckDBPyConnection, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call ``fn(cursor, *args, **kwargs)`` in a transaction of the database.

        What `fn` writes to your own tables by that cursor and the step's checkpoint are committed
        together or not at all. A `fn` that returns the cursor, as ``cursor.execute(…)`` does, returns
        None. Raises as `run`; `StoreError` if the commit is refused.
        """
        step = self._enter(name, fn)
        if step.stored is not None:
            return self._stored_value(step.stored)  # type: ignore[no-any-return]
        with self._executing(step), self._transaction() as cursor:
            began = _transaction_id(cursor)
            value = _without_cursor(fn(cursor, *args, **kwargs), cursor)
            _refuse_lazy(name, value)
            output = self._encoded(step, value)
            _refuse_ended(name, cursor, began)
            receipt = self._checkpoint(step, output, cursor)
            with uninterrupted(), suppress(StoreError):
                receipt.wait()  # until the commit is done, whoever writes has the cursor
            self._journal.settle(receipt)
        return value

    def _settle(self, receipt: Receipt) -> None:
        if self._pipelined:
            self._journal.settle_later(receipt)
        else:
            self._journal.settle(receipt)


class AsyncStepContext(BaseContext):
    """The first argument of an ``async def`` job function; steps may run side by side in tasks."""

    @overload
    async def run(self, name: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def run(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, name: str, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Any]:
        """Call ``fn(*args, **kwargs)``, await it if it is awaitable, and keep the result: a checkpoint.

        Raises as `StepContext.run`. A run that ends with a step that was never awaited fails.
        """
        return self.calls.until_awaited(f"step.run({shown(name)}, …)", partial(self._run, name, fn, *args, **kwargs))

    async def _run(self, name: str, fn: Callable[P, Awaitable[R] | R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        step = self._enter(name, fn)
        if step.stored is not None:
            return self._stored_value(step.stored)  # type: ignore[no-any-return]
        with self._executing(step):
            value = await _awaited(fn(*args, **kwargs))
            _refuse_lazy(name, value)
            receipt = self._checkpoint(step, self._encoded(step, value))
        await self._settle(receipt)
        return value

    @overload
    async def transaction(
        self,
        name: str,
        fn: Callable[Concatenate[duckdb.DuckDBPyConnection, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    async def transaction(
        self,
        name: str,
        fn: Callable[Concatenate[duckdb.DuckDBPyConnection, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    def transaction(
        self,
        name: str,
        fn: Callable[Concatenate[duckdb.DuckDBPyConnection, P], Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, Any]:
        """Call ``fn(cursor, *args, **kwargs)`` in a transaction, as `StepContext.transaction` does."""
        call = f"step.transaction({shown(name)}, …)"
        return self.calls.until_awaited(call, partial(self._transact, name, fn, *args, **kwargs))

    async def _transact(
        self,
        name: str,
        fn: Callable[Concatenate[duckdb.DuckDBPyConnection, P], Awaitable[R] | R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        step = self._enter(name, fn)
        if step.stored is not None:
            return self._stored_value(step.stored)  # type: ignore[no-any-return]
        with self._executing(step), self._transaction() as cursor:
            began = _transaction_id(cursor)
            value = _without_cursor(await _awaited(fn(cursor, *args, **kwargs)), cursor)
            _refuse_lazy(name, value)
            output = self._encoded(step, value)
            _refuse_ended(name, cursor, began)
            receipt = self._checkpoint(step, output, cursor)
            with uninterrupted(), suppress(StoreError):
                receipt.wait()  # until the commit is done, whoever writes has the cursor
            self._journal.settle(receipt)
        return value

    async def _settle(self, receipt: Receipt) -> None:
        if self._pipelined:
            self._journal.settle_later(receipt)
            return
        if receipt.committed is not None:
            # Waits without blocking the loop; `settle` then finds it done, or raises what it raised.
            try:
                await asyncio.wait([asyncio.wrap_future(receipt.committed)])
            except asyncio.CancelledError:
                self._journal.settle_later(receipt)
                raise
        self._journal.settle(receipt)


async def _awaited(value: Awaitable[R] | R) -> R:
    if inspect.isawaitable(value):
        return await value
    return value


def _amount(value: object, what: str) -> int | float:
    if type(value) is int:
        number: int | float = value
    elif isinstance(value, numbers.Integral) and not isinstance(value, bool):
        number = int(value)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValidationError(f"Progress: {what} is a number, not {type(value).__name__}.")
    if not 0 <= number <= sys.float_info.max:
        raise ValidationError(f"Progress: {what} is a number from 0 up, not {shown(number)}.")
    return number


def _refuse_unusable(name: str, fn: object) -> None:
    if not callable(fn):
        raise ValidationError(
            f"Step {name!r} was given {type(fn).__name__} where a function is wanted: write "
            f"step.run({name!r}, fn, …), without calling fn yourself."
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ValidationError(
            f"Step {name!r} was given a generator function, which does nothing until it is iterated. "
            "Give a function that returns a list, or iterate it inside a step."
        )


def _refuse_lazy(name: str, value: object) -> None:
    if inspect.iscoroutine(value):
        value.close()
        raise ValidationError(
            f"Step {name!r} returned a coroutine that nobody awaits. Make the job `async def` and write "
            f"`await step.run({name!r}, …)`, or give a plain function."
        )
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise ValidationError(f"Step {name!r} returned a generator, which cannot be stored. Return list(…) of it.")
    if isinstance(value, duckdb.DuckDBPyRelation):
        raise ValidationError(
            f"Step {name!r} returned a DuckDB relation, a query without its rows. Return .df() or .fetchall() of it."
        )


def _without_cursor(value: R, cursor: duckdb.DuckDBPyConnection) -> R:
    """Take the cursor, which each of its own methods gives back, for nothing."""
    return None if value is cursor else value  # type: ignore[return-value]


def _transaction_id(cursor: duckdb.DuckDBPyConnection) -> object:
    return cursor.execute("select txid_current()").fetchall()[0][0]


def _refuse_ended(name: str, cursor: duckdb.DuckDBPyConnection, began: object) -> None:
    try:
        ended = _transaction_id(cursor) != began
    except duckdb.Error as error:
        raise explain(error, f"The transaction of step {name!r}") from error
    if ended:
        raise StoreError(
            f"Step {name!r} ended its transaction itself. Leave begin, commit and rollback to step.transaction: what "
            "was committed inside is kept, although the step has failed."
        )
