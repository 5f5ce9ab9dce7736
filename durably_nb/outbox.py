"""The outbox: tells listeners the events of each run in sequence order, each after its commit.

Several threads make events of one run: the one that executes it, the lease keeper, whoever
cancels. Each event takes its place in the run's line as it is numbered; whoever posted it then
tells what is ready at the head of the line. One thread at a time tells the events of a run.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from durably_nb.capture.current import enter, leave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durably_nb.bus import EventBus
    from durably_nb.store import Receipt


class Outbox:
    """Between the store, which numbers events, and the bus, which tells them."""

    def __init__(self, bus: EventBus) -> None:
        """Take the bus; no thread is started before it is needed."""
        self._teller = Teller()
        self._bus = bus
        self._lock = threading.Lock()
        # A line lives as long as somebody is about to post to it, or to tell it.
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()

    def line(self, run_id: str) -> Line:
        """Give the line of a run."""
        with self._lock:
            line = self._lines.get(run_id)
            if line is None:
                self._lines[run_id] = line = Line(self._bus, self._teller)
            return line

    def tell(self, receipts: Iterable[Receipt]) -> None:
        """Tell committed events of runs that no other thread knows of yet, or of no run at all."""
        with _Telling():
            for receipt in receipts:
                self._bus.emit(receipt.event)

    def tell_later(self, receipt: Receipt) -> None:
        """Have an event of no run told on the outbox's own thread."""
        self._teller.add(lambda: self.tell([receipt]))

    def close(self) -> None:
        """Tell what is left and end the thread; may be called twice."""
        self._teller.close()


class Line:
    """The events of one run that are accepted and not told yet."""

    def __init__(self, bus: EventBus, teller: Teller) -> None:
        """Begin empty."""
        self._bus = bus
        self._teller = teller
        self._posting = threading.Lock()
        self._one_teller = threading.Lock()
        self._receipts: deque[Receipt] = deque()

    def post(self, accept: Callable[[], Receipt]) -> Receipt:
        """Have the store accept an event, which takes its place in the line."""
        # Numbering and queueing are one: else two threads could queue in the other order.
        with self._posting:
            receipt = accept()
            self._receipts.append(receipt)
        return receipt

    def tell(self) -> None:
        """Tell what is ready, in order.

        If another thread is telling, wait for it. A listener that causes further events never waits
        (it may be standing in its own way): they are told after it returns.
        """
        may_wait = not _this_thread.telling
        while self._is_ready() and self._one_teller.acquire(blocking=may_wait):
            try:
                self._tell_ready()
            finally:
                self._one_teller.release()

    def tell_when_ready(self, receipt: Receipt) -> None:
        """Have it told on the outbox's own thread, once it is committed."""
        if receipt.committed is None:
            self._teller.add(self.tell)
        else:
            receipt.committed.add_done_callback(lambda _: self._teller.add(self.tell))

    def _is_ready(self) -> bool:
        return bool(self._receipts) and self._receipts[0].ready

    def _tell_ready(self) -> None:
        with _Telling():
            while self._is_ready():
                receipt = self._receipts.popleft()
                if not receipt.void:
                    self._bus.emit(receipt.event)


class Teller:
    """A thread that tells what is ready when no thread of the run is about to do it."""

    def __init__(self) -> None:
        """Begin without a thread."""
        self._changed = threading.Condition()
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False

    def add(self, call: Callable[[], None]) -> None:
        """Have `call` called on the thread."""
        with self._changed:
            self._calls.append(call)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._loop, name="durably-teller", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Make the calls that are left and end the thread; may be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._closing)
                if not self._calls:
                    return
                call = self._calls.popleft()
            call()


class _ThisThread(threading.local):
    telling = False
    """Whether a listener may be standing on this thread."""


_this_thread = _ThisThread()


class _Telling:
    """While listeners are told. What they print is theirs: as output of the run it would be told to them again."""

    __slots__ = ("_before", "_token")

    def __enter__(self) -> None:
        self._before = _this_thread.telling
        _this_thread.telling = True
        self._token = enter(None)

    def __exit__(self, *_: object) -> None:
        leave(self._token)
        _this_thread.telling = self._before
