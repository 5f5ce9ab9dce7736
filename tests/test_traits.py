from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import traitlets

from durably_nb import Durably, ProgressData, Run, RunFailedError, StepContext

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durably_nb import Job


class View(traitlets.HasTraits):
    """What a widget would be."""

    value = traitlets.Any()
    progress = traitlets.Any()


def work(step: StepContext, *, fail: bool = False) -> dict[str, int]:
    step.progress(1, 2)
    one = step.run("one", lambda: 1)
    if fail:
        message = "no such month"
        raise ValueError(message)
    return {"one": one}


@pytest.fixture
def job(idle: Durably) -> Job:
    return idle.job(work)


@pytest.fixture
def _paused() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def handles(d: Durably) -> int:
    return len(d._dispatch._handles)


def test_the_traits_follow_the_run(job: Job, idle: Durably) -> None:
    """Each change is observed once, in order, on the thread that executes the run."""
    run = job.trigger()
    changes: list[tuple[str, Any]] = []
    threads: set[threading.Thread] = set()

    def note(change: Any) -> None:
        changes.append((change["name"], change["new"]))
        threads.add(threading.current_thread())

    run.observe(note)
    executing = threading.Thread(target=idle.process_until_idle)
    executing.start()
    executing.join()
    assert changes[:4] == [
        ("status", "leased"),
        ("progress", ProgressData(current=1, total=2)),
        ("current_step", "one"),
        ("current_step", None),
    ]
    assert sorted(changes[4:]) == [("output", {"one": 1}), ("status", "completed")]
    assert threads == {executing}


def test_an_observer_can_be_taken_away(job: Job, idle: Durably) -> None:
    """An observer is taken away by the function itself; given twice, it is called once."""
    run, other = job.trigger(), job.trigger()
    statuses: list[str] = []

    def note(change: Any) -> None:
        statuses.append(change["new"])

    for observed in run, run, other:
        observed.observe(note, "status")
    other.unobserve(note, "status")
    idle.process_until_idle()
    assert statuses == ["leased", "completed"]


def test_a_failure_is_observed(job: Job, idle: Durably) -> None:
    """`error` holds the line Python prints last."""
    run = job.trigger(fail=True)
    errors: list[str] = []
    run.observe(lambda change: errors.append(change["new"]), "error")
    idle.process_until_idle()
    assert errors == ["ValueError: no such month"] == [run.error]
    assert (run.status, run.output, run.current_step) == ("failed", None, None)


@pytest.mark.parametrize("name", ["status", "output"])
def test_whoever_is_told_of_the_end_finds_all_of_it(name: str, job: Job, idle: Durably) -> None:
    """An observer of one trait sees the others as they are now, and may ask for the result."""
    run = job.trigger()
    seen: list[tuple[Any, ...]] = []

    def look(change: Any) -> None:
        if change["new"] != "leased":
            seen.append((run.status, run.output, run.result(), run.is_terminal))

    run.observe(look, name)
    idle.process_until_idle()
    assert seen == [("completed", {"one": 1}, {"one": 1}, True)]


def test_an_observer_that_raises_harms_nobody(job: Job, idle: Durably) -> None:
    """Its exception reaches on_error; the run, the handle and whoever waits are as they would be."""
    errors: list[tuple[str, str]] = []
    idle.on_error(lambda error, event: errors.append((type(error).__name__, event.type)))
    run = job.trigger()

    def broken(_: Any) -> None:
        raise ZeroDivisionError

    run.observe(broken, "status")
    idle.process_until_idle()
    assert (run.status, run.result(20), run.output) == ("completed", {"one": 1}, {"one": 1})
    assert errors == [("ZeroDivisionError", "run:leased"), ("ZeroDivisionError", "run:complete")]


def test_traits_can_be_linked_to_widgets(job: Job, idle: Durably) -> None:
    """`dlink` from a run keeps a view up to date, with a transform if you like."""
    run = job.trigger()
    view = View()
    traitlets.dlink((run, "status"), (view, "value"))
    traitlets.dlink((run, "progress"), (view, "progress"), lambda progress: progress and progress.current)
    assert (view.value, view.progress) == ("pending", None)
    idle.process_until_idle()
    assert (view.value, view.progress) == ("completed", 1)


def test_nobody_else_sets_a_trait(job: Job) -> None:
    """A run is what it is; only its events change it."""
    run = job.trigger()
    for name in ("id", "job_name", "status", "progress", "current_step", "output", "error"):
        with pytest.raises(traitlets.TraitError):
            setattr(run, name, "x")
    assert run.status == "pending"


def test_several_handles_follow_the_same_run(job: Job, idle: Durably) -> None:
    """Each cell may have its own."""
    run = job.trigger()
    others = [idle.get_run(run.id), *idle.get_runs(), job.get_run(run.id)]
    idle.process_until_idle()
    for other in others:
        assert other is not None
        assert (other.status, other.output, other.progress) == (
            "completed",
            {"one": 1},
            ProgressData(current=1, total=2),
        )


def test_the_output_is_decoded_when_it_is_asked_for(idle: Durably, path: Path) -> None:
    """A list of a thousand runs reads no thousand DataFrames; one that is observed is decoded at its end."""

    @idle.job
    def frame(step: StepContext) -> Any:  # noqa: ARG001 - a job is given its step
        return pd.DataFrame({"n": range(50_000)})

    lazy, observed = frame.trigger(), frame.trigger()
    changes: list[Any] = []
    observed.observe(lambda change: changes.append(change["new"]), "output")
    idle.process_until_idle()
    assert not lazy.trait_has_value("output")
    assert len(lazy.output) == 50_000
    assert lazy.output is lazy.output is lazy.result()
    assert [len(change) for change in changes] == [50_000]
    for file in path.with_name(path.name + ".artifacts").rglob("*"):
        if file.is_file():
            file.unlink()
    listed = idle.get_runs()  # reads no file
    assert {run.status for run in listed} == {"completed"}


def test_a_resumed_run_begins_anew(job: Job, idle: Durably) -> None:
    """Error and end are gone, all handles follow, and waiting waits again."""
    run = job.trigger(fail=True)
    idle.process_until_idle()
    other = idle.get_run(run.id)
    assert other is not None
    with pytest.raises(RunFailedError):
        run.result()
    statuses: list[str] = []
    run.observe(lambda change: statuses.append(change["new"]), "status")
    _ = idle.resume(run.id)
    for handle in (run, other):
        assert (handle.status, handle.error, handle.completed_at, handle.is_active) == ("pending", None, None, True)
        with pytest.raises(TimeoutError):
            _ = handle.wait(0)
    idle.job(name="work")(lambda step, fail: step.run("one", lambda: 2))  # noqa: ARG005
    idle.process_until_idle()
    assert statuses == ["pending", "leased", "completed"]
    assert run.result() == other.result() == 1


def test_a_resumed_run_is_seen_to_execute(d: Durably) -> None:
    """However quickly a worker takes it, its handle is not behind it when it executes."""
    at_work, go_on = threading.Semaphore(0), threading.Event()

    @d.job
    def slow(step: StepContext) -> int:
        at_work.release()
        while not step.is_aborted() and not go_on.is_set():
            step.signal.wait(0.001)
        return 1

    run = slow.trigger()
    for _ in range(20):
        assert at_work.acquire(timeout=20)
        run.cancel()
        _ = run.resume()
    assert at_work.acquire(timeout=20)
    assert run.status == "leased"
    go_on.set()
    assert run.result(20) == 1


def test_times_are_those_of_the_run(job: Job, idle: Durably) -> None:
    """Aware, in UTC, in order; missing until they are known."""
    run = job.trigger()
    assert (run.started_at, run.completed_at) == (None, None)
    idle.process_until_idle()
    assert run.started_at is not None
    assert run.completed_at is not None
    assert run.created_at <= run.started_at <= run.completed_at
    assert {str(moment.tzinfo) for moment in (run.created_at, run.started_at, run.completed_at)} == {"UTC"}


def test_repr_says_where_it_stands(job: Job, idle: Durably) -> None:
    """One line, at every moment of its life."""
    lines: list[str] = []
    run = job.trigger(fail=True)
    idle.on(["step:start", "run:fail"], lambda _: lines.append(repr(run)))
    assert repr(run) == f"<Run {run.id} of work: pending, waiting for a worker to be started: d.start()>"
    idle.process_until_idle()
    assert lines == [
        f"<Run {run.id} of work: leased, 1/2, in step 'one'>",
        f"<Run {run.id} of work: failed, ValueError: no such month>",
    ]


def test_an_observer_that_raises_keeps_nobody_from_hearing_of_a_resume(job: Job, idle: Durably) -> None:
    """Every handle of a resumed run is pending again, and the run goes on."""
    run = job.trigger(fail=True)
    idle.process_until_idle()
    run.observe(lambda _: 1 / 0, "status")
    other = idle.get_run(run.id)
    assert other is not None
    _ = run.resume()
    assert other.status == "pending"
    assert idle.process_until_idle() == 1


# --- garbage ---


@pytest.mark.usefixtures("_paused")
def test_a_handle_that_nobody_holds_is_let_go(job: Job, idle: Durably) -> None:
    """Pending, executing or ended, observed or not: only its user keeps a handle alive."""
    before = handles(idle)
    kept = job.trigger()
    gone: list[weakref.ref[Run]] = []
    for end in range(3):
        run = job.trigger(fail=end == 1)
        run.observe(lambda _: None, "status")
        gone.append(weakref.ref(run))
        if end:
            idle.process_until_idle()
        del run
    gc.collect()
    assert [one() for one in gone] == [None] * 3
    assert handles(idle) == before + 1
    del kept
    gc.collect()
    assert handles(idle) == before


def test_a_run_executes_without_its_handle(d: Durably) -> None:
    """A cell that does not keep what trigger gave has started the run all the same."""
    job = d.job(work)
    ids = [job.trigger().id for _ in range(5)]
    gc.collect()
    for run_id in ids:
        assert d.wait_for_run(run_id, 20).output == {"one": 1}
