"""Async jobs: steps are awaited, and may run side by side."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def d(path: Path) -> Iterator[dn.Durably]:
    """Give an open store without a worker: the tests turn it by hand."""
    with closing(dn.Durably(path)) as opened:
        opened.migrate()
        yield opened


def execute(d: dn.Durably, fn: Callable[..., Any]) -> dn.Run:
    """Give the run of a job, executed on this thread."""
    run = d.job(fn).trigger()
    assert d.process_one()
    return run


def failure(run: dn.Run) -> dn.RunFailedError:
    with pytest.raises(dn.RunFailedError) as caught:
        run.result()
    return caught.value


async def soon(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


class Caller:
    async def __call__(self, value: int) -> int:
        return int(await soon(value))

    async def method(self, value: int) -> int:
        return int(await soon(value))


def test_steps_of_an_async_job(d: dn.Durably) -> None:
    """An async job awaits its steps, whose functions may be async or plain, and of every kind."""

    async def job(step: dn.AsyncStepContext, first: int = 1) -> list[int]:
        return [
            await step.run("async", soon, first),
            await step.run("plain", abs, -2),
            await step.run("lambda", lambda: soon(3)),
            await step.run("partial", functools.partial(soon, 4)),
            await step.run("object", Caller(), 5),
            await step.run("method", Caller().method, 6),
            await step.run("names", soon, value=7),
        ]

    run = execute(d, job)
    assert run.result() == [1, 2, 3, 4, 5, 6, 7]
    assert list(run.steps()["step_index"]) == list(range(7))


def test_an_async_job_in_a_running_loop(d: dn.Durably) -> None:
    """A notebook's cell, which has a running loop, may turn the store by hand, and await the run."""

    async def job(step: dn.AsyncStepContext) -> int:
        return int(await step.run("one", soon, 1))

    async def cell() -> int:
        run = d.job(job).trigger()
        assert d.process_one()
        return int(await run)

    assert asyncio.run(cell()) == 1


def test_steps_side_by_side(d: dn.Durably) -> None:
    """Steps that are gathered run at the same time, each with a name for its logs and a result of its own."""

    async def job(step: dn.AsyncStepContext) -> list[int]:
        arrived: list[int] = []
        all_here = asyncio.Event()

        async def work(n: int) -> int:
            arrived.append(n)
            if len(arrived) == 3:
                all_here.set()
            await asyncio.wait_for(all_here.wait(), 30)
            step.log.info(f"in {n}")
            return n * n

        results = await asyncio.gather(*(step.run(f"square {n}", work, n) for n in range(3)))
        step.log.info("outside")
        return list(results)

    run = execute(d, job)
    assert run.result() == [0, 1, 4]
    steps, logs = run.steps(), run.logs()
    assert dict(zip(steps["step_name"], steps["step_index"], strict=True)) == {f"square {n}": n for n in range(3)}
    assert set(zip(logs["message"], logs["step_name"].fillna(""), strict=True)) == {
        *((f"in {n}", f"square {n}") for n in range(3)),
        ("outside", ""),
    }
    types = list(run.events()["type"])
    assert types.index("step:complete") > max(i for i, kind in enumerate(types) if kind == "step:start")


def test_gathered_steps_are_replayed(d: dn.Durably) -> None:
    """Of steps side by side the completed ones are kept, the others run again."""
    calls: Counter[int] = Counter()

    async def work(n: int) -> int:
        calls[n] += 1
        if n == 3 and calls[n] == 1:
            raise ValueError("three")
        return int(await soon(n))

    async def job(step: dn.AsyncStepContext) -> list[Any]:
        results = await asyncio.gather(*(step.run(f"s{n}", work, n) for n in range(6)), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    run = execute(d, job)
    assert failure(run).failed_step_name == "s3"
    _ = run.resume()
    d.process_one()
    assert run.result() == list(range(6))
    assert calls == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1}


@pytest.mark.parametrize("way", ["gather", "group"])
def test_a_failure_beside_other_steps(d: dn.Durably, way: str) -> None:
    """When one of several steps fails, the run names that one, though the others are stopped after it."""
    stopped: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("stopped")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("no data")

    async def job(step: dn.AsyncStepContext) -> None:
        if way == "gather":
            await asyncio.gather(step.run("long", forever), step.run("fragile", fails))
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(step.run("long", forever))
                group.create_task(step.run("fragile", fails))

    run = execute(d, job)
    error = failure(run)
    assert error.failed_step_name == "fragile"
    assert "LookupError" in error.traceback
    assert stopped == ["stopped"]
    assert list(run.steps()["status"]) == ["failed", "failed"]
    assert execute(d, lambda_job).result() == "good"


async def lambda_job(step: dn.AsyncStepContext) -> str:
    return str(await step.run("good", soon, "good"))


def test_one_name_twice_side_by_side(d: dn.Durably) -> None:
    """Of two gathered steps of one name the second is refused before it runs."""
    calls: list[int] = []

    async def work(n: int) -> None:
        await asyncio.sleep(0)
        calls.append(n)

    async def job(step: dn.AsyncStepContext) -> list[str]:
        found = await asyncio.gather(*(step.run("once", work, n) for n in range(3)), return_exceptions=True)
        return [type(one).__name__ for one in found]

    assert execute(d, job).result() == ["NoneType", "DuplicateStepError", "DuplicateStepError"]
    assert calls == [0]


def test_a_step_inside_an_async_step(d: dn.Durably) -> None:
    """Nested steps are refused, also in a task or a thread that the step starts; side by side is not nested."""

    async def job(step: dn.AsyncStepContext) -> list[str]:
        async def attempt() -> str:
            try:
                await step.run("inner", soon, 1)
            except dn.ConflictError as error:
                return str(error)
            return "ran"

        async def outer() -> list[str]:
            in_task = asyncio.create_task(attempt())
            in_thread = await asyncio.to_thread(lambda: asyncio.run(attempt()))
            return [await attempt(), await in_task, in_thread]

        refusals, beside = await asyncio.gather(step.run("outer", outer), step.run("beside", soon, "fine"))
        return [*refusals, beside]

    *refusals, beside = execute(d, job).result()
    assert beside == "fine"
    assert all("Step 'inner' was started inside step 'outer'" in refusal for refusal in refusals)


async def generate() -> AsyncIterator[int]:
    for n in range(3):
        await asyncio.sleep(0)
        yield n


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (generate, "generator function"),
        (lambda: generate(), "returned a generator"),  # noqa: PLW0108 - else it is a generator function
        (lambda: soon(soon(1)), "returned a coroutine that nobody awaits"),
        (7, "was given int"),
    ],
)
def test_functions_and_results_that_cannot_be_steps(d: dn.Durably, fn: Any, said: str) -> None:
    """What cannot be an async step is refused by a sentence; the job may go on."""

    async def job(step: dn.AsyncStepContext) -> str:
        with pytest.raises(dn.ValidationError, match=said):
            await step.run("mine", fn)
        return str(await step.run("other", soon, "fine"))

    assert execute(d, job).result() == "fine"


def test_a_coroutine_given_instead_of_a_function(d: dn.Durably) -> None:
    """Calling the async function oneself is noticed, with what to write instead."""

    async def job(step: dn.AsyncStepContext) -> None:
        called: Any = soon(1)
        try:
            await step.run("load", called)
        finally:
            called.close()

    assert "was given coroutine where a function is wanted" in failure(execute(d, job)).message


def test_an_async_function_in_a_plain_job(d: dn.Durably) -> None:
    """A plain job that is given an async step is told to be async itself."""

    def job(step: dn.StepContext) -> None:
        _ = step.run("soon", soon, 1)

    assert "Make the job `async def`" in failure(execute(d, job)).message


def test_a_step_that_is_not_awaited(d: dn.Durably) -> None:
    """A job that forgets `await` fails, by a sentence that names the step; nothing of the step is executed."""

    async def job(step: dn.AsyncStepContext) -> Any:
        await step.run("awaited", soon, 1)
        _ = step.run("forgotten", soon, 2)
        return step.transaction("as well", lambda cursor: cursor)

    error = failure(execute(d, job))
    assert error.type.endswith("ValidationError")
    assert "step.run('forgotten', …), step.transaction('as well', …)" in error.message
    assert "Write `await step.run('forgotten', …)`" in error.message
    assert list(d.steps()["step_name"]) == ["awaited"]


@pytest.mark.parametrize("ending", ["raises", "a task that never began"])
def test_steps_that_are_not_awaited_when_a_job_ends_otherwise(d: dn.Durably, ending: str) -> None:
    """A job's own error is the run's; a task that nobody awaits, and that never began, was forgotten too."""
    tasks: list[asyncio.Task[Any]] = []

    async def job(step: dn.AsyncStepContext) -> None:
        coroutine = step.run("forgotten", soon, 1)
        if ending == "raises":
            raise LookupError(ending)
        tasks.append(asyncio.create_task(coroutine))

    expected = "LookupError" if ending == "raises" else "durably_nb.errors.ValidationError"
    assert failure(execute(d, job)).type == expected


def test_a_step_that_was_cancelled_before_it_began(d: dn.Durably) -> None:
    """Giving up a task on purpose is no forgotten await; tasks and `gather` take steps as any coroutine."""

    async def job(step: dn.AsyncStepContext) -> list[int]:
        task = asyncio.create_task(step.run("given up", soon, 0))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        both = step.run("one", soon, 1), asyncio.create_task(step.run("two", soon, 2))
        return list(await asyncio.gather(*both))

    run = execute(d, job)
    assert run.result() == [1, 2]
    assert set(run.steps()["step_name"]) == {"one", "two"}


def test_output_of_an_async_job_is_validated(d: dn.Durably) -> None:
    """The return hint of an async job is that of what is awaited."""

    async def job(step: dn.AsyncStepContext) -> list[int]:
        rows: Any = await step.run("load", lambda: ["1", "2"])
        return rows  # type: ignore[no-any-return]

    assert execute(d, job).result() == [1, 2]


def test_tracking_asynchronous_iterables(d: dn.Durably) -> None:
    """`async for` goes over asynchronous and plain iterables; `for` over an asynchronous one is refused."""
    heard: list[Any] = []
    d.on("run:progress", lambda event: heard.append((event.progress.current, event.progress.total)))

    async def job(step: dn.AsyncStepContext) -> list[Any]:
        found: list[Any] = [item async for item in step.track(generate(), 3)]
        found += [item async for item in step.track(["a", "b"])]
        found += list(step.track(["c"]))
        with pytest.raises(dn.ValidationError, match="async for"):
            list(step.track(generate()))
        return found

    run = execute(d, job)
    assert run.result() == [0, 1, 2, "a", "b", "c"]
    assert [at for at in heard if at[0] == at[1]] == [(3, 3), (2, 2), (1, 1)]


def test_a_cancel_at_an_await(path: Path) -> None:
    """A cancelled run leaves its async steps at their awaits, by way of their `finally` blocks."""
    begun = threading.Event()
    left: list[str] = []
    with dn.Durably(path) as d:

        @d.job
        async def job(step: dn.AsyncStepContext) -> None:
            async def work(name: str) -> None:
                try:
                    if name == "b":
                        begun.set()
                    await asyncio.Event().wait()
                finally:
                    left.append(name)

            await asyncio.gather(step.run("a", work, "a"), step.run("b", work, "b"))

        run = job.trigger()
        assert begun.wait(30)
        run.cancel()
        assert run.wait(30).status == "cancelled"
        d.stop()
        assert sorted(left) == ["a", "b"]
        assert list(run.steps()["status"]) == ["cancelled", "cancelled"]
        assert list(run.events()["type"])[-3:] == ["run:cancel", "step:cancel", "step:cancel"]
        assert d.events(type="worker:error").empty


def test_a_job_that_swallows_its_cancellation(path: Path) -> None:
    """A job that catches asyncio's cancellation is left at its next step."""
    begun = threading.Event()
    with dn.Durably(path) as d:

        @d.job
        async def job(step: dn.AsyncStepContext) -> str:
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                step.log.info("never mind")
            await step.run("next", soon, 1)
            return "not reached"

        run = job.trigger()
        assert begun.wait(30)
        run.cancel()
        d.stop()
        assert run.status == "cancelled"
        assert run.steps().empty


def test_a_cancel_while_steps_are_stored(path: Path) -> None:
    """A run cancelled between many quick steps keeps those that were heard, and the worker goes on."""
    heard: list[str] = []
    with dn.Durably(path) as d:

        @d.on("step:complete")
        def listen(event: dn.DurablyEvent) -> None:
            assert isinstance(event, dn.StepCompleteEvent)
            heard.append(event.step_name)
            if len(heard) == 10:
                d.cancel(event.run_id)

        @d.job
        async def job(step: dn.AsyncStepContext) -> None:
            await asyncio.gather(*(step.run(f"s{n}", soon, n) for n in range(100)))

        run = job.trigger()
        with pytest.raises(dn.CancelledError):
            run.result(timeout=30)
        d.stop()
        completed = set(run.steps().query("status == 'completed'")["step_name"])
        assert set(heard) == completed
        _ = run.resume()
        heard.clear()
        d.start()
        assert run.wait(30).status == "completed"
        assert not completed & set(heard)


def test_a_timeout_of_the_job_s_own(d: dn.Durably) -> None:
    """A job may give a step a time limit; the step fails, and the job goes on."""

    async def job(step: dn.AsyncStepContext) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await step.run("slow", asyncio.Event().wait)
        return str(await step.run("next", soon, "went on"))

    run = execute(d, job)
    assert run.result() == "went on"
    assert list(run.steps()["status"]) == ["failed", "completed"]


def test_async_callables_as_jobs(d: dn.Durably) -> None:
    """A bound async method and a partial of an async function are async jobs."""

    class Service:
        async def refresh(self, step: dn.AsyncStepContext, n: int = 1) -> int:
            return int(await step.run("one", soon, n))

    bound = d.job(Service().refresh).trigger(2)
    partial = d.job(name="partial")(functools.partial(Service().refresh, n=3)).trigger()
    assert d.process_until_idle() == 2
    assert (bound.result(), partial.result()) == (2, 3)
