"""A thread that repeats a turn; it knows nothing of jobs or databases."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Bell:
    """Wakes one waiting worker at a time; a ring while nobody waits is kept for the next."""

    def __init__(self) -> None:
        """Begin silent."""
        self._changed = threading.Condition()
        self._rung = False

    def ring(self) -> None:
        """Wake one worker."""
        with self._changed:
            self._rung = True
            self._changed.notify()

    def ring_all(self) -> None:
        """Wake every worker, to look at its stop flag."""
        with self._changed:
            self._rung = True
            self._changed.notify_all()

    def wait(self, timeout_s: float, stopping: threading.Event) -> None:
        """Return when the bell rings, at the latest after `timeout_s` seconds."""
        with self._changed:
            # Looked at under the lock: a stop between the look and the wait would be slept through.
            if not self._rung and not stopping.is_set():
                self._changed.wait(timeout_s)
            self._rung = False


class Worker:
    """Repeats `turn` on a thread of its own: at once while it finds work, else at each ring.

    `turn` tells whether it found work. An exception from it goes to `failed`, and the next turn
    waits for the interval, so that a lasting fault does not burn the processor.
    """

    def __init__(
        self,
        turn: Callable[[], bool],
        *,
        bell: Bell,
        interval_s: Callable[[], float],
        failed: Callable[[Exception], None],
        name: str,
    ) -> None:
        """Take the turn to repeat; no thread is started yet."""
        self._turn = turn
        self._bell = bell
        self._interval_s = interval_s
        self._failed = failed
        self._stopping = threading.Event()
        # A daemon: a job function that never returns must not keep the interpreter from exiting.
        self.thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its present turn; `join` waits for it."""
        self._stopping.set()
        self._bell.ring_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False if it still stands after `timeout_s` seconds."""
        if self.thread is not threading.current_thread():
            self.thread.join(timeout_s)
        return not self.thread.is_alive()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            if not self._turned():
                self._bell.wait(self._interval_s(), self._stopping)

    def _turned(self) -> bool:
        try:
            return self._turn()
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever its turn raises
            self._failed(error)
            return False
