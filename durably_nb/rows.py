"""An event as a row of the log, and back.

A row is narrow: sequence, time, run, type, and one JSON object with what only this event has.
What is the same for all events of a run (its job's name, labels, input) stands in its run:trigger
row alone; views and `event_from_row` add it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from durably_nb.events import EVENT_CLASSES, WIRE_NAMES, Event, event_from_dict, to_iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durably_nb.events import DurablyEvent
    from durably_nb.models import Failure, JSONValue, RunRecord

InternalType = Literal["store:release", "store:resume", "store:drop-outputs", "store:purge"]
"""Rows that change a run's state and that no listener hears and no view shows."""

EMITTED: Final = "emitted"
"""Marks the row of an event that a user emitted: it is told and kept, and changes no state."""

encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Row:
    """One row of the log; `data` is its JSON object, `ms` milliseconds since the epoch."""

    sequence: int
    ms: int
    run_id: str | None
    type: str
    data: Mapping[str, JSONValue]

    @property
    def timestamp(self) -> datetime:
        """The row's time, aware and in UTC."""
        return from_ms(self.ms)


def to_ms(moment: datetime) -> int:
    """Give whole milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    """Give the aware UTC datetime of milliseconds since the epoch."""
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


def data_of(event: Event) -> dict[str, Any]:
    """Give the JSON object that an event's row keeps."""
    return {key: _plain(getattr(event, name)) for name, key in _KEPT[event.type]}


def failure_extra(failure: Failure) -> dict[str, JSONValue]:
    """Give what a row keeps of a failure beside its event's `error`."""
    return {"errorType": failure.type, "errorMessage": failure.message, "traceback": failure.traceback}


def event_from_row(row: Row, run: RunRecord | None) -> DurablyEvent:
    """Rebuild the event that a row keeps; `run` is the state of the run it is about."""
    known = {} if run is None else {"jobName": run.job_name, "labels": dict(run.labels), "input": run.input}
    values = (
        known | dict(row.data) | {"runId": row.run_id, "sequence": row.sequence, "timestamp": to_iso(row.timestamp)}
    )
    keys = {key for _, key in WIRE_NAMES[row.type]}
    return event_from_dict({"type": row.type} | {key: values[key] for key in keys if key in values})


def _kept_fields(kind: str) -> tuple[tuple[str, str], ...]:
    elsewhere = {"sequence", "timestamp", "run_id"}
    if kind not in {"run:trigger", "run:delete"}:
        elsewhere |= {"job_name", "labels"}
    if kind == "run:leased":
        elsewhere.add("input")
    return tuple((name, key) for name, key in WIRE_NAMES[kind] if name not in elsewhere)


_KEPT: Final = {kind: _kept_fields(kind) for kind in EVENT_CLASSES}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return to_iso(value)
    if hasattr(value, "__dataclass_fields__"):
        return {item.name: getattr(value, item.name) for item in fields(value)}  # type: ignore[arg-type]
    return value
