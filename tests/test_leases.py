from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb import (
    AsyncStepContext,
    CancelledError,
    Durably,
    LeaseLostError,
    LogWriteEvent,
    RunCompleteEvent,
    RunFailedError,
    StepContext,
)
from durably_nb.clock import Clock
from durably_nb.duckdb_store import DuckDBStore
from durably_nb.models import NewRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Heard

    from durably_nb.models import Lease
    from durably_nb.store import Claim


class HandClock(Clock):
    """A clock that goes forward when a test says so."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return 1_000.0 + self.ahead_s

    def now_ms(self) -> int:
        return 1_800_000_000_000 + round(self.ahead_s * 1000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(path: Path, clock: HandClock) -> Iterator[DuckDBStore]:
    store = DuckDBStore(path, clock=clock)
    store.open()
    yield store
    store.close()


@pytest.fixture
def timed(path: Path, clock: HandClock) -> Iterator[Durably]:
    """A store whose time the test makes pass; without a worker."""
    durably = Durably(path, lease_ms=30_000, lease_renew_interval_ms=20)
    durably.storage._clock = clock
    durably.migrate()
    yield durably
    durably.close()


def create(store: DuckDBStore, run_id: str, key: str | None = None) -> None:
    store.create_runs([NewRun(run_id=run_id, job_name="load", input={}, concurrency_key=key)])


def claim(store: DuckDBStore, lease_ms: int = 30_000) -> Claim:
    claimed = store.claim_run(["load"], "me", lease_ms, ())
    assert claimed is not None
    return claimed


def status(store: DuckDBStore, run_id: str) -> str:
    record = store.get_run(run_id)
    assert record is not None
    return record.status


def in_background(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# --- the store ---


def test_the_generation_only_grows(store: DuckDBStore) -> None:
    """Each claim of a run is of a higher generation: after a release, after a resume, after a restart."""
    create(store, "r")
    first = claim(store)
    store.release_lease(first.lease)
    second = claim(store)
    store.cancel_run("r").wait()
    store.resume_run("r").result()
    third = claim(store)
    store.close()
    store.open()
    fourth = claim(store)
    assert [one.lease.generation for one in (first, second, third, fourth)] == [1, 2, 3, 4]


def every_write(store: DuckDBStore, lease: Lease) -> list[Any]:
    about: dict[str, Any] = {"run_id": lease.run_id, "job_name": "load"}
    return [
        lambda: store.renew_lease(lease, 30_000),
        lambda: store.check_lease(lease),
        lambda: store.release_lease(lease),
        lambda: store.append(partial(LogWriteEvent, step_name=None, level="info", message="m", **about), lease),
        lambda: store.append(partial(RunCompleteEvent, output=1, duration=1.0, **about), lease, durable=True),
        lambda: store.append_in(store.cursor(), partial(RunCompleteEvent, output=1, duration=1.0, **about), lease, {}),
    ]


def test_every_write_of_a_former_holder_is_refused(store: DuckDBStore, clock: HandClock) -> None:
    """Once the generation has moved on, the one before can neither write, renew nor give back."""
    create(store, "r")
    former = claim(store).lease
    clock.ahead_s += 31
    assert store.expire_leases() == []
    now = claim(store)
    for write in every_write(store, former):
        with pytest.raises(LeaseLostError, match="generation 1"):
            write()
    store.check_lease(now.lease)
    assert status(store, "r") == "leased"
    assert store.reading_cursor().execute("select type from events").fetchall() == [
        ("run:trigger",),
        ("run:leased",),
        ("run:leased",),
    ]


def test_every_write_after_a_cancel_is_refused(store: DuckDBStore) -> None:
    """Who holds a cancelled run is told that this is why."""
    create(store, "r")
    lease = claim(store).lease
    store.cancel_run("r").wait()
    for write in every_write(store, lease):
        with pytest.raises(CancelledError):
            write()
    assert status(store, "r") == "cancelled"


def test_a_lease_expires_when_its_time_is_over_and_not_before(store: DuckDBStore, clock: HandClock) -> None:
    """Until the last millisecond the run is the holder's; a renewal counts from its own moment."""
    create(store, "r")
    lease = claim(store).lease
    clock.ahead_s += 29.9
    store.expire_leases()
    assert status(store, "r") == "leased"
    store.renew_lease(lease, 30_000)
    clock.ahead_s += 29.9
    store.expire_leases()
    assert status(store, "r") == "leased"
    clock.ahead_s += 0.2
    store.expire_leases()
    assert status(store, "r") == "pending"


def test_a_clock_set_back_does_not_matter(store: DuckDBStore, clock: HandClock) -> None:
    """Leases go by the clock that only goes forward, whatever the time of day is set to."""
    create(store, "r")
    claim(store)
    clock.now_ms = lambda: 0  # type: ignore[method-assign] # somebody sets the clock to 1970
    store.expire_leases()
    assert status(store, "r") == "leased"


def test_an_expired_run_fails_if_another_waits_for_its_key(store: DuckDBStore, clock: HandClock) -> None:
    """Two pending runs of one key cannot be: the one whose lease is over fails, and says so."""
    create(store, "held", key="k")
    lease = claim(store).lease
    create(store, "waiting", key="k")
    clock.ahead_s += 31
    (receipt,) = store.expire_leases()
    receipt.wait()
    record = store.get_run("held")
    assert record is not None
    assert (record.status, status(store, "waiting")) == ("failed", "pending")
    assert "waiting" in str(record.failure)
    assert (receipt.event.type, record.failed_step_name) == ("run:fail", None)
    with pytest.raises(LeaseLostError):
        store.check_lease(lease)
    assert claim(store).run.run_id == "waiting"


def test_at_open_nothing_fails(store: DuckDBStore) -> None:
    """A run whose holder died is pending beside the one that waits for its key, and goes first."""
    create(store, "held", key="k")
    claim(store)
    create(store, "waiting", key="k")
    store.close()
    store.open()
    assert [status(store, run_id) for run_id in ("held", "waiting")] == ["pending", "pending"]
    first = claim(store)
    assert first.run.run_id == "held"
    assert store.claim_run(["load"], "me", 30_000, ()) is None
    store.release_lease(first.lease)


def test_threads_that_claim_at_once_get_each_run_once(store: DuckDBStore) -> None:
    """However many workers look at the same moment, each run is leased to one of them."""
    store.create_runs([NewRun(run_id=f"r{number}", job_name="load", input={}) for number in range(40)])
    start = threading.Barrier(8)
    won: list[str] = []

    def work() -> None:
        start.wait()
        while (one := store.claim_run(["load"], threading.current_thread().name, 30_000, ())) is not None:
            won.append(one.run.run_id)

    threads = [in_background(work) for _ in range(8)]
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(f"r{number}" for number in range(40))


# --- a run that executes ---


def test_a_lease_is_renewed_while_the_run_executes(path: Path, heard: Heard) -> None:
    """Renewals are told with the owner and the new time, and end with the run."""
    with Durably(path, lease_ms=60_000, lease_renew_interval_ms=5) as d:
        d.on("run:*", heard)

        @d.job
        def load(step: StepContext) -> None:  # noqa: ARG001 - a job is given its step
            heard.wait_for("run:lease-renewed", 3)

        run = load.trigger()
        run.result(20)
        d.stop()
    leased = heard.of("run:leased")[0]
    renewals = heard.of("run:lease-renewed")
    times = [event.lease_expires_at for event in [leased, *renewals]]
    assert times == sorted(times)
    assert {event.lease_owner for event in renewals} == {leased.lease_owner}
    assert heard.types()[-1] == "run:complete"


def test_a_slow_listener_does_not_lose_the_lease(path: Path, heard: Heard) -> None:
    """Leases are renewed on a thread of their own, so that whoever blocks a run does not endanger it."""
    with Durably(path, lease_ms=60_000, lease_renew_interval_ms=5) as d:

        @d.job
        def load(step: StepContext) -> int:
            return step.run("one", lambda: 1)

        def block(event: Any) -> None:
            expiry = "select count(*) from log where type = 'run:lease-renewed'"
            while d.storage.reading_cursor().execute(expiry).fetchall()[0][0] < 3:
                continue
            heard(event)

        d.on("step:start", block)
        assert load.trigger().result(20) == 1
    assert heard.types() == ["step:start"]


def expire_at_once(d: Durably, clock: HandClock) -> None:
    """Let the lease be over without a renewal in between: the keeper waits for the same lock."""
    with d.storage._ledger:
        clock.ahead_s += 31
        assert d.process_one() is False


def test_a_lost_lease_stops_the_function(timed: Durably, clock: HandClock, heard: Heard) -> None:
    """The signal is set, no further step starts, nothing more is written, and worker:error says why."""
    at_work = threading.Event()
    went_on: list[str] = []

    @timed.job
    def load(step: StepContext) -> None:
        step.run("one", lambda: 1)

        def two() -> int:
            at_work.set()
            assert step.signal.wait(20)
            step.log.info("too late")
            step.progress(1, 2)
            return 2

        try:
            step.run("two", two)
        except Exception:  # noqa: BLE001 - even a job that catches everything is left
            went_on.append("caught")
        went_on.append("after")

    run = load.trigger()
    timed.on("*", heard)
    worker = in_background(timed.process_one)
    assert at_work.wait(20)
    expire_at_once(timed, clock)
    worker.join()
    error = heard.wait_for("worker:error")
    assert (error.run_id, error.context) == (run.id, "lease-lost")
    assert run.id in error.error
    assert went_on == []
    assert [event for event in heard.types() if not event.endswith("renewed")] == [
        "run:leased",
        "step:start",
        "step:complete",
        "step:start",
        "worker:error",
    ]
    assert [one.status for one in timed.get_runs()] == ["pending"]


def test_a_lost_lease_cancels_an_async_function_at_its_await(timed: Durably, clock: HandClock, heard: Heard) -> None:
    """An async job is stopped where it awaits."""
    at_work = threading.Event()

    @timed.job
    async def load(step: AsyncStepContext) -> None:
        async def endless() -> None:
            at_work.set()
            await asyncio.Event().wait()

        await step.run("one", endless)

    _ = load.trigger()
    timed.on("*", heard)
    worker = in_background(timed.process_one)
    assert at_work.wait(20)
    expire_at_once(timed, clock)
    worker.join()
    assert heard.wait_for("worker:error").context == "lease-lost"
    assert "step:cancel" not in heard.types()


def test_a_run_that_lost_its_lease_goes_on(timed: Durably, clock: HandClock) -> None:
    """It is pending again, is not begun while its former function stands, and keeps its completed steps."""
    at_work = threading.Event()
    calls: list[str] = []

    def count(name: str) -> int:
        calls.append(name)
        return 1

    @timed.job
    def load(step: StepContext) -> int:
        one = step.run("one", count, "one")
        if len(calls) == 1:
            calls.append("waits")
            at_work.set()
            assert step.signal.wait(20)
        return step.run("two", lambda: one + 1)

    run = load.trigger()
    worker = in_background(timed.process_one)
    assert at_work.wait(20)
    expire_at_once(timed, clock)
    worker.join()
    assert timed.process_one() is True
    assert run.result(0) == 2
    assert calls == ["one", "waits"]


def test_a_run_that_expired_beside_another_of_its_key_fails(timed: Durably, clock: HandClock, heard: Heard) -> None:
    """Whoever waits for the run that expired is told, and the one that waited for the key executes."""
    at_work = threading.Event()

    @timed.job
    def load(step: StepContext, *, slow: bool) -> str:
        if slow:
            at_work.set()
            assert step.signal.wait(20)
        return "done"

    timed.on(["run:fail", "run:complete"], heard)
    job = load.options(concurrency_key="k")
    slow = job.trigger(slow=True)
    worker = in_background(timed.process_one)
    assert at_work.wait(20)
    quick = job.trigger(slow=False)
    with timed.storage._ledger:
        clock.ahead_s += 31
        (receipt,) = timed.storage.expire_leases()
    timed._outbox.tell_when_ready(receipt)
    with pytest.raises(RunFailedError, match=quick.id) as failure:
        slow.result(20)
    assert failure.value.type == "LeaseLostError"
    worker.join()
    assert timed.process_one() is True
    assert quick.result(0) == "done"
    heard.wait_for("run:complete")
    assert [event.run_id for event in heard] == [slow.id, quick.id]


def test_a_short_lease_is_kept(path: Path, heard: Heard) -> None:
    """A lease is renewed in time, also where `lease_renew_interval_ms` is longer than the lease itself."""
    with Durably(path, lease_ms=60, lease_renew_interval_ms=60_000) as d:
        d.on(["run:lease-renewed", "run:leased"], heard)

        @d.job
        def work(step: StepContext) -> None:
            step.run("outlive three leases", lambda: heard.wait_for("run:lease-renewed", 9))

        work.trigger().result(timeout=20)
    assert len(heard.of("run:leased")) == 1
