"""`checkpoint="pipelined"`: steps do not wait for their commits, and the order stays what it was."""

from __future__ import annotations

import operator
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def d(path: Path) -> Iterator[dn.Durably]:
    """Give an open store without a worker, pipelined."""
    with closing(dn.Durably(path, checkpoint="pipelined")) as opened:
        opened.migrate()
        yield opened


def execute(d: dn.Durably, fn: Callable[..., Any]) -> dn.Run:
    """Give the run of a job, executed on this thread."""
    run = d.job(fn).trigger()
    assert d.process_one()
    return run


def many_steps(step: dn.StepContext) -> int:
    return sum(step.run(f"step {n}", abs, -n) for n in range(100))


async def many_async_steps(step: dn.AsyncStepContext) -> int:
    return sum([await step.run(f"step {n}", abs, -n) for n in range(100)])


@pytest.mark.parametrize("job", [many_steps, many_async_steps])
@pytest.mark.parametrize("checkpoint", ["strict", "pipelined"])
def test_nobody_hears_of_a_step_before_its_commit(path: Path, job: Callable[..., Any], checkpoint: Any) -> None:
    """Whoever hears step:complete or run:complete finds that step, and all before it, committed in the file."""
    short: list[tuple[int, int]] = []
    heard: list[Any] = []
    with closing(dn.Durably(path, checkpoint=checkpoint)) as d:
        d.migrate()

        @d.on(["step:complete", "run:complete"])
        def listen(event: dn.DurablyEvent) -> None:
            heard.append(event)
            rows = d.cursor().execute(
                "select count(*) from durably.events where type in ('step:complete', 'run:complete') and sequence <= ?",
                [event.sequence],
            )
            found = rows.fetchall()[0][0]
            if found != len(heard):
                short.append((found, len(heard)))

        run = execute(d, job)
        assert run.result() == sum(range(100))
        assert short == []
        assert [event.step_name for event in heard[:-1]] == [f"step {n}" for n in range(100)]
        assert heard[-1].type == "run:complete"
        sequences = [event.sequence for event in heard]
        assert sequences == sorted(sequences)


def test_order_on_disk(d: dn.Durably) -> None:
    """The file has starts and completions in the order in which they happened, and run:complete after all."""
    run = execute(d, many_steps)
    events = run.events()
    assert list(events["type"]) == ["run:trigger", "run:leased", *["step:start", "step:complete"] * 100, "run:complete"]
    assert list(events["step_name"].dropna()) == [f"step {n}" for n in range(100) for _ in range(2)]
    assert run.step_output("step 99") == 99


def test_completed_steps_are_not_executed_again(d: dn.Durably) -> None:
    """A failure comes after every step before it; a resume executes none of them again."""
    calls: Counter[int] = Counter()

    def job(step: dn.StepContext) -> int:
        def work(n: int) -> int:
            calls[n] += 1
            if n == 150 and calls[n] == 1:
                raise ValueError("once")
            return n

        return sum(step.run(f"step {n}", work, n) for n in range(200))

    run = execute(d, job)
    assert run.status == "failed"
    assert list(run.steps()["status"]) == ["completed"] * 150 + ["failed"]
    _ = run.resume()
    d.process_one()
    assert run.result() == sum(range(200))
    assert {n for n in range(200) if calls[n] != 1} == {150}


def test_a_cancel_in_the_middle(d: dn.Durably) -> None:
    """Steps that were completed before the cancel are kept and told before run:cancel."""
    heard: list[str] = []
    d.on("*", lambda event: heard.append(event.type))

    def job(step: dn.StepContext) -> None:
        for n in range(100):
            step.run(f"step {n}", lambda n=n: d.cancel(step.run_id) if n == 50 else n)  # type: ignore[misc]

    run = execute(d, job)
    assert run.status == "cancelled"
    assert list(run.steps()["status"]) == ["completed"] * 50 + ["cancelled"]
    assert Counter(heard)["step:complete"] == 50
    assert heard[-2:] == ["run:cancel", "step:cancel"]


def test_steps_from_threads(d: dn.Durably) -> None:
    """Threads of a job may pipeline their steps too; all are on disk when the run is complete."""
    heard: list[int] = []
    d.on("*", lambda event: heard.append(event.sequence))

    def job(step: dn.StepContext) -> int:
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(lambda n: step.run(f"step {n}", abs, -n), range(200)))

    run = execute(d, job)
    assert run.result() == sum(range(200))
    assert heard == sorted(heard)
    assert len(heard) == 403
    assert set(run.steps()["status"]) == {"completed"}


def test_a_transaction_waits(d: dn.Durably) -> None:
    """A transaction is committed when it returns, and so is every step before it."""
    d.cursor().execute("create table flights (month integer)")
    found: list[int] = []

    def job(step: dn.StepContext) -> None:
        for n in range(50):
            step.run(f"step {n}", abs, -n)
        step.transaction("load", lambda cursor: cursor.execute("insert into flights values (1)").fetchall())
        rows = d.cursor().execute("select count(*) from durably.events where type = 'step:complete'").fetchall()
        found.append(rows[0][0])

    assert execute(d, job).status == "completed"
    assert found == [51]
    assert d.cursor().execute("select * from flights").fetchall() == [(1,)]


def test_many_runs_at_once(path: Path) -> None:
    """Several runs pipeline side by side; each has its own results."""
    with dn.Durably(path, checkpoint="pipelined", max_concurrent_runs=4) as d:

        @d.job
        def job(step: dn.StepContext, number: int) -> int:
            return sum(step.run(f"step {n}", operator.mul, n, number) for n in range(50))

        runs = job.batch_trigger({"number": number} for number in range(8))
        assert [run.result(timeout=60) for run in runs] == [number * sum(range(50)) for number in range(8)]
        assert len(d.steps(status="completed")) == 400
