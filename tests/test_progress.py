"""What a run says of itself while it runs: progress, tracked loops, logs; and the signal that it must stop."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


def listening(d: dn.Durably, kind: str) -> list[Any]:
    heard: list[Any] = []
    d.on(kind, heard.append)
    return heard


# --- progress ---


def test_progress_is_heard_at_once_and_kept(d: dn.Durably) -> None:
    """Every call of `progress` is heard; the run and its frames show the last one."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> int:
        step.progress(0)
        step.progress(1, 3, "first")
        assert heard[-1].progress == dn.ProgressData(current=1, total=3, message="first")
        step.progress(2.5, 3)
        return len(heard)

    run = execute(d, job)
    assert run.result() == 3
    assert run.progress == dn.ProgressData(current=2.5, total=3)
    assert d.runs()[["progress_current", "progress_total"]].iloc[0].tolist() == [2.5, 3.0]


def test_ten_thousand_calls_are_no_burden(d: dn.Durably) -> None:
    """Of 10,000 calls in one step listeners hear every one, and the file keeps a few, the last one among them."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> None:
        def work() -> None:
            for n in range(10_000):
                step.progress(n, 10_000)

        step.run("work", work)

    run = execute(d, job)
    assert [event.progress.current for event in heard] == list(range(10_000))
    stored = d.events(type="run:progress", run_id=run.id)
    assert stored["data"].iloc[-1]["progress"]["current"] == 9_999
    assert len(stored) < 1_000
    assert run.progress == dn.ProgressData(current=9_999, total=10_000)


@pytest.mark.parametrize(
    ("current", "total", "expected"),
    [
        (np.int64(3), np.float32(4.5), (3, 4.5)),
        (Fraction(1, 2), 1, (0.5, 1)),
        (0, 0, (0, 0)),
        (7, 3, (7, 3)),
        (2**53 + 1, None, (2**53 + 1, None)),
    ],
)
def test_numbers_that_are_progress(d: dn.Durably, current: Any, total: Any, expected: tuple[Any, Any]) -> None:
    """Any number from 0 up will do, NumPy's too; more than the total is not for us to judge."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> None:
        step.progress(current, total)

    assert execute(d, job).status == "completed"
    assert (heard[0].progress.current, heard[0].progress.total) == expected
    assert type(heard[0].progress.current) in {int, float}


@pytest.mark.parametrize(
    "wrong",
    [
        -1,
        -0.5,
        float("nan"),
        float("inf"),
        -float("inf"),
        "3",
        True,
        1j,
        [1],
        10**400,
        pytest.param(10**5000, id="huge"),
        pd.NA,
    ],
)
def test_numbers_that_are_no_progress(d: dn.Durably, wrong: Any) -> None:
    """What is no number from 0 up is refused by name; the run may go on."""

    def job(step: dn.StepContext) -> None:
        for arguments in ((wrong,), (1, wrong)):
            with pytest.raises(dn.ValidationError, match=r"Progress: (current|total) is a number") as caught:
                step.progress(*arguments)
            assert len(str(caught.value)) < 400
        with pytest.raises(dn.ValidationError, match="total is a number"):
            step.track([], total=wrong)

    run = execute(d, job)
    assert run.status == "completed", run.error
    assert d.events(type="run:progress").empty


def test_messages_of_progress(d: dn.Durably) -> None:
    """A message may be anything that can be shown as text, surrogates and NUL included."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> None:
        for message in ("plain", "nul \0", "lone \ud800", 7, "x" * 1_000_000):
            step.progress(1, message=message)  # type: ignore[arg-type]

    run = execute(d, job)
    assert run.status == "completed", run.error
    assert [event.progress.message[:9] for event in heard] == ["plain", "nul \0", "lone \\ud8", "7", "x" * 9]
    assert d.runs()["progress_message"][0] == "x" * 1_000_000


def test_callbacks_of_a_trigger(d: dn.Durably) -> None:
    """`on_progress` and `on_log` are called with the progress and the log of their run, and of no other."""
    progress: list[dn.ProgressData] = []
    lines: list[dn.LogData] = []

    def job(step: dn.StepContext, n: int) -> None:
        step.progress(n, 5)
        step.run("say", step.log.warn, "careful", {"n": n})

    defined = d.job(job)
    run = defined.options(on_progress=progress.append, on_log=lines.append).trigger(1)
    _ = defined.trigger(2)
    assert d.process_until_idle() == 2
    assert run.status == "completed"
    assert progress == [dn.ProgressData(current=1, total=5)]
    assert lines == [dn.LogData(level="warn", message="careful", data={"n": 1}, step_name="say")]


# --- track ---


def currents(heard: list[Any]) -> list[tuple[float, float | None]]:
    return [(event.progress.current, event.progress.total) for event in heard]


@pytest.mark.parametrize(
    ("items", "total", "known"),
    [
        (["a", "b", "c"], None, 3),
        (range(3), None, 3),
        ({"a": 1, "b": 2, "c": 3}, None, 3),
        (iter(["a", "b", "c"]), None, None),
        (iter(["a", "b", "c"]), 3, 3),
        (["a", "b", "c"], 10, 10),
        (pd.Series([1, 2, 3]), None, 3),
        (np.arange(3), None, 3),
    ],
)
def test_tracking_a_loop(d: dn.Durably, items: Any, total: Any, known: Any) -> None:
    """`track` gives every item, and says how far the loop is: its start and its end always."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> int:
        return len(list(step.track(items, total, "importing")))

    assert execute(d, job).result() == 3
    assert currents(heard)[0] == (0, known)
    assert currents(heard)[-1] == (3, known)
    assert {event.progress.message for event in heard} == {"importing"}


def test_tracking_nothing(d: dn.Durably) -> None:
    """An empty loop says that it is done."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> list[int]:
        return list(step.track([]))

    assert execute(d, job).result() == []
    assert currents(heard) == [(0, 0)]


def test_tracking_many_items_costs_few_events(d: dn.Durably) -> None:
    """A loop of 100,000 turns makes a handful of events, and its end is exact."""
    heard = listening(d, "run:progress")

    def job(step: dn.StepContext) -> int:
        return sum(step.track(range(100_000)))

    assert execute(d, job).result() == sum(range(100_000))
    assert len(heard) < 1_000
    assert currents(heard)[-1] == (100_000, 100_000)


def test_leaving_a_tracked_loop(d: dn.Durably) -> None:
    """A loop that is left early, or raises, is not said to be done; its generator is closed."""
    heard = listening(d, "run:progress")
    closed: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append("closed")

    def job(step: dn.StepContext) -> None:
        for item in step.track(source(), 10):
            if item == 3:
                break
        with suppress(ValueError):
            for _ in step.track([1, 2]):
                raise ValueError

    assert execute(d, job).status == "completed"
    assert closed == ["closed"]
    assert (10, 10) not in currents(heard)
    assert (2, 2) not in currents(heard)


def test_an_iterator_that_raises(d: dn.Durably) -> None:
    """What the tracked iterable raises reaches the job as it is."""

    def source() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    def job(step: dn.StepContext) -> list[int]:
        return list(step.track(source()))

    with pytest.raises(dn.RunFailedError, match="LookupError: no more"):
        execute(d, job).result()


def test_steps_inside_a_tracked_loop(d: dn.Durably) -> None:
    """The loop of the README: a step for each item."""

    def job(step: dn.StepContext) -> list[str]:
        return [step.run(f"clean {name}", str.upper, name) for name in step.track(["aa", "ua"])]

    run = execute(d, job)
    assert run.result() == ["AA", "UA"]
    assert run.progress == dn.ProgressData(current=2, total=2)


def test_a_cancel_ends_a_tracked_loop(path: Path) -> None:
    """A run that is cancelled leaves its tracked loop at the next turn, by way of its `finally` blocks."""
    turns: list[int] = []
    begun, cancelled = threading.Event(), threading.Event()
    with dn.Durably(path) as d:

        @d.job
        def job(step: dn.StepContext) -> None:
            try:
                for n in step.track(range(1_000_000)):
                    turns.append(n)
                    begun.set()
                    cancelled.wait(30)
            except Exception:  # noqa: BLE001 - as a careless job has it
                turns.append(-1)
            finally:
                turns.append(-2)

        run = job.trigger()
        assert begun.wait(30)
        run.cancel()
        cancelled.set()
        with pytest.raises(dn.CancelledError):
            run.result(timeout=30)
        d.stop()
        assert turns[-1] == -2
        assert -1 not in turns


@pytest.mark.parametrize("items", [7, None, object()])
def test_what_cannot_be_tracked(d: dn.Durably, items: Any) -> None:
    """What cannot be iterated is refused by name."""

    def job(step: dn.StepContext) -> None:
        step.track(items)

    with pytest.raises(dn.RunFailedError, match="track goes over an iterable, not over"):
        execute(d, job).result()


# --- logs ---


def test_levels_and_data(d: dn.Durably) -> None:
    """A line of the log has a level, a message, data of any kind that can be stored, and the step it was said in."""
    heard = listening(d, "log:write")

    def job(step: dn.StepContext) -> None:
        step.log.info("outside")
        step.run("inside", step.log.warn, "careful", {"rows": 3, "at": pd.Timestamp("2013-01-01")})
        step.log.error("broken", [1, (2,)])
        step.log.info(ValueError("any object"))
        step.log.warning("as the logging module says it")

    run = execute(d, job)
    assert run.status == "completed", run.error
    logs = run.logs()
    assert list(logs["level"]) == ["info", "warn", "error", "info", "warn"]
    assert list(logs["message"]) == ["outside", "careful", "broken", "any object", "as the logging module says it"]
    assert [None if pd.isna(name) else name for name in logs["step_name"]] == [None, "inside", None, None, None]
    assert logs["data"][1] == {"rows": 3, "at": pd.Timestamp("2013-01-01")}
    assert logs["data"][2] == [1, (2,)]
    assert [event.message for event in heard] == list(logs["message"])


def test_ten_thousand_lines_are_no_burden(d: dn.Durably) -> None:
    """Of 10,000 lines in one step every one is heard and kept, in order."""
    heard = listening(d, "log:write")

    def job(step: dn.StepContext) -> None:
        def work() -> None:
            for n in range(10_000):
                step.log.info(f"line {n}", n)

        step.run("work", work)

    run = execute(d, job)
    assert len(heard) == 10_000
    logs = run.logs()
    assert list(logs["message"]) == [f"line {n}" for n in range(10_000)]
    assert list(logs["data"]) == list(range(10_000))
    assert set(logs["step_name"]) == {"work"}


def test_everything_said_is_on_disk_before_the_run_ends(d: dn.Durably) -> None:
    """Who hears run:complete finds the whole log and the last progress in the file, by plain SQL."""
    found: list[Any] = []

    @d.on("run:complete")
    def listen(event: dn.DurablyEvent) -> None:
        cursor = d.cursor()
        found.extend(
            cursor.execute(
                "select count(*) filter (type = 'log:write'), max(sequence) filter (type = 'run:progress') is not null,"
                " max(sequence) = ? from durably.events",
                [event.sequence],
            ).fetchall()
        )

    def job(step: dn.StepContext) -> None:
        for n in range(100):
            step.log.info("line")
            step.progress(n)

    assert execute(d, job).status == "completed"
    assert found == [(100, True, True)]


@pytest.mark.parametrize("message", ["", "nul \0", "lone \ud800", "x" * 10_000_000, "two\nlines"])
def test_messages_of_any_text(d: dn.Durably, message: str) -> None:
    """Any text can be logged; what is no text is shown by its escape."""

    def job(step: dn.StepContext) -> None:
        step.log.info(message)

    run = execute(d, job)
    assert run.status == "completed", run.error
    assert run.logs()["message"][0] == message.replace("\ud800", "\\ud800")


def test_data_that_cannot_be_stored(d: dn.Durably) -> None:
    """Data that no file can hold is refused by its path, where it is logged."""

    def job(step: dn.StepContext) -> None:
        with pytest.raises(dn.SerializationError, match="data"):
            step.log.info("handle", {"handle": threading.Lock()})

    run = execute(d, job)
    assert run.status == "completed", run.error
    assert run.logs().empty


# --- the signal ---


def test_the_signal_of_a_cancelled_run(path: Path) -> None:
    """A job that waits for its signal is woken by a cancel, and can leave by itself."""
    waiting = threading.Event()
    seen: list[Any] = []
    with dn.Durably(path) as d:

        @d.job
        def job(step: dn.StepContext) -> None:
            step.throw_if_aborted()
            seen.extend([step.run_id, step.is_aborted(), step.signal.aborted, step.signal.wait(0)])
            waiting.set()
            seen.extend([step.signal.wait(30), step.is_aborted(), step.signal.aborted])
            step.throw_if_aborted()
            seen.append("not reached")

        run = job.trigger()
        assert waiting.wait(30)
        run.cancel()
        assert run.wait(30).status == "cancelled"
        d.stop()
        assert seen == [run.id, False, False, False, True, True, True]
        assert d.events(type="worker:error").empty


def test_a_step_that_returns_although_it_was_cancelled(path: Path) -> None:
    """A sync step goes on until it returns; its result is dropped, step:cancel told, and no further step begins."""
    heard: list[str] = []
    begun, go_on = threading.Event(), threading.Event()
    with dn.Durably(path) as d:
        d.on("*", lambda event: heard.append(event.type))

        @d.job
        def job(step: dn.StepContext) -> None:
            def work() -> int:
                begun.set()
                go_on.wait(30)
                step.log.info("too late to be heard")
                return 1

            step.run("long", work)
            step.run("next", lambda: 2)

        run = job.trigger()
        assert begun.wait(30)
        run.cancel()
        assert run.status == "cancelled"  # at once, though the function still stands
        go_on.set()
        d.stop()
        assert heard == ["run:trigger", "run:leased", "step:start", "run:cancel", "step:cancel"]
        assert list(run.steps()["status"]) == ["cancelled"]
        with pytest.raises(dn.NotFoundError):
            run.step_output("long")
        _ = run.resume()
        d.start()
        assert run.result(timeout=30) is None
        assert run.step_output("long") == 1
