from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import traceback
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest

import durably_nb as dn
from durably_nb import (
    AsyncStepContext,
    CancelledError,
    ConflictError,
    Durably,
    NotFoundError,
    RunFailedError,
    StepContext,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Heard

    from durably_nb import Job, Run

BIG = 100_000  # bytes; beyond 32 KiB a value goes to a file of its own


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def pause(step: StepContext) -> None:
    """Wait until the run is asked to stop, and leave it."""
    assert step.signal.wait(60)
    step.throw_if_aborted()


def files_beside(path: Path) -> list[Path]:
    return [file for file in path.with_name(path.name + ".artifacts").rglob("*") if file.is_file()]


@pytest.fixture
def steps(idle: Durably) -> Job:
    """A job of three steps that fails in the second one as long as it is told to."""

    @idle.job
    def steps(step: StepContext, size: int = 1) -> int:
        step.run("one", lambda: np.zeros(size))
        step.run("two", fail_if_told)
        return step.run("three", lambda: 3)

    return steps


failing = threading.Event()


def fail_if_told() -> int:
    if failing.is_set():
        message = "no such month"
        raise ValueError(message)
    return 2


@pytest.fixture(autouse=True)
def _nothing_fails() -> None:
    failing.clear()


@pytest.fixture
def failed(steps: Job, idle: Durably) -> Run:
    failing.set()
    run = steps.options(labels={"by": "me"}, concurrency_key="c", idempotency_key="i").trigger(size=BIG)
    idle.process_until_idle()
    failing.clear()
    assert run.status == "failed"
    return run


# --- cancel ---


def test_a_pending_run_is_cancelled_at_once(steps: Job, idle: Durably, heard: Heard) -> None:
    """It never executes; whoever waits for it is told that it was cancelled, and how to go on."""
    run = steps.trigger()
    idle.on("*", heard)
    run.cancel()
    assert (run.status, run.is_terminal, heard.types()) == ("cancelled", True, ["run:cancel"])
    assert run.started_at is None
    assert run.completed_at is not None
    with pytest.raises(CancelledError, match=r"run\.resume"):
        run.result()
    assert idle.process_until_idle() == 0


def test_a_sync_step_goes_on_until_it_returns_and_is_dropped(d: Durably, heard: Heard) -> None:
    """A cancelled run is cancelled at once in the store; what its step returns is not kept, and no step follows."""
    at_work, cancelled = threading.Event(), threading.Event()
    went_on: list[str] = []

    @d.job
    def work(step: StepContext) -> None:
        def slow() -> str:
            at_work.set()
            assert cancelled.wait(20)
            assert step.is_aborted()
            step.log.info("nobody hears this")
            return "dropped"

        try:
            step.run("slow", slow)
        except Exception:  # noqa: BLE001 - even a job that catches everything is left
            went_on.append("caught")
        step.run("next", lambda: went_on.append("next"))

    run = work.trigger()
    assert at_work.wait(20)
    d.on("*", heard)
    run.cancel()
    assert run.status == "cancelled"
    assert heard.types() == ["run:cancel"]
    cancelled.set()
    heard.wait_for("step:cancel")
    d.stop()
    assert went_on == []
    assert heard.types() == ["run:cancel", "step:cancel"]
    assert run.steps()[["step_name", "status"]].to_numpy().tolist() == [["slow", "cancelled"]]
    with pytest.raises(NotFoundError, match="no completed step 'slow'"):
        run.step_output("slow")


def test_a_sync_step_that_looks_leaves_at_once(d: Durably, heard: Heard) -> None:
    """`signal.wait`, `throw_if_aborted` and `track` are where a cancelled step is left."""
    began: list[str] = []

    @d.job
    def work(step: StepContext, way: str) -> None:
        def look() -> None:
            began.append(way)
            if way == "wait":
                assert step.signal.wait(20)
                step.throw_if_aborted()
            elif way == "track":
                for _ in step.track(iter(int, 1)):
                    continue
            while True:
                step.throw_if_aborted()

        step.log.info("begins")
        step.run("look", look)

    d.on(["step:start", "step:cancel"], heard)
    for count, way in enumerate(("wait", "track", "throw"), 1):
        run = work.trigger(way)
        heard.wait_for("step:start", count)
        run.cancel()
        assert heard.wait_for("step:cancel", count).run_id == run.id
    assert began == ["wait", "track", "throw"]


def test_an_async_step_is_cancelled_at_its_await(d: Durably, heard: Heard) -> None:
    """What an async job awaits is cancelled; its `finally` blocks run; two steps side by side both end."""
    tidied: list[int] = []

    @d.job
    async def work(step: AsyncStepContext) -> None:
        async def endless(number: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                tidied.append(number)

        await asyncio.gather(*(step.run(f"step {number}", endless, number) for number in range(2)))

    d.on("*", heard)
    run = work.trigger()
    heard.wait_for("step:start", 2)
    run.cancel()
    heard.wait_for("step:cancel", 2)
    d.stop()
    assert sorted(tidied) == [0, 1]
    assert heard.types()[-3:] == ["run:cancel", "step:cancel", "step:cancel"]


def test_a_cancel_outside_any_step(d: Durably, heard: Heard) -> None:
    """A job that stands between its steps is left there; there is no step to tell of."""
    at_work = threading.Event()

    @d.job
    def work(step: StepContext) -> str:
        at_work.set()
        step.signal.wait(20)
        return "dropped"

    d.on("*", heard)
    run = work.trigger()
    assert at_work.wait(20)
    run.cancel()
    d.stop()
    assert (run.status, run.output) == ("cancelled", None)
    assert heard.types() == ["run:trigger", "run:leased", "run:cancel"]


def test_an_error_after_a_cancel_changes_nothing(d: Durably, heard: Heard) -> None:
    """A step that raises because it was cancelled is a cancelled step, not a failed one."""
    at_work = threading.Event()

    @d.job
    def work(step: StepContext) -> None:
        def slow() -> NoReturn:
            at_work.set()
            step.signal.wait(20)
            message = "connection closed"
            raise OSError(message)

        step.run("slow", slow)

    d.on("*", heard)
    run = work.trigger()
    assert at_work.wait(20)
    run.cancel()
    heard.wait_for("step:cancel")
    d.stop()
    assert run.status == "cancelled"
    assert not {"step:fail", "run:fail", "worker:error"} & set(heard.types())


def test_a_cancel_is_never_taken_for_a_lost_lease(path: Path, heard: Heard) -> None:
    """However the cancel and the renewals of the lease fall together, the step is told as cancelled."""
    with Durably(path, lease_ms=60_000, lease_renew_interval_ms=1) as d:
        d.on(["step:start", "step:cancel", "worker:error"], heard)

        @d.job
        def work(step: StepContext) -> None:
            step.run("wait", step.signal.wait, 20)

        for count in range(1, 21):
            run = work.trigger()
            heard.wait_for("step:start", count)
            run.cancel()
        d.stop()
    assert heard.of("worker:error") == []
    assert len(heard.of("step:cancel")) == 20


def test_a_run_that_is_cancelled_as_it_is_claimed_never_begins(path: Path, heard: Heard) -> None:
    """A function whose run was cancelled before it could be called is not called any more."""
    with Durably(path) as d:
        began: list[str] = []

        @d.job
        def work(step: StepContext) -> None:
            began.append(step.run_id)
            step.signal.wait(20)

        def cancel(event: Any) -> None:
            d.cancel(event.run_id)

        d.on("run:leased", cancel)
        d.on("run:cancel", heard)
        run = work.trigger()
        heard.wait_for("run:cancel")
        d.stop()
    assert (run.status, began) == ("cancelled", [])


def test_an_ended_async_run_hears_no_late_cancel(d: Durably) -> None:
    """A cancel that comes after the end is refused, and the loop of the next run is not disturbed."""

    @d.job
    async def work(step: AsyncStepContext) -> int:
        return await step.run("one", lambda: 1)

    first = work.trigger()
    assert first.result(20) == 1
    with pytest.raises(ConflictError, match="completed and cannot be cancelled"):
        first.cancel()
    assert work.trigger().result(20) == 1


# --- commands in the wrong state ---


def in_state(state: str, steps: Job, idle: Durably) -> Run:
    if state == "failed":
        failing.set()
    run = steps.trigger()
    if state == "leased":
        assert idle.storage.claim_run(["steps"], "me", 30_000, ()) is not None
    elif state == "cancelled":
        run.cancel()
    elif state != "pending":
        idle.process_until_idle()
    assert run.status in {state, "pending"}
    return run


WRONG = [
    ("cancel", "completed", "only a pending or a leased run can"),
    ("cancel", "failed", "only a pending or a leased run can"),
    ("cancel", "cancelled", "only a pending or a leased run can"),
    ("resume", "pending", r"only a failed or a cancelled run can.*retrigger\(\)"),
    ("resume", "leased", r"only a failed or a cancelled run can.*retrigger\(\)"),
    ("resume", "completed", r"only a failed or a cancelled run can.*retrigger\(\)"),
    ("retrigger", "pending", "Wait for it or cancel it first"),
    ("retrigger", "leased", "Wait for it or cancel it first"),
    ("delete", "pending", r"cancel it first, with cancel\(\)"),
    ("delete", "leased", r"cancel it first, with cancel\(\)"),
]


@pytest.mark.parametrize(("command", "state", "said"), WRONG)
def test_a_command_in_the_wrong_state_is_refused(  # noqa: PLR0913, PLR0917 - a row of the table, and what it needs
    command: str, state: str, said: str, steps: Job, idle: Durably, heard: Heard
) -> None:
    """The refusal names the run and its state and says what to do; nothing is changed or told."""
    run = in_state(state, steps, idle)
    idle.on("*", heard)
    with pytest.raises(ConflictError, match=said) as refusal:
        getattr(run, command)()
    assert f"Run {run.id} is {state}" in str(refusal.value)
    again = idle.get_run(run.id)
    assert again is not None
    assert (again.status, heard) == (state, [])


@pytest.mark.parametrize("command", ["cancel", "resume", "retrigger", "delete_run", "wait_for_run", "subscribe"])
def test_a_command_for_an_unknown_run(command: str, idle: Durably) -> None:
    """An id that is not in the store is named; something that is no id is refused as such."""
    with pytest.raises(NotFoundError, match=r"no run 'nobody'"):
        getattr(idle, command)("nobody")
    with pytest.raises((NotFoundError, ValidationError), match=r"3|id"):
        getattr(idle, command)(3)


# --- failure ---


def outcome(d: Durably, function: Callable[..., Any]) -> tuple[Run, RunFailedError]:
    run = d.job(function).trigger()
    with pytest.raises(RunFailedError) as failure:
        run.result(20)
    return run, failure.value


def raise_no_such_month() -> NoReturn:
    message = "no such month"
    raise ValueError(message)


def test_a_step_that_raises_fails_step_and_run(d: Durably, heard: Heard) -> None:
    """Type, message, traceback and step are kept: in the error, in the events, in the frames, after a restart."""

    def load(step: StepContext) -> None:
        step.run("read", raise_no_such_month)

    d.on("*", heard)
    run, failure = outcome(d, load)
    assert (failure.type, failure.message, failure.failed_step_name) == ("ValueError", "no such month", "read")
    assert failure.run_id == run.id
    assert "raise ValueError(message)" in failure.traceback
    assert 'step.run("read", raise_no_such_month)' in failure.traceback
    assert heard.types()[-2:] == ["step:fail", "run:fail"]
    assert heard.of("step:fail")[0].error == heard.of("run:fail")[0].error == "ValueError: no such month" == run.error
    assert heard.of("run:fail")[0].failed_step_name == "read"
    row = d.runs(run_id=run.id).iloc[0]
    assert (row["status"], row["error"], row["failed_step_name"]) == ("failed", "ValueError: no such month", "read")
    assert run.steps()[["status", "error"]].to_numpy().tolist() == [["failed", "ValueError: no such month"]]
    assert "run.resume()" in str(failure)


def test_the_traceback_begins_with_the_users_own_lines(d: Durably) -> None:
    """The frames of the library that called the job function are left out."""

    def load(step: StepContext) -> None:  # noqa: ARG001 - a job is given its step
        raise_no_such_month()

    _, failure = outcome(d, load)
    assert "durably_nb/execution.py" not in failure.traceback
    assert failure.traceback.splitlines()[1].strip().startswith(f'File "{__file__}"')


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_traceback_has_the_users_own_lines_alone(kind: str, d: Durably) -> None:
    """Frames of the library and of the loop are left out, of what led to the error too."""

    def wrap(step: StepContext) -> None:
        try:
            step.run("read", raise_no_such_month)
        except ValueError as error:
            raise ExceptionGroup("wrapped", [error]) from error

    async def wrap_soon(step: AsyncStepContext) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(step.run("read", raise_no_such_month))
        except* ValueError as group:
            raise RuntimeError(kind) from group

    _, failure = outcome(d, wrap if kind == "plain" else wrap_soon)
    files = {line.strip(" |") for line in failure.traceback.splitlines() if line.strip(" |").startswith("File ")}
    assert files
    assert all(line.startswith(f'File "{__file__}"') for line in files), files
    assert "raise ValueError(message)" in failure.traceback


def test_a_failure_shows_the_traceback_wherever_it_is_raised(d: Durably) -> None:
    """What Python and IPython print ends in the user's own lines; also after the error was pickled or copied."""

    def load(step: StepContext) -> None:
        step.run("read", raise_no_such_month)

    _, failure = outcome(d, load)
    failure.add_note("seen in March")
    for one in (failure, pickle.loads(pickle.dumps(failure)), copy.copy(failure)):  # noqa: S301 - its own
        printed = "".join(traceback.format_exception(one))
        assert failure.traceback.rstrip() in printed
        assert printed.count("in raise_no_such_month") == 1
        assert printed.rstrip().endswith("seen in March")
        assert str(one) == str(failure)
        assert vars(one) == vars(failure)
    assert not hasattr(RunFailedError("1", type="ValueError", message=""), "__notes__")


@pytest.mark.parametrize(
    ("message", "said"),
    [("no", ": no. Mend"), ("No such month.\n", "month. Mend"), ("What?", "What? Mend"), ("", "ValueError. Mend")],
)
def test_a_failure_is_said_in_whole_sentences(message: str, said: str) -> None:
    """What the user's message ends in is not ended twice."""
    assert said in str(RunFailedError("1", type="ValueError", message=message))


def test_an_error_outside_any_step_names_none(d: Durably, heard: Heard) -> None:
    """What the job function itself raises fails the run alone."""

    def load(step: StepContext) -> None:
        step.run("fine", lambda: 1)
        raise_no_such_month()

    d.on("*", heard)
    _, failure = outcome(d, load)
    assert failure.failed_step_name is None
    assert "step:fail" not in heard.types()


@pytest.mark.parametrize("chained", ["from", "while handling", "group"])
def test_a_steps_error_that_was_wrapped_still_names_the_step(chained: str, d: Durably) -> None:
    """An error raised from a step's error, or while that was handled, came from the step."""

    def load(step: StepContext) -> None:
        try:
            step.run("read", raise_no_such_month)
        except ValueError as error:
            if chained == "from":
                raise RuntimeError(chained) from error
            if chained == "group":
                raise ExceptionGroup(chained, [error]) from error
            raise RuntimeError(chained)  # noqa: B904 - this is what is tested

    _, failure = outcome(d, load)
    assert failure.failed_step_name == "read"
    assert "no such month" in failure.traceback


def test_a_later_error_is_not_the_steps(d: Durably) -> None:
    """A job that got over a step's error and fails elsewhere did not fail in that step."""

    def load(step: StepContext) -> None:
        with suppress(ValueError):
            step.run("read", raise_no_such_month)
        message = "something else"
        raise RuntimeError(message)

    _, failure = outcome(d, load)
    assert (failure.type, failure.failed_step_name) == ("RuntimeError", None)


def test_a_job_that_catches_its_steps_error_goes_on(d: Durably, heard: Heard) -> None:
    """The step has failed, the run completes."""

    @d.job
    def load(step: StepContext) -> str:
        try:
            return step.run("fast way", raise_no_such_month)
        except ValueError:
            return step.run("slow way", lambda: "slow")

    d.on("*", heard)
    assert load.trigger().result(20) == "slow"
    assert [kind for kind in heard.types() if kind.startswith("step")] == [
        "step:start",
        "step:fail",
        "step:start",
        "step:complete",
    ]


def test_an_error_that_cannot_be_shown_still_fails_the_run(d: Durably) -> None:
    """A hostile exception, a huge message, a NUL and half a surrogate are kept as well as can be."""

    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def hostile(step: StepContext) -> None:  # noqa: ARG001 - a job is given its step
        raise HostileError

    def huge(step: StepContext) -> None:  # noqa: ARG001 - a job is given its step
        raise ValueError("\0 \ud800 " + "x" * 1_000_000)

    assert "cannot be shown" in outcome(d, hostile)[1].message
    run, failure = outcome(d, huge)
    assert "characters left out" in failure.message
    assert len(run.events()) == 3


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, asyncio.CancelledError, BaseExceptionGroup])
def test_what_is_no_ordinary_exception_fails_the_run_too(kind: type[BaseException], d: Durably) -> None:
    """A job that calls sys.exit() fails its run, not the worker."""

    def leave(step: StepContext) -> None:
        def go() -> NoReturn:
            raise kind(*(("several", [KeyError()]) if kind is BaseExceptionGroup else ()))

        step.run("go", go)

    _, failure = outcome(d, leave)
    assert kind.__name__ in failure.type or kind is BaseExceptionGroup
    assert d.job(name="next")(lambda step: 1).trigger().result(20) == 1  # noqa: ARG005


# --- retrigger ---


def test_retrigger_keeps_input_labels_and_concurrency_key(failed: Run, idle: Durably, steps: Job) -> None:
    """A fresh run of the same work; the idempotency key stays with the first one."""
    fresh = failed.retrigger()
    assert fresh.id != failed.id
    assert (fresh.input, fresh.labels, fresh.disposition) == ({"size": BIG}, {"by": "me"}, "created")
    row = idle.runs(run_id=fresh.id).iloc[0]
    assert row["concurrency_key"] == "c"
    assert idle.runs(run_id=fresh.id)["idempotency_key"].isna().all()
    assert steps.options(idempotency_key="i").trigger().id == failed.id
    with pytest.raises(ConflictError, match=fresh.id):
        _ = failed.retrigger()
    idle.process_until_idle()
    assert fresh.result() == 3
    assert failed.status == "failed"


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_retrigger_works_after_each_end(end: str, steps: Job, idle: Durably, heard: Heard) -> None:
    """What ended can be done again from the start, told as a trigger."""
    run = in_state(end, steps, idle)
    idle.on("run:trigger", heard)
    fresh = run.retrigger()
    assert [event.run_id for event in heard] == [fresh.id]
    assert idle.process_until_idle() == 1
    assert len(fresh.steps()) == 3


def test_retriggered_files_live_and_die_with_their_own_run(idle: Durably, path: Path) -> None:
    """A large input is copied: deleting the first run takes nothing from the second."""

    @idle.job
    def total(step: StepContext, numbers: Any) -> float:  # noqa: ARG001 - a job is given its step
        return float(numbers.sum())

    first = total.trigger(np.ones(BIG))
    idle.process_until_idle()
    second = first.retrigger()
    first.delete()
    idle.process_until_idle()
    assert second.result() == BIG
    second.delete()
    assert files_beside(path) == []


# --- resume ---


def test_resume_goes_on_with_the_same_run(failed: Run, idle: Durably, heard: Heard) -> None:
    """Completed steps are kept and not executed again; a log line says how many."""
    idle.on("*", heard)
    assert failed.resume() is failed
    assert (failed.status, failed.error, failed.completed_at) == ("pending", None, None)
    assert heard == []
    assert idle.process_until_idle() == 1
    assert failed.result() == 3
    assert heard.types() == [
        "run:leased",
        "log:write",
        *["step:start", "step:complete"] * 2,
        "run:complete",
    ]
    assert heard.of("log:write")[0].message == "Going on after an interruption: 1 completed step is reused."
    assert [event.step_name for event in heard.of("step:start")] == ["two", "three"]
    assert failed.step_output("one").shape == (BIG,)
    assert failed.steps()["status"].tolist() == ["completed", "failed", "completed", "completed"]


def test_a_cancelled_run_can_be_resumed(d: Durably, heard: Heard) -> None:
    """Cancel is a pause if you want it to be."""
    wait = threading.Event()
    wait.set()

    @d.job
    def work(step: StepContext) -> int:
        one = step.run("one", lambda: 1)
        if wait.is_set():
            step.run("wait", step.signal.wait, 20)
        return one

    d.on(["step:start", "log:write"], heard)
    run = work.trigger()
    heard.wait_for("step:start", 2)
    run.cancel()
    wait.clear()
    assert run.resume().result(20) == 1
    assert "1 completed step is reused" in heard.of("log:write")[0].message


def test_a_resumed_run_waits_for_its_former_function(path: Path, heard: Heard) -> None:
    """The function of a cancelled run that still stands is never beside the one of the resumed run."""
    at_work, go_on = threading.Semaphore(0), threading.Event()
    inside: list[str] = []
    most = 0

    with Durably(path, max_concurrent_runs=3) as d:

        @d.job
        def stubborn(step: StepContext) -> int:
            nonlocal most
            inside.append(step.run_id)
            most = max(most, len(inside))
            at_work.release()
            assert go_on.wait(20)
            inside.remove(step.run_id)
            return 1

        d.on("run:leased", heard)
        run = stubborn.trigger()
        assert at_work.acquire(timeout=20)
        run.cancel()
        _ = run.resume()
        other = d.job(name="other")(lambda step: 2).trigger()  # noqa: ARG005
        assert other.result(20) == 2  # the workers look, and pass the resumed run over
        assert run.status == "pending"
        go_on.set()
        assert run.result(20) == 1
    assert most == 1
    assert [event.run_id for event in heard] == [run.id, other.id, run.id]


def test_resume_cancel_and_resume_again_in_quick_succession(path: Path, heard: Heard) -> None:
    """However commands and claims fall together, each run ends as it was last told to, and in order."""
    with Durably(path) as d:

        @d.job
        def work(step: StepContext) -> int:
            step.run("one", lambda: 1)
            return step.run("two", lambda: 2)

        d.on("*", heard)
        run = work.trigger()
        for _ in range(30):
            try:
                run.cancel()
            except ConflictError:
                break
            _ = run.resume()
        assert run.result(20) == 2
    assert heard.types().count("run:complete") == 1


# --- delete and purge ---


def test_delete_takes_all_but_its_own_event(failed: Run, idle: Durably, path: Path, heard: Heard) -> None:
    """Events, state and files go; that it was deleted stays in the history; its key is free."""
    idle.on("*", heard)
    assert files_beside(path)
    failed.delete()
    assert heard.types() == ["run:delete"]
    assert idle.get_run(failed.id) is None
    assert idle.events()[["type", "run_id", "job_name"]].to_numpy().tolist() == [["run:delete", failed.id, "steps"]]
    assert len(idle.runs()) == len(idle.steps()) == 0
    assert files_beside(path) == []
    with pytest.raises(NotFoundError):
        failed.delete()
    with pytest.raises(NotFoundError):
        _ = failed.resume()


def test_a_deletion_lasts(failed: Run, idle: Durably, path: Path) -> None:
    """After a restart the run is still gone, and only its run:delete is there."""
    failed.delete()
    idle.close()
    again = Durably(path)
    again.migrate()
    assert again.get_runs() == []
    assert again.events()["type"].tolist() == ["run:delete"]
    again.close()


def test_a_cancelled_run_may_be_deleted_while_its_function_stands(d: Durably, heard: Heard) -> None:
    """What the function still says has no place any more, and nothing goes wrong."""
    at_work, go_on = threading.Event(), threading.Event()

    @d.job
    def work(step: StepContext) -> None:
        def slow() -> str:
            at_work.set()
            assert go_on.wait(20)
            step.log.info("late")
            return "x" * BIG

        step.run("slow", slow)

    d.on("*", heard)
    run = work.trigger()
    assert at_work.wait(20)
    run.cancel()
    run.delete()
    go_on.set()
    d.stop()
    assert heard.types()[-1] == "run:delete"
    assert d.events()["type"].tolist() == ["run:delete"]


def test_purge_takes_the_oldest_ended_runs(steps: Job, idle: Durably, path: Path) -> None:
    """Up to `limit` runs that ended before a time; what is pending or younger stays."""
    runs = [steps.trigger(size=BIG) for _ in range(4)]
    idle.process_until_idle(3)
    assert idle.purge_runs("1h") == 0
    assert idle.purge_runs(datetime.now(UTC) + timedelta(minutes=1), limit=2) == 2
    assert [run.id for run in idle.get_runs()] == [runs[3].id, runs[2].id]
    assert idle.purge_runs(timedelta(0)) == 1
    assert [run.id for run in idle.get_runs()] == [runs[3].id]
    assert files_beside(path) == []
    assert set(idle.events()["run_id"]) == {runs[3].id}
    assert idle.process_until_idle() == 1


@pytest.mark.parametrize("older_than", ["soon", "3 days", -1, datetime(2026, 1, 1), timedelta(-1), None])  # noqa: DTZ001
def test_a_purge_that_cannot_be_meant_deletes_nothing(older_than: Any, idle: Durably) -> None:
    """A wrong time is refused with the ways to write one."""
    with pytest.raises(ValidationError, match="older_than"):
        idle.purge_runs(older_than)


def test_retain_runs_purges_at_open(failed: Run, idle: Durably, path: Path) -> None:
    """Ended runs older than `retain_runs` are gone when the file is opened; what waits is kept."""
    idle.purge_runs("1h")
    pending = failed.retrigger()
    idle.close()
    kept = Durably(path, retain_runs="1h")
    kept.migrate()
    assert len(kept.get_runs()) == 2
    kept.close()
    purged = Durably(path, retain_runs=timedelta(0))
    purged.migrate()
    assert [run.id for run in purged.get_runs()] == [pending.id]
    purged.close()


def test_retain_runs_purges_when_the_worker_is_idle(path: Path, heard: Heard) -> None:
    """A kernel that stays open for weeks keeps its file small, too."""
    with Durably(path) as d:
        d.on("run:complete", heard)
        d.job(name="one")(lambda step: 1).trigger().result(20)  # noqa: ARG005
        d.retain_runs = timedelta(0)
        other = d.job(name="other")(lambda step: 2)  # noqa: ARG005
        log = "select count(*) from log where type = 'store:purge'"
        while d.storage.reading_cursor().execute(log).fetchall() == [(0,)]:
            _ = other.trigger().wait(20)
        assert d.get_runs(job_name="one") == []


# --- preserve_steps ---


def test_without_preserve_steps_outputs_go_when_the_run_completes(path: Path) -> None:
    """What the steps returned is dropped, files included; the run's own output and its history stay."""
    d = Durably(path, preserve_steps=False)
    d.migrate()

    @d.job
    def work(step: StepContext, fail: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in a notebook
        step.run("big", lambda: np.ones(BIG))
        if fail:
            raise_no_such_month()
        return step.run("last", lambda: np.zeros(BIG))

    failed = work.trigger(fail=True)
    completed = work.trigger()
    d.process_until_idle()
    assert failed.step_output("big").sum() == BIG
    with pytest.raises(NotFoundError, match="preserve_steps=False"):
        completed.step_output("big")
    assert completed.result().sum() == 0
    assert completed.steps()["status"].tolist() == ["completed"] * 2
    assert len(files_beside(path)) == 2  # the failed run's step, the completed run's output
    d.close()


# --- jobs that are not defined here ---


def test_a_job_that_is_not_defined_here_waits(path: Path) -> None:
    """After a restart a run stays pending until the cell that defines its job is run, then goes at once."""

    def load(step: StepContext) -> int:  # noqa: ARG001 - a job is given its step
        return 1

    d = Durably(path, jobs=[load])
    d.migrate()
    waiting = d.jobs.load.trigger()
    d.close()
    with Durably(path, polling_interval_ms=60_000) as d:
        other = d.job(name="other")(lambda step: 2)  # noqa: ARG005
        assert other.trigger().result(20) == 2
        run = d.get_run(waiting.id)
        assert run is not None
        assert run.status == "pending"
        d.register(load)
        assert run.result(20) == 1


def test_defining_a_job_again_leaves_a_run_in_flight_alone(d: Durably) -> None:
    """A cell may be edited and run again while its job executes: that run keeps its function."""
    at_work, go_on = threading.Event(), threading.Event()

    @d.job(name="work")
    def before(step: StepContext) -> str:  # noqa: ARG001 - a job is given its step
        at_work.set()
        assert go_on.wait(20)
        return "before"

    first = before.trigger()
    assert at_work.wait(20)
    after = d.job(name="work")(lambda step: "after")  # noqa: ARG005
    second = after.trigger()
    go_on.set()
    assert (first.result(20), second.result(20)) == ("before", "after")


# --- the worker ---


def test_as_many_runs_at_a_time_as_asked_for(path: Path) -> None:
    """`max_concurrent_runs` executes at once, no more, and may be raised while it runs."""
    together = threading.Barrier(3, timeout=20)
    with dn.open(path, max_concurrent_runs=3) as d:
        meet = d.job(name="meet")(lambda step: together.wait() >= 0)  # noqa: ARG005
        for run in meet.batch_trigger([{}] * 3):
            assert run.result(20) is True
        four = threading.Barrier(4, timeout=20)
        dn.open(path, max_concurrent_runs=4)
        more = d.job(name="more")(lambda step: four.wait() >= 0)  # noqa: ARG005
        for run in more.batch_trigger([{}] * 4):
            assert run.result(20) is True


def test_one_at_a_time_by_default(d: Durably) -> None:
    """Without the option, runs follow each other."""
    inside = 0
    most = 0

    @d.job
    def work(step: StepContext) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        step.run("one", lambda: 1)
        inside -= 1

    for run in work.batch_trigger([{}] * 10):
        run.result(20)
    assert most == 1


def test_process_one_works_without_a_thread(steps: Job, idle: Durably) -> None:
    """Runs execute on the caller's own thread, one call each, and it says whether there was one."""
    names: list[str] = []
    idle.on("step:start", lambda _: names.append(threading.current_thread().name))
    _ = steps.trigger()
    assert idle.process_one() is True
    assert idle.process_one() is False
    assert set(names) == {threading.current_thread().name}


def test_process_until_idle_counts(steps: Job, idle: Durably) -> None:
    """It stops when nothing is pending, or after `max_runs`; a run that a run triggers counts."""

    @idle.job
    def parent(step: StepContext) -> str:
        return step.run("child", lambda: steps.trigger().id)

    for _ in range(3):
        _ = steps.trigger()
    assert idle.process_until_idle(max_runs=0) == 0
    assert idle.process_until_idle(max_runs=2) == 2
    _ = parent.trigger()
    assert idle.process_until_idle() == 3
    with pytest.raises(ValidationError, match="max_runs"):
        idle.process_until_idle(max_runs=-1)


def test_start_and_stop_any_number_of_times(d: Durably) -> None:
    """A stopped worker begins nothing; a started one goes on with what waited; twice is as good as once."""
    one = d.job(name="one")(lambda step: 1)  # noqa: ARG005
    for _ in range(5):
        d.stop()
        d.stop()
        run = one.trigger()
        assert run.status == "pending"
        d.start()
        d.start()
        assert run.result(20) == 1


@pytest.mark.slow
def test_stop_gives_back_what_does_not_end_in_time(d: Durably) -> None:
    """After five seconds the run in flight is asked to stop; it is pending, and goes on at the next start."""
    at_work = threading.Event()
    calls: list[str] = []

    @d.job
    def work(step: StepContext) -> int:
        step.run("one", calls.append, "one")
        if len(calls) == 1:
            calls.append("waits")
            at_work.set()
            step.run("wait", pause, step)
        return 1

    run = work.trigger()
    assert at_work.wait(20)
    d.stop()
    assert d.get_runs(status="pending")[0].id == run.id
    assert run.steps()["status"].tolist() == ["completed", "interrupted"]
    d.start()
    assert run.result(20) == 1
    assert calls == ["one", "waits"]


def test_stop_waits_for_what_is_about_to_end(d: Durably) -> None:
    """A run that ends within the time is not interrupted."""
    at_work, go_on = threading.Event(), threading.Event()

    @d.job
    def work(step: StepContext) -> int:  # noqa: ARG001 - a job is given its step
        at_work.set()
        assert go_on.wait(20)
        return 1

    run = work.trigger()
    assert at_work.wait(20)
    stopping = in_background(d.stop)
    go_on.set()
    stopping.join()
    assert run.result() == 1


def test_close_is_for_good_and_may_be_called_twice(d: Durably) -> None:
    """A closed object says what to do instead."""
    job = d.job(name="one")(lambda step: 1)  # noqa: ARG005
    run = job.trigger()
    run.result(20)
    d.close()
    d.close()
    for refused in (job.trigger, run.retrigger, d.runs, d.get_runs, lambda: d.get_run(run.id), d.process_one):
        with pytest.raises(dn.StoreError, match=r"dn\.open"):
            refused()
    for begin in (d.start, d.init, d.migrate):
        with pytest.raises(ConflictError, match=r"dn\.open"):
            begin()
    assert run.result() == 1


def test_without_preserve_steps_small_outputs_leave_the_file_too(path: Path) -> None:
    """What a step returned is in no event and no row after the run completed, however small it was."""
    with Durably(path, preserve_steps=False) as d:

        @d.job
        def work(step: StepContext) -> str:
            step.run("one", lambda: "the secret of the step")
            return "done"

        run = work.trigger()
        assert run.result(timeout=20) == "done"
        d.stop()
        with pytest.raises(NotFoundError, match="preserve_steps=False"):
            run.step_output("one")
        (kept,) = run.events(type="step:complete")["data"]
        assert "output" not in kept
        assert not d.sql("select data from durably.log where contains(data, 'secret')").fetchall()
