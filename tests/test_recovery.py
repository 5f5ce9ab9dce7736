"""Reading the state again: the table of states may be missing, old or empty; the log tells it all."""

from __future__ import annotations

import json
import re
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

import durably_nb as dn
from durably_nb.fold import fold
from durably_nb.rows import Row
from durably_nb.run_state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from durably_nb.models import RunRecord

WAIT = 30


def folded(path: Path) -> dict[str, RunRecord]:
    """Fold the whole log from nothing, with plain DuckDB."""
    with duckdb.connect(path) as connection:
        log = connection.execute("select sequence, ms, run_id, type, data from durably.log order by sequence")
        runs: dict[str, RunRecord] = {}
        for sequence, ms, run_id, kind, data in log.fetchall():
            if run_id is not None:
                after = fold(runs.get(run_id), Row(sequence, ms, run_id, kind, json.loads(data)))
                if after is None:
                    runs.pop(run_id, None)
                else:
                    runs[run_id] = after
        return runs


def stored(path: Path) -> dict[str, RunRecord]:
    """Read the table of states with plain DuckDB."""
    with duckdb.connect(path) as connection:
        found = connection.execute("select run_id, state from durably.run_state").fetchall()
        return {run_id: read_state(text) for run_id, text in found}


@pytest.fixture
def lived(path: Path) -> Path:
    """Give a file with runs in every state."""
    with dn.Durably(path, max_concurrent_runs=2) as d:
        failing = [True]
        standing = threading.Event()

        @d.job
        def work(step: dn.StepContext, number: int) -> int:
            step.run("first", lambda: number)
            step.progress(1, 3, "one of three")
            step.log.info("here")
            if number == 2 and failing:
                raise ValueError("two")
            if number == 3:
                standing.set()
                step.signal.wait(WAIT)
            return step.run("last", bytes, 40_000).count(0)

        keyed = work.options(concurrency_key="k", labels={"of": "me"})
        done, failed = work.trigger(1).wait(WAIT), work.trigger(2).wait(WAIT)
        cancelled = keyed.trigger(3)
        assert standing.wait(WAIT)
        waiting = keyed.trigger(4)
        _ = work.options(concurrency_key="k", coalesce="skip").trigger(5)
        cancelled.cancel()
        _ = waiting.wait(WAIT)
        work.trigger(6).wait(WAIT).delete()
        _ = done.retrigger().wait(WAIT)
        failing.clear()
        _ = failed.resume().wait(WAIT)
        failing.append(True)
        _ = work.trigger(2).wait(WAIT)
        d.stop()
        _ = work.options(idempotency_key="later").trigger(7)
    return path


def test_the_table_of_states_is_the_fold_of_the_log(lived: Path) -> None:
    """After a life with every kind of change, folding the whole log from nothing gives the table of states."""
    states = stored(lived)
    assert folded(lived) == states
    assert sorted(state.status for state in states.values()) == [
        "cancelled", "completed", "completed", "completed", "completed", "failed", "pending",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        "delete from durably.run_state",
        "delete from durably.run_state where status = 'pending'",
        "delete from durably.run_state where last_sequence > 20",
    ],
)
def test_states_that_are_behind_are_made_from_the_log(lived: Path, damage: str) -> None:
    """If states are missing, as they are after a kill before their fold, opening makes them from the log."""
    expected = stored(lived)
    with duckdb.connect(lived) as connection:
        connection.execute(damage)
        connection.execute("update durably.meta set value = '' where key = 'closed'")
    with dn.Durably(lived) as d:
        assert {run.id: run.status for run in d.get_runs()} == {
            run_id: state.status for run_id, state in expected.items()
        }
    assert stored(lived) == expected


def test_the_views_are_made_anew(lived: Path) -> None:
    """Views of an older version are replaced at opening."""
    with duckdb.connect(lived) as connection:
        connection.execute("create or replace view durably.events as select 1 as old")
    with dn.Durably(lived) as d:
        assert len(d.events()) > 10
    with duckdb.connect(lived) as connection:
        assert connection.execute("select count(*) from durably.events where type = 'run:delete'").fetchall() == [(1,)]


def test_numbers_go_on_after_a_clean_end(path: Path) -> None:
    """Opened and closed again and again, events are numbered on without a gap that a crash would leave."""
    for number in range(3):
        with dn.Durably(path) as d:

            @d.job
            def one(step: dn.StepContext, number: int) -> int:
                return step.run("one", lambda: number)

            one.trigger(number).result(timeout=WAIT)
    with dn.Durably(path) as d:
        sequences = list(d.events()["sequence"])
    assert sequences == sorted(set(sequences))
    assert sequences[-1] < 100


def test_an_idempotency_key_holds_over_restarts(lived: Path) -> None:
    """A run that was triggered with a key is found by it after a reopening, pending or ended."""
    for _ in range(2):
        with dn.Durably(lived) as d:

            @d.job
            def work(step: dn.StepContext, number: int) -> int:
                return step.run("only", lambda: number)

            run = work.options(idempotency_key="later").trigger(8)
            assert run.disposition == "idempotent"
            assert run.result(timeout=WAIT) == 7


@pytest.mark.slow
def test_interrupted_runs_go_first(path: Path, launch: Any) -> None:
    """After a kill the interrupted run is resumed before those that were waiting, the oldest of these first."""
    killed = """
import os, signal, sys
import durably_nb as dn
d = dn.open(sys.argv[1])

@d.job
def work(step, number: int) -> None:
    step.run("kept", lambda: None)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)

d.stop()
runs = work.batch_trigger([{"number": number} for number in (3, 1, 2)])
d.start()
runs[-1].wait()
"""
    launch(killed, path).finished(-9)
    order: list[int] = []
    with dn.Durably(path) as d:

        @d.job
        def work(step: dn.StepContext, number: int) -> None:
            step.run("kept", lambda: order.append(-number))
            order.append(number)

        for run in d.get_runs():
            run.result(timeout=WAIT)
        assert order == [3, -1, 1, -2, 2]
        (line,) = d.logs(level="info")["message"]
        assert re.search("1 completed step is reused", line)
    assert folded(path) == stored(path)


@pytest.mark.slow
def test_two_of_one_key_after_a_kill(path: Path, launch: Any) -> None:
    """A run that was killed and the one that waited for its key both complete, the killed one first."""
    killed = """
import os, signal, sys, threading
import durably_nb as dn
d = dn.open(sys.argv[1])
standing = threading.Event()

@d.job
def work(step, number: int) -> None:
    standing.set()
    step.signal.wait()

work.options(concurrency_key="k").trigger(1)
standing.wait(30)
work.options(concurrency_key="k").trigger(2)
d.storage.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    launch(killed, path).finished(-9)
    order: list[int] = []
    with dn.Durably(path, max_concurrent_runs=2) as d:

        @d.job
        def work(step: dn.StepContext, number: int) -> None:
            step.run("only", order.append, number)

        for run in d.get_runs():
            run.result(timeout=WAIT)
    assert order == [1, 2]


@pytest.mark.slow
def test_heard_numbers_are_not_given_again(path: Path, launch: Any) -> None:
    """What listeners heard and the disk never got is not numbered anew: sequences stay unique over a kill."""
    killed = """
import os, signal, sys, threading
import durably_nb as dn
d = dn.open(sys.argv[1])

@d.job
def work(step) -> None:
    for number in range(200):
        step.log.info(f"line {number}")
    os.kill(os.getpid(), signal.SIGKILL)

d.on("*", lambda event: print(event.sequence, flush=True))
work.trigger().wait()
"""
    heard = [int(line) for line in launch(killed, path).finished(-9).split()]
    with dn.Durably(path) as d:
        later: list[int] = []
        d.on("*", lambda event: later.append(event.sequence))

        @d.job
        def work(step: dn.StepContext) -> None:
            pass

        (run,) = d.get_runs()
        run.result(timeout=WAIT)
        assert min(later) > max(heard)
        assert all(before < after for before, after in pairwise(d.events()["sequence"]))


def orphan(directory: Path) -> None:
    """Leave a file that no row names in the directory of a run that is known."""
    (folder, *_) = sorted(directory.iterdir())
    (folder / ("0" * 32 + ".bin")).write_bytes(b"orphan")


def stranger(directory: Path) -> None:
    """Leave the files of a run that nobody knows."""
    folder = directory / "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    folder.mkdir()
    (folder / ("0" * 32 + ".bin.tmp")).write_bytes(b"half")


@pytest.mark.parametrize("leave", [orphan, stranger])
def test_files_that_a_kill_left_are_swept(lived: Path, leave: Callable[[Path], None]) -> None:
    """Opening after an unclean end removes files that no row names, and no other."""
    directory = lived.with_name("jobs.duckdb.artifacts")
    before = {file for file in directory.rglob("*") if file.is_file()}
    assert before
    leave(directory)
    with duckdb.connect(lived) as connection:
        connection.execute("update durably.meta set value = '' where key = 'closed'")
    with dn.Durably(lived) as d:
        d.stop()
        assert {file for file in directory.rglob("*") if file.is_file()} == before


def test_files_of_the_user_are_not_swept(lived: Path) -> None:
    """What somebody else put beside the files of values stays."""
    directory = lived.with_name("jobs.duckdb.artifacts")
    (directory / "README").write_text("mine")
    (directory / "notes").mkdir()
    with duckdb.connect(lived) as connection:
        connection.execute("update durably.meta set value = '' where key = 'closed'")
    with dn.Durably(lived):
        assert (directory / "README").read_text() == "mine"
        assert (directory / "notes").is_dir()
