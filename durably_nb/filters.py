"""The filters of the history by name: what type checkers, completion and the history itself know of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from durably_nb.errors import ValidationError
from durably_nb.wording import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from durably_nb.bus import EventSelector
    from durably_nb.models import LogLevel, RunStatus, StepStatus

Moment: TypeAlias = datetime | timedelta | str
"""An aware time, or how long ago: a timedelta, ``"30d"``, ``"24h"``, ``"60m"``."""


class Filters(TypedDict, total=False):
    """What all have. Names and levels take one or many; None is no filter.

    Attributes:
        job_name: Only of these jobs.
        labels: Only of runs that have all of these labels.
        since: From this time on.
        until: Before this time.
        limit: The first so many rows.

    """

    job_name: str | Iterable[str] | None
    labels: Mapping[str, str] | None
    since: Moment | None
    until: Moment | None
    limit: int | None


class RunEventFilters(Filters, total=False):
    """Filters of one run's events; `type` is an event name, a class, a pattern or a list of them."""

    type: EventSelector | None
    step_name: str | Iterable[str] | None
    level: LogLevel | Iterable[LogLevel] | None


class EventFilters(RunEventFilters, total=False):
    """Filters of events."""

    run_id: str | Iterable[str] | None


class RunFilters(Filters, total=False):
    """Filters of runs."""

    run_id: str | Iterable[str] | None
    status: RunStatus | Iterable[RunStatus] | None


class RunStepFilters(Filters, total=False):
    """Filters of one run's steps."""

    step_name: str | Iterable[str] | None
    status: StepStatus | Iterable[StepStatus] | None


class StepFilters(RunStepFilters, total=False):
    """Filters of steps."""

    run_id: str | Iterable[str] | None


class RunLogFilters(Filters, total=False):
    """Filters of one run's log."""

    step_name: str | Iterable[str] | None
    level: LogLevel | Iterable[LogLevel] | None


class LogFilters(RunLogFilters, total=False):
    """Filters of log lines."""

    run_id: str | Iterable[str] | None


class JobRunFilters(TypedDict, total=False):
    """Filters of handles of one job's runs."""

    status: RunStatus | Iterable[RunStatus] | None
    labels: Mapping[str, str] | None
    limit: int | None
    offset: int


class HandleFilters(JobRunFilters, total=False):
    """Filters of handles of runs."""

    job_name: str | Iterable[str] | None


def refuse_unknown(filters: Iterable[str], known: type) -> None:
    """Refuse filters that do not exist.

    Raises:
        ValidationError: It says which filter may have been meant.

    """
    names = known.__annotations__
    for name in filters:
        if name not in names:
            raise ValidationError(f"There is no filter {shown(name)} here: {did_you_mean(name, names, 'the filters')}")
