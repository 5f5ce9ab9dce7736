from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb import (
    AsyncStepContext,
    CancelledError,
    ConflictError,
    Durably,
    LogData,
    NotFoundError,
    ProgressData,
    RunFailedError,
    StepContext,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Heard

    from durably_nb import Job, Run


class Gate:
    """Where a run stands until a test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def slow(d: Durably, gate: Gate) -> Job:
    """A job that says something, stands at the gate, and ends as it is told to."""

    @d.job
    def slow(step: StepContext, *, fail: bool = False) -> str:
        step.progress(1, 2, "half")
        step.log.info("at the gate", {"n": 1})
        gate.pass_through()
        if fail:
            raise OSError(5, "gone")
        step.progress(2, 2)
        return "done"

    return slow


# --- result and wait ---


def test_result_gives_what_the_job_returned(slow: Job, gate: Gate) -> None:
    """It waits as long as it takes, and gives the same again whenever it is asked."""
    run = slow.trigger()
    gate.opened.set()
    assert run.result() == run.result(timeout=0) == run.output == "done"


def test_wait_returns_however_the_run_ends(slow: Job, gate: Gate) -> None:
    """Failing and being cancelled are ends too; wait gives the run back."""
    gate.opened.set()
    failed = slow.trigger(fail=True)
    assert failed.wait(20) is failed
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.startswith("OSError")
    with pytest.raises(RunFailedError):
        failed.result()


def test_a_timeout_leaves_the_run_running(slow: Job, gate: Gate) -> None:
    """TimeoutError, the built-in one, says how the run stands and what to do; the run goes on."""
    run = slow.trigger()
    assert gate.reached.wait(20)
    for waiting in (run.wait, run.result):
        with pytest.raises(TimeoutError, match=r"Waited 0\.01 seconds.* is leased\. .*run\.cancel\(\)"):
            waiting(timeout=0.01)
    assert run.status == "leased"
    gate.opened.set()
    assert run.result(20) == "done"


@pytest.mark.parametrize("timeout", [math.inf, 1e12, 10**30])
def test_a_timeout_may_be_as_long_as_one_likes(timeout: float, slow: Job, gate: Gate) -> None:
    """Longer than the machine can count is as good as for ever."""
    run = slow.trigger()
    threading.Timer(0.01, gate.opened.set).start()
    assert run.result(timeout) == "done"


@pytest.mark.parametrize("timeout", [-1, math.nan, "soon", True])
def test_a_timeout_that_cannot_be_meant_is_refused(timeout: Any, slow: Job, gate: Gate) -> None:
    """A timeout is a number of seconds from zero up."""
    run = slow.trigger()
    for waiting in (run.wait, run.result, lambda timeout: slow.options(timeout=timeout)):
        with pytest.raises(ValidationError, match="number of seconds"):
            waiting(timeout)
    gate.opened.set()


def test_many_threads_wait_for_one_run(slow: Job, gate: Gate, d: Durably) -> None:
    """Everybody is woken, by whichever handle they wait."""
    run = slow.trigger()
    results: list[str] = []
    another = d.get_run(run.id)
    assert another is not None
    handles = [run, another] * 3
    threads = [threading.Thread(target=lambda one=one: results.append(one.result(20))) for one in handles]
    for thread in threads:
        thread.start()
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert results == ["done"] * 6


def test_waiting_for_ever_without_a_worker_is_refused(idle: Durably) -> None:
    """Nobody would ever execute it: the refusal says what to do; with a timeout waiting is allowed."""
    run = idle.job(name="one")(lambda step: 1).trigger()  # noqa: ARG005

    async def wait() -> Any:
        return await run

    for waiting in (run.wait, run.result, lambda: idle.wait_for_run(run.id), lambda: asyncio.run(wait())):
        with pytest.raises(ConflictError, match=r"d\.start\(\)"):
            waiting()
    with pytest.raises(TimeoutError):
        _ = run.wait(timeout=0)
    assert idle.process_one()
    assert run.result() == asyncio.run(wait()) == 1


def test_waiting_for_ever_for_a_job_that_is_not_defined_is_refused(path: Path) -> None:
    """The cell that would define it cannot run while this one waits; with a timeout waiting is allowed."""
    with closing(Durably(path)) as before:
        before.migrate()
        run_id = before.job(name="gone")(lambda step: 1).trigger().id  # noqa: ARG005
    with Durably(path) as d:
        run = d.get_run(run_id)
        assert run is not None
        with pytest.raises(ConflictError, match="job 'gone' is not defined here: run the cell"):
            _ = run.wait()
        with pytest.raises(TimeoutError, match="pending, waiting for job 'gone' to be defined"):
            _ = run.wait(0)
        d.job(name="gone")(lambda step: 2)  # noqa: ARG005
        assert run.result() == 2


@pytest.mark.parametrize("way", ["trigger_and_wait", "result", "await"])
def test_a_job_that_waits_for_another_needs_a_worker_for_it(way: str, d: Durably) -> None:
    """Where each worker would wait for another it is refused, not stuck for ever; a second worker is enough."""
    inner = d.job(name="inner")(lambda step: 1)  # noqa: ARG005

    def outer(step: StepContext) -> Any:  # noqa: ARG001 - a job is given its step
        return inner.trigger_and_wait().output if way == "trigger_and_wait" else inner.trigger().result()

    async def outer_soon(step: AsyncStepContext) -> Any:  # noqa: ARG001 - a job is given its step
        return await inner.trigger()

    job = d.job(name="outer")(outer_soon if way == "await" else outer)
    with pytest.raises(RunFailedError, match="raise max_concurrent_runs"):
        job.trigger().result(20)
    d.max_concurrent_runs = 2
    assert job.trigger().result(20) == 1


def test_a_job_waits_for_a_worker_that_is_busy(slow: Job, gate: Gate, d: Durably) -> None:
    """The other worker executes something that ends: a job may wait for what that worker does next."""
    d.max_concurrent_runs = 2
    inner = d.job(name="inner")(lambda step: 1)  # noqa: ARG005
    busy = slow.trigger()
    assert gate.reached.wait(20)

    @d.job
    def outer(step: StepContext) -> Any:  # noqa: ARG001 - a job is given its step
        run = inner.trigger()
        threading.Timer(0.01, gate.opened.set).start()
        return run.result()

    assert outer.trigger().result(20) == 1
    assert busy.result(20) == "done"


def test_on_log_brings_the_value(d: Durably) -> None:
    """What a callback gets beside a message is what the job gave, not how it is stored; listeners get that."""
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    told: list[LogData] = []
    stored: list[Any] = []
    d.on("log:write", lambda event: stored.append(event.data))

    @d.job
    def job(step: StepContext) -> None:
        step.log.info("when", {"at": moment})

    _ = job.options(timeout=20, on_log=told.append).trigger_and_wait()
    assert [line.data for line in told] == [{"at": moment}]
    assert stored != [{"at": moment}]


def test_waiting_ends_when_the_worker_is_stopped(slow: Job, gate: Gate, d: Durably) -> None:
    """Whoever waits without a limit is told once no worker is there any more."""
    d.stop()
    run = slow.trigger()
    d.start()
    assert gate.reached.wait(20)
    second = slow.trigger()
    refused: list[str] = []

    def wait() -> None:
        try:
            _ = second.wait()
        except ConflictError as error:
            refused.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    stopping = threading.Thread(target=d.stop)
    stopping.start()
    thread.join()
    gate.opened.set()
    stopping.join()
    assert "no worker runs" in refused[0]
    assert run.result() == "done"


def test_waiting_while_another_thread_executes_without_a_worker(idle: Durably) -> None:
    """A run that process_one executes on another thread can be waited for."""
    gate = Gate()

    @idle.job
    def work(step: StepContext) -> int:  # noqa: ARG001 - a job is given its step
        gate.pass_through()
        return 1

    run = work.trigger()
    thread = threading.Thread(target=idle.process_one)
    thread.start()
    assert gate.reached.wait(20)
    threading.Timer(0.01, gate.opened.set).start()
    assert run.result() == 1
    thread.join()


# --- Ctrl-C ---


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("way", ["result", "wait", "wait_for_run", "with timeout"])
def test_ctrl_c_stops_waiting_and_not_the_run(way: str, slow: Job, gate: Gate, d: Durably) -> None:
    """KeyboardInterrupt reaches whoever waits; the run executes on, and can be waited for again."""
    run = slow.trigger()
    assert gate.reached.wait(20)
    waits: dict[str, Callable[[], object]] = {
        "result": run.result,
        "wait": run.wait,
        "wait_for_run": lambda: d.wait_for_run(run.id),
        "with timeout": lambda: run.wait(60),
    }
    timer = threading.Timer(0.02, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        waits[way]()
    timer.join()
    assert run.status == "leased"
    gate.opened.set()
    assert run.result(20) == "done"


def test_ctrl_c_while_executing_without_a_worker_gives_the_run_back(idle: Durably) -> None:
    """Interrupting process_one interrupts the function; its run goes on after the last completed step."""
    calls: list[str] = []

    @idle.job
    def work(step: StepContext) -> int:
        step.run("one", calls.append, "one")
        if len(calls) == 1:
            calls.append("interrupted")
            timer = threading.Timer(0.02, interrupt)
            timer.start()
            step.run("wait", threading.Event().wait, 20)
        return 1

    run = work.trigger()
    with pytest.raises(KeyboardInterrupt):
        idle.process_one()
    assert [one.status for one in idle.get_runs()] == ["pending"]
    assert idle.process_one() is True
    assert run.result() == 1
    assert calls == ["one", "interrupted"]


# --- await ---


def test_await_in_a_running_loop(slow: Job, gate: Gate) -> None:
    """A cell may await a run; the loop goes on meanwhile."""
    run = slow.trigger()
    turns: list[int] = []

    async def tick() -> None:
        while not gate.opened.is_set():
            turns.append(1)
            if len(turns) == 3:
                gate.opened.set()
            await asyncio.sleep(0)

    async def cell() -> Any:
        ticking = asyncio.ensure_future(tick())
        result = await run
        await ticking
        return result

    assert asyncio.run(cell()) == "done"
    assert len(turns) == 3


def test_await_raises_as_result_does(slow: Job, gate: Gate) -> None:
    """A failed run raises in the cell that awaits it; several are awaited at once."""
    gate.opened.set()
    good, bad = slow.trigger(), slow.trigger(fail=True)

    async def cell() -> Any:
        return await asyncio.gather(good, bad, return_exceptions=True)

    first, second = asyncio.run(cell())
    assert first == "done"
    assert isinstance(second, RunFailedError)


def test_await_with_a_timeout_leaves_the_run_running(slow: Job, gate: Gate) -> None:
    """`asyncio.wait_for` and a cancelled await give up waiting, not the run."""
    run = slow.trigger()

    async def cell() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 0.01)
        waiting = asyncio.ensure_future(run)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cell())
    assert run.is_active
    gate.opened.set()
    assert run.result(20) == "done"


def test_awaiting_an_ended_run_gives_its_result_at_once(slow: Job, gate: Gate, d: Durably) -> None:
    """Also by a handle that was fetched after its end."""
    gate.opened.set()
    run_id = slow.trigger_and_wait().id

    async def cell() -> Any:
        run = d.get_run(run_id)
        assert run is not None
        return await run

    assert asyncio.run(cell()) == "done"


# --- trigger_and_wait and wait_for_run ---


def test_trigger_and_wait_gives_the_completed_run(slow: Job, gate: Gate) -> None:
    """Progress and log lines come to the callbacks as they are said, outside of any step."""
    progress: list[ProgressData] = []
    logs: list[LogData] = []
    gate.opened.set()
    run = slow.options(timeout=20, on_progress=progress.append, on_log=logs.append).trigger_and_wait()
    assert (run.status, run.output) == ("completed", "done")
    assert progress == [ProgressData(current=1, total=2, message="half"), ProgressData(current=2, total=2)]
    assert logs == [LogData(level="info", message="at the gate", data={"n": 1}, step_name=None)]


def test_trigger_and_wait_raises_as_result_does(slow: Job, gate: Gate, d: Durably) -> None:
    """A failed run raises; the run is there afterwards all the same."""
    gate.opened.set()
    with pytest.raises(RunFailedError) as failure:
        _ = slow.trigger_and_wait(fail=True)
    assert failure.value.run_id == d.get_runs()[0].id


def test_trigger_and_wait_gives_up_after_its_timeout(slow: Job, gate: Gate, d: Durably) -> None:
    """`timeout` is how long is waited, never the life of the run."""
    with pytest.raises(TimeoutError):
        _ = slow.options(timeout=0.01).trigger_and_wait()
    gate.opened.set()
    assert d.get_runs()[0].result(20) == "done"


def test_wait_for_run_brings_callbacks_and_ends_them(slow: Job, gate: Gate, d: Durably) -> None:
    """Callbacks hear of this run, while it is waited for, and no longer."""
    run = slow.trigger()
    assert gate.reached.wait(20)
    late: list[ProgressData] = []
    with pytest.raises(TimeoutError):
        _ = d.wait_for_run(run.id, timeout=0, on_progress=late.append)
    heard: list[ProgressData] = []
    threading.Timer(0.01, gate.opened.set).start()
    assert d.wait_for_run(run.id, timeout=20, on_progress=heard.append).output == "done"
    assert (heard, late) == ([ProgressData(current=2, total=2)], [])
    assert d.wait_for_run(run.id).id == run.id


def test_wait_for_run_raises_as_result_does(slow: Job, gate: Gate, d: Durably) -> None:
    """Cancelled, failed, unknown: each its own error."""
    gate.opened.set()
    failed = slow.trigger(fail=True)
    with pytest.raises(RunFailedError):
        _ = d.wait_for_run(failed.id, 20)
    d.stop()
    cancelled = slow.trigger()
    cancelled.cancel()
    with pytest.raises(CancelledError):
        _ = d.wait_for_run(cancelled.id)
    with pytest.raises(NotFoundError):
        _ = d.wait_for_run("nobody")


def test_a_callback_that_raises_harms_nobody(slow: Job, gate: Gate, d: Durably) -> None:
    """It is a listener like any other: its error reaches on_error."""
    errors: list[BaseException] = []
    d.on_error(lambda error, _: errors.append(error))
    gate.opened.set()

    def broken(_: ProgressData) -> None:
        raise ZeroDivisionError

    assert slow.options(on_progress=broken).trigger_and_wait().output == "done"
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2


def test_callbacks_of_ended_runs_are_let_go(slow: Job, gate: Gate, d: Durably) -> None:
    """A kernel that triggers for weeks does not gather listeners."""
    gate.opened.set()
    before = {kind: len(listeners) for kind, listeners in d._bus._listeners.items()}
    for _ in range(3):
        slow.options(on_log=lambda _: None).trigger().result(20)
    assert {kind: len(listeners) for kind, listeners in d._bus._listeners.items()} == before


def test_many_handles_under_many_threads_all_see_the_end(path: Path, heard: Heard) -> None:
    """Whoever asks for a run at any moment of its life gets a handle that comes to its end."""
    with Durably(path, max_concurrent_runs=2) as d:
        two = d.job(name="two")(lambda step: (step.run("a", lambda: 1), step.run("b", lambda: 2)))
        d.on("run:trigger", heard)
        ended: list[str] = []

        def follow() -> None:
            for number in range(1, 31):
                run = d.get_run(heard.wait_for("run:trigger", number).run_id)
                assert run is not None
                ended.append(run.wait(20).status)

        threads = [threading.Thread(target=follow) for _ in range(4)]
        for thread in threads:
            thread.start()
        runs: list[Run] = [two.trigger() for _ in range(30)]
        for thread in threads:
            thread.join()
        assert ended == ["completed"] * 120
        assert {run.wait(20).status for run in runs} == {"completed"}
