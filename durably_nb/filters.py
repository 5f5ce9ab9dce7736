"""The filters of the history by name: what type checkers, completion and the history itself know of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    from durably_nb.bus import EventSelector
    from durably_nb.models import LogLevel, RunStatus, StepStatus

Moment: TypeAlias = datetime | timedelta | str
"""An aware time, or how long ago: a timedelta, ``"30d"``, ``"24h"``, ``"60m"``."""

_F = TypeVar("_F", bound=Callable[..., Any])


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


def filtered_by(filters: type) -> Callable[[_F], _F]:
    """Have a method that takes ``**filters`` show them by name, as a notebook's completion and help look for."""
    shown = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=getattr(kind, "__forward_arg__", kind)
        )
        for name, kind in filters.__annotations__.items()
    ]

    def decorate(method: _F) -> _F:
        signature = inspect.signature(method)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        method.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined] # a function takes it
        return method

    return decorate
