"""Waiting for something that another thread brings about: in a thread, or in an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durably_nb import clicks

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK_S: Final = 0.1
"""How often an await wakes by itself: a notebook's stop button does not reach a bare await of a future."""

_PIECE_S: Final = 0.1
"""The longest single wait of a thread: a Ctrl-C that another thread received does not end one."""


class Wakeup:
    """A condition that threads and coroutines can wait for."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._changed = threading.Condition()
        self._calls: set[Callable[[], None]] = set()

    def notify(self) -> None:
        """Let everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()
            calls = list(self._calls)
        for call in calls:
            call()

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `predicate` holds, up to `timeout_s` seconds; tell whether it does."""
        deadline = time.monotonic() + min(timeout_s, threading.TIMEOUT_MAX)
        with self._changed:
            while not predicate() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, _PIECE_S))
            return predicate()

    async def until(self, predicate: Callable[[], bool], *, each_tick: Callable[[], None] = lambda: None) -> None:
        """Wait until `predicate` holds, without blocking the loop; `each_tick` may raise to give up."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        with self._changed:
            self._calls.add(wake)
        try:
            while not predicate():
                each_tick()
                clicks.take()
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), _TICK_S)
                woken.clear()
        finally:
            with self._changed:
                self._calls.discard(wake)
