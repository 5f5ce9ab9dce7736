"""Bad input: whatever is thrown at it, a clear error or a right result, and the store is still good."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn
from durably_nb.errors import Unwind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

HUGE = "x" * 10_000_000
LONE = "a\ud800b"
NUL = "a\0b"
ZONELESS = datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused


class Hostile:
    """An object that answers nothing."""

    __hash__ = None  # type: ignore[assignment] # as hostile as it gets

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")


class MuteError(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class StrangerError(BaseException):
    """An exception that no `except Exception` catches."""


def label(value: object) -> str:
    """Give a name for a test's parameter, which may be hostile or ten million characters long."""
    try:
        return ascii(value).partition(" at 0x")[0][:30]  # an address differs in each process that runs the tests
    except Exception:  # noqa: BLE001 - that is what they are for
        return type(value).__name__


def raising(error: BaseException) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


def numbers() -> Iterator[int]:
    yield 1


async def number() -> int:
    return 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


def containing_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def nested(depth: int) -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(depth), [])


def endless(count: int = 0) -> int:
    return endless(count + 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file at which everything of this module is thrown."""
    return tmp_path_factory.mktemp("bad") / "jobs.duckdb"


@pytest.fixture(scope="module")
def shared(file: Path) -> Iterator[dn.Durably]:
    """A store that goes through all of it."""
    opened = dn.open(file, checkpoint="pipelined")
    # Starts what threads there are, which live as long as the store does.
    opened.job(name="afterwards")(lambda step: step.run("one", lambda: 1)).trigger().result(timeout=20)
    opened.checkpoint = "strict"
    yield opened
    opened.close()
    with dn.open(file) as again:
        assert again.runs(job_name="afterwards")["status"].eq("completed").all()
        assert again.jobs.get("afterwards") is None


@pytest.fixture
def store(shared: dn.Durably) -> Iterator[dn.Durably]:
    """The store; after each test new work runs in it, and all can be read."""
    yield shared
    job = shared.job(name="afterwards")(lambda step: [step.log.info("well"), step.run("one", lambda: 1)])
    run = job.trigger()
    assert run.result(timeout=20) == [None, 1]
    for frame in (run.events(), run.steps(), run.logs(), shared.runs(run_id=run.id)):
        assert len(frame) > 0
    assert shared.get_runs(limit=1)[0].id == run.id


@pytest.fixture
def job(store: dn.Durably) -> dn.Job:
    """A job that takes a number and a text and gives the text back."""

    @store.job
    def echo(step: dn.StepContext, number: int = 1, text: Any = "x") -> Any:
        return step.run("echo", lambda: (number, text)[1])

    return echo


def ended(store: dn.Durably, body: Callable[[dn.StepContext], object]) -> dn.Run:
    """Run a job function to its end, whatever that is."""
    return store.job(name="bad")(body).trigger().wait(timeout=20)


# --- what is no job ---


def without_step() -> None: ...
def keyword_step(*, step: object) -> None: ...
def any_number(*steps: object) -> None: ...
def generating(step: object) -> Iterator[object]:
    yield step


async def generating_async(step: object) -> AsyncIterator[object]:
    yield step


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (5, "it is not callable"),
        ("x", "it is not callable"),
        (Hostile(), "it is not callable"),
        (dict, "it is a class"),
        (without_step, "takes the step context first"),
        (keyword_step, "takes the step context first"),
        (any_number, "takes the step context first"),
        (lambda step: step, "it has no name"),
        (functools.partial(generating), "it is a generator"),
        (generating, "it is a generator"),
        (generating_async, "it is a generator"),
    ],
    ids=label,
)
def test_what_cannot_be_a_job_is_refused(store: dn.Durably, fn: Any, message: str) -> None:
    """Defining a job of something that is none says what is wrong with it, in the cell that does it."""
    for define in (store.job, store.register, dn.job, lambda one: dn.Durably(jobs=[one])):
        with pytest.raises(dn.ValidationError, match=message):
            define(fn)


@pytest.mark.parametrize("name", ["", "  \n", HUGE, NUL, LONE, 5, b"x", Hostile(), "x" * 256], ids=label)
def test_what_cannot_be_a_name_is_refused_everywhere(store: dn.Durably, job: dn.Job, name: Any) -> None:
    """A job, a step, a key, a label: each has a name that can be stored, shown and searched."""

    def echo(step: dn.StepContext) -> None:
        step.run(name, lambda: 1)

    attempts: list[Callable[[], object]] = [
        lambda: store.job(name=name)(echo),
        lambda: dn.job(name=name)(echo),
        lambda: job.options(idempotency_key=name),
        lambda: job.options(concurrency_key=name),
        lambda: dn.Trigger({}, idempotency_key=name),
    ]
    if type(name) is not str or name:  # a label may be empty
        attempts.append(lambda: job.options(labels={"a": name}))
    for attempt in attempts:
        with pytest.raises(dn.ValidationError) as refused:
            attempt()
        assert len(str(refused.value)) < 500
    run = ended(store, echo)
    assert run.status == "failed"
    assert run.error is not None
    assert "ValidationError: A step's name" in run.error


@pytest.mark.parametrize(
    "labels", [5, "team=a", ["team"], [("team", "a")], {1: "a"}, {"a": 1}, {"a": None}, {None: "a"}], ids=label
)
def test_labels_are_strings_by_name(store: dn.Durably, job: dn.Job, labels: Any) -> None:
    """Labels that are not strings are refused when they are given, not when they are searched for."""
    for attempt in (
        lambda: job.options(labels=labels),
        lambda: job.batch_trigger([dn.Trigger({}, labels=labels)]),
        lambda: store.get_runs(labels=labels),
        lambda: store.events(labels=labels),
    ):
        with pytest.raises(dn.ValidationError, match=r"[Ll]abel"):
            attempt()


# --- calls ---


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {"nmber": 1}, "did you mean 'number'"),
        ((1, 2, 3), {}, "takes at most 2"),
        (("x",), {}, "number='x'"),
        ((math.nan,), {}, "number=nan"),
        ((math.inf,), {}, "number=inf"),
        ((None,), {}, "number=None"),
        ((Hostile(),), {}, "number=<Hostile"),
        ((1,), {"number": 2}, "two values for 'number'"),
        ((), {"step": 1}, "is given 'step' by the worker"),
        ((), {"": 1}, "no parameter ''"),
        ((), {LONE: 1}, "no parameter"),
        ((), {HUGE: 1}, "no parameter"),
        ((HUGE,), {}, "cannot take number='xxx"),
    ],
    ids=label,
)
def test_a_wrong_call_stores_nothing(
    store: dn.Durably, job: dn.Job, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    """A call that does not fit the function says which parameter, and no run is created."""
    before = len(store.runs())
    for trigger in (job.trigger, job.trigger_and_wait):
        with pytest.raises(dn.ValidationError) as refused:
            _ = trigger(*args, **kwargs)
        assert message in str(refused.value)
        assert len(str(refused.value)) < 1_000
    assert len(store.runs()) == before


VALUES: list[Any] = [NUL, LONE, HUGE, "", math.nan, math.inf, -0.0, 10**400, {LONE: NUL}, {"$": "x"}, {1: None}, "🦆"]


@pytest.mark.parametrize("value", VALUES, ids=label)
def test_odd_values_go_in_and_come_out_as_they_are(store: dn.Durably, job: dn.Job, value: Any) -> None:
    """Text of any characters and numbers of any size are input, result, step result and data of a log line."""
    run = job.trigger(text=value)
    assert repr(run.result(timeout=20)) == repr(value)
    assert repr(run.input) == repr({"number": 1, "text": value})
    assert repr(run.step_output("echo")) == repr(value)
    logged = ended(store, lambda step: step.log.info("data", {"value": value}))
    assert logged.status == "completed"
    if value != HUGE:
        assert repr(logged.logs()["data"][0]) == repr({"value": value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Hostile(), "Hostile, which cannot be stored"),
        ([Hostile()], "Hostile, which cannot be stored"),
        (lambda: 1, "a function, which cannot be stored"),
        (threading.Lock(), "lock, which cannot be stored"),
        (containing_itself(), "or contains itself"),
        (nested(10_000), "nested more than 100 deep"),
        (object(), "object, which cannot be stored"),
        (iter([1]), "iterator, which cannot be stored"),
    ],
    ids=label,
)
def test_what_cannot_be_stored_is_refused_where_it_is_given(
    store: dn.Durably, job: dn.Job, value: Any, message: str
) -> None:
    """A value that would not come back as it was is refused, with the path to it and the ways out."""
    with pytest.raises(dn.SerializationError, match=message):
        _ = job.trigger(text=value)
    with pytest.raises(dn.SerializationError, match=message):
        job.batch_trigger([{}, {"text": value}])
    for body in (
        lambda step: step.run("one", lambda: value),
        lambda step: step.log.info("data", value),
        lambda _: value,
    ):
        with pytest.raises(dn.RunFailedError, match=message) as failed:
            ended(store, body).result()
        assert failed.value.type.endswith("SerializationError")


@pytest.mark.parametrize(
    "inputs",
    [None, 5, "x", {}, {"number": 1}, [5], [None], [{"nmber": 1}], [{1: 2}], [Hostile()], [{}, {"number": "x"}]],
    ids=label,
)
def test_a_wrong_batch_creates_nothing(store: dn.Durably, job: dn.Job, inputs: Any) -> None:
    """One wrong input, and none of the batch is triggered."""
    before = len(store.runs())
    with pytest.raises(dn.ValidationError):
        job.batch_trigger(inputs)
    assert len(store.runs()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": {}}, "did you mean 'labels'"),
        ({"zzz": 1}, "the options are idempotency_key"),
        ({"coalesce": "skip"}, "needs a concurrency_key"),
        ({"coalesce": "x", "concurrency_key": "k"}, 'coalesce is "skip"'),
        ({"coalesce": [], "concurrency_key": "k"}, 'coalesce is "skip"'),
        ({"on_progress": 5}, "on_progress is a function"),
        ({"on_log": Hostile()}, "on_log is a function"),
        ({HUGE: 1}, "no option"),
    ],
    ids=label,
)
def test_an_option_that_cannot_be_meant_is_refused(job: dn.Job, options: dict[str, Any], message: str) -> None:
    """A slip in an option is told when it is given."""
    for attempt in (job.options, functools.partial(dn.Trigger, {})):
        with pytest.raises(dn.ValidationError, match=message) as refused:
            attempt(**options)
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, "5", True, timedelta(seconds=1), Hostile()], ids=label)
def test_a_timeout_is_a_number_of_seconds(store: dn.Durably, job: dn.Job, timeout: Any) -> None:
    """Waiting so long as cannot be meant is refused at once, also for a run that has ended."""
    run = job.trigger()
    for attempt in (
        lambda: run.wait(timeout),
        lambda: run.result(timeout),
        lambda: store.wait_for_run(run.id, timeout),
        lambda: job.options(timeout=timeout),
    ):
        with pytest.raises(dn.ValidationError, match="timeout is a number of seconds from 0 up"):
            attempt()
    assert run.result(timeout=20) == "x"


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400, 10**9])
def test_an_absurdly_long_wait_is_a_wait(store: dn.Durably, timeout: float) -> None:
    """Waiting for longer than any clock counts ends when the run does."""
    go = threading.Event()
    job = store.job(name="held")(lambda step: step.run("held", lambda: go.wait(20)))
    run = job.trigger()
    waiting = threading.Thread(target=run.wait, args=(timeout,))
    waiting.start()
    go.set()
    waiting.join(20)
    assert not waiting.is_alive()
    assert job.options(timeout=timeout).trigger_and_wait().output is True


@pytest.mark.parametrize("run_id", ["zz", "", HUGE, NUL, LONE, "' or 1=1 --"], ids=label)
def test_a_run_that_is_not_there(store: dn.Durably, job: dn.Job, run_id: str) -> None:
    """An unknown id is told as such by every command, and is no run where one is looked for."""
    assert store.get_run(run_id) is None
    assert job.get_run(run_id) is None
    assert len(store.events(run_id=run_id)) == 0
    for command in (
        store.wait_for_run, store.retrigger, store.resume, store.cancel, store.delete_run, store.subscribe,
        job.trigger_and_wait().step_output,
    ):  # fmt: skip
        with pytest.raises(dn.NotFoundError) as refused:
            command(run_id)
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize("run_id", [None, 5, b"x", [], {}, Hostile()], ids=label)
def test_a_run_is_named_by_its_id(store: dn.Durably, run_id: Any) -> None:
    """What is no id at all is refused by every command."""
    for command in (
        store.get_run, store.wait_for_run, store.retrigger, store.resume, store.cancel, store.delete_run,
        store.subscribe,
    ):  # fmt: skip
        with pytest.raises(dn.ValidationError, match="named by its id"):
            command(run_id)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"status": "done"}, "'done' is no status"),
        ({"status": 5}, "status is a string or a list"),
        ({"job_name": [5]}, "5 is none"),
        ({"limit": -1}, "limit is a whole number"),
        ({"limit": 1.5}, "limit is a whole number"),
        ({"offset": -1}, "offset is a whole number"),
        ({"offset": None}, "offset is a whole number"),
        ({"offset": Hostile()}, "offset is a whole number"),
    ],
    ids=label,
)
def test_wrong_filters_of_runs(store: dn.Durably, filters: dict[str, Any], message: str) -> None:
    """What cannot be meant is refused, not answered with an empty list."""
    with pytest.raises(dn.ValidationError, match=message):
        store.get_runs(**filters)


def test_absurd_filters_of_runs(store: dn.Durably, job: dn.Job) -> None:
    """Limits and offsets beyond all runs are what they say."""
    _ = job.trigger_and_wait()
    assert len(store.get_runs(limit=10**30)) == len(store.get_runs())
    assert store.get_runs(offset=10**30) == []
    assert store.get_runs(limit=0) == []
    assert store.get_runs(status=[]) == []
    assert store.get_runs(job_name=LONE) == []
    with pytest.raises(dn.ValidationError, match="no filter 'zzz' here: the filters are"):
        store.get_runs(zzz=1)  # type: ignore[call-arg] # what is refused
    with pytest.raises(dn.ValidationError, match="have its name"):
        job.get_runs(job_name="other")  # type: ignore[call-arg] # what is refused


@pytest.mark.parametrize(
    "older_than", ["x", "-1d", "1.5h", "1w", 5, None, timedelta(-1), ZONELESS, Hostile()], ids=label
)
def test_a_purge_needs_a_time(store: dn.Durably, older_than: Any) -> None:
    """What is no time purges nothing."""
    with pytest.raises(dn.ValidationError, match="older_than"):
        store.purge_runs(older_than)
    with pytest.raises(dn.ValidationError, match="limit"):
        store.purge_runs("30d", limit=-1)


def test_a_purge_at_the_ends_of_time(store: dn.Durably, job: dn.Job) -> None:
    """Before the first moment nothing ended; limits of none and of absurdly many are what they say."""
    _ = job.trigger_and_wait()
    assert store.purge_runs(datetime.min.replace(tzinfo=UTC)) == 0
    assert store.purge_runs(timedelta.max) == 0
    assert store.purge_runs("999999d") == 0
    assert store.purge_runs("0m", limit=0) == 0
    everything = len(store.runs())
    assert store.purge_runs(datetime.max.replace(tzinfo=UTC), limit=10**30) == everything
    assert len(store.runs()) == 0


@pytest.mark.parametrize(
    "selector", ["zzz", "", [], "run:*:x", 5, None, dn.Run, [5], Hostile(), [Hostile()], HUGE], ids=label
)
def test_what_names_no_event_is_refused(store: dn.Durably, selector: Any) -> None:
    """A slip in an event's name would be a listener that never hears anything."""
    with pytest.raises(dn.ValidationError) as refused:
        store.on(selector, print)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("value", [None, 5, "print", Hostile()], ids=label)
def test_what_is_no_function_is_refused(store: dn.Durably, value: Any) -> None:
    """Listeners, error handlers and plugins that cannot be called are refused when they are given."""
    with pytest.raises(dn.ValidationError, match="function"):
        store.on_error(value)
    with pytest.raises(dn.ValidationError, match="install"):
        store.use(value)
    if value is not None:
        with pytest.raises(dn.ValidationError, match="function"):
            store.on("*", value)


def test_what_is_no_operational_event_is_not_emitted(store: dn.Durably, job: dn.Job) -> None:
    """Only operational events whose fields fit are stored; nothing else gets into the history by this door."""
    run = job.trigger_and_wait()
    about: Any = {"run_id": run.id, "job_name": run.job_name}
    line: Any = about | {"step_name": None, "level": "info", "message": "m"}
    before = len(store.events())
    wrong: list[Any] = [
        None,
        "log:write",
        Hostile(),
        dn.RunDeleteEvent(**about),
        dn.LogWriteEvent(**line | {"level": "loud"}),
        dn.LogWriteEvent(**line | {"message": 5}),
        dn.LogWriteEvent(**line | {"run_id": 5}),
        dn.LogWriteEvent(**line | {"data": Hostile()}),
        dn.RunProgressEvent(**about, progress=5),  # type: ignore[arg-type] # what is refused
        dn.RunProgressEvent(**about, progress=dn.ProgressData(current=math.nan)),
        dn.StepStartEvent(**about, step_name="x", step_index="y"),  # type: ignore[arg-type] # what is refused
    ]
    for event in wrong:
        with pytest.raises((dn.ValidationError, dn.SerializationError)) as refused:
            store.emit(event)
        assert "\n" not in str(refused.value)
    with pytest.raises(dn.NotFoundError):
        store.emit(dn.LogWriteEvent(**line | {"run_id": "zz"}))
    assert len(store.events()) == before
    store.emit(dn.LogWriteEvent(**line | {"message": NUL, "data": {LONE: HUGE}}))
    assert run.logs()["message"][0] == NUL


# --- what a job does ---


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (None, "was given NoneType where a function is wanted"),
        (5, "was given int where a function is wanted"),
        (numbers, "was given a generator function"),
        (async_numbers, "was given a generator function"),
        (lambda: numbers(), "returned a generator"),  # noqa: PLW0108 - a lambda that makes one
        (lambda: (one for one in [1]), "returned a generator"),
        (number, "returned a coroutine that nobody awaits"),
        (lambda: number(), "returned a coroutine that nobody awaits"),  # noqa: PLW0108 - as above
        (lambda: async_numbers(), "returned a generator"),  # noqa: PLW0108 - as above
    ],
)
def test_what_cannot_be_a_step_is_refused(store: dn.Durably, fn: Any, message: str) -> None:
    """A generator, a coroutine by mistake, a value in place of a function: the run fails with a way out."""
    run = ended(store, lambda step: step.run("one", fn))
    with pytest.raises(dn.RunFailedError, match=message):
        run.result()


@pytest.mark.parametrize(
    ("fn", "args", "result"),
    [
        (lambda: 1, (), 1),
        (functools.partial(pow, 2), (3,), 8),
        (functools.partial(functools.partial(pow), 2), (4,), 16),
        ("x".upper, (), "X"),
        (len, ([1],), 1),
        (dict, ([("a", 1)],), {"a": 1}),
        (functools.lru_cache(lambda: 5), (), 5),
        (type("Callable", (), {"__call__": lambda _self: 7})(), (), 7),
    ],
)
def test_anything_that_can_be_called_is_a_step(
    store: dn.Durably, fn: Callable[..., Any], args: tuple[Any, ...], result: Any
) -> None:
    """Lambdas, partials, methods, builtins, classes and callable objects."""
    assert ended(store, lambda step: step.run("one", fn, *args)).result() == result


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError(NUL + LONE), r"ValueError: a\0ba\\ud800b"),
        (ValueError(HUGE), "characters left out"),
        (MuteError(), r"\(its message cannot be shown: RuntimeError\)"),
        (StrangerError("strange"), "StrangerError: strange"),
        (SystemExit(3), "SystemExit: 3"),
        (ExceptionGroup("two", [ValueError(1), KeyError(2)]), "ExceptionGroup: two"),
        (StopIteration(1), "StopIteration: 1"),
        (asyncio.CancelledError(), "CancelledError"),
        (dn.CancelledError("by hand"), "CancelledError: by hand"),
        (dn.LeaseLostError("by hand"), "LeaseLostError: by hand"),
        (MemoryError(), "MemoryError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError"),
    ],
    ids=label,
)
@pytest.mark.parametrize("inside", [True, False], ids=["in a step", "outside"])
def test_whatever_a_job_raises_fails_its_run(
    store: dn.Durably, error: BaseException, message: str, *, inside: bool
) -> None:
    """An exception of any kind ends the run and nothing else; its type, message and step are kept."""
    raise_it = raising(error)
    run = ended(store, lambda step: step.run("one", raise_it) if inside else raise_it())
    assert run.status == "failed"
    with pytest.raises(dn.RunFailedError, match=message) as failed:
        run.result()
    if not isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        assert failed.value.failed_step_name == ("one" if inside else None)
    assert len(str(failed.value)) < 20_000
    assert len(failed.value.traceback) < 20_000
    assert run.events(type="run:fail")["error"][0] == run.error


@pytest.mark.parametrize("inside", [True, False], ids=["in a step", "outside"])
def test_endless_recursion_fails_its_run(store: dn.Durably, *, inside: bool) -> None:
    """A function that calls itself for ever ends its run with a traceback that can be read."""
    run = ended(store, lambda step: step.run("one", endless) if inside else endless())
    with pytest.raises(dn.RunFailedError, match="RecursionError") as failed:
        run.result()
    assert "endless" in failed.value.traceback
    assert len(failed.value.traceback) < 20_000


@pytest.mark.parametrize("reason", ["cancelled", "lease-lost", "stopping"])
def test_the_signal_is_not_the_users_to_raise(store: dn.Durably, reason: Any) -> None:
    """Raising what only the library raises does not leave the run hanging."""
    run = ended(store, lambda step: step.run("one", raising(Unwind(reason))))
    assert run.status == "failed"


@pytest.mark.parametrize(
    "arguments",
    [
        (-1,), (math.nan,), (math.inf,), ("1",), (None,), (True,), (10**400,), (1, -5), (1, math.nan), (1, "5"),
        (Hostile(),), (1j,),
    ],
    ids=label,
)  # fmt: skip
def test_progress_is_a_number_from_zero_up(store: dn.Durably, arguments: tuple[Any, ...]) -> None:
    """Progress that cannot be drawn is refused where it is reported."""
    run = ended(store, lambda step: step.progress(*arguments))
    with pytest.raises(dn.RunFailedError, match=r"Progress: (current|total) is a number"):
        run.result()


def test_odd_progress_is_kept(store: dn.Durably) -> None:
    """More done than there is, huge numbers, and messages of any characters and length."""

    def body(step: dn.StepContext) -> None:
        step.progress(10, 5, LONE + NUL)
        step.progress(10**40, 1e300, HUGE)
        step.progress(0, 0, "")

    run = ended(store, body)
    assert run.result() is None
    assert run.progress == dn.ProgressData(current=0, total=0, message="")
    assert store.runs(run_id=run.id)["progress_message"][0] == ""


@pytest.mark.parametrize("items", [5, None, Hostile()], ids=label)
def test_track_goes_over_something(store: dn.Durably, items: Any) -> None:
    """What cannot be iterated over is refused with its type."""
    run = ended(store, lambda step: list(step.track(items)))
    with pytest.raises(dn.RunFailedError, match="track goes over an iterable"):
        run.result()


@pytest.mark.parametrize(
    ("message", "kept"),
    [(NUL, NUL), (LONE, r"a\ud800b"), (HUGE, HUGE), ("", ""), (None, "None"), (5, "5"), ("a\nb\r\n", "a\nb\r\n")],
    ids=label,
)
def test_a_log_line_is_any_text(store: dn.Durably, message: Any, kept: str) -> None:
    """What is logged is kept, whatever its characters; what UTF-8 cannot say, by its escape."""
    run = ended(store, lambda step: step.log.info(message))
    assert run.result() is None
    assert list(run.logs()["message"]) == [kept]


def test_steps_are_not_nested_nor_repeated(store: dn.Durably) -> None:
    """A step inside a step, and a name used twice, are refused, each with what to do instead."""
    nest = ended(store, lambda step: step.run("outer", lambda: step.run("inner", lambda: 1)))
    with pytest.raises(dn.RunFailedError, match="Steps are not nested"):
        nest.result()
    twice = ended(store, lambda step: [step.run("one", lambda: 1) for _ in range(2)])
    with pytest.raises(dn.RunFailedError, match="has a step 'one' already"):
        twice.result()


def test_a_context_that_outlives_its_run(store: dn.Durably, job: dn.Job) -> None:
    """A step context kept after the end starts no step and writes nothing."""
    kept: list[dn.StepContext] = []
    run = ended(store, lambda step: kept.append(step))  # noqa: PLW0108 - a job function
    before = len(run.events())
    with pytest.raises((Unwind, dn.DurablyError)):
        kept[0].run("late", lambda: 1)
    kept[0].log.info("late")
    kept[0].progress(1)
    assert len(run.events()) == before
    assert job.trigger_and_wait().status == "completed"


# --- closed, not open yet ---


METHODS: dict[str, tuple[Any, ...]] = {
    "start": (), "migrate": (), "init": (), "process_one": (), "process_until_idle": (), "get_run": ("x",),
    "get_runs": (),
    "wait_for_run": ("x",), "retrigger": ("x",), "resume": ("x",), "cancel": ("x",), "delete_run": ("x",),
    "purge_runs": ("30d",), "events": (), "runs": (), "steps": (), "logs": (), "sql": ("select 1",), "cursor": (),
    "backup": ("copy.duckdb",), "subscribe": ("x",), "watch": ("x",), "run_id_of": ("x",), "dashboard": (),
    "emit": (dn.WorkerErrorEvent(error="x", context="y"),), "__enter__": (),
}  # fmt: skip
ANSWERING = {"close", "stop", "job", "register", "get_job", "use", "on", "on_error", "jobs", "storage"}
"""What needs no open store."""


def test_every_method_is_tried_below() -> None:
    """A new public method is tried on a closed store as well."""
    inherited = set(dir(dn.Durably.__mro__[2]))
    internal = {"close_at_exit", "set_options", "refuse_unknown", "checked_run_labels", "dispatch"}
    public = {name for name in dir(dn.Durably) if not name.startswith("_")} - inherited - internal
    options = set(dn.Durably.class_trait_names())
    assert public - options <= METHODS.keys() | ANSWERING


@pytest.mark.parametrize("name", METHODS)
def test_a_closed_store_answers_with_a_sentence(path: Path, name: str) -> None:
    """Whatever I ask of a closed store, it says that it is closed and how to go on."""
    d = dn.open(path)
    d.close()
    d.close()
    d.stop()
    with pytest.raises((dn.StoreError, dn.ConflictError), match=r"dn\.open") as refused:
        getattr(d, name)(*METHODS[name])
    assert inspect.isclass(type(refused.value))
    assert "closed" in repr(d)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"init", "start", "migrate", "__enter__"}))
def test_a_store_that_is_not_open_yet_says_so(path: Path, name: str) -> None:
    """Before init, what needs the file says what to call."""
    d = dn.Durably(path)
    with pytest.raises(dn.StoreError, match=r"init\(\)"):
        getattr(d, name)(*METHODS[name])
    assert not path.exists()
    d.close()


def test_jobs_and_runs_of_a_closed_store(path: Path, still_good: Callable[[], None]) -> None:
    """Handles that I still hold show what they know, and refuse the rest with a sentence."""
    d = dn.open(path)
    job = d.job(name="one")(lambda step, n=1: step.run("one", lambda: n))
    run, other = job.trigger(n=1), job.trigger(n=2)
    assert (run.result(timeout=20), other.wait(timeout=20).status) == (1, "completed")
    d.close()
    assert (run.status, run.output, run.result()) == ("completed", 1, 1)
    assert run.id in repr(run)
    assert "one" in repr(job)
    for command in (
        job.trigger, lambda: job.batch_trigger([{}]), job.trigger_and_wait, job.get_runs, lambda: job.get_run("x"),
        run.cancel, run.resume, run.retrigger, run.delete, run.events, run.steps, run.logs,
        lambda: run.step_output("one"),
    ):  # fmt: skip
        with pytest.raises(dn.StoreError, match=r"dn\.open"):
            command()
    still_good()


def test_a_store_that_never_opened_can_be_closed(path: Path) -> None:
    """Closing, stopping and defining jobs need no file."""
    d = dn.Durably(path)
    d.job(name="one")(lambda step: step)
    d.on("*", print)()
    d.stop()
    d.close()
    assert not path.exists()


@pytest.mark.parametrize("path", [None, 5, "", "  ", NUL, b"jobs.duckdb", ["x"], Hostile()], ids=label)
def test_what_is_no_path_is_refused(path: Any) -> None:
    """A store is a path, ":memory:" or a connection."""
    for attempt in (dn.open, dn.Durably):
        with pytest.raises(dn.ValidationError):
            attempt(path)
