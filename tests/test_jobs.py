"""Jobs: defined, found, triggered with validated input, and replaced while they run."""

# ruff: noqa: ARG001, ARG005 - what the jobs here take is what matters, not what they do with it
from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import math
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, Optional

import numpy as np
import pandas as pd
import pydantic
import pytest
from pandas.testing import assert_frame_equal

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Carrier(pydantic.BaseModel):
    code: str
    flights: int = 0


@dataclasses.dataclass
class Window:
    first: int
    last: int = 12


def import_flights(step: dn.StepContext, month: int, limit: int | None = None) -> dict[str, Any]:
    return {"month": month, "limit": limit}


def unhinted(step: dn.StepContext, value: Any = None) -> Any:  # takes and gives whatever there is
    return value


@pytest.fixture
def d(path: Path) -> Iterator[dn.Durably]:
    """Give an open store without a worker: the tests turn it by hand."""
    with closing(dn.Durably(path)) as opened:
        opened.migrate()
        yield opened


def is_empty(d: dn.Durably) -> bool:
    return d.events().empty and d.runs().empty


# --- defining and finding ---


def test_a_job_runs_in_the_background(path: Path) -> None:
    """Triggering returns a pending run at once; a worker brings it to its result."""
    begin = threading.Event()
    with dn.Durably(path) as d:

        @d.job
        def patient(step: dn.StepContext) -> str:
            begin.wait()
            return threading.current_thread().name

        run = patient.trigger()
        assert run.is_active
        begin.set()
        assert run.result(timeout=30) == "durably-worker-1"
        assert (run.status, run.is_terminal) == ("completed", True)


def test_ways_to_define_a_job(d: dn.Durably) -> None:
    """A job is defined with or without arguments, apart from a store, or by registering a function."""

    @d.job
    def plain(step: dn.StepContext) -> int:
        return 1

    @d.job()
    def called(step: dn.StepContext) -> int:
        return 2

    @d.job(name="by another name", on_code_change="rerun")
    def named(step: dn.StepContext) -> int:
        return 3

    @dn.job
    def apart(step: dn.StepContext) -> int:
        return 4

    @dn.job(name="apart, named")
    def apart_named(step: dn.StepContext) -> int:
        return 5

    def function(step: dn.StepContext) -> int:
        return 6

    registered = d.register(apart, apart_named, function)
    jobs = [plain, called, named, *registered]
    assert [job.name for job in jobs] == ["plain", "called", "by another name", "apart", "apart, named", "function"]
    assert list(d.jobs) == [job.name for job in jobs]
    runs = [job.trigger() for job in jobs]
    assert d.process_until_idle() == 6
    assert [run.result() for run in runs] == [1, 2, 3, 4, 5, 6]


def test_a_decorator_called_as_a_function_heeds_its_options(d: dn.Durably) -> None:
    """`d.job(fn, name=…)` names the job as it says."""
    define: Callable[..., dn.Job] = d.job
    assert define(import_flights, name="flights").name == "flights"
    assert list(d.jobs) == ["flights"]


def test_one_definition_serves_several_stores(tmp_path: Path) -> None:
    """A definition made apart, and a job of one store, can be registered in others."""
    definition = dn.job(import_flights)
    with (
        closing(dn.Durably(tmp_path / "a.duckdb", jobs=[definition])) as a,
        closing(dn.Durably(tmp_path / "b.duckdb")) as b,
    ):
        a.migrate()
        b.migrate()
        b.register(a.jobs.import_flights)
        for d in (a, b):
            run = d.jobs.import_flights.trigger(3)
            assert d.process_one()
            assert run.result() == {"month": 3, "limit": None}
        assert len(a.get_runs()) == len(b.get_runs()) == 1


@pytest.mark.parametrize("name", ["add", "definitions", "get"])
def test_a_job_of_any_name_is_found(d: dn.Durably, name: str) -> None:
    """By item whatever it is called, by attribute unless it is called `get`."""
    d.job(name=name)(unhinted)
    assert d.jobs[name].name == name
    assert name == "get" or getattr(d.jobs, name).name == name


def test_completion_offers_what_is_for_users(d: dn.Durably) -> None:
    """What the parts of the library say to each other is left out."""
    offered: list[str] = []

    def job(step: dn.StepContext) -> None:
        offered.extend(dir(step))

    run = d.job(job).trigger()
    d.process_until_idle()
    offered += [*dir(d), *dir(run), *dir(d.jobs)]
    assert {"run", "transaction", "job", "result", "events"} <= {*offered}
    internal = {"add", "calls", "checked_run_labels", "close_at_exit", "definitions", "on_event", "refresh"}
    internal |= {"raise_if_not_completed", "refuse_unknown", "set_options", "write_log"}
    assert not {*offered} & internal


def test_finding_jobs(d: dn.Durably) -> None:
    """Jobs are found by attribute, by item and by `get_job`; what is missing is named with what there is."""
    job = d.job(import_flights)
    d.job(name="with a space")(import_flights)
    assert d.jobs.import_flights.name == d.jobs["import_flights"].name == job.name
    found = d.get_job("import_flights")
    assert found is not None
    assert found.fn is import_flights
    assert job.fn(None, 3) == {"month": 3, "limit": None}  # a plain function, for tests
    assert len(d.jobs) == 2
    assert "with a space" in d.jobs
    assert "import_flights" in dir(d.jobs)
    assert "with a space" not in dir(d.jobs)
    assert repr(job) == "<Job import_flights(month: int, limit: int | None = None)>"
    assert d.get_job("missing") is None
    with pytest.raises(dn.NotFoundError, match=r"no job 'missing' here; defined are: import_flights, with a space"):
        d.jobs["missing"]
    with pytest.raises(AttributeError, match="no job 'missing' here"):
        _ = d.jobs.missing


def test_a_job_is_found_by_a_name(d: dn.Durably) -> None:
    """What is no name is refused with a sentence."""
    name: Any
    for name in ([], 3, import_flights):
        with pytest.raises(dn.ValidationError, match="found by its name, a string, not by"):
            d.get_job(name)


def test_help_shows_what_the_function_says(d: dn.Durably) -> None:
    """`job?` shows the docstring that I wrote; a job that I call says how a run is made."""

    @d.job
    def documented(step: dn.StepContext) -> None:
        """Import a month."""

    assert inspect.getdoc(documented) == "Import a month."
    assert inspect.getdoc(d.job(import_flights)) == inspect.getdoc(dn.Job)
    with pytest.raises(TypeError, match=r"documented\.trigger\(\.\.\.\) creates a run, and documented\.fn"):
        documented(3)


def test_options_are_shown_by_completion_and_help() -> None:
    """Shift-Tab shows every option with its default, wherever options are taken."""
    run_options: dict[str, Any] = {
        **dict.fromkeys(("idempotency_key", "concurrency_key", "coalesce", "timeout", "on_progress", "on_log")),
        "labels": {},
    }
    some = {"status": None, "labels": None, "limit": None, "offset": 0}
    assert shown_defaults(dn.Job.options) == shown_defaults(dn.Trigger) == run_options
    assert shown_defaults(dn.Job.get_runs) == some
    assert shown_defaults(dn.Durably.get_runs) == some | {"job_name": None}
    assert shown_defaults(dn.open) == shown_defaults(dn.Durably)
    assert shown_defaults(dn.open) == {
        "jobs": (),
        "labels": None,
        "polling_interval_ms": 1000,
        "max_concurrent_runs": 1,
        "lease_ms": 30_000,
        "lease_renew_interval_ms": 5_000,
        "preserve_steps": True,
        "retain_runs": None,
        "checkpoint": "strict",
        "capture_output": True,
        "allow_pickle": False,
    }


def shown_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters)
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda step: 1, "no name"),
        ("import_flights", "not callable"),
        (Window, "is a class"),
        (lambda: 1, "step context first|no name"),
        (print, "step context first"),
    ],
)
def test_what_cannot_be_a_job(d: dn.Durably, fn: Any, said: str) -> None:
    """What cannot be a job is refused where it is defined, and the store is still good."""
    for define in (d.job, d.register, dn.job):
        with pytest.raises(dn.ValidationError, match=said):
            define(fn)
    assert len(d.jobs) == 0
    run = d.job(import_flights).trigger(1)
    assert d.process_one()
    assert run.status == "completed"


def test_functions_that_cannot_be_jobs(d: dn.Durably) -> None:
    """A generator, and a function without a step, are refused with what to do instead."""

    def generator(step: dn.StepContext) -> Iterator[int]:
        yield 1

    async def async_generator(step: dn.StepContext) -> Any:
        yield 1

    def without_step() -> None:
        pass

    for fn, said in ((generator, "generator"), (async_generator, "generator"), (without_step, "step context first")):
        with pytest.raises(dn.ValidationError, match=said):
            d.job(fn)


@pytest.mark.parametrize("name", ["", "   ", "x" * 256, "x" * 10_000_000, "a\0b", "a\ud800b", 7, b"name"])
def test_names_that_cannot_be_stored(d: dn.Durably, name: Any) -> None:
    """A name that is empty, huge, no text or no string is refused in a sentence of reasonable length."""
    with pytest.raises(dn.ValidationError) as caught:
        d.job(name=name)(import_flights)
    assert len(str(caught.value)) < 400
    with pytest.raises(dn.ValidationError):
        d.job(import_flights).options(idempotency_key=name)
    with pytest.raises(dn.ValidationError):
        d.job(import_flights).options(concurrency_key=name)


def test_a_choice_that_does_not_exist(d: dn.Durably) -> None:
    """`on_code_change` takes what it takes."""
    choice: Any = "guess"
    with pytest.raises(dn.ValidationError, match=r'"reuse" or "rerun", not \'guess\''):
        d.job(on_code_change=choice)(import_flights)


# --- input ---

FRAME = pd.DataFrame({"carrier": pd.Categorical(["AA", "UA"]), "delay": [1.5, None]}, index=pd.Index([3, 1], name="n"))


def literal(step: dn.StepContext, unit: Literal["h", "min"] = "min") -> Any:
    return unit


def model(step: dn.StepContext, carrier: Carrier) -> Any:
    return [type(carrier).__name__, carrier.code, carrier.flights]


def window(step: dn.StepContext, window: Window) -> Any:
    return [type(window).__name__, window.first, window.last]


def numbers(step: dn.StepContext, months: list[int]) -> Any:
    return months


def optional(step: dn.StepContext, limit: Optional[int] = None) -> Any:  # noqa: UP045 - as older code writes it
    return limit


def frame(step: dn.StepContext, flights: pd.DataFrame) -> Any:
    assert_frame_equal(flights, FRAME)
    return len(flights)


def extra(step: dn.StepContext, month: int, **options: float) -> Any:
    return [month, options]


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "expected"),
    [
        (import_flights, (3,), {}, {"month": 3, "limit": None}),
        (import_flights, (), {"month": "3", "limit": 7}, {"month": 3, "limit": 7}),
        (literal, (), {}, "min"),
        (literal, ("h",), {}, "h"),
        (model, (Carrier(code="AA", flights=2),), {}, ["Carrier", "AA", 2]),
        (model, ({"code": "UA"},), {}, ["Carrier", "UA", 0]),
        (window, (Window(1),), {}, ["Window", 1, 12]),
        (window, (), {"window": {"first": "2", "last": 3}}, ["Window", 2, 3]),
        (numbers, ([1, 2, 3],), {}, [1, 2, 3]),
        (numbers, (("1", 2.0),), {}, [1, 2]),
        (optional, (), {}, None),
        (optional, (None,), {}, None),
        (optional, (5,), {}, 5),
        (frame, (FRAME,), {}, 2),
        (extra, (1,), {"a": 1, "b": "2.5"}, [1, {"a": 1.0, "b": 2.5}]),
    ],
)
def test_input_reaches_the_function_by_way_of_the_file(
    path: Path, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], expected: Any
) -> None:
    """Input is converted by the hints when it is triggered, and is the same after a restart."""
    with closing(dn.Durably(path, jobs=[fn])) as d:
        d.migrate()
        run_id = d.jobs[fn.__name__].trigger(*args, **kwargs).id
    with closing(dn.Durably(path, jobs=[fn])) as d:
        d.migrate()
        run = d.get_run(run_id)
        assert run is not None
        assert d.process_one()
        assert run.result() == expected


def test_what_a_run_says_of_its_input(d: dn.Durably) -> None:
    """`run.input` has every parameter by name, defaults included, as it was validated."""
    run = d.job(import_flights).trigger("3")
    assert run.input == {"month": 3, "limit": None}
    assert d.job(model).trigger({"code": "AA"}).input == {"carrier": Carrier(code="AA")}


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "said"),
    [
        (import_flights, (), {}, ["needs 'month'"]),
        (import_flights, ("March",), {}, ["month='March'", "valid integer"]),
        (import_flights, (3, "all"), {}, ["limit='all'", "valid integer"]),
        (import_flights, (3, 4, 5), {}, ["at most 2 positional values, not 3"]),
        (import_flights, (3,), {"month": 4}, ["two values for 'month'"]),
        (import_flights, (3,), {"limitt": 4}, ["no parameter 'limitt'", "did you mean 'limit'"]),
        (import_flights, (3,), {"step": 4}, ["'step' by the worker"]),
        (literal, ("s",), {}, ["unit='s'", "'h' or 'min'"]),
        (model, ({"flights": 2},), {}, ["carrier=", "code: Field required"]),
        (window, ({"first": "a"},), {}, ["window=", "first: Input should be a valid integer"]),
        (numbers, ([1, "b"],), {}, ["months=", "1: Input should be a valid integer"]),
        (optional, ("b",), {}, ["limit='b'", "valid integer"]),
        (frame, ({"carrier": ["AA"]},), {}, ["flights=", "instance of DataFrame"]),
        (import_flights, (float("nan"),), {}, ["month=nan", "finite number"]),
        (import_flights, ("x" * 10_000_000,), {}, ["month='xxx", "valid integer"]),
    ],
)
def test_a_wrong_call_stores_nothing(
    d: dn.Durably, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], said: list[str]
) -> None:
    """A wrong call names the parameter, the value and what was expected, before anything is stored."""
    with pytest.raises(dn.ValidationError) as caught:
        _ = d.job(fn).trigger(*args, **kwargs)
    for part in said:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 400
    assert is_empty(d)


def recursive() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [recursive(), object(), lambda: 1, threading.Lock(), {"deep": [object()]}])
def test_input_that_cannot_be_stored(d: dn.Durably, value: Any) -> None:
    """An input that no file can hold is refused with the path to it; nothing is stored."""
    with pytest.raises(dn.SerializationError, match="input"):
        _ = d.job(unhinted).trigger(value)
    assert is_empty(d)


@pytest.mark.parametrize(
    "value", ["a\0b", "a\ud800b", float("inf"), -0.0, 10**400, b"\0\xff", {1: (2, {3})}, "x" * 10**6]
)
def test_unusual_input_comes_back_as_it_was(d: dn.Durably, value: Any) -> None:
    """NUL, surrogates, infinities, huge numbers and odd keys are either refused or exact."""
    try:
        run = d.job(unhinted).trigger(value)
    except dn.SerializationError:
        assert is_empty(d)
        return
    assert d.process_one()
    assert repr(run.result()) == repr(value)


# --- output ---


def test_output_is_validated_against_the_return_hint(d: dn.Durably) -> None:
    """A run whose output is not what the hint says fails, naming the value and the hint; no step is to blame."""

    @d.job
    def promises(step: dn.StepContext, value: Any) -> dict[str, int]:
        step.run("work", int, 1)
        return value  # type: ignore[no-any-return]

    wrong = promises.trigger(["rows"])
    right = promises.trigger({"rows": "7"})
    d.process_until_idle()
    with pytest.raises(dn.RunFailedError, match=r"promises returned \['rows'\].*return hint is dict\[str, int\]") as it:
        wrong.result()
    assert it.value.failed_step_name is None
    assert it.value.type.endswith("ValidationError")
    assert right.result() == {"rows": 7}


@pytest.mark.parametrize("value", [None, 7, "text", [1, (2,)], {"a": {1}}, Carrier(code="AA"), Window(1), b"bytes"])
def test_output_without_a_hint_is_kept_as_it_is(path: Path, value: Any) -> None:
    """Without a return hint a job gives whatever can be stored, and a later session reads it back."""
    with closing(dn.Durably(path)) as d:
        d.migrate()

        @d.job
        def gives(step: dn.StepContext):  # type: ignore[no-untyped-def] # noqa: ANN202 - without a hint on purpose
            return value

        run = gives.trigger()
        d.process_one()
        assert run.result() == value
    with closing(dn.Durably(path)) as d:
        d.migrate()
        found = d.get_run(run.id)
        assert found is not None
        assert found.output == value


def test_a_model_is_made_of_what_is_returned(d: dn.Durably) -> None:
    """A dict returned where a model is promised becomes that model."""

    @d.job
    def summary(step: dn.StepContext) -> Carrier:
        return {"code": "AA", "flights": "3"}  # type: ignore[return-value]

    run = summary.trigger()
    d.process_one()
    assert run.result() == Carrier(code="AA", flights=3)


def test_output_that_cannot_be_stored_fails_the_run(d: dn.Durably) -> None:
    """A job that returns what no file can hold fails with a sentence; the next run is not harmed."""

    @d.job
    def gives(step: dn.StepContext, good: bool) -> Any:  # noqa: FBT001 - an input
        return 1 if good else {"handle": threading.Lock()}

    bad, good = gives.trigger(good=False), gives.trigger(good=True)
    d.process_until_idle()
    assert bad.error is not None
    assert "SerializationError" in bad.error
    assert "handle" in bad.error
    assert good.result() == 1


# --- replacing ---


def test_redefining_a_job_while_a_run_is_in_flight(path: Path) -> None:
    """A run in flight keeps the function it started with; the next run has the new one."""
    begun, go_on = threading.Event(), threading.Event()
    with dn.Durably(path) as d:

        @d.job(name="report")
        def first(step: dn.StepContext) -> str:
            begun.set()
            go_on.wait()
            return step.run("say", lambda: "first")

        in_flight = first.trigger()
        assert begun.wait(30)

        @d.job(name="report")
        def second(step: dn.StepContext) -> str:
            return step.run("say", lambda: "second")

        go_on.set()
        assert in_flight.result(timeout=30) == "first"
        assert second.trigger().result(timeout=30) == "second"
        assert d.jobs.report.fn is second.fn
        assert len(d.jobs) == 1


def test_a_pending_run_is_executed_by_the_newest_definition(d: dn.Durably) -> None:
    """A run that waits for a worker gets the function that is defined when its turn comes."""
    run = d.job(name="report")(lambda step: "first").trigger()
    d.job(name="report")(lambda step: "second")
    d.process_one()
    assert run.result() == "second"


def test_a_pending_run_that_no_longer_fits(d: dn.Durably) -> None:
    """If the newest definition needs what was not given, the run fails with a sentence that says so."""
    run = d.job(name="report")(import_flights).trigger(3)

    @d.job(name="report")
    def report(step: dn.StepContext, year: int) -> int:
        return year

    d.process_one()
    with pytest.raises(dn.RunFailedError, match="now needs 'year'; it no longer takes 'month'"):
        run.result()


def test_a_run_waits_for_its_job_to_be_defined(path: Path) -> None:
    """A run of a job that this session has not defined stays pending until it is."""
    with closing(dn.Durably(path, jobs=[import_flights])) as d:
        d.migrate()
        run_id = d.jobs.import_flights.trigger(3).id
    with closing(dn.Durably(path, jobs=[unhinted])) as d:
        d.migrate()
        later = d.jobs.unhinted.trigger(1)
        assert d.process_until_idle() == 1  # the older run does not stand in its way
        assert later.status == "completed"
        run = d.get_run(run_id)
        assert run is not None
        assert run.status == "pending"
        d.register(import_flights)
        assert d.process_one()
        assert run.result() == {"month": 3, "limit": None}


# --- options ---


def test_options_make_a_new_job(d: dn.Durably) -> None:
    """`options` gives another job and leaves the first as it is; options add up."""
    job = d.job(import_flights)
    labels = {"who": "me"}
    labelled = job.options(labels=labels)
    keyed = labelled.options(idempotency_key="once")
    labels["who"] = "you"
    first = keyed.trigger(1)
    assert first.labels == {"who": "me"}
    assert (keyed.trigger(1).id, keyed.trigger(1).disposition) == (first.id, "idempotent")
    assert labelled.trigger(1).labels == {"who": "me"}
    assert job.trigger(1).labels == {}
    assert len(job.get_runs()) == 3
    assert d.jobs.import_flights.trigger(1).labels == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": {}}, "no option 'label': did you mean 'labels'"),
        ({"labels": "blue"}, "mapping of strings to strings, not str"),
        ({"labels": {"n": 1}}, "The label 'n' is a string, not int"),
        ({"labels": {1: "n"}}, "A label's name is a string, not int"),
        ({"labels": {"a\0": "b"}}, "NUL"),
        ({"timeout": -1}, "from 0 up, not -1"),
        ({"timeout": float("nan")}, "from 0 up, not nan"),
        ({"timeout": True}, "from 0 up, not True"),
        ({"timeout": "1s"}, "from 0 up, not '1s'"),
        ({"coalesce": "skip"}, "needs a concurrency_key"),
        ({"coalesce": "merge", "concurrency_key": "k"}, "not 'merge'"),
        ({"on_progress": 7}, "on_progress is a function, not 7"),
        ({"on_log": "print"}, "on_log is a function, not 'print'"),
    ],
)
def test_options_that_cannot_be_meant(d: dn.Durably, options: dict[str, Any], said: str) -> None:
    """An option that is unknown or cannot be meant is refused by its name, in a batch too; nothing is stored."""
    job = d.job(import_flights)
    with pytest.raises(dn.ValidationError, match=said):
        job.options(**options)
    with pytest.raises(dn.ValidationError, match=said):
        job.batch_trigger([dn.Trigger({"month": 1}, **options)])
    assert is_empty(d)


# --- batches ---


def test_a_batch_of_mappings_and_triggers(d: dn.Durably) -> None:
    """A batch creates a run for each input, in order; a Trigger has options beside those of the job."""
    job = d.job(import_flights).options(labels={"batch": "1"})
    runs = job.batch_trigger(
        [
            {"month": 1},
            dn.Trigger({"month": "2", "limit": 5}, labels={"own": "yes"}, idempotency_key="b"),
            dn.Trigger({"month": 3}),
        ]
    )
    assert [run.labels for run in runs] == [{"batch": "1"}, {"own": "yes"}, {"batch": "1"}]
    assert d.process_until_idle() == 3
    assert [run.result()["month"] for run in runs] == [1, 2, 3]
    started = d.runs().sort_values("started_at")["run_id"]
    assert list(started) == [run.id for run in runs]
    assert job.batch_trigger([]) == []


def test_a_batch_of_the_rows_of_a_dataframe(d: dn.Durably) -> None:
    """The columns of a DataFrame are the parameters, its rows the runs; NumPy's numbers are plain ones by then."""
    frame = pd.DataFrame({"month": np.array([1, 2, 3], dtype="int16"), "limit": [10, 20, 30]}, index=[7, 8, 9])
    runs = d.job(import_flights).batch_trigger(frame)
    assert [run.input for run in runs] == [{"month": n, "limit": n * 10} for n in (1, 2, 3)]
    assert d.job(import_flights).batch_trigger(frame.head(0)) == []


def test_missing_values_in_a_dataframe_of_inputs(d: dn.Durably) -> None:
    """A missing value is None where the hint allows it."""
    frame = pd.DataFrame({"month": [1, 2], "limit": pd.array([10, None], dtype="Int64")})
    runs = d.job(import_flights).batch_trigger(frame)
    assert [run.input["limit"] for run in runs] == [10, None]


def test_missing_cells_that_are_no_none(d: dn.Durably) -> None:
    """A missing cell is the default where None does not fit; a float without a default keeps its NaN."""

    @d.job
    def fit(step: dn.StepContext, rate: float, name: str = "x", level: float = 0.5, at: dt.date | None = None) -> None:
        pass

    frame = pd.DataFrame(
        {"rate": [1.0, np.nan], "name": ["a", None], "level": [0.1, np.nan], "at": [pd.NaT, pd.Timestamp("2026-01-31")]}
    )
    first, second = (run.input for run in fit.batch_trigger(frame))
    assert first == {"rate": 1.0, "name": "a", "level": 0.1, "at": None}
    assert math.isnan(second.pop("rate"))
    assert second == {"name": "x", "level": 0.5, "at": dt.date(2026, 1, 31)}
    with pytest.raises(dn.ValidationError, match="cannot take month=nan"):
        d.job(import_flights).batch_trigger(pd.DataFrame({"month": [1, None]}))


def test_a_batch_is_all_or_nothing(d: dn.Durably) -> None:
    """One wrong input and nothing is triggered; the message says which inputs are wrong, and how."""
    job = d.job(import_flights)
    wrong: list[Any] = [{"month": 1}, {"month": "x"}, {"limit": 1}, 7, {2: 1}]
    with pytest.raises(
        dn.ValidationError, match=r"Input 1: .*month='x'.*Input 2: .*needs 'month'.*Input 3: .*Input 4"
    ) as refused:
        job.batch_trigger(wrong)
    assert str(refused.value).count("Nothing was") == 1
    assert is_empty(d)
    with pytest.raises(dn.ValidationError, match=r"and 95 more"):
        job.batch_trigger([{"month": "x"}] * 100)
    assert is_empty(d)


def test_a_batch_meets_its_own_keys(d: dn.Durably) -> None:
    """Two inputs of one concurrency key are a conflict, and nothing is triggered; idempotent twins are one run."""
    job = d.job(import_flights)
    with pytest.raises(dn.ConflictError):
        job.options(concurrency_key="k").batch_trigger([{"month": 1}, {"month": 2}])
    assert is_empty(d)
    assert not d.process_one()
    one, two = job.options(idempotency_key="k").batch_trigger([{"month": 1}, {"month": 2}])
    assert one.id == two.id
    assert [one.disposition, two.disposition] == ["created", "idempotent"]
    assert len(d.runs()) == 1


def test_a_value_that_cannot_be_stored_stops_the_whole_batch(d: dn.Durably) -> None:
    """A batch in which one value cannot be stored leaves neither runs nor files behind."""
    big = pd.DataFrame({"n": range(100_000)})
    with pytest.raises(dn.SerializationError):
        d.job(unhinted).batch_trigger([{"value": big}, {"value": threading.Lock()}])
    assert is_empty(d)
    artifacts = d.storage.artifacts
    assert artifacts is not None
    assert list(artifacts.directory.rglob("*.parquet")) == []


@pytest.mark.parametrize("inputs", [None, 7, "months", {"month": 1}])
def test_what_is_no_batch(d: dn.Durably, inputs: Any) -> None:
    """A batch is a list of inputs; one input alone is told to use `trigger`."""
    with pytest.raises(dn.ValidationError, match="batch_trigger takes a list of inputs or a DataFrame"):
        d.job(import_flights).batch_trigger(inputs)


def test_a_batch_of_many_is_one_commit_and_in_order(d: dn.Durably) -> None:
    """A thousand runs are created at once and numbered in the order of their inputs."""
    runs = d.job(import_flights).batch_trigger({"month": n} for n in range(1000))
    events = d.events(type="run:trigger")
    assert list(events["run_id"]) == [run.id for run in runs]
    assert sorted(run.id for run in runs) == [run.id for run in runs]


# --- looking runs up ---


def test_filters_of_runs(d: dn.Durably) -> None:
    """Runs are found by status, job and labels, newest first, a page at a time."""
    flights, other = d.job(import_flights), d.job(unhinted)
    runs = [flights.options(labels={"n": str(n), "even": str(n % 2 == 0)}).trigger(n) for n in range(6)]
    alien = other.trigger(1)
    runs[5].cancel()
    assert d.process_until_idle(max_runs=2) == 2

    def ids(found: list[dn.Run]) -> list[str]:
        return [run.id for run in found]

    newest_first = [run.id for run in reversed(runs)]
    assert ids(flights.get_runs()) == newest_first
    assert ids(d.get_runs()) == [alien.id, *newest_first]
    assert ids(d.get_runs(job_name="unhinted")) == [alien.id]
    assert ids(d.get_runs(job_name=["unhinted", "import_flights"], limit=2)) == [alien.id, newest_first[0]]
    assert ids(d.get_runs(status="completed")) == [runs[1].id, runs[0].id]
    assert ids(flights.get_runs(status=["completed", "cancelled"])) == [runs[5].id, runs[1].id, runs[0].id]
    assert ids(d.get_runs(labels={"even": "True"})) == [runs[4].id, runs[2].id, runs[0].id]
    assert ids(d.get_runs(labels={"even": "True", "n": "2"})) == [runs[2].id]
    assert ids(flights.get_runs(limit=2, offset=1)) == newest_first[1:3]
    assert flights.get_runs(limit=0) == []
    assert d.get_runs(labels={"none": "such"}) == []
    assert flights.get_run(alien.id) is None
    assert d.get_run("no such id") is None
    found = flights.get_run(runs[0].id)
    assert found is not None
    assert found.output == {"month": 0, "limit": None}


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"status": "done"}, "'done' is no status"),
        ({"status": ["pending", 7]}, "status"),
        ({"limit": -1}, "limit"),
        ({"offset": 1.5}, "offset"),
        ({"labels": ["a"]}, "mapping"),
        ({"job_name": 7}, "job_name"),
    ],
)
def test_filters_that_cannot_be_meant(d: dn.Durably, filters: dict[str, Any], said: str) -> None:
    """A filter that cannot be meant is refused rather than answered with nothing."""
    with pytest.raises(dn.ValidationError, match=said):
        d.get_runs(**filters)


def test_the_runs_of_a_job_are_its_own(d: dn.Durably) -> None:
    """A job's `get_runs` takes no other job's name."""
    with pytest.raises(dn.ValidationError, match="import_flights"):
        d.job(import_flights).get_runs(job_name="unhinted")  # type: ignore[call-arg] # what is refused


def test_a_slip_in_a_filter_of_runs(d: dn.Durably) -> None:
    """The filter that was meant is named."""
    for get_runs in (d.get_runs, d.job(import_flights).get_runs):
        with pytest.raises(dn.ValidationError, match="no filter 'stat' here: did you mean 'status'"):
            get_runs(stat="x")  # type: ignore[call-arg] # what is refused


def test_what_is_held_says_what_it_is(d: dn.Durably) -> None:
    """A trigger shows what it was made of, a subscription its run, and a run that it was deleted."""
    assert repr(dn.Trigger({"month": 1}, coalesce="skip", concurrency_key="k")) == (
        "Trigger({'month': 1}, coalesce='skip', concurrency_key='k')"
    )
    run = d.job(import_flights).trigger(1)
    events = d.subscribe(run.id)
    assert repr(events) == f"<Subscription to run {run.id}: open>"
    events.close()
    assert d.process_one()
    run.delete()
    assert repr(run) == f"<Run {run.id} of import_flights: deleted>"


def test_a_job_of_a_closed_store(d: dn.Durably) -> None:
    """After `close` a trigger is refused with a sentence."""
    job = d.job(import_flights)
    d.close()
    for call in (lambda: job.trigger(1), lambda: job.batch_trigger([{"month": 1}]), job.get_runs):
        with pytest.raises(dn.StoreError, match="not open"):
            call()
