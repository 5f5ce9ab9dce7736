from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb import ConflictError, Durably, StepContext, Trigger, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Heard

    from durably_nb import Job


@pytest.fixture
def load(idle: Durably) -> Job:
    @idle.job
    def load(step: StepContext, month: int = 1) -> int:  # noqa: ARG001 - a job is given its step
        return month

    return load


@pytest.fixture
def pick(idle: Durably) -> Job:
    @idle.job
    def pick(step: StepContext, *, fail: bool = False) -> None:  # noqa: ARG001 - a job is given its step
        if fail:
            raise RuntimeError

    return pick


# --- idempotency ---


def test_the_same_idempotency_key_gives_back_the_same_run(load: Job, idle: Durably, heard: Heard) -> None:
    """A cell that is run twice with an idempotency key makes one run, and the second trigger makes no event."""
    idle.on("*", heard)
    first = load.options(idempotency_key="march").trigger(3)
    again = load.options(idempotency_key="march").trigger(4)
    assert again.id == first.id
    assert (first.disposition, again.disposition) == ("created", "idempotent")
    assert again.input == {"month": 3}
    assert heard.types() == ["run:trigger"]


def test_idempotency_holds_after_the_run_has_ended(load: Job, pick: Job, idle: Durably) -> None:
    """Completed, failed and cancelled runs answer for their key too; only a deleted one frees it."""
    completed = load.options(idempotency_key="a").trigger()
    failed = pick.options(idempotency_key="a").trigger(fail=True)
    cancelled = load.options(idempotency_key="b").trigger()
    cancelled.cancel()
    assert idle.process_until_idle() == 2
    for run, job in [(completed, load), (failed, pick)]:
        assert job.options(idempotency_key="a").trigger().id == run.id
    again = load.options(idempotency_key="b").trigger()
    assert (again.id, again.status) == (cancelled.id, "cancelled")
    again.delete()
    assert load.options(idempotency_key="b").trigger().id != cancelled.id


def test_idempotency_holds_over_a_restart(path: Path) -> None:
    """A kernel restarted tomorrow finds the run of a key, pending or ended."""

    def count(step: StepContext) -> int:  # noqa: ARG001 - a job is given its step
        return 1

    with Durably(path, jobs=[count]) as d:
        ended = d.jobs.count.options(idempotency_key="ended").trigger()
        assert ended.result(10) == 1
        d.stop()
        pending = d.jobs.count.options(idempotency_key="pending").trigger()
    d = Durably(path, jobs=[count])
    d.migrate()
    for run, key in [(ended, "ended"), (pending, "pending")]:
        again = d.jobs.count.options(idempotency_key=key).trigger()
        assert (again.id, again.disposition) == (run.id, "idempotent")
    d.close()


def test_idempotency_is_of_one_job(load: Job, pick: Job) -> None:
    """Two jobs may use the same key for different things."""
    assert load.options(idempotency_key="k").trigger().id != pick.options(idempotency_key="k").trigger().id


def test_idempotency_within_one_batch(load: Job, heard: Heard, idle: Durably) -> None:
    """Rows of a batch with the same key become one run, given back for each of them."""
    idle.on("*", heard)
    runs = load.batch_trigger([Trigger({"month": month}, idempotency_key="k") for month in (1, 2, 3)])
    assert len({run.id for run in runs}) == 1
    assert [run.disposition for run in runs] == ["created", "idempotent", "idempotent"]
    assert runs[2].input == {"month": 1}
    assert len(heard) == 1
    assert len(idle.get_runs()) == 1


def test_many_threads_with_one_idempotency_key_make_one_run(load: Job) -> None:
    """Whoever triggers at the same moment is given the same run."""
    start = threading.Barrier(8)
    runs: list[Any] = []

    def trigger() -> None:
        start.wait()
        runs.append(load.options(idempotency_key="k").trigger())

    threads = [threading.Thread(target=trigger) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.id for run in runs}) == 1
    assert [run.disposition for run in runs].count("created") == 1


def test_idempotency_is_looked_at_before_concurrency(load: Job) -> None:
    """A trigger that is known already is answered, even if its concurrency key would refuse it."""
    first = load.options(idempotency_key="i", concurrency_key="c").trigger()
    again = load.options(idempotency_key="i", concurrency_key="c").trigger()
    assert (again.id, again.disposition) == (first.id, "idempotent")


# --- concurrency ---


def test_a_second_pending_run_of_a_key_is_refused(load: Job, idle: Durably) -> None:
    """The refusal names the run that is pending and the choices, and stores nothing."""
    first = load.options(concurrency_key="db").trigger()
    with pytest.raises(ConflictError) as refusal:
        _ = load.options(concurrency_key="db").trigger()
    assert first.id in str(refusal.value)
    assert 'coalesce="skip"' in str(refusal.value)
    assert [run.id for run in idle.get_runs()] == [first.id]


def test_concurrency_is_of_one_job(load: Job, pick: Job) -> None:
    """Another job with the same key is not concerned."""
    _ = load.options(concurrency_key="db").trigger()
    assert pick.options(concurrency_key="db").trigger().disposition == "created"


def test_one_run_of_a_key_executes_and_one_waits(path: Path) -> None:
    """While a run of a key executes one more may wait for it, even if other workers are free."""
    at_work, go_on = threading.Semaphore(0), threading.Event()
    most = 0
    inside: set[str] = set()

    def load(step: StepContext) -> None:
        nonlocal most
        inside.add(step.run_id)
        most = max(most, len(inside))
        at_work.release()
        go_on.wait(10)
        inside.discard(step.run_id)

    with Durably(path, jobs=[load], max_concurrent_runs=3) as d:
        job = d.jobs.load.options(concurrency_key="db")
        first = job.trigger()
        assert at_work.acquire(timeout=10)
        second = job.trigger()
        with pytest.raises(ConflictError, match="already pending"):
            _ = job.trigger()
        other = d.jobs.load.options(concurrency_key="other").trigger()
        assert at_work.acquire(timeout=10)
        assert (first.status, second.status) == ("leased", "pending")
        go_on.set()
        for run in (first, second, other):
            assert run.wait(10).status == "completed"
    assert most == 2


def test_skip_gives_the_run_that_is_pending(load: Job, idle: Durably, heard: Heard) -> None:
    """A coalesced trigger is told as such, with what was not used; the run keeps its own input and labels."""
    idle.on("*", heard)
    job = load.options(concurrency_key="db", coalesce="skip")
    first = job.options(labels={"by": "me"}).trigger(1)
    second = job.options(labels={"by": "you"}).trigger(2)
    assert (second.id, second.disposition) == (first.id, "coalesced")
    assert (second.input, second.labels) == ({"month": 1}, {"by": "me"})
    coalesced = heard.of("run:coalesced")[0]
    assert (coalesced.run_id, coalesced.labels) == (first.id, {"by": "me"})
    assert (coalesced.skipped_input, coalesced.skipped_labels) == ({"month": 2}, {"by": "you"})


def test_skip_within_one_batch(load: Job, idle: Durably, heard: Heard) -> None:
    """A batch of one key becomes one run, and each row after the first is told as coalesced."""
    idle.on("*", heard)
    job = load.options(concurrency_key="db", coalesce="skip")
    runs = job.batch_trigger([{"month": month} for month in (1, 2, 3)])
    assert len({run.id for run in runs}) == 1
    assert [run.disposition for run in runs] == ["created", "coalesced", "coalesced"]
    assert heard.types() == ["run:trigger", "run:coalesced", "run:coalesced"]
    assert [event.skipped_input for event in heard[1:]] == [{"month": 2}, {"month": 3}]


def test_a_batch_that_meets_itself_creates_nothing(load: Job, idle: Durably, heard: Heard) -> None:
    """If one row of a batch is refused, none of them is created, and the key is free afterwards."""
    idle.on("*", heard)
    with pytest.raises(ConflictError):
        load.batch_trigger([Trigger({}, idempotency_key="i"), *[Trigger({}, concurrency_key="c")] * 2])
    assert heard == []
    assert idle.get_runs() == []
    assert load.options(concurrency_key="c", idempotency_key="i").trigger().disposition == "created"
    assert idle.process_until_idle() == 1


def test_the_key_is_free_again_after_each_end(load: Job, pick: Job, idle: Durably) -> None:
    """Completed, failed and cancelled runs no longer stand in the way of their key."""
    job = load.options(concurrency_key="db")
    _ = job.trigger()
    idle.process_until_idle()
    job.trigger().cancel()
    assert job.trigger().disposition == "created"
    failing = pick.options(concurrency_key="db")
    _ = failing.trigger(fail=True)
    idle.process_until_idle()
    assert failing.trigger().disposition == "created"


def test_concurrency_holds_over_a_restart(path: Path) -> None:
    """A run that is pending when the kernel ends still has its key when the file is opened again."""

    def load(step: StepContext) -> None:
        """Do nothing."""

    d = Durably(path, jobs=[load])
    d.migrate()
    pending = d.jobs.load.options(concurrency_key="db").trigger()
    d.close()
    d = Durably(path, jobs=[load])
    d.migrate()
    with pytest.raises(ConflictError, match=pending.id):
        _ = d.jobs.load.options(concurrency_key="db").trigger()
    again = d.jobs.load.options(concurrency_key="db", coalesce="skip").trigger()
    assert again.id == pending.id
    d.close()


def test_keys_still_work_after_a_refusal_and_a_failed_run(pick: Job, idle: Durably) -> None:
    """A resumed run has its key again: another pending one of it stands in the way, and says so."""
    job = pick.options(concurrency_key="db")
    failed = job.trigger(fail=True)
    idle.process_until_idle()
    pending = job.trigger()
    with pytest.raises(ConflictError, match=pending.id):
        _ = failed.resume()
    assert failed.status == "failed"
    pending.cancel()
    assert failed.resume().status == "pending"
    with pytest.raises(ConflictError, match=failed.id):
        _ = job.trigger()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coalesce": "skip"}, "needs a concurrency_key"),
        ({"coalesce": "replace", "concurrency_key": "k"}, "'replace'"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"concurrency_key": 3}, "concurrency_key"),
        ({"idempotency_key": "\0"}, "idempotency_key"),
        ({"concurrency_key": "x" * 10_000_000}, "concurrency_key"),
        ({"idempotency": "k"}, "idempotency"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(load: Job, options: dict[str, Any], said: str) -> None:
    """A wrong key or option is refused where it is written, before anything is stored."""
    with pytest.raises(ValidationError, match=said):
        load.options(**options)


# --- order ---


def test_the_oldest_goes_first(load: Job, pick: Job, idle: Durably, heard: Heard) -> None:
    """Runs execute in the order of their triggers, whatever their job."""
    idle.on("run:leased", heard)
    runs = [load.trigger(), pick.trigger(), *load.batch_trigger([{"month": 2}, {"month": 3}]), pick.trigger()]
    assert idle.process_until_idle() == 5
    assert [event.run_id for event in heard] == [run.id for run in runs]


def test_an_interrupted_run_goes_before_older_ones(path: Path, heard: Heard) -> None:
    """What a dead kernel left in the middle goes on first, before what only waited."""

    def later(step: StepContext) -> None:
        """Do nothing."""

    def interrupted(step: StepContext) -> None:
        """Do nothing."""

    d = Durably(path, jobs=[later, interrupted])
    d.migrate()
    first = d.jobs.later.trigger()
    second = d.jobs.interrupted.options(concurrency_key="k").trigger()
    assert d.storage.claim_run(["interrupted"], "a kernel that dies", 30_000, ()) is not None
    waiting = d.jobs.interrupted.options(concurrency_key="k").trigger()
    d.close()
    d = Durably(path, jobs=[later, interrupted])
    d.migrate()
    d.on("run:leased", heard)
    assert {run.id: run.status for run in d.get_runs()} == dict.fromkeys([first.id, second.id, waiting.id], "pending")
    assert d.process_until_idle() == 3
    assert [event.run_id for event in heard] == [second.id, first.id, waiting.id]
    d.close()


def test_a_resumed_run_has_its_old_place_in_the_line(pick: Job, load: Job, idle: Durably, heard: Heard) -> None:
    """The oldest goes first, counted from the first trigger."""
    failed = pick.trigger(fail=True)
    idle.process_until_idle()
    newer = load.trigger()
    _ = failed.resume()
    idle.on("run:leased", heard)
    idle.process_until_idle()
    assert [event.run_id for event in heard] == [failed.id, newer.id]
