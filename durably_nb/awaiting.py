"""The calls of an async context: a forgotten `await` must not pass for a step that was executed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from durably_nb.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

R = TypeVar("R")

_SHOWN = 3


class Calls:
    """The calls that nobody has awaited yet."""

    def __init__(self) -> None:
        """Begin without any."""
        self._waiting: dict[Coroutine[Any, Any, Any], str] = {}

    def until_awaited(self, call: str, begin: Callable[[], Coroutine[Any, Any, R]]) -> Coroutine[Any, Any, R]:
        """Give a coroutine for what `begin` gives; it is known here as `call` until somebody awaits it."""

        async def awaited() -> R:
            del self._waiting[coroutine]
            return await begin()

        coroutine = awaited()
        self._waiting[coroutine] = call
        return coroutine

    def refuse_forgotten(self) -> None:
        """Refuse that there are such calls, now that the function has returned.

        Raises:
            ValidationError: It names them.

        """
        # One that was cancelled before it began is closed, and was not forgotten.
        states = ((call, inspect.getcoroutinestate(coroutine)) for coroutine, call in self._waiting.items())
        forgotten = [call for call, state in states if state == inspect.CORO_CREATED]
        if forgotten:
            more = f" and {len(forgotten) - _SHOWN} more" if len(forgotten) > _SHOWN else ""
            raise ValidationError(
                f"Never awaited, and so never executed: {', '.join(forgotten[:_SHOWN])}{more}. "
                f"Write `await {forgotten[0]}`."
            )

    def close(self) -> None:
        """Close those that are left; Python would warn of each."""
        while self._waiting:
            coroutine, _ = self._waiting.popitem()
            coroutine.close()
