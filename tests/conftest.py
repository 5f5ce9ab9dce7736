"""What every test may use, and what every test must leave behind: no thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK_CASES = 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Of a test with many cases the quick round takes the first few; the others count as slow."""
    cases: Counter[tuple[Path, str]] = Counter()
    for item in items:
        test = item.path, item.originalname
        cases[test] += 1
        if cases[test] > QUICK_CASES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test keeps its database; the file does not exist yet."""
    return tmp_path / "jobs.duckdb"


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """Every thread of the library that a test starts is joined when the test ends."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("durably")]
    assert not left, f"still running: {sorted(left)}; close() what the test opened"


@pytest.fixture
def d(path: Path) -> Iterator[dn.Durably]:
    """An open file with its worker running; closed when the test ends."""
    opened = dn.open(path)
    yield opened
    opened.close()


class Heard(list[Any]):
    """A listener that keeps the events it hears, in order, and that can be waited for."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, event: object) -> None:
        """Keep an event."""
        with self._changed:
            self.append(event)
            self._changed.notify_all()

    def wait_for(self, kind: str, count: int = 1) -> Any:
        """Give the event of a type, or its `count`-th, as soon as it was heard."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= count, 20), f"heard only {self.types()}"
            return self.of(kind)[count - 1]

    def of(self, kind: str) -> list[Any]:
        """Give the events of a type."""
        return [event for event in self if event.type == kind]

    def types(self, run_id: str | None = None) -> list[str]:
        """Give the types in the order heard, of one run or of all."""
        return [event.type for event in self if run_id in {None, event.run_id}]


@pytest.fixture
def heard() -> Heard:
    """A listener to be subscribed."""
    return Heard()


@pytest.fixture
def idle(path: Path) -> Iterator[dn.Durably]:
    """A store without a worker: runs stay pending until the test has them executed."""
    opened = dn.Durably(path)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def still_good(path: Path) -> Callable[[], None]:
    """A check of the file at `path`, whatever was done to it: new work runs, all can be read, also after a reopen."""

    def check() -> None:
        for _ in range(2):
            opened = dn.open(path)

            @opened.job(name="still good")
            def job(step: dn.StepContext, number: int) -> int:
                step.log.info("still good")
                return step.run("double", lambda: number * 2)

            run = job.trigger(number=21)
            assert run.result(timeout=20) == 42
            assert list(run.events()["type"])[-1] == "run:complete"
            for frame in (opened.events(), opened.runs(), opened.steps(), opened.logs()):
                assert run.id in set(frame["run_id"])
            opened.close()

    return check


class Program(subprocess.Popen[str]):
    """A Python program in a process of its own, with pipes to and from it."""

    def line(self) -> str:
        """Wait for its next line and give it; "" when there will be none."""
        assert self.stdout is not None
        return self.stdout.readline().rstrip("\n")

    def finished(self, returncode: int = 0, timeout: float = 60) -> str:
        """Wait for its end, see that it said nothing on stderr, and give what it printed."""
        out, err = self.communicate(timeout=timeout)
        assert (err, self.returncode) == ("", returncode)
        return out


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Run source code in a new process, `python` being another interpreter; what still runs at the end is killed."""
    programs: list[Program] = []
    numbers = count(1)

    def start(source: str, *arguments: object, python: str = sys.executable, **environment: str) -> Program:
        file = tmp_path / f"program{next(numbers)}.py"
        file.write_text(source)
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        package = Path(dn.__file__).parent.parent
        env = os.environ | {"PYTHONPATH": str(package)} | environment
        command = [python, "-W", "error", str(file), *map(str, arguments)]
        programs.append(Program(command, text=True, env=env, **pipes))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.communicate()
