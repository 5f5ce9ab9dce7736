"""Frozen records that cross the seams: run, step, lease, log entry, progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args

import pydantic

JSONValue: TypeAlias = pydantic.JsonValue
"""What JSON can say. Other values are stored as JSON that describes them (codecs.py)."""

RunStatus = Literal["pending", "leased", "completed", "failed", "cancelled"]
Disposition = Literal["created", "idempotent", "coalesced"]
StepStatus = Literal["running", "interrupted", "completed", "failed", "cancelled"]
LogLevel = Literal["info", "warn", "error"]

RUN_STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)
STEP_STATUSES: Final[tuple[StepStatus, ...]] = get_args(StepStatus)
LOG_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)

ACTIVE: Final[frozenset[RunStatus]] = frozenset({"pending", "leased"})
TERMINAL: Final[frozenset[RunStatus]] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressData:
    """How far a run is: ``current`` of ``total`` (None: not known), and a message."""

    current: int | float
    total: int | float | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LogData:
    """One line of a run's log; ``data`` is the value as it was given, ``step_name`` is None outside any step."""

    level: LogLevel
    message: str
    data: Any = None
    step_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An exception as it is kept: class name, message, and traceback as text."""

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        """Give the line Python prints last: ``ValueError: no such month``."""
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A trigger that was validated: what a store needs to create a run."""

    run_id: str
    job_name: str
    input: JSONValue
    labels: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    coalesce: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The state of a run: the fold of its events (fold.py). Times are aware UTC datetimes."""

    run_id: str
    job_name: str
    status: RunStatus
    input: JSONValue
    labels: Mapping[str, str]
    created_at: datetime
    created_sequence: int
    last_sequence: int
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    output: JSONValue = None
    failure: Failure | None = None
    failed_step_name: str | None = None
    progress: ProgressData | None = None
    step_count: int = 0
    lease_owner: str | None = None
    lease_generation: int = 0
    interrupted: bool = False
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to execute a run and to write about it, while its generation is the newest."""

    run_id: str
    owner: str
    generation: int
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedStep:
    """A checkpoint: what a replay gives back in place of executing the step."""

    name: str
    index: int
    output: JSONValue
    code: str | None = None
