"""Following a run: its view as the stored events give it, kept up to date by those that come."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from durably_nb.errors import NotFoundError, StoreError
from durably_nb.views import MOST_SHOWN, STATE_CHANGES, RunView

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.events import DurablyEvent
    from durably_nb.models import JSONValue, RunRecord
    from durably_nb.store import RecentEvents

_MOST_READ: Final = 3 * MOST_SHOWN
"""Of each kind of event, so many are read: the rate is told from more progress than there are steps shown."""


class Follower(Protocol):
    """What is brought the events of a run, and its state where that changes without one."""

    def on_event(self, event: DurablyEvent) -> None:
        """Take an event of the run; called in sequence order."""

    def refresh(self, record: RunRecord) -> None:
        """Take a state of the run."""


class Source(Protocol):
    """Where views get what they show, and what carries out their commands."""

    def follow(self, run_id: str, follower: Follower) -> None:
        """Bring a run's events to a follower from now on, as long as somebody holds it."""

    def run_record(self, run_id: str) -> RunRecord:
        """Give the state of a run. Raises NotFoundError."""

    def recent_events(self, run_id: str, most: int) -> RecentEvents:
        """Give the latest events of a run, at most so many of each kind."""

    def waits_for(self, job_name: str) -> str | None:
        """Say what keeps a pending run of a job from being executed; None if nothing does."""

    def outlined(self, stored: JSONValue) -> str:
        """Give a stored value in one line, without reading what lies in files."""


class Following:
    """A run's view. What arrives is only noted; it is folded by whoever looks, one at a time."""

    def __init__(self, source: Source, run_id: str, noted: Callable[[], None]) -> None:
        """Read the view so far; `noted` is called with each change, by whoever makes it: let it be quick.

        Raises:
            NotFoundError: If there is no such run.

        """
        self.run_id = run_id
        self._source = source
        self._noted = noted
        self._arrived: deque[DurablyEvent] = deque()
        self._progress: deque[DurablyEvent] = deque(maxlen=1)
        self._is_stale = False
        # Followed before it is read: what happens in between is then heard twice, not never.
        source.follow(run_id, self)
        self._view = _read(source, run_id)

    def on_event(self, event: DurablyEvent) -> None:
        """Note an event; of progress only the latest."""
        if event.type == "run:progress":
            self._progress.append(event)
        else:
            self._arrived.append(event)
        self._noted()

    def refresh(self, _: RunRecord) -> None:
        """Note that the state is another."""
        self._is_stale = True
        self._noted()

    def view(self) -> RunView:
        """Give the view as it is now."""
        view = self._view
        # Progress first: what came before it has arrived by then, and is not passed over as older.
        events = [queue.popleft() for queue in (self._progress, self._arrived) for _ in range(len(queue))]
        events.sort(key=lambda event: event.sequence)
        for event in events:
            view = view.after(event)
        if self._is_stale or any(event.type in STATE_CHANGES for event in events):
            self._is_stale = False
            view = view.with_record(self._record())
        self._view = view
        return view

    def _record(self) -> RunRecord | None:
        try:
            return self._source.run_record(self.run_id)
        except NotFoundError:
            return None
        except StoreError:  # closed meanwhile: the last that was known stands
            return self._view.record


def _read(source: Source, run_id: str) -> RunView:
    """Fold what is stored. Of a long run, only what a view keeps anyway is read."""
    recent = source.recent_events(run_id, _MOST_READ)
    record = source.run_record(run_id)
    view = RunView(
        record=record,
        hidden_steps=recent.hidden.get("step:start", 0),
        hidden_lines=recent.hidden.get("log:write", 0),
        attempts=recent.hidden.get("run:leased", 0),
        endings=sum(recent.hidden.get(kind, 0) for kind in ("run:complete", "run:fail", "run:cancel")),
    )
    for event in recent.events:
        view = view.after(event)
    return view.with_record(record)
