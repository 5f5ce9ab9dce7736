"""The outbox: tells the events of each run in sequence order, each after its commit.

Several threads make events of one run: the one that executes it, the lease keeper, whoever
cancels. The store posts each event as it numbers it; whoever caused it then tells what is ready at
the head of the run's line. One thread at a time tells the events of a run.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.store import Receipt


_GRACE_S: Final = 1.0


class Outbox:
    """Between the store, which numbers events, and listeners, which hear of them."""

    def __init__(self, tell: Callable[[Receipt], None]) -> None:
        """Take what tells one event; no thread is started before it is needed."""
        self._tell_one = tell
        self._lock = threading.Lock()
        self._lines: dict[str | None, _Line] = {}
        self._teller = _Teller(self.tell)

    def post(self, receipt: Receipt) -> None:
        """Put an event in its run's line; the store calls this in the order of its numbers."""
        run_id = receipt.event.run_id
        with self._lock:
            line = self._lines.get(run_id)
            if line is None:
                self._lines[run_id] = line = _Line()
            line.receipts.append(receipt)

    def tell(self, run_id: str | None) -> None:
        """Tell what is ready of a run, in order.

        If another thread is telling, wait for it. A listener that causes further events never waits
        (it may be standing in its own way): they are told after it returns.
        """
        line = self._lines.get(run_id)
        while line is not None and line.is_ready() and line.telling.acquire(blocking=not _this_thread.is_telling):
            _this_thread.is_telling, before = True, _this_thread.is_telling
            try:
                while line.is_ready():
                    receipt = line.receipts.popleft()
                    if not receipt.void:
                        self._tell_one(receipt)
            finally:
                _this_thread.is_telling = before
                line.telling.release()
                self._clear_away(run_id, line)

    def tell_when_ready(self, receipt: Receipt) -> None:
        """Have an event told on the outbox's own thread, once it is committed."""
        run_id = receipt.event.run_id
        if receipt.committed is None:
            self._teller.add(run_id)
        else:
            receipt.committed.add_done_callback(lambda _: self._teller.add(run_id))

    def close(self) -> None:
        """Tell what is left to the outbox's own thread and end it; may be called twice."""
        self._teller.close()

    def _clear_away(self, run_id: str | None, line: _Line) -> None:
        with self._lock:
            if not line.receipts and self._lines.get(run_id) is line:
                del self._lines[run_id]


class _Line:
    """The events of one run that are accepted and not told yet."""

    __slots__ = ("receipts", "telling")

    def __init__(self) -> None:
        self.receipts: deque[Receipt] = deque()
        self.telling = threading.Lock()

    def is_ready(self) -> bool:
        return bool(self.receipts) and self.receipts[0].ready


class _Teller:
    """A thread that tells what is ready when no thread of the run is about to do it."""

    def __init__(self, tell: Callable[[str | None], None]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._run_ids: deque[str | None] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False

    def add(self, run_id: str | None) -> None:
        with self._changed:
            self._run_ids.append(run_id)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._loop, name="durably-teller", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_GRACE_S)  # a listener may stand on it, and stay

    def _loop(self) -> None:
        # It never waits for another teller, who looks again when done: a listener may be standing there for long.
        _this_thread.is_telling = True
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._run_ids or self._closing)
                if not self._run_ids:
                    return
                run_id = self._run_ids.popleft()
            self._tell(run_id)


class _ThisThread(threading.local):
    is_telling = False
    """Whether a listener may be standing on this thread."""


_this_thread = _ThisThread()
