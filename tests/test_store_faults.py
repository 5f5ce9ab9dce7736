"""A commit that fails: everybody who waits is told, nothing that was stored is lost, and the work goes on later."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT = 30


@contextmanager
def no_commit(d: dn.Durably) -> Iterator[None]:
    """Let every commit of the library fail: an open transaction of the user's has altered its table."""
    with d.cursor().cursor() as cursor:
        cursor.begin().execute("alter table durably.log add column spoiled integer")
        yield
        cursor.rollback()


def errors_of(d: dn.Durably) -> list[dn.WorkerErrorEvent]:
    """Collect what worker:error tells."""
    told: list[Any] = []
    d.on("worker:error", told.append)
    return told


def test_whoever_waits_is_told(d: dn.Durably) -> None:
    """A trigger whose commit fails raises StoreError with DuckDB's reason, and there is no such run."""

    @d.job
    def nothing(step: dn.StepContext) -> None:
        pass

    with no_commit(d), pytest.raises(dn.StoreError, match="has been altered"):
        _ = nothing.options(idempotency_key="once").trigger()
    assert d.get_runs() == []
    run = nothing.options(idempotency_key="once").trigger()
    assert run.disposition == "created"
    run.result(timeout=WAIT)


def test_many_waiters_are_all_told(d: dn.Durably) -> None:
    """Every thread that waits for the same commit gets the error, none is left waiting."""

    @d.job
    def nothing(step: dn.StepContext, number: int) -> None:
        pass

    refused: list[dn.StoreError] = []

    def trigger(number: int) -> None:
        try:
            _ = nothing.trigger(number)
        except dn.StoreError as error:
            refused.append(error)

    threads = [threading.Thread(target=trigger, args=(number,)) for number in range(8)]
    with no_commit(d):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(refused) == 8
    assert d.get_runs() == []


def test_what_ended_before_is_still_known(d: dn.Durably) -> None:
    """A run that ended a moment before a failing commit is found, complete, in memory and on disk."""

    @d.job
    def one(step: dn.StepContext) -> int:
        return step.run("one", lambda: 1)

    run = one.trigger()
    assert run.result(timeout=WAIT) == 1
    with no_commit(d):
        with pytest.raises(dn.StoreError):
            _ = one.trigger()
        found = d.get_run(run.id)
        assert found is not None
        assert (found.status, found.output) == ("completed", 1)
    assert [(known.id, known.status) for known in d.get_runs()] == [(run.id, "completed")]
    assert run.step_output("one") == 1


@pytest.mark.parametrize("checkpoint", ["strict", "pipelined"])
def test_a_run_loses_its_lease_and_goes_on_later(path: Path, checkpoint: Any) -> None:
    """A run whose checkpoint cannot be stored is left, says so, and is executed again; what was kept is kept."""
    executed: list[str] = []
    reached, go_on = threading.Event(), threading.Event()
    with dn.Durably(path, checkpoint=checkpoint) as d:
        told = errors_of(d)

        def note(name: str) -> str:
            executed.append(name)
            return name

        def wait_first(name: str) -> str:
            executed.append(name)
            if not go_on.is_set():
                reached.set()
                assert go_on.wait(WAIT)
            return name

        @d.job
        def three(step: dn.StepContext) -> str:
            first = step.run("first", note, "first")
            return first + step.run("second", wait_first, "second") + step.run("third", note, "third")

        run = three.trigger()
        assert reached.wait(WAIT)
        d.storage.flush()
        with no_commit(d):
            failed = threading.Event()
            d.on("worker:error", lambda _: failed.set())
            go_on.set()
            assert failed.wait(WAIT)
        assert run.result(timeout=WAIT) == "firstsecondthird"
        assert executed.count("first") == 1
        assert executed.count("second") == 2
        completed = d.events(type="step:complete")
        assert list(completed["step_name"]) == ["first", "second", "third"]
        assert {"commit", "lease-lost"} <= {event.context for event in told}
        sequences = list(d.events()["sequence"])
        assert sequences == sorted(set(sequences))


def test_an_outcome_that_cannot_be_stored(d: dn.Durably) -> None:
    """If run:complete itself cannot be stored, nobody hears of it, and the run completes at the next try."""
    told: list[str] = []
    d.on(["run:complete", "run:fail"], lambda event: told.append(event.type))
    inside, go_on = threading.Event(), threading.Event()
    tries: list[int] = []

    @d.job
    def late(step: dn.StepContext) -> int:
        step.run("kept", lambda: None)
        tries.append(1)
        inside.set()
        assert go_on.wait(WAIT)
        return len(tries)

    run = late.trigger()
    assert inside.wait(WAIT)
    with no_commit(d):
        failed = threading.Event()
        d.on("worker:error", lambda _: failed.set())
        go_on.set()
        assert failed.wait(WAIT)
        assert told == []
    assert run.result(timeout=WAIT) == 2
    assert told == ["run:complete"]


def test_a_transaction_that_cannot_be_stored(d: dn.Durably) -> None:
    """If the checkpoint of a transaction cannot be stored, what it wrote is not kept either."""
    d.cursor().execute("create table mine (one integer)")

    @d.job
    def write(step: dn.StepContext) -> None:
        step.transaction("write", spoil_and_write)

    def spoil_and_write(cursor: Any) -> None:
        cursor.execute("insert into mine values (1)")
        blocker.begin().execute("alter table durably.log add column spoiled integer")

    with d.cursor().cursor() as blocker:
        run = write.trigger()
        run.wait(timeout=WAIT) if not blocked(d, blocker) else None
    _ = run.wait(timeout=WAIT)
    assert d.cursor().execute("select count(*) from mine").fetchall() == [(len(d.events(type="step:complete")),)]


def blocked(d: dn.Durably, blocker: Any) -> bool:
    """Wait for the first worker:error, then let go."""
    failed = threading.Event()
    d.on(["worker:error", "step:fail"], lambda _: failed.set())
    assert failed.wait(WAIT)
    blocker.rollback()
    return True


def test_the_writers_connection_is_gone(path: Path) -> None:
    """When nothing can be written any more, each call says so, close() returns, and the file opens again."""
    d = dn.open(path)

    @d.job
    def one(step: dn.StepContext) -> int:
        return step.run("one", lambda: 1)

    run = one.trigger()
    run.result(timeout=WAIT)
    d.storage._ledger._writer._connection.close()
    for _ in range(3):
        with pytest.raises(dn.StoreError, match="closed"):
            _ = one.trigger()
    d.close()
    with dn.open(path) as again:
        assert [(found.id, found.output) for found in again.get_runs()] == [(run.id, 1)]


# --- a disk that takes no more ---

FULL = """
import resource, sys, threading
import durably_nb as dn

d = dn.open(sys.argv[1], checkpoint=sys.argv[2])
told = []
d.on("worker:error", lambda event: told.append(event.context))
d.on_error(lambda error, event: print("listener", error))

def fill(name):
    return name * 20_000

@d.job
def several(step, count: int) -> int:
    return sum(len(step.run(f"step {i}", fill, "x")) for i in range(count))

before = several.trigger(3)
assert before.result(timeout=30) == 60_000
d.cursor().execute("checkpoint")
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))  # of DuckDB's log beside the database
failed = threading.Event()
d.on("worker:error", lambda _: failed.set())
try:
    run = several.trigger(40)
    assert failed.wait(30)
    print("failed")
except dn.StoreError:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    d.close()
except dn.StoreError:
    print("could not close cleanly")
print("told", sorted(set(told)))
"""

RESUME = """
import sys
import durably_nb as dn

d = dn.open(sys.argv[1])
executed = []

def fill(name):
    executed.append(name)
    return name * 20_000

@d.job
def several(step, count: int) -> int:
    return sum(len(step.run(f"step {i}", fill, "x")) for i in range(count))

print([run.result(timeout=30) for run in d.get_runs()], len(executed))
d.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["strict", "pipelined"])
def test_a_full_disk(launch: Any, path: Path, checkpoint: str) -> None:
    """When the disk takes no more, the run stops and says so; with room again, it goes on where it stopped."""
    said = launch(FULL, path, checkpoint).finished().splitlines()
    assert said[0] == "failed"
    assert "'commit'" in said[-1]
    outputs, executed = launch(RESUME, path).finished().rsplit(maxsplit=1)
    assert outputs == "[800000, 60000]"
    assert 0 < int(executed) < (40 if checkpoint == "strict" else 41)  # pipelined, all may be in the one lost commit


# --- artifacts ---


def large(d: dn.Durably) -> dn.Run:
    """Let a run keep a value that goes into a file, and fail afterwards."""

    @d.job
    def keep(step: dn.StepContext) -> int:
        size = len(step.run("large", bytes, 100_000))
        if not fixed:
            raise RuntimeError("later")
        return size

    fixed: list[bool] = []
    run = keep.trigger()
    _ = run.wait(timeout=WAIT)
    fixed.append(True)
    return run


@pytest.mark.parametrize("damage", ["missing", "truncated", "grown", "spoiled"])
def test_a_file_of_a_value_that_was_damaged(d: dn.Durably, path: Path, damage: str) -> None:
    """If the file of a large value is damaged, reading it says so, and a resumed run fails with that reason."""
    run = large(d)
    (file,) = (path.parent / "jobs.duckdb.artifacts").rglob("*.*")
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"truncated": data[:-1], "grown": data + b"x", "spoiled": b"\x01" + data[1:]}[damage])
    with pytest.raises(dn.SerializationError, match=file.name):
        run.step_output("large")
    _ = run.resume().wait(timeout=WAIT)
    assert run.status == "failed"
    assert "SerializationError" in str(run.error)
    file.write_bytes(data)
    assert run.resume().result(timeout=WAIT) == 100_000
