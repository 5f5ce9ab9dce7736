"""`step.track`: progress of a loop, by looping."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from durably_nb.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_INTERVAL_S: Final = 0.05
"""Between two reports; a loop of millions must not pay for each turn."""


class Track(Generic[T]):
    """Goes over an iterable, and says how far it is: at the start, 20 times a second, at the end.

    Each turn looks at the run's signal, so that a cancel ends the loop. Works in ``for``, and in
    ``async for`` over what is asynchronous.
    """

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        *,
        total: float | None,
        report: Callable[[int, float | None], None],
        throw_if_aborted: Callable[[], None],
    ) -> None:
        """Take what to go over; `total` is its length if that can be known."""
        if not isinstance(items, (Iterable, AsyncIterable)):
            raise ValidationError(f"track goes over an iterable, not over {type(items).__name__}.")
        self._items = items
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._report = report
        self._throw_if_aborted = throw_if_aborted
        self._done = 0
        self._next_report = 0.0

    def __iter__(self) -> Iterator[T]:
        """Go over the items."""
        if not isinstance(self._items, Iterable):
            raise ValidationError(
                f"{type(self._items).__name__} is asynchronous: write `async for … in step.track(…)`."
            )
        self._start()
        for item in self._items:
            self._turn()
            yield item
            self._done += 1
        self._finish()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Go over the items of an asynchronous iterable, or of any other."""
        self._start()
        items: Any = self._items
        if isinstance(items, AsyncIterable):
            async for item in items:
                self._turn()
                yield item
                self._done += 1
        else:
            for item in items:
                self._turn()
                yield item
                self._done += 1
        self._finish()

    def _start(self) -> None:
        self._done = 0
        self._next_report = 0.0

    def _turn(self) -> None:
        self._throw_if_aborted()
        now = time.monotonic()
        if now >= self._next_report:
            self._report(self._done, self._total)
            self._next_report = now + _INTERVAL_S

    def _finish(self) -> None:
        self._report(self._done, self._total)
