"""History: events, runs, steps and logs as DataFrames, with their filters."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEXT = str(pd.Series([""]).dtype)  # `object` in pandas 2, `str` in pandas 3
TIME = "datetime64[us, UTC]"
SPAN = "timedelta64[us]"

COLUMNS = {
    "events": {
        "sequence": "int64",
        "timestamp": TIME,
        "type": "category",
        "run_id": TEXT,
        "job_name": TEXT,
        "step_name": TEXT,
        "step_index": "Int64",
        "duration": SPAN,
        "error": TEXT,
        "level": "category",
        "message": TEXT,
        "labels": "object",
        "data": "object",
    },
    "runs": {
        "run_id": TEXT,
        "job_name": TEXT,
        "status": "category",
        "labels": "object",
        "input": "object",
        "output": "object",
        "error": TEXT,
        "failed_step_name": TEXT,
        "progress_current": "float64",
        "progress_total": "float64",
        "progress_message": TEXT,
        "step_count": "int64",
        "lease_owner": TEXT,
        "lease_generation": "int64",
        "idempotency_key": TEXT,
        "concurrency_key": TEXT,
        "created_at": TIME,
        "started_at": TIME,
        "completed_at": TIME,
        "duration": SPAN,
    },
    "steps": {
        "run_id": TEXT,
        "job_name": TEXT,
        "step_name": TEXT,
        "step_index": "int64",
        "status": "category",
        "started_at": TIME,
        "completed_at": TIME,
        "duration": SPAN,
        "error": TEXT,
        "output_type": TEXT,
        "output_bytes": "Int64",
        "lease_generation": "int64",
    },
    "logs": {
        "sequence": "int64",
        "timestamp": TIME,
        "run_id": TEXT,
        "job_name": TEXT,
        "step_name": TEXT,
        "level": "category",
        "message": TEXT,
        "data": "object",
    },
}
"""The columns that DESIGN promises, in their order."""

FRAMES = sorted(COLUMNS)
HOSTILE = ["' or 1=1 --", "'; drop table durably.log; --", '"', "%", "_", "*", "$1", "?", "\\", "a\0b", "\ud800", "🦆"]


@dataclass
class Story:
    """A store in which something of every kind has happened."""

    d: dn.Durably
    clean: dn.Run
    train: dn.Run
    cancelled: dn.Run
    deleted: str

    def frame(self, name: str, **filters: Any) -> pd.DataFrame:
        frame: pd.DataFrame = getattr(self.d, name)(**filters)
        return frame


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    d = dn.Durably(tmp_path_factory.mktemp("story") / "jobs.duckdb")
    d.migrate()

    @d.job
    def clean(step: dn.StepContext, month: int) -> dict[str, int]:
        step.run("load", lambda: (month, b"raw"))
        step.progress(1, 2, "half")
        step.run("tidy", lambda: step.log.warning("odd rows", {"rows": month}))
        step.log.info("cleaned")
        return {"month": month}

    @d.job
    def train(step: dn.StepContext, since: datetime) -> None:  # noqa: ARG001 - what is stored of it is looked at
        step.run("load", lambda: 1)
        step.run("fit", lambda: 1 / 0)

    first = clean.options(labels={"team": "a", "env": "x"}, idempotency_key="once").trigger(month=3)
    second = train.options(labels={"team": "b", "env": "x"}, concurrency_key="gpu").trigger(
        since=datetime(2026, 1, 2, tzinfo=UTC)
    )
    gone = clean.trigger(month=4)
    cancelled = clean.trigger(month=5)
    cancelled.cancel()
    d.process_until_idle()
    gone.delete()
    d.emit(dn.WorkerErrorEvent(error="no room", context="disk watch"))
    d.emit(
        dn.LogWriteEvent(run_id=first.id, job_name="", step_name="afterwards", level="error", message="by hand", data=1)
    )
    yield Story(d, first, second, cancelled, gone.id)
    d.close()


# --- columns ---


@pytest.mark.parametrize("name", FRAMES)
def test_columns_and_dtypes_are_those_promised(story: Story, name: str) -> None:
    """What I write against a frame today holds tomorrow: the same columns, in order, of the same kinds."""
    frame = story.frame(name)
    assert len(frame) > 0
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == COLUMNS[name]
    assert list(frame.columns) == list(COLUMNS[name])


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_frame_has_the_same_columns_and_dtypes(story: Story, d: dn.Durably, name: str) -> None:
    """Code that works on a full frame works on an empty one: of a filter that nothing fits, of a new store."""
    for empty in (story.frame(name, job_name="no such job"), getattr(d, name)()):
        assert len(empty) == 0
        assert list(empty.dtypes) == list(story.frame(name).dtypes)


@pytest.mark.parametrize("name", FRAMES)
def test_frames_can_be_concatenated(story: Story, d: dn.Durably, name: str) -> None:
    """Frames of several filters and stores, put together, are a frame of the same dtypes."""
    whole = story.frame(name)
    both = pd.concat([whole, story.frame(name, limit=1), getattr(d, name)()])
    assert list(both.dtypes) == list(whole.dtypes)


def test_categories_are_all_that_there_can_be(story: Story) -> None:
    """A count by status or level shows what did not happen as 0."""
    assert len(story.d.events()["type"].cat.categories) == 15
    assert list(story.d.logs()["level"].cat.categories) == ["info", "warn", "error"]
    assert story.d.runs()["status"].value_counts()["leased"] == 0
    assert story.d.steps()["status"].value_counts()["interrupted"] == 0


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_made_without_a_warning(story: Story, name: str) -> None:
    """What the libraries below deprecate is nothing that I should read about in my cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(story.frame(name, job_name=["clean", "train"], labels={"env": "x"}, limit=9)) > 0


def test_frames_are_numbered_from_zero(story: Story) -> None:
    """The index is plain: filters leave no holes in it."""
    for name in FRAMES:
        frame = story.frame(name, limit=2)
        assert list(frame.index) == [0, 1]


# --- rows ---


def test_events_come_in_sequence_order(story: Story) -> None:
    """The events of a run read like its story."""
    events = story.clean.events()
    assert list(events["sequence"]) == sorted(events["sequence"])
    assert list(events["type"]) == [
        "run:trigger",
        "run:leased",
        "step:start",
        "step:complete",
        "run:progress",
        "step:start",
        "log:write",
        "step:complete",
        "log:write",
        "run:complete",
        "log:write",
    ]
    assert set(events["run_id"]) == {story.clean.id}
    assert set(events["job_name"]) == {"clean"}
    assert all(labels == {"team": "a", "env": "x"} for labels in events["labels"])


def test_times_are_aware_and_durations_are_spans(story: Story) -> None:
    """I can subtract a time from now, and sum durations, without converting anything."""
    events, runs = story.frame("events"), story.frame("runs")
    assert timedelta(0) <= datetime.now(UTC) - events["timestamp"].max() < timedelta(hours=1)
    assert events["timestamp"].is_monotonic_increasing
    done = runs[runs["status"] == "completed"].iloc[0]
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    assert done["duration"] == done["completed_at"] - done["started_at"]
    assert events["duration"].max() > timedelta(0)


def test_data_holds_the_other_fields_decoded(story: Story) -> None:
    """What an event says beyond the columns is a dict of Python values, as the job gave them."""
    data = story.train.events().set_index("type")["data"]
    assert data["run:trigger"] == {"input": {"since": datetime(2026, 1, 2, tzinfo=UTC)}}
    assert data["run:fail"] == {"failed_step_name": "fit"}
    assert data["step:fail"] == {}
    assert set(data["run:leased"]) == {"input", "lease_owner", "lease_expires_at"}
    assert data["run:leased"]["lease_expires_at"] > story.train.created_at
    progress = story.clean.events(type="run:progress")["data"]
    assert list(progress) == [{"progress": {"current": 1, "total": 2, "message": "half"}}]
    outputs = story.clean.events(type="step:complete", step_name="load")["data"]
    assert list(outputs) == [{"output": (3, b"raw")}]


def test_labels_are_never_taken_for_a_stored_value(d: dn.Durably) -> None:
    """Labels are shown as I gave them, even if they look like the store's own way to write a value."""
    job = d.job(name="odd labels")(lambda step: step.run("one", lambda: 1))
    labels = {"$": "float", "v": "nan"}
    job.options(labels={"$": "x"}, concurrency_key="k")
    d.stop()
    keyed = job.options(concurrency_key="k", coalesce="skip", labels=labels)
    first, second = keyed.trigger(), keyed.trigger()
    assert (first.id, second.disposition) == (second.id, "coalesced")
    assert [data["skipped_labels"] for data in d.events(type="run:coalesced")["data"]] == [labels]
    assert list(d.runs()["labels"]) == [labels]


def test_runs_are_newest_first_with_all_that_is_known(story: Story) -> None:
    """One row a run: where it stands, what it was given, what came of it."""
    runs = story.frame("runs")
    assert list(runs["run_id"]) == [story.cancelled.id, story.train.id, story.clean.id]
    assert list(runs["status"]) == ["cancelled", "failed", "completed"]
    first = runs.iloc[2]
    assert (first["input"], first["output"]) == ({"month": 3}, {"month": 3})
    assert (first["idempotency_key"], first["step_count"], first["lease_generation"]) == ("once", 2, 1)
    assert (first["progress_current"], first["progress_total"], first["progress_message"]) == (1.0, 2.0, "half")
    assert pd.isna(first["error"])
    assert pd.isna(first["lease_owner"])
    second = runs.iloc[1]
    assert (second["error"], second["failed_step_name"]) == ("ZeroDivisionError: division by zero", "fit")
    assert second["concurrency_key"] == "gpu"
    assert second["output"] is None
    assert pd.isna(runs.iloc[0]["started_at"])
    assert pd.isna(runs.iloc[0]["duration"])


def test_steps_say_how_each_execution_ended(story: Story) -> None:
    """One row for each time a step was executed, with its result's type and size."""
    steps = story.frame("steps")
    assert list(steps["run_id"]) == [story.clean.id] * 2 + [story.train.id] * 2
    assert list(steps["step_name"]) == ["load", "tidy", "load", "fit"]
    assert list(steps["status"]) == ["completed", "completed", "completed", "failed"]
    assert list(steps["step_index"]) == [0, 1, 0, 1]
    assert list(steps["output_type"])[:3] == ["tuple", "None", "int"]
    assert steps["output_bytes"][0] > 4
    assert steps["error"][3] == "ZeroDivisionError: division by zero"
    assert pd.isna(steps["output_type"][3])
    assert (steps["duration"] >= timedelta(0)).all()
    assert (steps["completed_at"] >= steps["started_at"]).all()


def test_an_interrupted_step_is_told_from_one_that_ran(idle: dn.Durably) -> None:
    """After a kill I see which step was under way, beside its second execution that went well."""
    stops = [KeyboardInterrupt()]

    @idle.job
    def patient(step: dn.StepContext) -> int:
        step.run("first", lambda: 1)

        def second() -> int:
            if stops:
                raise stops.pop()
            return 2

        return step.run("second", second)

    run = patient.trigger()
    with pytest.raises(KeyboardInterrupt):
        idle.process_one()
    before = run.steps()
    assert list(before["status"]) == ["completed", "interrupted"]
    assert pd.isna(before["completed_at"][1])
    assert pd.isna(before["duration"][1])
    idle.process_one()
    after = run.steps()
    assert list(zip(after["step_name"], after["status"], after["lease_generation"], strict=True)) == [
        ("first", "completed", 1),
        ("second", "interrupted", 1),
        ("second", "completed", 2),
    ]
    assert list(idle.steps(status="interrupted")["step_name"]) == ["second"]


def test_a_step_under_way_is_running(d: dn.Durably) -> None:
    """While a step executes, its row says so and has no end."""
    seen: list[pd.DataFrame] = []
    job = d.job(name="look")(lambda step: step.run("look", lambda: seen.append(d.steps())))
    job.trigger().result(timeout=20)
    assert list(seen[0]["status"]) == ["running"]
    assert pd.isna(seen[0]["completed_at"][0])


def test_of_a_deleted_run_only_its_deletion_is_left(story: Story) -> None:
    """Deleting takes a run's rows out of every frame; that it was deleted stays known."""
    events = story.frame("events", run_id=story.deleted)
    assert list(events["type"]) == ["run:delete"]
    assert list(events["job_name"]) == ["clean"]
    assert list(events["labels"]) == [{}]
    for name in ("runs", "steps", "logs"):
        assert len(story.frame(name, run_id=story.deleted)) == 0


def test_an_error_of_the_worker_needs_no_run(story: Story) -> None:
    """What went wrong inside the worker is a row without run, job and labels."""
    row = story.frame("events", type="worker:error").iloc[0]
    assert (row["error"], row["data"]) == ("no room", {"context": "disk watch"})
    assert pd.isna(row["run_id"])
    assert pd.isna(row["job_name"])
    assert row["labels"] is None


def test_events_of_my_own_are_rows_like_others(story: Story) -> None:
    """What I emit has its run's job name and labels, is in the log, and changes no step."""
    row = story.clean.events(level="error").iloc[0]
    assert (row["job_name"], row["labels"], row["step_name"]) == ("clean", {"team": "a", "env": "x"}, "afterwards")
    assert (row["message"], row["data"]) == ("by hand", {"data": 1})
    assert "afterwards" not in set(story.frame("steps")["step_name"])
    assert list(story.clean.logs()["message"]) == ["odd rows", "cleaned", "by hand"]


def test_log_lines_have_their_step_and_data(story: Story) -> None:
    """A line says which step it came from; its data is what I gave."""
    logs = story.clean.logs()
    assert list(logs["level"]) == ["warn", "info", "error"]
    assert (logs["step_name"][0], logs["data"][0]) == ("tidy", {"rows": 3})
    assert pd.isna(logs["step_name"][1])
    assert logs["data"][1] is None


def test_values_come_back_as_they_were(d: dn.Durably) -> None:
    """DataFrames and other values in the history are those that the job returned."""
    table = pd.DataFrame({"n": [1, 2]}, index=pd.Index(["a", "b"]))

    @d.job
    def make(step: dn.StepContext) -> dict[str, Any]:
        step.log.info("a table", {"table": table, "day": datetime(2026, 1, 1, tzinfo=UTC)})
        step.run("table", lambda: table)
        return {"set": {1, 2}, "table": table}

    run = make.trigger()
    run.result(timeout=20)
    output = d.runs()["output"][0]
    assert output["set"] == {1, 2}
    pd.testing.assert_frame_equal(output["table"], table)
    pd.testing.assert_frame_equal(run.logs()["data"][0]["table"], table)
    pd.testing.assert_frame_equal(run.events(type="step:complete")["data"][0]["output"], table)


def test_large_values_are_described_not_loaded(d: dn.Durably) -> None:
    """Listing a thousand runs does not read a thousand files: what lies beside the store is named."""
    job = d.job(name="large")(lambda step: step.run("large", lambda: "x" * 100_000))
    run = job.trigger()
    assert len(run.result(timeout=20)) == 100_000
    described = d.runs()["output"][0]
    assert isinstance(described, dict)
    assert len(str(described)) < 1_000
    assert run.step_output("large") == "x" * 100_000
    assert d.steps()["output_bytes"][0] > 100_000


def test_a_value_whose_class_is_gone_does_not_hide_the_rest(d: dn.Durably, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart, before its class is defined again, a run is listed all the same."""

    @dataclass
    class Model:
        score: float

    Model.__qualname__ = "Model"
    monkeypatch.setitem(globals(), "Model", Model)
    job = d.job(name="model")(lambda step: step.run("fit", lambda: Model(0.5)))
    assert job.trigger().result(timeout=20) == Model(0.5)
    monkeypatch.delitem(globals(), "Model")
    runs = d.runs()
    assert list(runs["status"]) == ["completed"]
    assert isinstance(runs["output"][0], dict)


# --- filters ---


def having(column: str, *wanted: object) -> Callable[[pd.DataFrame], pd.Series[bool]]:
    return lambda frame: frame[column].isin(wanted)


def labelled(**labels: str) -> Callable[[pd.DataFrame], pd.Series[bool]]:
    return lambda frame: frame["labels"].map(lambda own: own is not None and labels.items() <= own.items()).astype(bool)


@pytest.mark.parametrize(
    ("name", "filters", "fits"),
    [
        ("events", {"type": "run:trigger"}, having("type", "run:trigger")),
        ("events", {"type": "run:*"}, lambda frame: frame["type"].astype(str).str.startswith("run:")),
        ("events", {"type": "*"}, lambda frame: frame["sequence"] > 0),
        ("events", {"type": dn.StepFailEvent}, having("type", "step:fail")),
        ("events", {"type": ["run:fail", dn.RunCancelEvent]}, having("type", "run:fail", "run:cancel")),
        ("events", {"type": []}, having("type")),
        ("events", {"job_name": "train"}, having("job_name", "train")),
        ("events", {"job_name": ("train", "clean")}, having("job_name", "train", "clean")),
        ("events", {"step_name": "load"}, having("step_name", "load")),
        ("events", {"level": ["warn", "error"]}, having("level", "warn", "error")),
        ("events", {"labels": {"env": "x"}}, labelled(env="x")),
        ("events", {"labels": {"team": "b", "env": "x"}}, labelled(team="b", env="x")),
        ("events", {"labels": {"team": "c"}}, labelled(team="c")),
        ("events", {"job_name": None, "type": None}, lambda frame: frame["sequence"] > 0),
        ("runs", {"job_name": "clean"}, having("job_name", "clean")),
        ("runs", {"status": "failed"}, having("status", "failed")),
        ("runs", {"status": {"failed", "completed"}}, having("status", "failed", "completed")),
        ("runs", {"status": []}, having("status")),
        ("runs", {"labels": {"team": "a"}}, labelled(team="a")),
        ("steps", {"job_name": "train"}, having("job_name", "train")),
        ("steps", {"step_name": ["fit", "tidy"]}, having("step_name", "fit", "tidy")),
        ("steps", {"status": "failed"}, having("status", "failed")),
        ("steps", {"labels": {"team": "a"}}, having("job_name", "clean")),
        ("logs", {"job_name": "clean"}, having("job_name", "clean")),
        ("logs", {"step_name": "tidy"}, having("step_name", "tidy")),
        ("logs", {"level": "warn"}, having("level", "warn")),
        ("logs", {"labels": {"team": "b"}}, having("job_name", "train")),
    ],
)
def test_a_filter_keeps_what_fits(
    story: Story, name: str, filters: dict[str, Any], fits: Callable[[pd.DataFrame], pd.Series[bool]]
) -> None:
    """A filter gives what I would get by filtering the whole frame myself."""
    whole = story.frame(name)
    key = "sequence" if "sequence" in whole else "run_id"
    assert list(story.frame(name, **filters)[key]) == list(whole[fits(whole)][key])


@pytest.mark.parametrize("name", FRAMES)
def test_runs_are_chosen_by_id(story: Story, name: str) -> None:
    """One run or several, in every frame."""
    ids = [story.clean.id, story.train.id]
    whole = story.frame(name)
    assert list(story.frame(name, run_id=ids[0])["run_id"]) == [one for one in whole["run_id"] if one == ids[0]]
    assert list(story.frame(name, run_id=iter(ids))["run_id"]) == [one for one in whole["run_id"] if one in ids]


def test_filters_are_combined(story: Story) -> None:
    """Several filters together keep what fits them all."""
    d, clean = story.d, story.clean
    found = d.events(
        type=["step:*", "log:write"], run_id=clean.id, job_name="clean", step_name="tidy", labels={"env": "x"},
        since="1h", until=timedelta(0), limit=2,
    )  # fmt: skip
    assert list(found["type"]) == ["step:start", "log:write"]
    assert len(d.runs(status="completed", job_name="train")) == 0
    assert len(d.logs(run_id=clean.id, level="info", step_name="tidy")) == 0
    assert len(d.steps(run_id=clean.id, status="completed", labels={"team": "a"}, since="1h")) == 2


@pytest.mark.parametrize(("name", "moment"), [("events", "timestamp"), ("runs", "created_at"), ("logs", "timestamp")])
def test_since_is_inclusive_and_until_is_not(story: Story, name: str, moment: str) -> None:
    """Two periods that meet share no row and miss none, whatever the zone I name the border in."""
    whole = story.frame(name)
    border = sorted(whole[moment])[len(whole) // 2]
    elsewhere = border.to_pydatetime().astimezone(timezone(timedelta(hours=-8)))
    late, early = story.frame(name, since=elsewhere), story.frame(name, until=border)
    assert len(late) + len(early) == len(whole)
    assert late[moment].min() == border
    assert early[moment].max() < border


@pytest.mark.parametrize("name", FRAMES)
def test_periods_can_be_spans(story: Story, name: str) -> None:
    """A span such as "24h" and a timedelta mean so long before now."""
    whole = len(story.frame(name))
    assert whole > 0
    for span in ("24h", "1d", "60m", timedelta(hours=1), pd.Timedelta("1h"), timedelta.max, "999999d"):
        assert len(story.frame(name, since=span)) == whole
        assert len(story.frame(name, until=span)) == 0


def test_a_time_or_number_of_a_frame_is_a_filter(story: Story) -> None:
    """What pandas and NumPy gave me can be asked for again: a Timestamp in any zone, nanoseconds or not; a count."""
    moment = story.d.events()["timestamp"].max().tz_convert("Asia/Tokyo")
    assert len(story.d.events(until=moment)) < len(story.d.events(until=moment + pd.Timedelta(microseconds=1)))
    assert len(story.d.events(since=moment.as_unit("ns") + pd.Timedelta(nanoseconds=1))) > 0
    assert len(story.d.events(limit=np.int64(2))) == 2  # type: ignore[arg-type] # a whole number all the same


@pytest.mark.parametrize("name", FRAMES)
def test_the_ends_of_time_are_times(story: Story, name: str) -> None:
    """The first and the last moment that Python knows keep everything and nothing."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    whole = len(story.frame(name))
    assert (len(story.frame(name, since=first)), len(story.frame(name, since=last))) == (whole, 0)
    beyond = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    with pytest.raises(dn.ValidationError, match="since is a time that UTC cannot say"):
        story.frame(name, since=beyond)


@pytest.mark.parametrize("name", FRAMES)
def test_limit_gives_the_first_rows(story: Story, name: str) -> None:
    """The first so many rows of the same order; more than there are is no mistake."""
    whole = story.frame(name)
    key = "run_id"
    for limit in (0, 1, 2, 10**30):
        assert list(story.frame(name, limit=limit)[key]) == list(whole[key])[:limit]


@pytest.mark.parametrize(
    ("name", "filters", "message"),
    [
        ("events", {"jobname": "x"}, "no filter 'jobname' here: did you mean 'job_name'"),
        ("events", {"status": "failed"}, "no filter 'status' here: the filters are"),
        ("runs", {"type": "run:*"}, "no filter 'type' here"),
        ("runs", {"step_name": "x"}, "no filter 'step_name' here"),
        ("steps", {"levle": "x"}, "no filter 'levle' here"),
        ("logs", {"type": "x"}, "no filter 'type' here"),
        ("runs", {"offset": 3}, "no filter 'offset' here"),
        ("events", {"type": "run:tigger"}, "did you mean 'run:trigger'"),
        ("events", {"type": 5}, "not by 5"),
        ("events", {"type": dn.Run}, "matches no event"),
        ("runs", {"status": "fail"}, "'fail' is no status: did you mean 'failed'"),
        ("steps", {"status": ["done"]}, "'done' is no status: they are running, interrupted"),
        ("logs", {"level": "warning"}, "'warning' is no level: did you mean 'warn'"),
        ("events", {"run_id": 5}, "run_id is a string such as run.id or a list of strings, not 5"),
        ("events", {"job_name": ["a", None]}, "None is none"),
        ("logs", {"step_name": b"x"}, "120 is none"),
        ("runs", {"labels": "team"}, "Labels are a mapping of strings to strings, not str"),
        ("runs", {"labels": {"team": 5}}, "The label 'team' is a string, not int"),
        ("runs", {"labels": {"team": "\ud800"}}, "lone surrogate"),
        ("events", {"since": "yesterday"}, "since is an aware datetime, such as datetime(2026, 1, 31, tzinfo=UTC)"),
        ("events", {"until": "2026-01-01"}, 'or how long ago: "30d", "24h", "60m" or a timedelta; not \'2026-01-01\''),
        ("events", {"until": 5}, "until is an aware datetime"),
        ("events", {"until": pd.NaT}, "without a zone"),
        ("events", {"since": timedelta(-1)}, "from zero up"),
        ("events", {"since": datetime(2026, 1, 1)}, "without a zone"),  # noqa: DTZ001 - what is refused
        ("events", {"limit": -1}, "limit is a whole number from 0 up, not -1"),
        ("events", {"limit": True}, "not True"),
        ("events", {"limit": 2.0}, "not 2.0"),
        ("events", {"limit": "2"}, "not '2'"),
        ("events", {"since": "9" * 10_000_000}, "since is an aware datetime"),
        ("events", {"x" * 10_000_000: 1}, "There is no filter"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(
    story: Story, name: str, filters: dict[str, Any], message: str
) -> None:
    """A slip in a filter is a sentence, never an empty frame."""
    with pytest.raises(dn.ValidationError) as refused:
        story.frame(name, **filters)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", FRAMES)
def test_text_in_a_filter_stays_text(story: Story, name: str, text: str) -> None:
    """Whatever I search for is compared, never executed, and is no pattern."""
    for one in ("run_id", "job_name", "step_name"):
        if one != "step_name" or name != "runs":
            assert len(story.frame(name, **{one: text})) == 0
    if not {"\0", "\ud800"} & set(text):
        assert len(story.frame(name, labels={"team": text})) == 0
        assert len(story.frame(name, labels={text: "a"})) == 0
    assert len(story.frame(name)) > 0


def test_odd_names_and_labels_are_found_again(d: dn.Durably) -> None:
    """A job, a step and labels of any characters are found by exactly these."""
    for text in [text for text in HOSTILE if not {"\0", "\ud800"} & set(text)]:
        job = d.job(name=text)(lambda step, text: step.run(text, lambda: step.log.info(text)))
        keyed = job.options(labels={text: text}, idempotency_key=text, concurrency_key=text)
        keyed.trigger(text=text).result(timeout=20)
        for name in FRAMES:
            assert len(getattr(d, name)(job_name=text, labels={text: text})) > 0
        assert [run.input["text"] for run in d.get_runs(job_name=text, labels={text: text})] == [text]
        assert len(d.steps(step_name=text)) == 1


def test_a_run_has_the_same_filters(story: Story) -> None:
    """What d.events() and the others take, a run's own take too, but for the run."""
    run = story.clean
    assert list(run.events(type="log:*", limit=1)["message"]) == ["odd rows"]
    assert list(run.steps(status="completed", step_name=["load"])["step_index"]) == [0]
    assert list(run.logs(level="info", since="1h")["message"]) == ["cleaned"]
    with pytest.raises(dn.ValidationError, match="no filter 'status' here"):
        run.logs(status="completed")  # type: ignore[call-arg] # what is refused
    with pytest.raises(TypeError, match="run_id"):
        run.events(run_id="x")  # type: ignore[call-arg] # what is refused


def test_filters_are_shown_by_completion_and_help(story: Story) -> None:
    """In a notebook, Tab and Shift-Tab after d.events( show the filters."""
    shown = inspect.signature(story.d.events).parameters
    assert {"type", "run_id", "job_name", "step_name", "level", "labels", "since", "until", "limit"} == set(shown)
    assert {one.kind for one in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert "run_id" not in inspect.signature(story.clean.events).parameters
    assert "status" in inspect.signature(story.d.runs).parameters


def test_history_is_current_inside_a_step(d: dn.Durably) -> None:
    """A step that reads the history sees all that happened before it, itself included."""

    @d.job
    def look(step: dn.StepContext) -> list[str]:
        step.run("before", lambda: 1)
        return step.run("look", lambda: list(d.events(run_id=step.run_id)["type"]))

    assert look.trigger().result(timeout=20)[-3:] == ["step:start", "step:complete", "step:start"]


def test_history_outlives_its_process(path: Path) -> None:
    """Closed and opened again, the file tells the same story."""
    with dn.open(path) as first:
        first.job(name="short")(lambda step: step.run("one", lambda: (1, 2))).trigger().result(timeout=20)
        before = {name: getattr(first, name)() for name in FRAMES}
    with dn.open(path) as second:
        for name in FRAMES:
            pd.testing.assert_frame_equal(getattr(second, name)(), before[name])
