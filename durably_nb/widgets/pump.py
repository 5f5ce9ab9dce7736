"""The pump: the one thread that draws. Whoever hears of a change only notes which drawing it makes stale."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERVAL_S: Final = 0.1
"""A drawing is made anew at most this often."""

BUDGET: Final = 80
"""Drawings a second, all together. A notebook server that is sent 1,000 messages a second drops some, even the last."""

_PATIENCE_S: Final = 1.0
"""The longest that anybody waits for a drawing on another thread: one that never ends must not hang an exit."""

_logger = logging.getLogger("durably_nb")


class Drawing(Protocol):
    """Something that is drawn from what is known now."""

    def draw(self) -> float | None:
        """Draw it, with a message or two; ask for another drawing after so many seconds, or None."""


class Pump:
    """Draws what was noted: the first change at once, then each at most ten times a second, the last state always.

    Its thread lives while there are drawings to care for. `turn` may be called on other threads too; the
    drawings are made by one of them at a time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing to draw; `clock` gives seconds."""
        self._clock = clock
        self._changed = threading.Condition()
        self._turning = threading.RLock()  # a drawing that is removed while it draws removes itself
        self._cared_for: dict[Drawing, float] = {}  # by the time from which each may be drawn again; last drawn, last
        self._due: dict[Drawing, float] = {}  # each with the time at which it is due
        self._failing: set[Drawing] = set()  # of what is drawn again and again, one complaint is enough
        self._drawn: deque[float] = deque()
        self._thread: threading.Thread | None = None
        self._turner: threading.Thread | None = None

    def add(self, drawing: Drawing) -> None:
        """Care for a drawing from now on."""
        with self._changed:
            self._cared_for.setdefault(drawing, 0.0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="durably-pump", daemon=True)
                self._thread.start()

    def remove(self, drawing: Drawing, *, last: bool = False) -> None:
        """Draw it no more, or once more and then no more.

        On return no drawing goes on, unless this is called from one, or one does not end within a second.
        """
        with self._changed:
            self._cared_for.pop(drawing, None)
            self._due.pop(drawing, None)
            self._failing.discard(drawing)
            ended = None if self._cared_for else self._thread
            if ended is not None:
                self._thread = None
                self._changed.notify_all()
        if ended is not None and self._turner is not threading.current_thread():  # whom it may be waiting for
            ended.join(_PATIENCE_S)
        with self._our_turn() as is_ours:
            if is_ours and last:
                self._draw(drawing)

    def note(self, drawing: Drawing) -> None:
        """Know that a drawing is stale. Costs a dict look-up while it is known already."""
        if self._due.get(drawing) == 0.0:
            return
        with self._changed:
            if drawing in self._cared_for:
                self._due[drawing] = 0.0
                self._changed.notify_all()

    def turn(self, *, early: bool = False) -> None:
        """Draw what is due and affordable; `early`: also what was drawn a moment ago."""
        with self._our_turn() as is_ours:
            for drawing in self._take(early=early) if is_ours else ():
                self._draw(drawing)

    @contextmanager
    def _our_turn(self) -> Iterator[bool]:
        """Be the only thread that draws, in this block; False where another one's drawing does not end."""
        if not self._turning.acquire(timeout=_PATIENCE_S):
            yield False
            return
        before, self._turner = self._turner, threading.current_thread()
        try:
            yield True
        finally:
            self._turner = before
            self._turning.release()

    def _take(self, *, early: bool) -> list[Drawing]:
        """Take what may be drawn now off the list."""
        with self._changed:
            now = self._clock()
            while self._drawn and self._drawn[0] <= now - 1:
                self._drawn.popleft()
            due = [drawing for drawing in self._cared_for if self._due.get(drawing, inf) <= now]
            ready = [drawing for drawing in due if early or self._cared_for[drawing] <= now]
            taken = ready[: BUDGET - len(self._drawn)]
            pause = max(INTERVAL_S, len(due) / BUDGET)  # so that the budget lasts for the whole second
            for drawing in taken:
                del self._due[drawing], self._cared_for[drawing]
                self._cared_for[drawing] = now + pause  # behind the others
                self._drawn.append(now)
            return taken

    def _draw(self, drawing: Drawing) -> None:
        try:
            again = drawing.draw()
        except Exception:
            # A front end that is gone, a widget that was closed: none of it may reach a job, or stop other drawings.
            if drawing not in self._failing:
                _logger.warning("A panel could not be drawn; its run is not concerned.", exc_info=True)
            self._failing.add(drawing)
            return
        self._failing.discard(drawing)
        if again is not None:
            with self._changed:
                if drawing in self._cared_for:
                    self._due.setdefault(drawing, self._clock() + again)

    def _pause(self) -> float | None:
        """Give the seconds until there will be something to draw; None: as long as nothing is noted."""
        now = self._clock()
        times = [max(due, self._cared_for[drawing]) for drawing, due in self._due.items()]
        if not times:
            return None
        soonest = min(times)
        if len(self._drawn) >= BUDGET:
            soonest = max(soonest, self._drawn[0] + 1)
        return max(0.0, soonest - now)

    def _loop(self) -> None:
        me = threading.current_thread()
        while self._thread is me:
            self.turn()
            with self._changed:
                # Looked at under the lock: what was noted since the turn would be slept through.
                if self._thread is me and self._pause() != 0:
                    self._changed.wait(self._pause())


pump: Final = Pump()
"""The pump of this process: the budget is a kernel's."""
