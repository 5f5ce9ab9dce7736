"""The course of a step: entered, executed, ended. What plain and async job functions have in common."""

from __future__ import annotations

import asyncio
import inspect
import numbers
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import duckdb

from durably_nb.awaiting import Calls
from durably_nb.capture import finish_line
from durably_nb.codecs import describe
from durably_nb.database import explain
from durably_nb.errors import ConflictError, DuplicateStepError, StoreError, ValidationError
from durably_nb.failures import failure_of, is_of_exit, note_step
from durably_nb.fingerprint import fingerprint, has_changed
from durably_nb.models import ProgressData
from durably_nb.names import checked_name, storable_text
from durably_nb.tracking import Track
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping

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
class Step:
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

    def _enter(self, name: str, fn: Callable[..., object]) -> Step:
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
        return Step(name, index, code, stored, time.perf_counter())

    @contextmanager
    def _executing(self, step: Step) -> Iterator[None]:
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

    def _stopped(self, step: Step) -> None:
        if self.signal.reason == "cancelled":
            self._journal.step_cancelled(step.name, step.index)

    def _stored_value(self, stored: CompletedStep) -> Any:  # noqa: ANN401 - what the step returned
        return self._codec.decode(stored.output, where=f"the result of step {stored.name!r}")

    def _encoded(self, step: Step, value: object) -> JSONValue:
        return self._codec.encode(value, run_id=self.run_id, where=f"the result of step {step.name!r}")

    def _checkpoint(self, step: Step, output: JSONValue, within: duckdb.DuckDBPyConnection | None = None) -> Receipt:
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


def refuse_lazy(name: str, value: object) -> None:
    """Refuse a result that is still to be computed. Raises ValidationError."""
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


def without_cursor(value: R, cursor: duckdb.DuckDBPyConnection) -> R:
    """Take the cursor that ``cursor.execute(…)`` returns for no result."""
    """Take the cursor, which each of its own methods gives back, for nothing."""
    return None if value is cursor else value  # type: ignore[return-value]


def transaction_id(cursor: duckdb.DuckDBPyConnection) -> object:
    """Give the number of the transaction that a cursor is in."""
    return cursor.execute("select txid_current()").fetchall()[0][0]


def refuse_ended(name: str, cursor: duckdb.DuckDBPyConnection, began: object) -> None:
    """Refuse a transaction that the step's function has ended itself. Raises StoreError."""
    try:
        ended = transaction_id(cursor) != began
    except duckdb.Error as error:
        raise explain(error, f"The transaction of step {name!r}") from error
    if ended:
        raise StoreError(
            f"Step {name!r} ended its transaction itself. Leave begin, commit and rollback to step.transaction: what "
            "was committed inside is kept, although the step has failed."
        )
