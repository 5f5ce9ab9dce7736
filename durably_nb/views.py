"""`RunView`: a run as people see it, the fold of its events. Panels draw it; history gives the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from durably_nb.models import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from durably_nb.events import DurablyEvent
    from durably_nb.models import LogLevel, ProgressData, RunRecord, StepStatus

MOST_SHOWN: Final = 50
"""Of steps, and of log lines, the latest so many are kept in a view."""

_LEAST_S: Final = 1.0
"""No rate is told from less: the first steps of many come in a burst."""

_WINDOW_S: Final = 30.0
"""The rate is that of the last so many seconds: what a resumed run skipped through must not count for long."""

_NEVER_S: Final = 1e9
"""Thirty years: what would take longer, for one unit or for all, is no time to tell anybody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepView:
    """One execution of a step; `reused`: it completed in an earlier attempt, and was not executed again."""

    name: str
    index: int
    status: StepStatus
    started_at: datetime | None
    sequence: int
    duration_ms: float | None = None
    error: str | None = None
    reused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LineView:
    """One line of the log."""

    timestamp: datetime
    level: LogLevel
    message: str
    step_name: str | None
    sequence: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """A run at a moment: its record, its latest steps and log lines, and how fast it goes.

    Attributes:
        record: The state of the run.
        progress: The latest progress.
        steps: The latest executions of steps, in the order in which they began.
        hidden_steps: How many executions there were before these.
        lines: The latest lines of the log.
        hidden_lines: How many lines there were before these.
        began_at: When the present attempt, or the last one, began.
        attempts: How often a worker has begun.
        endings: How often the run has ended: more than once if it was resumed.
        sequence: The number of the last event that this knows of.
        is_deleted: Whether the run was deleted.
        samples: Moments and progress since, of the last half minute: what `rate` is computed from.

    """

    record: RunRecord
    progress: ProgressData | None = None
    steps: tuple[StepView, ...] = ()
    hidden_steps: int = 0
    lines: tuple[LineView, ...] = ()
    hidden_lines: int = 0
    began_at: datetime | None = None
    attempts: int = 0
    endings: int = 0
    sequence: int = 0
    is_deleted: bool = False
    samples: tuple[tuple[datetime, float], ...] = ()

    # --- what can be read from it ---

    @property
    def is_active(self) -> bool:
        """Whether the run is pending or executing."""
        return self.record.status in ACTIVE and not self.is_deleted

    @property
    def running_step(self) -> StepView | None:
        """The step that executes."""
        return next((step for step in reversed(self.steps) if step.status == "running"), None)

    def rate(self, now: datetime) -> float | None:
        """Units of progress a second, over the last half minute; None while there is too little to tell it from."""
        if not self.samples or self.record.status != "leased":
            return None
        # Up to now, not up to the last progress: a quick beginning must not promise a quick end.
        (first, before), (_, latest) = self.samples[0], self.samples[-1]
        seconds = (now - first).total_seconds()
        return (latest - before) / seconds if seconds >= _LEAST_S and (latest - before) * _NEVER_S > seconds else None

    def remaining_s(self, now: datetime) -> float | None:
        """Seconds until the total is reached at this rate; None if it cannot be told."""
        rate = self.rate(now)
        if rate is None or self.progress is None or self.progress.total is None:
            return None
        left = max(0.0, (self.progress.total - self.progress.current) / rate)
        return left if left < _NEVER_S else None

    def elapsed_s(self, now: datetime) -> float | None:
        """Seconds since the present attempt began, or that the last one took; None before the first, or the next."""
        if self.began_at is None or self.record.status == "pending":
            return None
        return max(0.0, ((self.record.completed_at or now) - self.began_at).total_seconds())

    # --- the fold ---

    def after(self, event: DurablyEvent) -> RunView:
        """Give the view after an event of the run; one that it knows of already changes nothing."""
        change = _CHANGES.get(event.type)
        if change is None or event.sequence <= self.sequence:
            return self
        return replace(self, sequence=event.sequence, **change(self, event))

    def with_record(self, record: RunRecord | None) -> RunView:
        """Give the view with the state that the store knows; None: the run is deleted."""
        if record is None:
            return replace(self, is_deleted=True)
        steps = self.steps if record.status == "leased" else tuple(map(_interrupted, self.steps))
        return replace(self, record=record, progress=record.progress or self.progress, steps=steps)


def _leased(view: RunView, event: DurablyEvent) -> dict[str, Any]:
    """A new attempt: what was completed is kept, what was running had been interrupted."""
    return {
        "steps": tuple(map(_before_this_attempt, view.steps)),
        "began_at": event.timestamp,
        "attempts": view.attempts + 1,
        "samples": (),
    }


def _before_this_attempt(step: StepView) -> StepView:
    return replace(step, reused=True) if step.status == "completed" else _interrupted(step)


def _interrupted(step: StepView) -> StepView:
    return replace(step, status="interrupted") if step.status == "running" else step


def _progressed(view: RunView, event: Any) -> dict[str, Any]:  # noqa: ANN401 - the event of this name
    before = () if _is_another_count(view.progress, event.progress) else view.samples
    samples = [sample for sample in before[:-1] if (event.timestamp - sample[0]).total_seconds() <= _WINDOW_S]
    samples += before[-1:]  # however long ago: a step may take minutes
    if len(samples) > 1 and (event.timestamp - samples[-2][0]).total_seconds() < 1:
        samples.pop()  # one a second is enough, and the latest
    return {"progress": event.progress, "samples": (*samples, (event.timestamp, float(event.progress.current)))}


def _is_another_count(before: ProgressData | None, now: ProgressData) -> bool:
    """Whether a job began to count something else, so that what came before says nothing of its pace."""
    return before is not None and (now.total != before.total or now.current < before.current)


def _step_started(view: RunView, event: Any) -> dict[str, Any]:  # noqa: ANN401 - the event of this name
    step = StepView(
        name=event.step_name,
        index=event.step_index,
        status="running",
        started_at=event.timestamp,
        sequence=event.sequence,
    )
    # One that is executed again, as its code has changed, was not reused.
    before = (replace(one, reused=False) if one.name == step.name else one for one in view.steps)
    return _with_steps(view, (*before, step))


def _step_ended(status: StepStatus) -> Callable[[RunView, Any], dict[str, Any]]:
    def ended(view: RunView, event: Any) -> dict[str, Any]:  # noqa: ANN401 - one of three events
        steps = list(view.steps)
        for position in range(len(steps) - 1, -1, -1):
            step = steps[position]
            if step.index == event.step_index and step.status in {"running", "interrupted"}:
                took = getattr(event, "duration", None)
                if took is None and step.started_at is not None:
                    took = (event.timestamp - step.started_at).total_seconds() * 1000
                error = getattr(event, "error", None)
                steps[position] = replace(step, status=status, duration_ms=took, error=error)
                return {"steps": tuple(steps)}
        return {}  # it began before the steps that are kept

    return ended


def _written(view: RunView, event: Any) -> dict[str, Any]:  # noqa: ANN401 - the event of this name
    line = LineView(
        timestamp=event.timestamp,
        level=event.level,
        message=event.message,
        step_name=event.step_name,
        sequence=event.sequence,
    )
    lines = (*view.lines, line)
    return {"lines": lines[-MOST_SHOWN:], "hidden_lines": view.hidden_lines + max(0, len(lines) - MOST_SHOWN)}


def _ended(view: RunView, _: DurablyEvent) -> dict[str, Any]:
    return {"endings": view.endings + 1}


def _deleted(_: RunView, __: DurablyEvent) -> dict[str, Any]:
    return {"is_deleted": True}


def _with_steps(view: RunView, steps: tuple[StepView, ...]) -> dict[str, Any]:
    return {"steps": steps[-MOST_SHOWN:], "hidden_steps": view.hidden_steps + max(0, len(steps) - MOST_SHOWN)}


_CHANGES: Final[dict[str, Callable[[RunView, Any], dict[str, Any]]]] = {
    "run:leased": _leased,
    "run:progress": _progressed,
    "run:complete": _ended,
    "run:fail": _ended,
    "run:cancel": _ended,
    "run:delete": _deleted,
    "step:start": _step_started,
    "step:complete": _step_ended("completed"),
    "step:fail": _step_ended("failed"),
    "step:cancel": _step_ended("cancelled"),
    "log:write": _written,
}

STATE_CHANGES: Final = frozenset({"run:leased", "run:complete", "run:fail", "run:cancel", "run:delete"})
"""After these the record is another."""
