"""Backups: a copy of the store that can be opened, whatever goes on meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = "x" * 100_000
"""More than is kept in a row: it lies in a file beside the store."""


def test_a_backup_is_a_store(d: dn.Durably, tmp_path: Path) -> None:
    """I open the copy and have the same runs, steps, values and tables of my own, and can go on in it."""
    job = d.job(name="large")(lambda step, text: step.run("large", lambda: text * 2))
    run = job.options(labels={"team": "a"}).trigger(text=LARGE)
    run.result(timeout=20)
    d.sql("create table mine (n integer)")
    d.sql("insert into mine values (42)")
    copy = d.backup(tmp_path / "copy.duckdb")
    assert copy == tmp_path / "copy.duckdb"
    with dn.open(copy) as other:
        found = other.get_run(run.id)
        assert found is not None
        assert (found.output, found.input, found.labels) == (LARGE * 2, {"text": LARGE}, {"team": "a"})
        assert found.step_output("large") == LARGE * 2
        assert other.sql("from mine").fetchall() == [(42,)]
        assert list(other.events()["sequence"]) == list(d.events()["sequence"])
        again = other.register(job.definition)[0].trigger(text="y")
        assert again.result(timeout=20) == "yy"
        found.delete()
        assert other.get_run(run.id) is None
    assert run.step_output("large") == LARGE * 2


def test_a_backup_while_a_run_executes(d: dn.Durably, tmp_path: Path) -> None:
    """In the copy, a run that was under way goes on after its last step that was done by then; the original too."""
    half, done = threading.Event(), threading.Event()
    executed: list[str] = []

    @d.job
    def long(step: dn.StepContext) -> int:
        def first() -> str:
            executed.append("first")
            return LARGE

        def second() -> str:
            executed.append("second")
            half.set()
            assert done.wait(20)
            return LARGE

        return len(step.run("first", first)) + len(step.run("second", second))

    run = long.trigger()
    assert half.wait(20)
    copy = d.backup(tmp_path / "copy.duckdb")
    done.set()
    assert run.result(timeout=20) == 200_000
    with dn.open(copy) as other:
        other.register(long.definition)
        found = other.get_run(run.id)
        assert found is not None
        assert found.result(timeout=20) == 200_000
        steps = found.steps()
        assert list(zip(steps["step_name"], steps["status"], strict=True)) == [
            ("first", "completed"),
            ("second", "interrupted"),
            ("second", "completed"),
        ]
    assert executed == ["first", "second", "second"]


def test_backups_while_files_come_and_go(d: dn.Durably, tmp_path: Path) -> None:
    """However busy the store is, each copy is whole: no value that its log names is missing."""
    d.max_concurrent_runs = 2
    d.start()
    stop = threading.Event()
    failed: list[BaseException] = []
    job = d.job(name="large")(lambda step, n: len(step.run("large", lambda: f"{n}" + LARGE)))

    def churn() -> None:
        try:
            while not stop.is_set():
                runs = job.batch_trigger([{"n": n} for n in range(4)])
                for run in runs:
                    run.result(timeout=20)
                    run.delete()
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failed.append(error)

    kept = job.trigger(n=0)
    kept.result(timeout=20)
    thread = threading.Thread(target=churn)
    thread.start()
    copies = [d.backup(tmp_path / f"copy{number}.duckdb") for number in range(4)]
    stop.set()
    thread.join()
    assert failed == []
    for copy in copies:
        assert not list(copy.parent.glob(f"{copy.name}.artifacts/**/*.tmp"))
        with dn.Durably(copy, jobs=[]) as other:
            for run in other.get_runs(status="completed"):
                assert len(run.step_output("large")) == 100_001


def test_a_backup_of_a_store_in_memory(tmp_path: Path) -> None:
    """What was tried out in memory can be kept after all."""
    with dn.Durably() as d:
        job = d.job(name="large")(lambda step: step.run("large", lambda: LARGE))
        run = job.trigger()
        run.result(timeout=20)
        copy = d.backup(tmp_path / "copy.duckdb")
    with dn.open(copy) as other:
        found = other.get_run(run.id)
        assert found is not None
        assert found.result(timeout=20) == LARGE


def test_a_backup_has_no_lock_and_no_ties(d: dn.Durably, tmp_path: Path) -> None:
    """The copy is a plain file, in nobody's hands; writing one leaves the store's own connection as it was."""
    copy = d.backup(str(tmp_path / 'it\'s a "copy".duckdb'))
    assert [one.name for one in tmp_path.glob("it's*")] == [copy.name]
    assert d.sql("select database_name from duckdb_databases() where not internal").fetchall() == [("jobs",)]
    with dn.open(copy) as other:
        assert len(other.events()) == 0


@pytest.mark.parametrize("target", [None, 5, "", "  ", "a\0b", b"x.duckdb", ["x"]])
def test_a_backup_needs_a_path(d: dn.Durably, target: Any) -> None:
    """What is no path is refused with a sentence."""
    with pytest.raises(dn.ValidationError, match=r"no path|A backup is written to the path of a file"):
        d.backup(target)


def test_a_backup_overwrites_nothing(d: dn.Durably, path: Path, tmp_path: Path, still_good: Callable[[], None]) -> None:
    """Neither the store itself, nor an older backup, nor a directory is written over."""
    older = d.backup(tmp_path / "copy.duckdb")
    before = older.read_bytes()
    for taken in (older, path, tmp_path):
        with pytest.raises(dn.ValidationError, match=r"something at|is a directory"):
            d.backup(taken)
    assert older.read_bytes() == before
    d.close()
    still_good()


def test_a_backup_that_cannot_be_written_says_so(d: dn.Durably, tmp_path: Path, still_good: Callable[[], None]) -> None:
    """A directory that is not there is named, and the store goes on."""
    with pytest.raises(dn.StoreError, match="nowhere"):
        d.backup(tmp_path / "nowhere" / "copy.duckdb")
    d.close()
    still_good()


def test_older_files_beside_the_target_are_not_mixed_in(d: dn.Durably, tmp_path: Path) -> None:
    """If values of some other store lie where the copy's would, nothing is written there."""
    d.job(name="large")(lambda step: step.run("large", lambda: LARGE)).trigger().result(timeout=20)
    (tmp_path / "copy.duckdb.artifacts").mkdir()
    with pytest.raises((dn.StoreError, dn.ValidationError), match=r"copy\.duckdb"):
        d.backup(tmp_path / "copy.duckdb")
