"""The signal that asks a job function to stop."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from durably_nb.errors import Unwind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durably_nb.errors import UnwindReason


class Signal:
    """Set once, when the run was cancelled, was taken away, or must pause; never cleared."""

    def __init__(self) -> None:
        """Begin unset."""
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._reason: UnwindReason | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def aborted(self) -> bool:
        """Whether the function is asked to stop."""
        return self._reason is not None

    @property
    def reason(self) -> UnwindReason | None:
        """Why: ``"cancelled"``, ``"lease-lost"``, ``"stopping"`` or ``"exiting"``; None while it may go on."""
        return self._reason

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the signal; the way to pause that a cancel ends at once."""
        return self._event.wait(timeout)

    def throw_if_aborted(self) -> None:
        """Leave the job function if it is asked to stop."""
        if self._reason is not None:
            raise Unwind(self._reason)

    def abort(self, reason: UnwindReason) -> None:
        """Ask the function to stop; the first reason stays."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            self._event.set()
            for callback in self._callbacks:
                callback()
            self._callbacks.clear()

    @contextmanager
    def interrupting(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` if the signal is set during the block; it does not wait for anything."""
        self.on_abort(callback)
        try:
            yield
        finally:
            with self._lock:  # so that it is not being called any more
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

    def on_abort(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the signal is set, at once if it is; it does not wait for anything."""
        with self._lock:
            if self._reason is None:
                self._callbacks.append(callback)
                return
        callback()
