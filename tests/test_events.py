from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import durably_nb as dn
from durably_nb import ProgressData, ValidationError, event_from_dict, is_domain_event
from durably_nb.events import EVENT_CLASSES

CLASSES: list[Any] = [*get_args(dn.DurablyEvent)]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - as asked
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
labels = st.dictionaries(texts, texts, max_size=3)
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "sequence": st.integers(0, 2**62),
    "timestamp": moments,
    "lease_expires_at": moments,
    "labels": labels,
    "skipped_labels": labels,
    "input": values,
    "skipped_input": values,
    "output": values,
    "data": values,
    "duration": st.floats(0, 1e12),
    "step_index": st.integers(0, 10**6),
    "level": st.sampled_from(["info", "warn", "error"]),
    "progress": st.builds(ProgressData, current=numbers, total=st.none() | numbers, message=st.none() | texts),
    "failed_step_name": st.none() | texts,
}
NULLABLE = {("log:write", "step_name"), ("worker:error", "run_id")}


def event_of(cls: Any) -> st.SearchStrategy[Any]:
    drawn = {item.name: BY_NAME.get(item.name, texts) for item in fields(cls)}
    for name in drawn:
        if (cls.type, name) in NULLABLE:
            drawn[name] = st.none() | texts
    return st.builds(cls, **drawn)


events = st.one_of([event_of(cls) for cls in CLASSES])


# --- the list ---


def test_there_are_fifteen_and_every_list_agrees() -> None:
    """The unions, the Literals, the classes and the public names tell of the same events."""
    assert len(CLASSES) == 15
    assert {cls.type for cls in CLASSES} == {kind for part in get_args(dn.EventType) for kind in get_args(part)}
    assert {cls.type for cls in get_args(dn.DomainEvent)} == set(get_args(dn.DomainEventType))
    assert {cls.type for cls in get_args(dn.OperationalEvent)} == set(get_args(dn.OperationalEventType))
    assert not set(get_args(dn.DomainEventType)) & set(get_args(dn.OperationalEventType))
    assert set(EVENT_CLASSES.values()) == set(CLASSES)
    for cls in CLASSES:
        assert getattr(dn, cls.__name__) is cls
        assert get_type_hints(cls)["type"] == ClassVar[Literal[cls.type]]


def test_the_classes_are_named_after_their_types() -> None:
    """`run:lease-renewed` is a RunLeaseRenewedEvent."""
    for kind, cls in EVENT_CLASSES.items():
        words = kind.replace(":", "-").split("-")
        assert cls.__name__ == "".join(word.capitalize() for word in words) + "Event"


SPECIFIED = {
    "run:trigger": {"input"},
    "run:coalesced": {"skipped_input", "skipped_labels"},
    "run:leased": {"input", "lease_owner", "lease_expires_at"},
    "run:lease-renewed": {"lease_owner", "lease_expires_at"},
    "run:complete": {"output", "duration"},
    "run:fail": {"error", "failed_step_name"},
    "run:cancel": set(),
    "run:delete": set(),
    "run:progress": {"progress"},
    "step:start": {"step_name", "step_index"},
    "step:complete": {"step_name", "step_index", "output", "duration"},
    "step:fail": {"step_name", "step_index", "error"},
    "step:cancel": {"step_name", "step_index"},
    "log:write": {"step_name", "level", "message", "data"},
    "worker:error": {"error", "context"},
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)
def test_each_event_has_the_fields_of_its_specification(cls: Any) -> None:
    """Nothing is missing and nothing is added."""
    common = {"sequence", "timestamp", "run_id"} | (set() if cls.type == "worker:error" else {"job_name", "labels"})
    assert {item.name for item in fields(cls)} == common | SPECIFIED[cls.type]


# --- the objects ---


@given(events)
def test_events_are_frozen_and_equal_by_value(event: Any) -> None:
    """An event can be kept and compared; nobody can change it."""
    same = type(event)(**{item.name: getattr(event, item.name) for item in fields(event)})
    assert event == same
    with pytest.raises(FrozenInstanceError):
        event.sequence = 3


def test_events_are_made_by_keyword() -> None:
    """Positions would mean nothing to a reader."""
    cancel: Any = dn.RunCancelEvent
    with pytest.raises(TypeError):
        cancel("r", "j")


@given(events)
def test_is_domain_event_looks_at_the_type(event: Any) -> None:
    """The six domain events are, the nine others are not."""
    assert is_domain_event(event) is (event.type in get_args(dn.DomainEventType))
    assert "group" not in event.to_dict()


# --- the wire form ---


@given(events)
def test_the_wire_form_comes_back_as_it_was(event: Any) -> None:
    """`to_dict`, through JSON text, and `event_from_dict` lose nothing."""
    wire = event.to_dict()
    text = json.dumps(wire, allow_nan=False)
    assert json.loads(text) == wire
    assert event_from_dict(json.loads(text)) == event
    assert event_from_dict(wire) == event


@given(events)
def test_the_wire_form_is_camel_case(event: Any) -> None:
    """Keys are those of the specification: runId, jobName, leaseExpiresAt."""
    wire = event.to_dict()
    assert wire["type"] == event.type
    assert not [key for key in wire if "_" in key]
    assert wire["timestamp"].endswith("Z")
    assert len(wire["timestamp"].rpartition(".")[2]) == len("123Z")


def test_times_are_told_in_utc() -> None:
    """A time of another zone is the same moment on the wire."""
    moment = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    event = dn.RunCancelEvent(run_id="r", job_name="j", timestamp=moment)
    assert event.to_dict()["timestamp"] == "2026-02-28T23:30:00.000Z"
    assert event_from_dict(event.to_dict()) == event


def good() -> dict[str, Any]:
    return dn.StepStartEvent(run_id="r", job_name="j", step_name="s", step_index=0).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"type": "step:begin"},
        {"type": None},
        {"type": ["step:start"]},
        {"stepIndex": "0"},
        {"stepIndex": 0.5},
        {"stepName": None},
        {"runId": 3},
        {"sequence": "1"},
        {"timestamp": "yesterday"},
        {"timestamp": 0},
        {"labels": {"a": 1}},
        {"labels": [["a", "b"]]},
        {"more": 1},
        {"step_name": "s"},
        {"stepName": "\ud800"},
        {"labels": {"a set"}},
    ],
    ids=str,
)
def test_what_is_no_wire_form_is_refused(change: dict[str, Any]) -> None:
    """A wrong type, an unknown field or an unknown event is named."""
    with pytest.raises(ValidationError):
        event_from_dict(good() | change)


def test_a_missing_field_is_refused() -> None:
    """The message names it."""
    wire = good()
    del wire["stepName"]
    with pytest.raises(ValidationError, match="stepName"):
        event_from_dict(wire)


def test_a_refusal_is_one_line() -> None:
    """It says what was expected, without the address of another library's pages."""
    with pytest.raises(ValidationError) as refused:
        event_from_dict(good() | {"stepIndex": "0"})
    assert (
        str(refused.value)
        == "These are not the fields of a step:start event: stepIndex: Input should be a valid integer."
    )


def test_any_mapping_is_read() -> None:
    """The wire form need not be a dict."""
    assert event_from_dict(MappingProxyType(good())) == event_from_dict(good())


@pytest.mark.parametrize("data", [None, [], "step:start", 3])
def test_what_is_no_dict_is_refused(data: Any) -> None:
    """An event is read from a dict."""
    with pytest.raises(ValidationError, match="read from a dict"):
        event_from_dict(data)


@pytest.mark.parametrize("duration", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_cannot_say_are_refused(duration: str) -> None:
    """They could not be stored."""
    event = dn.RunCompleteEvent(run_id="r", job_name="j", output=None, duration=1.0)
    with pytest.raises(ValidationError):
        event_from_dict(event.to_dict() | {"duration": float(duration)})
