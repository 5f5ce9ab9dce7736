"""A subscription: the events of one run, to be iterated over as they come."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from durably_nb.waiting import Wakeup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from durably_nb.bus import EventBus
    from durably_nb.events import DurablyEvent

_ENDS: Final = frozenset({"run:complete", "run:fail", "run:cancel", "run:delete"})
_LOOK_S: Final = 0.5
"""A wait is cut in pieces of this length, so that Ctrl-C ends it on every platform."""


class Subscription:
    """Iterate with ``for`` or ``async for``: the latest stored state first, then all that comes, until the run ends.

    Closed by the end of the run, by `close`, at the end of a ``with`` block, or when nobody holds it any more.
    """

    def __init__(self, bus: EventBus, run_id: str, latest: Callable[[], list[DurablyEvent]]) -> None:
        """Listen from now on; `latest` reads the stored state."""
        mailbox = self._mailbox = _Mailbox(run_id)
        self._unsubscribe = weakref.finalize(self, bus.on("*", mailbox.deliver))
        self._seen = 0
        # Read after listening has begun: what happens in between is then heard twice, not never.
        for event in latest():
            mailbox.first.append(event)

    def __repr__(self) -> str:
        """Show whose events it gives, and whether more may come."""
        return f"<Subscription to run {self._mailbox.run_id}: {'over' if self._is_over() else 'open'}>"

    def __enter__(self) -> Self:
        """Give the subscription."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.close()

    def __iter__(self) -> Iterator[DurablyEvent]:
        """Wait for each event in turn."""
        while not self._is_over():
            while not self._mailbox.arrived.wait_for(self._has_news, _LOOK_S):
                pass
            yield from self._news()

    async def __aiter__(self) -> AsyncIterator[DurablyEvent]:
        """Wait for each event in turn, without blocking the loop."""
        while not self._is_over():
            await self._mailbox.arrived.until(self._has_news)
            for event in self._news():
                yield event

    def close(self) -> None:
        """Stop listening; whoever iterates is let go."""
        self._unsubscribe()
        self._mailbox.arrived.notify()

    def _is_over(self) -> bool:
        return not self._unsubscribe.alive and not self._mailbox.first and not self._mailbox.events

    def _has_news(self) -> bool:
        return bool(self._mailbox.first or self._mailbox.events) or not self._unsubscribe.alive

    def _news(self) -> Iterator[DurablyEvent]:
        for waiting in (self._mailbox.first, self._mailbox.events):
            while waiting:
                event = waiting.popleft()
                if event.sequence <= self._seen:
                    continue
                self._seen = event.sequence
                if event.type in _ENDS:
                    self._mailbox.clear()
                    self.close()
                yield event


class _Mailbox:
    """What arrived for one run; held by the bus, so that the subscription itself is not."""

    def __init__(self, run_id: str) -> None:
        self.first: deque[DurablyEvent] = deque()
        self.events: deque[DurablyEvent] = deque()
        self.arrived = Wakeup()
        self.run_id = run_id

    def deliver(self, event: DurablyEvent) -> None:
        if getattr(event, "run_id", None) == self.run_id:
            self.events.append(event)
            self.arrived.notify()

    def clear(self) -> None:
        self.first.clear()
        self.events.clear()
