"""The fifteen events.

The two unions at the end, `DomainEvent` and `OperationalEvent`, are the list of events; every
other list is derived from them. Fields that hold a user's value (`input`, `output`, `data`) hold
it as it is stored: itself where JSON can say it, else JSON that describes it (see codecs.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Literal, TypeGuard, get_args

import pydantic
from pydantic.alias_generators import to_camel

from durably_nb.errors import ValidationError
from durably_nb.models import JSONValue, LogLevel, ProgressData
from durably_nb.wording import reason_of, shown

DomainEventType = Literal["run:trigger", "run:coalesced", "run:complete", "run:fail", "run:cancel", "run:delete"]
OperationalEventType = Literal[
    "run:leased",
    "run:lease-renewed",
    "run:progress",
    "step:start",
    "step:complete",
    "step:fail",
    "step:cancel",
    "log:write",
    "worker:error",
]
EventType = DomainEventType | OperationalEventType


def now() -> datetime:
    """Give the time as events keep it: aware, UTC, in whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What every event has; the store assigns `sequence` and `timestamp`."""

    type: ClassVar[str]
    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid", alias_generator=to_camel)

    sequence: int = 0
    timestamp: datetime = field(default_factory=now)

    def to_dict(self) -> dict[str, Any]:
        """Give the wire form: camelCase keys, ISO 8601 times in UTC, nothing but JSON values."""
        return {"type": self.type} | {key: _to_wire(getattr(self, name)) for name, key in WIRE_NAMES[self.type]}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEvent(Event):
    """What every event about a run has."""

    run_id: str
    job_name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTriggerEvent(RunEvent):
    """A trigger created a run, before any worker has it."""

    type: ClassVar[Literal["run:trigger"]] = "run:trigger"
    input: JSONValue


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCoalescedEvent(RunEvent):
    """A trigger met a pending run of its concurrency key, and was answered with that run."""

    type: ClassVar[Literal["run:coalesced"]] = "run:coalesced"
    skipped_input: JSONValue
    skipped_labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLeasedEvent(RunEvent):
    """A worker claimed the run and begins; again for the same run after a crash or a resume."""

    type: ClassVar[Literal["run:leased"]] = "run:leased"
    input: JSONValue
    lease_owner: str
    lease_expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLeaseRenewedEvent(RunEvent):
    """The lease was extended while the run executes."""

    type: ClassVar[Literal["run:lease-renewed"]] = "run:lease-renewed"
    lease_owner: str
    lease_expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCompleteEvent(RunEvent):
    """The job function returned and the result is stored; `duration` in milliseconds."""

    type: ClassVar[Literal["run:complete"]] = "run:complete"
    output: JSONValue
    duration: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFailEvent(RunEvent):
    """The run ended in an error; `failed_step_name` is None if it came from outside any step."""

    type: ClassVar[Literal["run:fail"]] = "run:fail"
    error: str
    failed_step_name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCancelEvent(RunEvent):
    """Cancel took effect."""

    type: ClassVar[Literal["run:cancel"]] = "run:cancel"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDeleteEvent(RunEvent):
    """The run and what belongs to it were deleted."""

    type: ClassVar[Literal["run:delete"]] = "run:delete"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgressEvent(RunEvent):
    """The job said how far it is."""

    type: ClassVar[Literal["run:progress"]] = "run:progress"
    progress: ProgressData


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStartEvent(RunEvent):
    """A step begins to execute (not when it is replayed)."""

    type: ClassVar[Literal["step:start"]] = "step:start"
    step_name: str
    step_index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCompleteEvent(RunEvent):
    """A step returned and its result is stored; `duration` in milliseconds."""

    type: ClassVar[Literal["step:complete"]] = "step:complete"
    step_name: str
    step_index: int
    output: JSONValue
    duration: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFailEvent(RunEvent):
    """A step raised."""

    type: ClassVar[Literal["step:fail"]] = "step:fail"
    step_name: str
    step_index: int
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCancelEvent(RunEvent):
    """The run was cancelled while the step was executing."""

    type: ClassVar[Literal["step:cancel"]] = "step:cancel"
    step_name: str
    step_index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogWriteEvent(RunEvent):
    """A line of the run's log: the job's own, or captured output."""

    type: ClassVar[Literal["log:write"]] = "log:write"
    step_name: str | None
    level: LogLevel
    message: str
    data: JSONValue = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerErrorEvent(Event):
    """Something inside the worker went wrong; `context` says where, such as ``lease-renewal``."""

    type: ClassVar[Literal["worker:error"]] = "worker:error"
    error: str
    context: str
    run_id: str | None = None


DomainEvent = RunTriggerEvent | RunCoalescedEvent | RunCompleteEvent | RunFailEvent | RunCancelEvent | RunDeleteEvent
OperationalEvent = (
    RunLeasedEvent
    | RunLeaseRenewedEvent
    | RunProgressEvent
    | StepStartEvent
    | StepCompleteEvent
    | StepFailEvent
    | StepCancelEvent
    | LogWriteEvent
    | WorkerErrorEvent
)
DurablyEvent = DomainEvent | OperationalEvent

EVENT_CLASSES: dict[str, type[Event]] = {cls.type: cls for cls in get_args(DurablyEvent)}
WIRE_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    kind: tuple((item.name, to_camel(item.name)) for item in fields(cls)) for kind, cls in EVENT_CLASSES.items()
}
"""The fields of each event, each with its key in the wire form."""

DOMAIN_EVENT_TYPES: frozenset[str] = frozenset(cls.type for cls in get_args(DomainEvent))


def is_domain_event(event: DurablyEvent) -> TypeGuard[DomainEvent]:
    """Tell whether the event is a domain event, by its `type` alone."""
    return event.type in DOMAIN_EVENT_TYPES


def event_from_dict(data: Mapping[str, Any]) -> DurablyEvent:
    """Read back what `Event.to_dict` wrote.

    Raises:
        ValidationError: If `data` is not the wire form of one of the fifteen events.

    """
    if not isinstance(data, Mapping):
        raise ValidationError(f"An event is read from a dict or another mapping, not from {type(data).__name__}.")
    kind = data.get("type")
    cls = EVENT_CLASSES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValidationError(f"{shown(kind)} is no event type; the types are {', '.join(sorted(EVENT_CLASSES))}.")
    try:
        text = json.dumps({key: value for key, value in data.items() if key != "type"}, allow_nan=False)
        event: DurablyEvent = _adapter(kind).validate_json(text, strict=True)
    except (pydantic.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise ValidationError(f"These are not the fields of a {kind} event: {reason_of(error)}.") from None
    return event


def to_iso(moment: datetime) -> str:
    """Give ISO 8601 in UTC with milliseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_wire(value: object) -> object:
    if isinstance(value, datetime):
        return to_iso(value)
    if isinstance(value, ProgressData):
        return {"current": value.current, "total": value.total, "message": value.message}
    return value


@cache
def _adapter(kind: object) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(EVENT_CLASSES[str(kind)])
