from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb import Durably, NotFoundError, RunLeasedEvent, StepContext, ValidationError
from durably_nb.events import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Heard

    from durably_nb import DurablyEvent, Job


def work(step: StepContext, steps: int = 1) -> int:
    for number in range(steps):
        step.run(f"step {number}", lambda: 1)
        step.progress(number + 1, steps)
    return steps


def types(events: Any) -> list[str]:
    return [event.type for event in events]


def listeners(d: Durably) -> int:
    return sum(map(len, d._bus._listeners.values()))


@pytest.fixture
def job(idle: Durably) -> Job:
    return idle.job(work)


@pytest.fixture
def _paused() -> Iterator[None]:
    """What nobody holds is let go by reference counts alone, or by a collection the test asks for."""
    gc.disable()
    yield
    gc.enable()


def test_a_run_is_followed_from_its_state_to_its_end(job: Job, idle: Durably) -> None:
    """First what is stored, with its own sequence, then all that comes, ending with the run."""
    run = job.trigger(2)
    subscription = idle.subscribe(run.id)
    other = job.trigger()
    idle.process_until_idle()
    events = list(subscription)
    assert types(events) == [
        "run:trigger",
        "run:leased",
        *["step:start", "step:complete", "run:progress"] * 2,
        "run:complete",
    ]
    assert {event.run_id for event in events} == {run.id} != {other.id}
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences)) == run.events()["sequence"].tolist()


def test_a_run_is_followed_while_it_executes(d: Durably, heard: Heard) -> None:
    """A `for` loop in a cell waits for each event, and begins with state and latest progress."""
    go_on = threading.Event()

    @d.job
    def slow(step: StepContext) -> int:
        step.progress(1, 3)
        step.progress(2, 3)
        step.log.info("go")
        assert go_on.wait(20)
        return step.run("one", lambda: 1)

    d.on("log:write", heard)
    run = slow.trigger()
    heard.wait_for("log:write")
    seen: list[DurablyEvent] = []
    for event in d.subscribe(run.id):
        seen.append(event)
        if len(seen) == 2:
            go_on.set()
    assert types(seen) == ["run:leased", "run:progress", "step:start", "step:complete", "run:complete"]
    assert seen[1].progress.current == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("end", ["run:complete", "run:fail", "run:cancel"])
def test_an_ended_run_gives_its_latest_progress_and_its_end(end: str, idle: Durably) -> None:
    """The loop ends at once."""

    @idle.job
    def ends(step: StepContext) -> None:
        step.progress(1, 2)
        if end == "run:fail":
            raise OSError

    run = ends.trigger()
    if end == "run:cancel":
        run.cancel()
        assert types(idle.subscribe(run.id)) == [end]
        return
    idle.process_until_idle()
    assert types(idle.subscribe(run.id)) == ["run:progress", end]


def test_a_resumed_run_is_followed_to_its_new_end(idle: Durably) -> None:
    """That it had failed before is no end of a run that goes on."""
    failing = [True]

    @idle.job
    def once(step: StepContext) -> int:
        step.run("one", lambda: 1)
        if failing.pop():
            raise OSError
        return 1

    run = once.trigger()
    idle.process_until_idle()
    failing.append(False)
    _ = run.resume()
    subscription = idle.subscribe(run.id)
    idle.process_until_idle()
    assert types(subscription) == ["run:leased", "run:leased", "log:write", "run:complete"]


def test_a_deletion_ends_a_subscription(job: Job, idle: Durably) -> None:
    """Nothing comes after it."""
    run = job.trigger()
    subscription = idle.subscribe(run.id)
    idle.process_until_idle()
    run.delete()
    assert types(subscription)[-1] == "run:complete"
    with pytest.raises(NotFoundError):
        idle.subscribe(run.id)


def test_an_emitted_event_is_no_state(job: Job, idle: Durably) -> None:
    """A run:leased of a user's is heard as it comes, and is not the latest state."""
    run = job.trigger()
    event = RunLeasedEvent(run_id=run.id, job_name="", input={}, lease_owner="me", lease_expires_at=now())
    idle.emit(event)
    subscription = idle.subscribe(run.id)
    idle.emit(event)
    run.cancel()
    assert types(subscription) == ["run:trigger", "run:leased", "run:cancel"]


def test_a_subscription_begins_when_it_is_made(job: Job, idle: Durably) -> None:
    """What happens before the loop begins is not missed."""
    run = job.trigger()
    subscription = idle.subscribe(run.id)
    run.cancel()
    assert types(subscription) == ["run:trigger", "run:cancel"]
    assert types(subscription) == []


# --- async ---


def test_async_for_does_not_block_the_loop(d: Durably) -> None:
    """A cell may follow several runs at once."""
    job = d.job(work)

    async def follow(steps: int) -> list[str]:
        return [event.type async for event in d.subscribe(job.trigger(steps).id)]

    async def cell() -> list[list[str]]:
        return await asyncio.gather(*(follow(steps) for steps in (1, 2, 3)))

    for number, kinds in enumerate(asyncio.run(cell()), 1):
        assert kinds[-1] == "run:complete"
        assert kinds.count("step:complete") <= number


def test_a_cancelled_async_for_stops_listening(job: Job, idle: Durably) -> None:
    """Breaking off leaves nothing behind."""
    run = job.trigger()
    before = listeners(idle)

    async def cell() -> None:
        async def follow() -> None:
            async for _ in idle.subscribe(run.id):
                continue

        task = asyncio.ensure_future(follow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cell())
    gc.collect()
    assert listeners(idle) == before


# --- ends ---


def test_an_unknown_run_is_refused_at_once(idle: Durably) -> None:
    """Not at the first turn of a loop; and nothing is left behind."""
    before = listeners(idle)
    with pytest.raises(NotFoundError, match="no run 'nobody'"):
        idle.subscribe("nobody")
    with pytest.raises(ValidationError):
        idle.subscribe(3)  # type: ignore[arg-type]
    gc.collect()
    assert listeners(idle) == before


def test_close_lets_go_of_whoever_iterates(job: Job, idle: Durably) -> None:
    """The loop ends; what had come is still given."""
    run = job.trigger()
    before = listeners(idle)
    subscription = idle.subscribe(run.id)
    first = threading.Event()
    seen: list[str] = []

    def follow() -> None:
        for event in subscription:
            seen.append(event.type)
            first.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert first.wait(20)
    subscription.close()
    subscription.close()
    thread.join()
    assert seen == ["run:trigger"]
    assert listeners(idle) == before


def test_with_closes(job: Job, idle: Durably) -> None:
    """At the end of the block nothing is listened to any more."""
    run = job.trigger()
    before = listeners(idle)
    with idle.subscribe(run.id) as subscription:
        assert next(iter(subscription)).type == "run:trigger"
        assert listeners(idle) > before
    assert listeners(idle) == before


@pytest.mark.usefixtures("_paused")
@pytest.mark.parametrize("begun", [False, True])
def test_a_forgotten_subscription_stops_listening(begun: bool, job: Job, idle: Durably) -> None:  # noqa: FBT001 - a case
    """One that nobody holds, begun or not, leaves no listener."""
    run = job.trigger()
    before = listeners(idle)
    subscription = idle.subscribe(run.id)
    if begun:
        iterator = iter(subscription)
        assert next(iterator).type == "run:trigger"
        del iterator
    gone = weakref.ref(subscription)
    del subscription
    assert gone() is None
    assert listeners(idle) == before


def test_the_end_of_the_run_stops_listening(job: Job, idle: Durably) -> None:
    """Also of a subscription that is still held."""
    before = listeners(idle)
    subscription = idle.subscribe(job.trigger().id)
    idle.process_until_idle()
    assert types(subscription)[-1] == "run:complete"
    assert listeners(idle) == before


@pytest.mark.parametrize("is_async", [False, True])
def test_closing_the_store_ends_a_loop(is_async: bool, job: Job, idle: Durably) -> None:  # noqa: FBT001 - a case
    """Nothing can come any more: whoever follows a run that waits is let go."""
    subscription = idle.subscribe(job.trigger().id)
    first = threading.Event()
    seen: list[str] = []

    def follow() -> None:
        for event in subscription:
            seen.append(event.type)
            first.set()

    async def follow_async() -> None:
        async for event in subscription:
            seen.append(event.type)
            first.set()

    thread = threading.Thread(target=(lambda: asyncio.run(follow_async())) if is_async else follow)
    thread.start()
    assert first.wait(20)
    idle.close()
    thread.join(20)
    assert not thread.is_alive()
    assert seen == ["run:trigger"]
