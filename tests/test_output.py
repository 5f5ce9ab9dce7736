"""Output of steps: it becomes the run's log, and lands in nobody's cell."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest import CaptureFixture  # noqa: PT013 - for a type hint

logger = logging.getLogger("tests.output")


def warn(message: str) -> None:
    """Warn as a library would, whatever the tests make of warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(message, UserWarning, stacklevel=2)


def lines(run: dn.Run) -> list[tuple[str | None, str, str]]:
    """Give what the run's log says: step, level, message."""
    logs = run.logs().astype({"step_name": object})
    steps = logs["step_name"].where(logs["step_name"].notna(), None)
    return list(zip(steps, logs["level"], logs["message"], strict=True))


WAYS: dict[str, tuple[Callable[[], object], str, str]] = {
    "print": (lambda: print("a line"), "info", "a line"),
    "without a newline": (lambda: print("a line", end=""), "info", "a line"),
    "stdout": (lambda: sys.stdout.write("a line\n"), "info", "a line"),
    "bytes": (lambda: sys.stdout.buffer.write(b"a line\n"), "info", "a line"),
    "stderr": (lambda: print("a line", file=sys.stderr), "warn", "a line"),
    "bar": (lambda: sys.stderr.write("1%\r50%\r100%\n"), "warn", "100%"),
    "warning": (lambda: warn("a line"), "warn", "UserWarning: a line"),
    "logging warning": (lambda: logger.warning("a %s", "line"), "warn", "a line"),
    "logging error": (lambda: logger.error("a line"), "error", "a line"),
    "logging last resort": (lambda: logging.getLogger("nobody.configured").warning("a line"), "warn", "a line"),
    "odd characters": (lambda: print("a\0 \ud800 🦆"), "info", "a\0 \\ud800 🦆"),
}


@pytest.mark.parametrize("way", WAYS)
def test_output_of_a_step_is_its_log(d: dn.Durably, capfd: CaptureFixture[str], way: str) -> None:
    """Whatever way a step says something, it is a line of the run's log with its step, and nowhere else."""
    say, level, message = WAYS[way]
    run = d.job(name="talk")(lambda step: step.run("talk", lambda: (say(), None)[1])).trigger()
    run.result(timeout=20)
    ((step_name, its_level, text),) = lines(run)
    assert (step_name, its_level) == ("talk", level)
    assert text.startswith(message)
    assert capfd.readouterr() == ("", "")


def test_output_outside_any_step_has_no_step(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """What the job function itself prints, between its steps, is a line without a step."""

    @d.job
    def talk(step: dn.StepContext) -> None:
        print("before")
        step.run("one", lambda: print("inside"))
        print("after")

    run = talk.trigger()
    run.result(timeout=20)
    assert lines(run) == [(None, "info", "before"), ("one", "info", "inside"), (None, "info", "after")]
    assert capfd.readouterr() == ("", "")


def test_output_comes_in_order_with_the_jobs_own_log(d: dn.Durably) -> None:
    """Prints and step.log stand in the log in the order in which they happened, and before the step's end."""

    @d.job
    def talk(step: dn.StepContext) -> None:
        def speak() -> None:
            print("one")
            step.log.info("two")
            print("three", file=sys.stderr)
            logger.error("four")

        step.run("speak", speak)

    run = talk.trigger()
    run.result(timeout=20)
    assert [text for _, _, text in lines(run)] == ["one", "two", "three", "four"]
    assert list(run.events(type=["log:write", "step:complete"])["type"]) == ["log:write"] * 4 + ["step:complete"]


def test_output_of_threads_of_a_step_is_its_log(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """A thread that a step starts, and a thread started by that one, speak for the step."""

    def inner() -> None:
        print("from a thread of a thread")

    def outer() -> None:
        print("from a thread")
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    def step_function() -> None:
        thread = threading.Thread(target=outer)
        thread.start()
        thread.join()

    run = d.job(name="talk")(lambda step: step.run("talk", step_function)).trigger()
    run.result(timeout=20)
    assert lines(run) == [("talk", "info", "from a thread"), ("talk", "info", "from a thread of a thread")]
    assert capfd.readouterr() == ("", "")


def test_an_exception_in_a_thread_of_a_step_is_in_its_log(
    d: dn.Durably, capfd: CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Python prints of a thread that died is not in some cell, but in the log."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def step_function() -> None:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    run = d.job(name="talk")(lambda step: step.run("talk", step_function)).trigger()
    run.result(timeout=20)
    said = lines(run)
    assert {(step, level) for step, level, _ in said} == {("talk", "warn")}
    assert any("ZeroDivisionError" in text for _, _, text in said)
    assert capfd.readouterr() == ("", "")


def test_runs_side_by_side_each_have_their_own(d: dn.Durably) -> None:
    """Two runs that print at the same time do not get each other's lines."""
    d.max_concurrent_runs = 2
    d.start()
    together = threading.Barrier(2)

    @d.job
    def talk(step: dn.StepContext, name: str) -> None:
        def speak() -> None:
            for number in range(20):
                together.wait(20)
                print(f"{name} {number}")

        step.run(f"speak {name}", speak)

    runs = talk.batch_trigger([{"name": "a"}, {"name": "b"}])
    for run in runs:
        run.result(timeout=20)
        name = run.input["name"]
        assert lines(run) == [(f"speak {name}", "info", f"{name} {number}") for number in range(20)]


def test_async_steps_side_by_side_each_have_their_own(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """In an async job, lines of steps that run at the same time carry the right step."""

    @d.job
    async def talk(step: Any) -> None:
        async def speak(name: str) -> None:
            for number in range(3):
                print(f"{name} {number}")
                await asyncio.sleep(0)

        await asyncio.gather(*(step.run(name, speak, name) for name in ("a", "b")))

    run = talk.trigger()
    run.result(timeout=20)
    said = lines(run)
    assert sorted(said) == sorted((name, "info", f"{name} {number}") for name in "ab" for number in range(3))
    assert [name for name, _, _ in said] == ["a", "b"] * 3
    assert capfd.readouterr() == ("", "")


def test_output_of_others_is_left_alone(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """While a step runs, what my own cell prints appears in my cell, and in no log."""
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(20)

    run = d.job(name="wait")(lambda step: step.run("wait", wait)).trigger()
    assert begun.wait(20)
    print("mine")
    print("mine too", file=sys.stderr)
    go.set()
    run.result(timeout=20)
    assert capfd.readouterr() == ("mine\n", "mine too\n")
    assert lines(run) == []


def test_what_a_listener_prints_is_its_own(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """Listeners and callbacks that print are heard where I look for them, not in the log that they listen to."""
    d.on("log:write", lambda event: print(f"heard {event.message}"))
    job = d.job(name="talk")(lambda step: step.run("talk", lambda: print("a line")))
    run = job.options(on_log=lambda line: print(f"told {line.message}")).trigger()
    run.result(timeout=20)
    assert lines(run) == [("talk", "info", "a line")]
    assert capfd.readouterr().out == "heard a line\ntold a line\n"


def test_output_after_the_end_goes_where_it_always_went(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """A thread that outlives its run prints as it would have without a run; the log does not grow."""
    go = threading.Event()
    threads: list[threading.Thread] = []

    def late() -> None:
        go.wait(20)
        print("late")

    def step_function() -> None:
        threads.append(threading.Thread(target=late))
        threads[0].start()

    run = d.job(name="leave")(lambda step: step.run("leave", step_function)).trigger()
    run.result(timeout=20)
    go.set()
    threads[0].join()
    assert capfd.readouterr() == ("late\n", "")
    assert lines(run) == []


def test_output_can_be_left_where_it_was(d: dn.Durably, capfd: CaptureFixture[str]) -> None:
    """With capture_output=False a job prints as any function does; what it logs by step.log is logged."""
    job = d.job(name="talk")(lambda step: (print("printed"), step.log.info("logged"), None)[2])
    d.capture_output = False
    run = job.trigger()
    run.result(timeout=20)
    assert [text for _, _, text in lines(run)] == ["logged"]
    assert capfd.readouterr() == ("printed\n", "")
    d.capture_output = True
    run = job.trigger()
    run.result(timeout=20)
    assert [text for _, _, text in lines(run)] == ["printed", "logged"]
    assert capfd.readouterr() == ("", "")


def test_output_before_a_failure_is_kept(d: dn.Durably) -> None:
    """What a step said before it failed is there when I look for the cause."""

    def step_function() -> None:
        print("about to fail", end="")
        raise ValueError("failed")

    run = d.job(name="fail")(lambda step: step.run("fail", step_function)).trigger()
    assert run.wait(timeout=20).status == "failed"
    assert lines(run) == [("fail", "info", "about to fail")]
    assert list(run.events()["type"])[-1] == "run:fail"


def test_a_flood_of_output_is_no_burden(d: dn.Durably) -> None:
    """Ten thousand lines, and one of a megabyte, are all there, in pieces that can be shown."""

    def step_function() -> None:
        for number in range(10_000):
            print(number)
        print("x" * 1_000_000)

    run = d.job(name="flood")(lambda step: step.run("flood", step_function)).trigger()
    run.result(timeout=60)
    messages = list(run.logs()["message"])
    assert messages[:10_000] == [str(number) for number in range(10_000)]
    assert "".join(messages[10_000:]) == "x" * 1_000_000
    assert max(len(message) for message in messages) <= 32 * 1024


def test_the_streams_are_put_back(d: dn.Durably) -> None:
    """When no run executes, stdout, logging and warnings are those that were there before."""
    before = (sys.stdout, sys.stderr, warnings.showwarning, logging.Logger.callHandlers, threading.Thread.start)
    d.job(name="talk")(lambda step: step.run("talk", lambda: print("x"))).trigger().result(timeout=20)
    d.stop()
    assert before == (
        sys.stdout, sys.stderr, warnings.showwarning, logging.Logger.callHandlers, threading.Thread.start,
    )  # fmt: skip


# --- in a real kernel ---

CELLS = [
    """
import logging, sys, threading, warnings
import durably_nb as dn
logging.basicConfig(level=logging.INFO, force=True)
d = dn.open("jobs.duckdb")
begun, go = threading.Event(), threading.Event()
""",
    """
@d.job
def talk(step):
    def speak():
        print("printed")
        print("to stderr", file=sys.stderr)
        logging.getLogger("step").info("logged")
        warnings.warn("warned")
        display({"shown": 1})
        begun.set()
        go.wait(30)
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
    step.run("speak", speak)
run = talk.trigger()
assert begun.wait(30)
""",
    "go.set(); print('a cell of mine')",
    "run.result(timeout=30)",
    "print(d.logs()['message'].to_list())",
    "d.close()",
]
KERNEL = """
import json, sys
import nbclient, nbformat

cells = json.load(sys.stdin)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
print(json.dumps([cell.outputs for cell in notebook.cells]))
"""


@pytest.mark.slow
def test_cells_of_a_notebook_stay_clean(tmp_path: Path) -> None:
    """In a real kernel, nothing that a step says by any way appears in a cell; a cell's own output does."""
    pytest.importorskip("nbclient")
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", KERNEL],
        input=json.dumps(CELLS),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(dn.__file__).parent.parent)},
    )
    outputs = json.loads(done.stdout)
    assert [len(output) for output in outputs] == [0, 0, 1, 0, 1, 0]
    assert outputs[2][0]["text"] == "a cell of mine\n"
    logged = outputs[4][0]["text"]
    for said in ("printed", "to stderr", "logged", "UserWarning: warned", "shown", "from a thread"):
        assert said in logged
