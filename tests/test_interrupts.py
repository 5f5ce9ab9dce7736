"""Ctrl-C in the middle of a command, and commands that race for one run: each is done, or it is not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import durably_nb as dn
from durably_nb.interrupts import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_ctrl_c_waits_for_the_end_of_what_must_not_be_cut() -> None:
    """A Ctrl-C within such a block strikes at its end, once, also where blocks are nested."""
    done: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append(1)
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


INTERRUPTED = """
import signal, sys, threading
import durably_nb as dn

def job(step, number: int) -> int:
    return number

with dn.Durably(sys.argv[1], jobs=[job]) as d:
    d.stop()
    timer = threading.Timer(float(sys.argv[2]), signal.raise_signal, [signal.SIGINT])
    try:
        timer.start()
        d.jobs.job.batch_trigger([{"number": number} for number in range(300)])
        timer.join()
    except KeyboardInterrupt:
        timer.join()
    print(len(d.get_runs()), d.process_until_idle())
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.001, 0.004, 0.008, 0.016])
def test_a_batch_is_triggered_whole_or_not_at_all(path: Path, delay_s: float) -> None:
    """Ctrl-C at any moment of a batch leaves all of its runs or none, in the file and in what is executed."""
    command = [sys.executable, "-c", INTERRUPTED, str(path), str(delay_s)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()  # noqa: S603 - our own program
    assert said in (["0", "0"], ["300", "300"])


def race(*commands: Callable[[], object]) -> list[bool]:
    """Begin all commands at once; tell which were accepted."""
    together = threading.Barrier(len(commands))
    accepted = [False] * len(commands)

    def run(number: int, command: Callable[[], object]) -> None:
        together.wait(20)
        try:
            command()
        except (dn.ConflictError, dn.NotFoundError):
            return
        accepted[number] = True

    threads = [threading.Thread(target=run, args=each) for each in enumerate(commands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return accepted


def test_deleting_and_resuming_race_for_a_run(path: Path) -> None:
    """Of a delete and a resume at the same moment one is refused; a deleted run never rises again."""
    executed: list[str] = []
    with dn.Durably(path) as d:
        d.stop()

        @d.job
        def job(step: dn.StepContext) -> None:
            step.run("one", executed.append, step.run_id)
            raise ValueError

        for _ in range(15):
            run = job.trigger()
            d.process_until_idle()
            assert sorted(race(run.delete, run.resume)) == [False, True]
            d.process_until_idle()
    assert len(executed) == len(set(executed))


def test_two_deletes_race_for_a_run(path: Path) -> None:
    """A run is deleted once, however many ask for it at the same moment."""
    with dn.Durably(path) as d:
        d.stop()

        @d.job
        def job(step: dn.StepContext) -> None:
            step.run("one", int)

        for _ in range(15):
            run = job.trigger()
            d.process_until_idle()
            assert sorted(race(run.delete, run.delete)) == [False, True]
            assert list(run.events()["type"]) == ["run:delete"]


def test_printing_while_runs_begin_and_end(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A cell may print as much as it likes while jobs start and end beside it."""
    with dn.Durably(path) as d:

        @d.job
        def job(step: dn.StepContext) -> None:
            step.run("one", print, "from the step")

        runs = job.batch_trigger([{}] * 60)
        lines = 0
        while not all(run.is_terminal for run in runs):
            print("x", "y", "z", lines)
            lines += 1
        assert {run.status for run in runs} == {"completed"}
    assert capfd.readouterr().out.splitlines() == [f"x y z {number}" for number in range(lines)]
