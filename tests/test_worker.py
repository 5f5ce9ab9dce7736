"""The thread that repeats a turn."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from durably_nb.worker import Bell, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Turns:
    """A turn that takes work from a number, and can be waited for."""

    def __init__(self) -> None:
        self.work = 0
        self.done = 0
        self.looked = 0
        self.failures: list[Exception] = []
        self.error: Exception | None = None
        self._changed = threading.Condition()

    def __call__(self) -> bool:
        with self._changed:
            self.looked += 1
            found = self.work > 0
            if found:
                self.work -= 1
                self.done += 1
            self._changed.notify_all()
            if self.error is not None:
                raise self.error
            return found

    def failed(self, error: Exception) -> None:
        with self._changed:
            self.failures.append(error)
            self._changed.notify_all()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, 20)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def start(turns: Turns, bell: Bell) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def make(interval_s: float = 60.0, turn: Callable[[], bool] = turns) -> Worker:
        name = f"durably-test-{len(workers)}"
        workers.append(Worker(turn, bell=bell, interval_s=lambda: interval_s, failed=turns.failed, name=name))
        workers[-1].start()
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()
        assert worker.join(20)


def test_it_works_until_there_is_nothing_left(turns: Turns, start: Callable[..., Worker]) -> None:
    """All that is there is done at once, without a ring in between."""
    turns.work = 100
    start()
    turns.wait_until(lambda: turns.done == 100)
    turns.wait_until(lambda: turns.looked == 101)


def test_a_ring_wakes_it(turns: Turns, bell: Bell, start: Callable[..., Worker]) -> None:
    """New work is done at the ring, long before the interval is over."""
    start()
    turns.wait_until(lambda: turns.looked == 1)
    turns.work = 1
    bell.ring()
    turns.wait_until(lambda: turns.done == 1)


def test_a_ring_before_the_wait_is_not_lost(turns: Turns, bell: Bell, start: Callable[..., Worker]) -> None:
    """Work that comes while it looks in vain is found all the same."""
    looking, go = threading.Event(), threading.Event()

    def turn() -> bool:
        found = turns()
        if not looking.is_set():
            looking.set()
            go.wait(20)
        return found

    start(turn=turn)
    assert looking.wait(20)
    turns.work = 1
    bell.ring()
    go.set()
    turns.wait_until(lambda: turns.done == 1)


def test_without_a_ring_it_looks_now_and_then(turns: Turns, start: Callable[..., Worker]) -> None:
    """Work that nobody told it of is found by polling."""
    start(interval_s=0.001)
    turns.wait_until(lambda: turns.looked > 2)
    turns.work = 1
    turns.wait_until(lambda: turns.done == 1)


def test_an_exception_is_told_and_does_not_end_it(turns: Turns, bell: Bell, start: Callable[..., Worker]) -> None:
    """A turn that fails is reported; the next ring is answered."""
    turns.error = ValueError("no disk")
    start()
    turns.wait_until(lambda: len(turns.failures) == 1)
    turns.error = None
    turns.work = 1
    bell.ring()
    turns.wait_until(lambda: turns.done == 1)
    assert [str(error) for error in turns.failures] == ["no disk"]


def test_a_lasting_fault_is_no_busy_loop(turns: Turns, start: Callable[..., Worker]) -> None:
    """After a failure it waits for the interval or a ring, although there is work."""
    turns.error, turns.work = ValueError("no disk"), 5
    worker = start()
    turns.wait_until(lambda: len(turns.failures) == 1)
    worker.stop()
    assert worker.join(20)
    assert turns.looked == 1


def test_stopping_wakes_and_ends_it(turns: Turns, start: Callable[..., Worker]) -> None:
    """A worker that waits ends at once; stopping twice is no mistake."""
    worker = start()
    turns.wait_until(lambda: turns.looked == 1)
    worker.stop()
    worker.stop()
    assert worker.join(20)


def test_stopping_ends_one_and_lets_the_others_work(turns: Turns, bell: Bell, start: Callable[..., Worker]) -> None:
    """Of several workers with one bell, those that stay are still woken."""
    first, _ = start(), start()
    turns.wait_until(lambda: turns.looked == 2)
    first.stop()
    assert first.join(20)
    for count in range(1, 20):
        turns.work = 1
        bell.ring()
        turns.wait_until(lambda count=count: turns.done == count)  # type: ignore[misc] # bound here


def test_a_turn_that_goes_on_is_not_waited_for_without_end(start: Callable[..., Worker]) -> None:
    """Joining has its limit, and says that the thread still stands."""
    begun, go = threading.Event(), threading.Event()

    def turn() -> bool:
        begun.set()
        return not go.wait(20)

    worker = start(turn=turn)
    assert begun.wait(20)
    worker.stop()
    assert not worker.join(0)
    go.set()
    assert worker.join(20)


def test_a_turn_may_stop_and_join_its_own_worker(start: Callable[..., Worker]) -> None:
    """A job that stops the worker it runs on does not wait for itself."""
    stopped = threading.Event()
    workers: list[Worker] = []
    known = threading.Event()

    def turn() -> bool:
        known.wait(20)
        workers[0].stop()
        workers[0].join(20)
        stopped.set()
        return False

    workers.append(start(turn=turn))
    known.set()
    assert stopped.wait(20)
    assert workers[0].join(20)
