"""Steps: run once, replayed ever after, whatever happens in between."""

from __future__ import annotations

import functools
import io
import operator
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def add(left: int, right: int = 1) -> int:
    return left + right


# --- what a step gives ---


def test_a_step_gives_what_its_function_gives(d: dn.Durably) -> None:
    """Arguments are passed on, by position and by name, and the value comes back the same object."""
    value = {"rows": [1, 2]}

    def job(step: dn.StepContext) -> None:
        assert step.run("position", add, 1, 2) == 3
        assert step.run("name", add, 1, right=5) == 6
        assert step.run("same", lambda: value) is value
        assert step.run("nothing", lambda: None) is None

    run = execute(d, job)
    assert run.result() is None
    assert run.step_output("position") == 3
    assert run.step_output("nothing") is None
    steps = run.steps()
    assert list(steps["step_name"]) == ["position", "name", "same", "nothing"]
    assert list(steps["step_index"]) == [0, 1, 2, 3]
    assert set(steps["status"]) == {"completed"}


def test_keyword_arguments_of_any_name(d: dn.Durably) -> None:
    """A step's function may have parameters called name, fn and self."""

    def job(step: dn.StepContext) -> dict[str, Any]:
        return step.run("named", dict, name="a", fn="b", self="c")

    assert execute(d, job).result() == {"name": "a", "fn": "b", "self": "c"}


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, by: int) -> int:
        self.calls += by
        return self.calls

    def bound(self) -> int:
        return self.calls

    @classmethod
    def of_the_class(cls) -> str:
        return cls.__name__

    @staticmethod
    def static() -> str:
        return "static"


@functools.lru_cache(maxsize=1)
def cached(number: int) -> int:
    return number


def test_anything_that_can_be_called_is_a_step(d: dn.Durably) -> None:
    """Lambdas, partials, builtins, methods, classes, callable objects and ufuncs are steps."""
    counting = Counting()

    def job(step: dn.StepContext) -> list[Any]:
        return [
            step.run("lambda", lambda x: x * 2, 2),
            step.run("partial", functools.partial(add, 1), right=2),
            step.run("partial of a partial", functools.partial(functools.partial(add, 1), 3)),
            step.run("builtin", len, "abc"),
            step.run("method of a builtin", "a,b".split, ","),
            step.run("object", counting, 5),
            step.run("bound method", counting.bound),
            step.run("class method", Counting.of_the_class),
            step.run("static method", counting.static),
            step.run("class", date, 2013, 1, 1),
            step.run("cached", cached, 4),
            step.run("operator", operator.itemgetter(1), "ab"),
            step.run("ufunc", np.add, 1, 2),
        ]

    expected = [4, 3, 4, 3, ["a", "b"], 5, 5, "Counting", "static", date(2013, 1, 1), 4, "b", 3]
    assert execute(d, job).result() == expected


FRAME = pd.DataFrame(
    {
        "carrier": pd.Categorical(["AA", "UA", "AA"]),
        "at": pd.to_datetime(["2013-01-01", "NaT", "2013-01-03"]).tz_localize("America/New_York"),
        "delay": pd.array([1, None, 3], dtype="Int64"),
    },
    index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b"), (2, "c")], names=["month", "key"]),
)
BIG = pd.DataFrame({"n": np.arange(200_000), "text": [f"row {n}" for n in range(200_000)]})

VALUES: dict[str, Any] = {
    "nothing": None,
    "numbers": [0, -1, 2**70, 1.5, float("inf"), True],
    "text": "naïve\n\t\0 \U0001f6eb",
    "bytes": b"\x00\xff",
    "times": (datetime(2013, 1, 1, tzinfo=UTC), date(2013, 1, 1), timedelta(milliseconds=1)),
    "others": [Decimal("1.10"), UUID(int=7), Path("a") / "b", {1, 2}, frozenset({"a"})],
    "keys": {1: "a", (2, 3): "b", None: "c"},
    "long text": "x" * 1_000_000,
}


def test_values_are_the_same_after_a_replay(path: Path) -> None:
    """What a step returned comes back the same in a later session, small or big, without the step being executed."""
    arrays = {"small": np.arange(3.0), "big": np.arange(100_000).reshape(100, -1)}
    calls: Counter[str] = Counter()

    def job(step: dn.StepContext, stop: bool) -> None:  # noqa: FBT001 - an input
        def give(name: str, value: Any) -> Any:
            calls[name] += 1
            return value

        for name, value in VALUES.items():
            assert step.run(name, give, name, value) == value
        for name, array in arrays.items():
            np.testing.assert_array_equal(step.run(name, give, name, array), array, strict=True)
        assert_frame_equal(step.run("frame", give, "frame", FRAME), FRAME)
        assert_frame_equal(step.run("BIG", give, "BIG", BIG), BIG)
        assert_series_equal(step.run("series", give, "series", FRAME["delay"]), FRAME["delay"])
        if stop and len(calls) == len(VALUES) + 5 and calls["again"] == 0:
            calls["again"] += 1
            raise RuntimeError("stop here")

    with closing(dn.Durably(path, jobs=[job])) as d:
        d.migrate()
        run_id = d.jobs["job"].trigger(stop=True).id
        d.process_one()
    assert any(file.is_file() for file in Path(f"{path}.artifacts").rglob("*"))
    with closing(dn.Durably(path, jobs=[job])) as d:
        d.migrate()
        run = d.resume(run_id)
        d.process_one()
        assert run.result() is None
        assert set(calls.values()) == {1}
        assert_frame_equal(run.step_output("BIG"), BIG)
        sizes = run.steps().set_index("step_name")["output_bytes"]
        assert sizes["nothing"] < 10
        assert sizes["BIG"] > 100_000


def test_a_value_changed_afterwards_does_not_change_the_checkpoint(d: dn.Durably) -> None:
    """What is stored is what the step returned, not what became of it."""

    def job(step: dn.StepContext) -> list[int]:
        rows = step.run("load", lambda: [1, 2])
        rows.append(3)
        return rows

    run = execute(d, job)
    assert run.step_output("load") == [1, 2]
    assert run.result() == [1, 2, 3]


# --- replay ---


def test_a_completed_step_is_not_executed_again_after_a_failure(d: dn.Durably) -> None:
    """Failing, resuming and failing again: each step completes once, and the log says how many are reused."""
    calls: Counter[str] = Counter()

    def work(name: str, fails_until: int) -> str:
        calls[name] += 1
        if calls[name] <= fails_until:
            raise ValueError(f"{name} is not ready")
        return name

    def job(step: dn.StepContext) -> list[str]:
        return [step.run(name, work, name, n) for n, name in enumerate(["a", "b", "c"])]

    run = execute(d, job)
    error = failure(run)
    assert (error.type, error.message, error.failed_step_name) == ("ValueError", "b is not ready", "b")
    assert "in work" in error.traceback
    for _ in range(2):
        _ = run.resume()
        assert run.status == "pending"
        d.process_one()
        if run.status == "failed":
            assert failure(run).failed_step_name == "c"
    _ = run.resume()
    d.process_one()
    assert run.result() == ["a", "b", "c"]
    assert calls == {"a": 1, "b": 2, "c": 3}
    messages = [message for message in run.logs()["message"] if message.startswith("Going on")]
    assert [re.search(r"\d+", message)[0] for message in messages] == ["1", "2", "2"]  # type: ignore[index]
    assert list(run.steps()["status"]) == ["completed", "failed", "completed", "failed", "failed", "completed"]
    assert list(run.events()["type"]).count("step:start") == 6


def test_an_interrupted_run_goes_on_in_a_later_session(path: Path) -> None:
    """Ctrl-C in the middle of a step gives the run back; a later session begins at that step."""
    calls: list[str] = []

    def job(step: dn.StepContext) -> list[str]:
        def work(name: str) -> str:
            calls.append(name)
            if calls == ["a", "b"]:
                raise KeyboardInterrupt
            return name

        return [step.run(name, work, name) for name in "abc"]

    with closing(dn.Durably(path, jobs=[job])) as d:
        d.migrate()
        run_id = d.jobs["job"].trigger().id
        with pytest.raises(KeyboardInterrupt):
            d.process_one()
    with closing(dn.Durably(path, jobs=[job])) as d:
        d.migrate()
        run = d.get_run(run_id)
        assert run is not None
        assert run.status == "pending"
        d.process_one()
        assert run.result() == ["a", "b", "c"]
    assert calls == ["a", "b", "b", "c"]


def test_the_file_in_the_middle_of_a_step_is_enough(tmp_path: Path) -> None:
    """What is on disk while a step executes is all a later session needs to go on after the step before."""
    calls: list[str] = []
    copy = tmp_path / "copy.duckdb"
    original = dn.Durably(tmp_path / "jobs.duckdb")

    def job(step: dn.StepContext) -> list[str]:
        def work(name: str) -> str:
            calls.append(name)
            if name == "c" and not copy.exists():
                original.backup(copy)
            return name

        return [step.run(name, work, name) for name in "abcd"]

    with closing(original):
        original.migrate()
        run_id = original.job(job).trigger().id
        original.process_one()
    assert calls == ["a", "b", "c", "d"]
    with closing(dn.Durably(copy, jobs=[job])) as d:
        d.migrate()
        run = d.get_run(run_id)
        assert run is not None
        assert run.status == "pending"
        d.process_one()
        assert run.result() == ["a", "b", "c", "d"]
        assert list(run.steps()["status"]) == ["completed", "completed", "interrupted", "completed", "completed"]
    assert calls == ["a", "b", "c", "d", "c", "d"]


KILLED = """
import os, signal, sys
import durably_nb as dn

def job(step):
    for name in "abcd":
        step.run(name, lambda name: open(sys.argv[2], "a").write(name), name)
        if name == "b" and sys.argv[3] == "between":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "b" and sys.argv[3] == "inside":
            step.run("inside", os.kill, os.getpid(), signal.SIGKILL)

d = dn.Durably(sys.argv[1], jobs=[job])
d.migrate()
for run in d.get_runs() or [d.jobs["job"].trigger()]:
    d.process_one()
    print(run.status)
d.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["between", "inside"])
def test_a_killed_process_leaves_every_completed_step_behind(tmp_path: Path, where: str) -> None:
    """After SIGKILL right after a step returned, or inside the next, no completed step is executed again."""
    done = tmp_path / "done.txt"

    def session(kill: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "jobs.duckdb"), str(done), kill]
        environment = {**os.environ, "PYTHONPATH": str(Path(dn.__file__).parent.parent)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own

    assert session(where).returncode == -signal.SIGKILL
    assert done.read_text() == "ab"
    second = session("never")
    assert second.stdout.split() == ["completed"], second.stderr
    assert done.read_text() == "abcd"


def test_steps_that_the_job_does_not_ask_for_again(d: dn.Durably) -> None:
    """A job that takes another way on resume runs the new steps, and keeps what the old ones gave."""
    way = ["first"]

    def job(step: dn.StepContext) -> str:
        step.run("load", lambda: "rows")
        if way == ["first"]:
            step.run("old way", lambda: "old")
            raise ValueError("wrong way")
        return step.run("new way", lambda: "new")

    run = execute(d, job)
    way[:] = ["second"]
    _ = run.resume()
    d.process_one()
    assert run.result() == "new"
    assert [run.step_output(name) for name in ("load", "old way", "new way")] == ["rows", "old", "new"]


# --- failure ---


def test_a_job_may_catch_what_a_step_raises(d: dn.Durably) -> None:
    """A step's exception is the job's to handle; only what escapes fails the run."""

    def job(step: dn.StepContext) -> str:
        try:
            step.run("fragile", operator.truediv, 1, 0)
        except ZeroDivisionError:
            return step.run("other way", lambda: "saved")
        return "not reached"

    run = execute(d, job)
    assert run.result() == "saved"
    assert list(run.steps()["status"]) == ["failed", "completed"]
    assert run.steps()["error"][0] == "ZeroDivisionError: division by zero"


def test_an_error_of_its_own_is_no_step_s(d: dn.Durably) -> None:
    """An exception outside any step names no step, also after a step's was handled."""

    def job(step: dn.StepContext) -> None:
        with suppress(ZeroDivisionError):
            step.run("fragile", operator.truediv, 1, 0)
        raise LookupError("of my own")

    assert failure(execute(d, job)).failed_step_name is None


def test_an_error_raised_from_a_step_s_names_the_step(d: dn.Durably) -> None:
    """An exception that a job raises from a step's own still names that step."""

    def job(step: dn.StepContext) -> None:
        try:
            step.run("fragile", operator.truediv, 1, 0)
        except ZeroDivisionError as error:
            raise LookupError("no rate") from error

    error = failure(execute(d, job))
    assert (error.type, error.failed_step_name) == ("LookupError", "fragile")


def test_the_step_that_failed_is_named_though_another_failed_later(d: dn.Durably) -> None:
    """If several steps fail, the one whose exception escapes the job is the one that is named."""

    def job(step: dn.StepContext) -> None:
        try:
            step.run("first", operator.truediv, 1, 0)
        except ZeroDivisionError as first:
            kept = first
        with suppress(ValueError):
            step.run("second", int, "x")
        raise kept

    assert failure(execute(d, job)).failed_step_name == "first"


def test_an_exception_group_names_a_step(d: dn.Durably) -> None:
    """A step whose exception escapes inside a group is named."""

    def job(step: dn.StepContext) -> None:
        try:
            step.run("fragile", operator.truediv, 1, 0)
        except ZeroDivisionError as error:
            kept = error
        raise ExceptionGroup("several", [ValueError("another"), kept])

    assert failure(execute(d, job)).failed_step_name == "fragile"


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), StopIteration(1), BaseException("bare")])
def test_unusual_exceptions_fail_the_run_only(d: dn.Durably, error: BaseException) -> None:
    """Even SystemExit ends its run and nothing more; the next run executes."""

    def job(step: dn.StepContext) -> None:
        def work() -> None:
            raise error

        step.run("work", work)

    assert failure(execute(d, job)).type == type(error).__name__
    assert execute(d, lambda_job("good")).result() == "good"


def lambda_job(value: Any) -> Callable[[dn.StepContext], Any]:
    def good(step: dn.StepContext) -> Any:
        return step.run("good", lambda: value)

    return good


# --- refusals ---


def test_a_step_inside_a_step_is_refused(d: dn.Durably) -> None:
    """A step that starts another fails with a sentence that names both."""

    def job(step: dn.StepContext) -> None:
        step.run("outer", lambda: step.run("inner", lambda: 1))

    error = failure(execute(d, job))
    assert error.type.endswith("ConflictError")
    assert "Step 'inner' was started inside step 'outer'" in error.message
    assert error.failed_step_name == "outer"


def test_a_nested_step_leaves_its_name_free(d: dn.Durably) -> None:
    """A refused step did not happen: its name can be used afterwards."""

    def job(step: dn.StepContext) -> int:
        def outer() -> str:
            with pytest.raises(dn.ConflictError, match="not nested"):
                step.run("inner", lambda: 1)
            with pytest.raises(dn.ConflictError, match="not nested"):
                step.transaction("inner", lambda _: 1)
            return "done"

        step.run("outer", outer)
        return step.run("inner", lambda: 2)

    run = execute(d, job)
    assert run.result() == 2
    assert list(run.steps()["step_name"]) == ["outer", "inner"]


def test_a_run_of_another_job_inside_a_step(d: dn.Durably) -> None:
    """A step may trigger and execute another job: the other run's steps are its own."""
    other = d.job(lambda_job("from the other"))

    def job(step: dn.StepContext) -> Any:
        def work() -> Any:
            run = other.trigger()
            assert d.process_one()
            return run.result()

        return step.run("work", work)

    run = execute(d, job)
    assert run.result() == "from the other"
    assert list(run.steps()["step_name"]) == ["work"]


def test_one_name_twice_is_refused(d: dn.Durably) -> None:
    """The second step of a name is refused before anything of it runs."""
    calls: list[int] = []

    def job(step: dn.StepContext) -> None:
        for n in range(2):
            step.run("clean", calls.append, n)

    error = failure(execute(d, job))
    assert error.type.endswith("DuplicateStepError")
    assert "has a step 'clean' already" in error.message
    assert error.failed_step_name is None
    assert calls == [0]


def test_a_step_that_failed_is_tried_again_by_its_name(d: dn.Durably) -> None:
    """Each try is in the history with its own index; a name is taken once its step completed."""
    fails = [True, True, False]

    def call() -> str:
        if fails.pop(0):
            raise OSError("busy")
        return "answered"

    def job(step: dn.StepContext) -> list[str]:
        answers: list[str] = []
        while not answers:
            with suppress(OSError):
                answers.append(step.run("call", call))
        with pytest.raises(dn.DuplicateStepError):
            step.run("call", call)
        return [*answers, step.run("after", str)]

    run = execute(d, job)
    assert run.result() == ["answered", ""]
    assert run.step_output("call") == "answered"
    steps = run.steps().fillna({"error": ""})
    assert steps[["step_name", "step_index", "status", "error"]].to_numpy().tolist() == [
        ["call", 0, "failed", "OSError: busy"],
        ["call", 1, "failed", "OSError: busy"],
        ["call", 2, "completed", ""],
        ["after", 3, "completed", ""],
    ]


def test_one_name_twice_is_refused_on_replay_too(d: dn.Durably) -> None:
    """A stored result is not given twice either."""
    fail = [True]

    def job(step: dn.StepContext) -> list[int]:
        first = step.run("clean", lambda: 1)
        if fail.pop():
            fail.append(False)
            raise ValueError
        return [first, step.run("clean", lambda: 2)]

    run = execute(d, job)
    _ = run.resume()
    d.process_one()
    assert failure(run).type.endswith("DuplicateStepError")


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "x" * 10_000_000, "a\0b", "a\ud800", 7, None, b"a"])
def test_names_that_no_step_can_have(d: dn.Durably, name: Any) -> None:
    """A bad name is refused in a short sentence, before the function is called."""

    def job(step: dn.StepContext) -> None:
        with pytest.raises(dn.ValidationError, match="A step's name") as caught:
            step.run(name, pytest.fail)
        assert len(str(caught.value)) < 400

    assert execute(d, job).result() is None


def test_names_of_any_language(d: dn.Durably) -> None:
    """Names may have accents, blanks, quotes, slashes and emoji."""
    names = ["naïve", "two words", 'it\'s "quoted"', "../etc/passwd", "✈️", "x" * 255, "%s {0} $1"]

    def job(step: dn.StepContext) -> list[str]:
        return [step.run(name, str, name) for name in names]

    run = execute(d, job)
    assert run.result() == names
    assert [run.step_output(name) for name in names] == names
    assert list(run.steps()["step_name"]) == names


async def coroutine() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (7, "was given int where a function is wanted"),
        (None, "was given NoneType where a function is wanted"),
        (generator, "generator function"),
        (functools.partial(generator), "generator function"),
        (lambda: (x for x in "ab"), "returned a generator"),
        (coroutine, "returned a coroutine that nobody awaits"),
        (functools.partial(coroutine), "returned a coroutine that nobody awaits"),
        (lambda: map(str, [1]), "map"),
        (object, "object"),
        (lambda: io.TextIOWrapper(io.BytesIO()), "TextIOWrapper"),
    ],
)
def test_functions_and_results_that_cannot_be_steps(d: dn.Durably, fn: Any, said: str) -> None:
    """What cannot be a step, or be stored, is refused by a sentence with the step's name; the job may go on."""

    def job(step: dn.StepContext) -> str:
        with pytest.raises((dn.ValidationError, dn.SerializationError), match=re.escape(said)) as caught:
            step.run("mine", fn)
        assert "'mine'" in str(caught.value)
        return step.run("other", lambda: "fine")

    run = execute(d, job)
    assert run.result() == "fine"
    assert "completed" not in set(run.steps().query("step_name == 'mine'")["status"])


def test_a_generator_given_instead_of_a_function(d: dn.Durably) -> None:
    """Calling the function oneself is noticed, with what to write instead."""

    def job(step: dn.StepContext) -> None:
        step.run("load", add(1, 2))  # type: ignore[arg-type]

    assert "without calling fn yourself" in failure(execute(d, job)).message


# --- threads ---


def test_steps_from_threads_of_the_job(d: dn.Durably) -> None:
    """A job may start threads and run steps from them; each has a result and an index of its own."""
    threads = 4
    together = threading.Barrier(threads, timeout=30)

    def job(step: dn.StepContext) -> list[int]:
        def work(n: int) -> int:
            together.wait()
            return n * n

        with ThreadPoolExecutor(threads) as pool:
            results = [pool.submit(step.run, f"square {n}", work, n) for n in range(threads)]
            return [result.result() for result in results]

    run = execute(d, job)
    assert run.result() == [0, 1, 4, 9]
    steps = run.steps()
    assert sorted(steps["step_index"]) == [0, 1, 2, 3]
    assert set(steps["status"]) == {"completed"}


def test_steps_from_threads_are_replayed(d: dn.Durably) -> None:
    """Steps that threads completed are found again by their names, in whatever order they are asked for."""
    calls: Counter[int] = Counter()

    def work(n: int) -> int:
        calls[n] += 1
        if n == 7 and calls[n] == 1:
            raise ValueError("seven")
        return n

    def job(step: dn.StepContext) -> list[int]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda n: step.run(f"step {n}", work, n), range(20)))

    run = execute(d, job)
    assert failure(run).failed_step_name == "step 7"
    completed = set(run.steps().query("status == 'completed'")["step_name"])
    _ = run.resume()
    d.process_one()
    assert run.result() == list(range(20))
    assert all(calls[n] == 1 for n in range(20) if f"step {n}" in completed)
    assert calls[7] == 2


def test_one_name_in_two_threads(d: dn.Durably) -> None:
    """Of two threads that use one name at the same time, one runs and the other is refused."""
    together = threading.Barrier(8, timeout=30)
    calls: list[int] = []

    def job(step: dn.StepContext) -> list[str]:
        def attempt(_: int) -> str:
            together.wait()
            try:
                step.run("once", calls.append, 1)
            except dn.DuplicateStepError:
                return "refused"
            return "ran"

        with ThreadPoolExecutor(8) as pool:
            return sorted(pool.map(attempt, range(8)))

    assert execute(d, job).result() == ["ran", *["refused"] * 7]
    assert calls == [1]


def test_events_of_one_run_from_many_threads_are_in_order(d: dn.Durably) -> None:
    """Listeners hear the events of a run in sequence order, whatever thread caused them."""
    heard: list[int] = []
    d.on("*", lambda event: heard.append(event.sequence))

    def job(step: dn.StepContext) -> None:
        def work(n: int) -> None:
            step.run(f"step {n}", lambda: step.log.info(f"in {n}"))
            step.progress(n)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(50)))

    run = execute(d, job)
    assert run.status == "completed"
    assert heard == sorted(heard)
    assert len(set(heard)) == len(heard) == 2 + 1 + 50 * 4


def test_a_step_after_the_end_of_its_run(d: dn.Durably) -> None:
    """A thread that outlives its run can store nothing more; it is told to leave."""
    contexts: list[dn.StepContext] = []

    def job(step: dn.StepContext) -> str:
        contexts.append(step)
        return "done"

    run = execute(d, job)
    with pytest.raises(BaseException, match="lease-lost"):
        contexts[0].run("late", lambda: 1)
    contexts[0].log.info("late")
    contexts[0].progress(1)
    assert run.result() == "done"
    assert run.steps().empty
    assert run.logs().empty


def test_many_runs_at_once_do_not_mix(path: Path) -> None:
    """Eight runs at once, each with steps of the same names: every run has its own results."""
    with dn.Durably(path, max_concurrent_runs=8) as d:

        @d.job
        def job(step: dn.StepContext, number: int) -> list[int]:
            return [step.run(f"step {n}", operator.mul, number, n) for n in range(10)]

        runs = job.batch_trigger({"number": number} for number in range(16))
        for number, run in enumerate(runs):
            assert run.result(timeout=60) == [number * n for n in range(10)]
        assert len(d.steps()) == 160
