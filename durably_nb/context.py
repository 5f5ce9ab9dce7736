"""The step context: what a job function is given."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from durably_nb.course import BaseContext, refuse_ended, refuse_lazy, transaction_id, without_cursor
from durably_nb.errors import StoreError
from durably_nb.interrupts import uninterrupted
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    import duckdb

    from durably_nb.store import Receipt

P = ParamSpec("P")
R = TypeVar("R")


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
            refuse_lazy(name, value)
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
            began = transaction_id(cursor)
            value = without_cursor(fn(cursor, *args, **kwargs), cursor)
            refuse_lazy(name, value)
            output = self._encoded(step, value)
            refuse_ended(name, cursor, began)
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
            refuse_lazy(name, value)
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
            began = transaction_id(cursor)
            value = without_cursor(await _awaited(fn(cursor, *args, **kwargs)), cursor)
            refuse_lazy(name, value)
            output = self._encoded(step, value)
            refuse_ended(name, cursor, began)
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
