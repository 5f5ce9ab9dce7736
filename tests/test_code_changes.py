"""Steps whose code was edited between a failure and the resume."""

from __future__ import annotations

import functools
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn
from durably_nb.fingerprint import fingerprint, has_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durably_nb.definitions import OnCodeChange


@pytest.fixture
def d(path: Path) -> Iterator[dn.Durably]:
    """Give an open store without a worker: the tests turn it by hand."""
    with closing(dn.Durably(path)) as opened:
        opened.migrate()
        yield opened


def edited(d: dn.Durably, before: Callable[[], Any], after: Callable[[], Any], choice: OnCodeChange) -> dn.Run:
    """Give a run whose step was completed by one function, and that was resumed with another."""

    def define(fn: Callable[[], Any], *, fails: bool) -> dn.Job:
        @d.job(name="report", on_code_change=choice)
        def report(step: dn.StepContext) -> Any:
            value = step.run("load", fn)
            if fails:
                raise ValueError("mend me")
            return value

        return report

    run = define(before, fails=True).trigger()
    d.process_one()
    assert run.status == "failed"
    define(after, fails=False)
    _ = run.resume()
    d.process_one()
    return run


def warnings_of(run: dn.Run) -> list[str]:
    logs = run.logs()
    return list(logs[logs["level"] == "warn"]["message"])


def test_an_edited_step_is_reused_with_a_warning(d: dn.Durably) -> None:
    """By default the stored result of an edited step is reused, and the log says so and what to do."""
    run = edited(d, lambda: 1, lambda: 2, "reuse")
    assert run.result() == 1
    (said,) = warnings_of(run)
    assert "The code of step 'load' has changed" in said
    assert 'on_code_change="rerun"' in said


def test_an_edited_step_is_executed_again_if_asked_for(d: dn.Durably) -> None:
    """With `on_code_change="rerun"` an edited step runs again, and its new result is the one that counts."""
    run = edited(d, lambda: 1, lambda: 2, "rerun")
    assert run.result() == 2
    assert run.step_output("load") == 2
    assert list(run.steps()["status"]) == ["completed", "completed"]
    assert warnings_of(run) == []


@pytest.mark.parametrize("choice", ["reuse", "rerun"])
def test_an_unchanged_step_is_silent(d: dn.Durably, choice: OnCodeChange) -> None:
    """A step that only moved, or whose comments changed, is the same step."""

    def before() -> list[int]:
        return [n for n in range(3)]  # noqa: C416 - a function within a function

    namespace: dict[str, Any] = {}
    exec("\n\n\ndef before():\n    # moved\n    return [n for n in range(3)]\n", namespace)  # noqa: S102 - our own
    run = edited(d, before, namespace["before"], choice)
    assert run.result() == [0, 1, 2]
    assert len(run.steps()) == 1
    assert warnings_of(run) == []


def test_steps_without_code(d: dn.Durably) -> None:
    """A builtin has no code to compare; its result is reused silently, by whatever it is replaced."""
    run = edited(d, list, lambda: "other", "rerun")
    assert run.result() == []
    assert warnings_of(run) == []


def test_a_rerun_after_a_rerun(d: dn.Durably) -> None:
    """What a rerun stored is what the next resume finds unchanged."""
    calls: list[str] = []

    def new() -> int:
        calls.append("new")
        return len(calls)

    way: list[Any] = [lambda: calls.append("old"), new]

    @d.job(on_code_change="rerun")
    def report(step: dn.StepContext) -> Any:
        value = step.run("load", way[0])
        if len(way) > 1 or len(calls) < 2:
            raise ValueError("not yet")
        step.run("again", lambda: None)
        return value

    run = report.trigger()
    d.process_one()
    del way[0]
    calls.append("edited")
    for _ in range(2):
        if run.status == "failed":
            _ = run.resume()
            d.process_one()
    assert calls == ["old", "edited", "new"]
    assert run.result() == 3


# --- what counts as a change ---


def made(body: str, arguments: str = "") -> Callable[..., Any]:
    namespace: dict[str, Any] = {}
    exec(f"def step({arguments}):\n    {body}\n", namespace)  # noqa: S102 - our own
    return namespace["step"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1", "return 2"),
        ("return 1", "return True"),
        ("return 1.0", "return -1.0"),
        ("return 'a'", "return b'a'"),
        ("return x.mean()", "return x.sum()"),
        ("return [n for n in x]", "return [n + 1 for n in x]"),
        ("return lambda: 1", "return lambda: 2"),
        ("return x in {1, 2}", "return x in {1, 3}"),
    ],
)
def test_edits_that_are_changes(before: str, after: str) -> None:
    """Another constant, name or inner function is another code."""
    assert has_changed(fingerprint(made(before)), fingerprint(made(after)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1", "return 1  # a comment"),
        ("return x in {'b', 'a'}", "return x in {'a', 'b'}"),
        ("pass\n    return 1", "pass\n\n\n    return 1"),
    ],
)
def test_edits_that_are_none(before: str, after: str) -> None:
    """Comments, blank lines and the order of a set are no change."""
    assert not has_changed(fingerprint(made(before)), fingerprint(made(after)))


class Caller:
    def __call__(self) -> int:
        return 1

    def method(self) -> int:
        return 1


def test_where_the_code_is_found() -> None:
    """Partials, methods, wrapped functions and callable objects are known by the function inside."""

    def plain() -> int:
        return 1

    @functools.wraps(plain)
    def wrapped() -> int:
        return plain()

    expected = fingerprint(plain)
    assert expected is not None
    for fn in (functools.partial(plain), functools.partial(functools.partial(plain)), wrapped, functools.cache(plain)):
        assert fingerprint(fn) == expected
    assert fingerprint(Caller()) == fingerprint(Caller.__call__)
    assert fingerprint(Caller().method) == fingerprint(Caller.method)
    assert fingerprint(len) is None
    assert fingerprint(int) is None
    assert not has_changed(None, expected)
    assert not has_changed(expected, None)
    assert not has_changed(f"2.7:{expected.partition(':')[2]}x", expected)


SCRIPT = """
from durably_nb.fingerprint import fingerprint
def step(x):
    return [name for name in x if name in {"a", "b", "c", "d"} and name not in ({1: {2}}, "e")]
print(fingerprint(step))
"""


@pytest.mark.slow
def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """Two sessions, which hash strings differently, agree on the code of a step."""
    prints = {
        subprocess.run(  # noqa: S603 - our own script
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(dn.__file__).parent.parent)},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(prints) == 1
