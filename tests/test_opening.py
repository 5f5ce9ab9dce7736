"""Opening: the same object for the same file, whatever file that is, and a clear refusal where there can be none."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close at the end what a test left open by `dn.open`."""
    yield
    for opened in list(dn.lifetimes._open):
        opened.close()  # type: ignore[attr-defined] # a Durably


def work(d: dn.Durably, number: int = 1) -> Any:
    """Define a small job, and let it run once."""

    @d.job
    def add_one(step: dn.StepContext, number: int) -> int:
        return step.run("add", lambda: number + 1)

    return add_one.trigger(number).result(timeout=30)


def create(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    """Make a table of the user's own."""
    cursor.execute(f"create table {name} as select 1 as one")


def files_of(path: Path) -> set[str]:
    """Give the names of all files that belong to a database."""
    return {file.name for file in path.parent.iterdir() if file.name.startswith(path.name)}


def run_count(path: Path) -> int:
    """Count the runs with plain DuckDB."""
    with duckdb.connect(path) as connection:
        found: int = connection.execute("select count(*) from durably.runs").fetchall()[0][0]
        return found


# --- the same object ---


def test_opening_again_gives_the_same_object(path: Path) -> None:
    """The cell that opens the file may be run again: it gives the object that is open, with its jobs."""
    d = dn.open(path)
    work(d)
    assert dn.open(path) is d
    assert "add_one" in d.jobs


def test_options_given_again_take_effect(path: Path) -> None:
    """Run the cell again with another option, and it holds from now on; the others stay."""
    d = dn.open(path, lease_ms=60_000)
    dn.open(path, max_concurrent_runs=2)
    assert (d.lease_ms, d.max_concurrent_runs) == (60_000, 2)
    both = threading.Barrier(2)

    @d.job
    def meet(step: dn.StepContext) -> None:
        step.run("meet", lambda: both.wait(30) and None)

    for run in meet.batch_trigger([{}, {}]):
        run.result(timeout=30)


def test_jobs_given_again_are_defined(path: Path) -> None:
    """Run the cell that opens the file with its jobs again: they are defined anew, beside those that were."""

    def double(step: dn.StepContext, number: int) -> int:
        return step.run("double", lambda: number * 2)

    d = dn.open(path, jobs=[double])
    work(d)
    assert dn.open(path, jobs=[double]) is d
    assert list(d.jobs) == ["double", "add_one"]
    assert d.jobs.double.trigger(2).result(timeout=20) == 4
    for opened in (dn.open, dn.Durably):
        with pytest.raises(
            dn.ValidationError, match=r"jobs is a list of job functions, such as jobs=\[import_flights\]"
        ):
            opened(path, jobs=double)  # type: ignore[arg-type] # what is refused


def test_an_open_store_says_what_it_is(path: Path) -> None:
    """A repr names the file, whatever it was opened by, and what goes on."""
    with dn.Durably() as d:
        assert repr(d) == "<Durably ':memory:' running, 0 jobs>"
    assert repr(d) == "<Durably ':memory:' closed, 0 jobs>"
    with duckdb.connect(path) as connection, dn.Durably(connection) as d:
        work(d)
        assert repr(d) == f"<Durably {str(path)!r} running, 1 job>"
        assert repr(d.storage) == f"<DuckDBStore {str(path)!r} open>"


def test_a_bad_option_given_again_changes_nothing(path: Path) -> None:
    """An option that cannot be meant is refused, and what is open stays open as it was."""
    d = dn.open(path, lease_ms=60_000)
    with pytest.raises(dn.ValidationError, match="lease_ms"):
        dn.open(path, polling_interval_ms=5, lease_ms=-1)
    with pytest.raises(dn.ValidationError, match="did you mean 'lease_ms'"):
        dn.open(path, leese_ms=5)  # type: ignore[call-arg]
    assert (d.lease_ms, d.polling_interval_ms) == (60_000, 1_000)
    assert work(d) == 2


def test_a_stopped_one_is_started_by_opening_it_again(path: Path) -> None:
    """After stop(), the cell that opens the file starts the worker again."""
    d = dn.open(path)
    d.stop()
    assert dn.open(path) is d
    assert work(d) == 2


def test_closed_and_opened_anew(path: Path) -> None:
    """After close() the same call gives a new object on the same history; the old one says that it is closed."""
    first = dn.open(path)
    work(first)
    first.close()
    first.close()
    second = dn.open(path)
    assert second is not first
    assert [run.output for run in second.get_runs()] == [2]
    with pytest.raises(dn.ConflictError, match=r"closed, for good.*dn\.open"):
        first.start()
    with pytest.raises(dn.StoreError, match="not open"):
        first.get_runs()


def test_every_way_to_write_a_path_means_the_same_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative, absolute, through links and with ~: it is one file, and one object."""
    d = dn.open(path)
    (tmp_path / "here").symlink_to(tmp_path)
    (tmp_path / "link.duckdb").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ways: list[str | Path] = [
        "jobs.duckdb",
        "./jobs.duckdb",
        "here/jobs.duckdb",
        "here/../" + tmp_path.name + "/jobs.duckdb",
        "link.duckdb",
        Path("jobs.duckdb"),
        "~/jobs.duckdb",
        str(path),
    ]
    assert all(dn.open(way) is d for way in ways)


def test_a_link_to_a_file_that_does_not_exist_yet(path: Path, tmp_path: Path) -> None:
    """A link may be there before the file it points to: the file is made, beside it its lock."""
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    d = dn.open(link)
    assert dn.open(path) is d
    assert files_of(path) >= {"jobs.duckdb", "jobs.duckdb.lock"}
    assert not (tmp_path / "link.duckdb.lock").exists()


def test_opening_by_hand_and_by_call_is_one(path: Path) -> None:
    """`dn.open` finds a Durably that was made and started by hand."""
    with dn.Durably(path) as d:
        assert dn.open(path) is d


def test_many_threads_open_one_object(path: Path) -> None:
    """Threads that open the same file at the same moment get the same object."""
    together = threading.Barrier(8)
    found: list[dn.Durably] = []

    def open_it() -> None:
        together.wait(30)
        found.append(dn.open(path))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(d) for d in found}) == 1


def test_memory_databases_are_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two databases in memory know nothing of each other, and leave no file."""
    monkeypatch.chdir(tmp_path)
    with dn.Durably() as one, dn.Durably(":memory:") as other:
        work(one)
        assert (len(one.get_runs()), len(other.get_runs())) == (1, 0)
    assert list(tmp_path.iterdir()) == []


NAMES = [
    'it\'s a "file" with spaces.duckdb',
    "durably.duckdb",
    "log.duckdb",
    "runs.db",
    "main.duckdb",
    "memory.duckdb",
    "temp.duckdb",
    "system.duckdb",
    "durably_backup.duckdb",
    "no extension",
    ".hidden",
    "100%_{a}?b#c=d;.duckdb",
    "Übung für später, 日本.duckdb",
    "x" * 200 + ".duckdb",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    """Whatever the file is called, jobs run, history reads, a backup is made, and it opens again."""
    path = tmp_path / name
    with dn.open(path) as d:
        assert work(d) == 2

        @d.job
        def keep(step: dn.StepContext) -> int:
            step.transaction("keep", create, "kept")
            return len(step.run("large", bytes, 40_000))

        assert keep.trigger().result(timeout=30) == 40_000
        assert len(d.runs()) == 2
        assert d.sql("select count(*) from events where type = 'run:complete'").fetchall() == [(2,)]
        assert d.cursor().execute("select one from kept").fetchall() == [(1,)]
        d.backup(tmp_path / "copy.duckdb")
    assert not (tmp_path / (name + ".lock")).exists()
    with dn.open(path) as d:
        assert [run.status for run in d.get_runs()] == ["completed", "completed"]
    with dn.open(tmp_path / "copy.duckdb") as copy:
        (run, _) = copy.get_runs()
        assert run.step_output("large") == bytes(40_000)


# --- beside the user's own ---


def test_a_file_of_the_users_own(path: Path) -> None:
    """In a database with tables and views of one's own, the same names included, both live side by side."""
    with duckdb.connect(path) as connection:
        connection.execute("create table events as select 'mine' as whose")
        connection.execute("create table log as select 1 as one")
        connection.execute("create view runs as select * from events")
        connection.execute("create schema work; create table work.steps as select 7 as seven")
    with dn.open(path) as d:
        work(d)
        cursor = d.cursor()
        assert cursor.execute("select whose from events").fetchall() == [("mine",)]
        assert cursor.execute("select whose from runs").fetchall() == [("mine",)]
        assert cursor.execute("select seven from work.steps").fetchall() == [(7,)]
        assert len(d.events(type="run:complete")) == 1
    with duckdb.connect(path) as connection:
        assert connection.execute("select * from runs, log, work.steps").fetchall() == [("mine", 1, 7)]
        assert connection.execute("select status from durably.runs").fetchall() == [("completed",)]


def test_the_users_own_connection_in_memory() -> None:
    """An open connection is used as it is, shared with its other cursors, and stays open afterwards."""
    with duckdb.connect() as connection:
        connection.execute("create table mine as select 1 as one")
        other = connection.cursor()
        with dn.Durably(connection) as d:
            work(d)
            other.execute("insert into mine values (2)")
            assert d.sql("select sum(one) from memory.main.mine").fetchall() == [(3,)]
        assert other.execute("select status from durably.runs").fetchall() == [("completed",)]
        with dn.Durably(connection) as again:
            work(again, 5)
            assert [run.output for run in again.get_runs()] == [6, 2]
        assert connection.execute("select count(*) from mine").fetchall() == [(2,)]


def test_the_users_own_connection_to_a_file(path: Path) -> None:
    """An open connection to a file is locked like any file, found by its path, and stays open afterwards."""
    with duckdb.connect(path) as connection:
        connection.execute("create table mine as select 1 as one")
        d = dn.open(connection)  # type: ignore[arg-type] # said in the docstring of Durably
        assert dn.open(path) is d
        assert (path.parent / "jobs.duckdb.lock").exists()
        work(d)
        d.close()
        assert not (path.parent / "jobs.duckdb.lock").exists()
        assert connection.execute("select one from mine").fetchall() == [(1,)]
    assert run_count(path) == 1


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_opening_the_same_connection_again(path: Path, kind: str) -> None:
    """The cell that opens a connection may be run again, too: it gives the object that has that database."""
    with duckdb.connect(path if kind == "file" else ":memory:") as connection:
        d = dn.open(connection)  # type: ignore[arg-type]
        assert dn.open(connection) is d  # type: ignore[arg-type]
        assert work(d) == 2
        d.close()


def test_a_connection_that_uses_an_attached_database_is_refused(path: Path) -> None:
    """After ATTACH and USE it is not clear which database is meant: the refusal says what to give instead."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{path}' as mine; use mine")
        with pytest.raises(dn.StoreError, match=r"'mine', which it has attached.*Detach it"):
            dn.Durably(connection).init()
        connection.execute("use memory; detach mine")
        with dn.Durably(connection) as d:
            assert work(d) == 2


def test_a_database_in_memory_is_not_shared() -> None:
    """Two stores on one database in memory would count the same numbers: the second one is refused."""
    with duckdb.connect() as connection:
        with dn.Durably(connection) as d:
            with pytest.raises(dn.StoreLockedError, match="another Durably of this process"):
                dn.Durably(connection.cursor()).init()
            assert work(d) == 2
        with dn.Durably(connection.cursor()) as d:
            assert work(d) == 2


def test_a_connection_that_was_closed_first(path: Path) -> None:
    """Close your own connection before the store: close() ends all the same, and the file can be opened again."""
    connection = duckdb.connect(path)
    d = dn.open(connection)  # type: ignore[arg-type]
    work(d)
    connection.close()
    with suppress(dn.StoreError):  # if something was still to be written
        d.close()
    again = dn.open(path)
    assert again is not d
    assert [run.output for run in again.get_runs()] == [2]


def test_a_connection_in_a_transaction() -> None:
    """An open transaction of the user's stays open, and is the user's to end."""
    with duckdb.connect() as connection:
        connection.begin().execute("create table mine as select 1 as one")
        with dn.Durably(connection) as d:
            work(d)
            connection.rollback()
        assert connection.execute("select count(*) from duckdb_tables() where table_name = 'mine'").fetchall() == [(0,)]


def test_a_closed_connection_is_refused() -> None:
    """A connection that is closed already is refused in a sentence."""
    connection = duckdb.connect()
    connection.close()
    with pytest.raises(dn.StoreError, match="The connection"):
        dn.Durably(connection).init()


def test_a_read_only_connection_is_refused(path: Path) -> None:
    """A connection that may only read is refused, with the file untouched and unlocked."""
    duckdb.connect(path).close()
    before = path.read_bytes()
    with duckdb.connect(path, read_only=True) as connection, pytest.raises(dn.StoreError, match="read-only"):
        dn.Durably(connection).init()
    assert path.read_bytes() == before
    assert files_of(path) == {"jobs.duckdb"}


def test_joining_a_file_that_the_process_has_open(path: Path) -> None:
    """A connection of one's own to the same file may be opened before or after, and used beside it."""
    with duckdb.connect(path) as before:
        before.execute("create table mine as select 1 as one")
        with dn.open(path) as d, duckdb.connect(path) as after:
            work(d)
            after.execute("insert into mine values (2)")
            assert before.execute("select sum(one) from mine").fetchall() == [(3,)]
    assert run_count(path) == 1


def test_a_file_open_in_another_way_is_refused(path: Path) -> None:
    """A file that this process has open read-only cannot be joined, and DuckDB's reason is passed on."""
    duckdb.connect(path).close()
    with duckdb.connect(path, read_only=True), pytest.raises(dn.StoreError, match="different configuration"):
        dn.open(path)
    assert files_of(path) == {"jobs.duckdb"}
    with dn.open(path) as d:
        assert work(d) == 2


# --- what is refused ---


def text(path: Path) -> None:
    path.write_text("carrier,delay\nAA,12\n" * 1000)


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def empty(path: Path) -> None:
    path.touch()


def one_byte(path: Path) -> None:
    path.write_bytes(b"x")


def sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()


def ours(path: Path) -> None:
    with dn.Durably(path) as d:
        work(d)
        d.cursor().execute("create table filler as select range from range(200000)")


def truncated(path: Path) -> None:
    ours(path)
    os.truncate(path, path.stat().st_size // 2)


def header_only(path: Path) -> None:
    ours(path)
    os.truncate(path, 4096)


def overwritten(path: Path) -> None:
    ours(path)
    data = bytearray(path.read_bytes())
    data[4096:12288] = bytes(8192)
    path.write_bytes(data)


def spoiled_wal(path: Path) -> None:
    living = path.with_name("living.duckdb")
    with duckdb.connect(living) as connection:
        connection.execute("create table t as select range from range(1000)")
        path.write_bytes(living.read_bytes())
        wal = bytearray(living.with_name("living.duckdb.wal").read_bytes())
    wal[len(wal) // 2] ^= 255
    path.with_name(path.name + ".wal").write_bytes(wal)


def sql(*statements: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with duckdb.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)

    make.__name__ = statements[0].replace(" ", "_")
    return make


def newer(path: Path) -> None:
    ours(path)
    sql("update durably.meta set value = '99' where key = 'version'")(path)


def unreadable_version(path: Path) -> None:
    ours(path)
    sql("update durably.meta set value = 'two' where key = 'version'")(path)


NO_DATABASE = [text, noise, empty, one_byte, sqlite, truncated, header_only, overwritten, spoiled_wal]
NOT_OURS = [
    newer,
    unreadable_version,
    sql("create schema durably", "create table durably.mine as select 1 as one"),
    sql("create schema durably", "create table durably.meta as select 1 as one"),
    sql("create schema durably", "create table durably.meta (key varchar, value varchar)"),
    sql("create schema durably", "create view durably.events as select 1 as one"),
]


@pytest.mark.parametrize("make", [*NO_DATABASE, *NOT_OURS])
def test_a_file_that_cannot_be_meant_is_not_touched(path: Path, make: Callable[[Path], None]) -> None:
    """Another kind of file, a damaged one or a newer one: a clear error, and every byte stays as it was."""
    make(path)
    before = {name: (path.parent / name).read_bytes() for name in files_of(path)}
    for _ in range(2):
        with pytest.raises(dn.StoreCorruptError) as refused:
            dn.open(path)
        assert path.name in str(refused.value) or path.stem in str(refused.value)
        assert "nothing was changed" in str(refused.value)
    assert {name: (path.parent / name).read_bytes() for name in files_of(path)} == before


def test_a_newer_schema_says_what_to_do(path: Path) -> None:
    """A file of a newer version of this library says which, and how to upgrade."""
    newer(path)
    with pytest.raises(dn.StoreCorruptError, match=r"schema 99.*pip install --upgrade durably_nb"):
        dn.open(path)


def test_a_damaged_file_can_be_replaced_at_once(path: Path) -> None:
    """A refusal leaves nothing behind: with a good file in its place, the same call opens it."""
    text(path)
    with pytest.raises(dn.StoreCorruptError):
        dn.open(path)
    path.unlink()
    assert work(dn.open(path)) == 2


def test_a_table_of_ours_is_gone(path: Path) -> None:
    """A database whose log was dropped by hand is refused in a sentence, and stays as it is."""
    ours(path)
    sql("drop view durably.events", "drop view durably.steps", "drop view durably.logs", "drop table durably.log")(path)
    before = path.read_bytes()
    with pytest.raises(dn.StoreError, match="log"):
        dn.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "bad", [3, None, b"jobs.duckdb", "", "  ", "a\0b", "a\ud800b", "y" * 10_000_000, "~nobody-of-that-name/a.duckdb"]
)
def test_what_is_no_path_is_refused(bad: Any) -> None:
    """Anything but a path, ":memory:" or a connection is a ValidationError."""
    with pytest.raises(dn.ValidationError):
        dn.open(bad)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory is refused, with a path that would do."""
    with pytest.raises(dn.ValidationError, match=r"is a directory; .*jobs\.duckdb"):
        dn.open(tmp_path)


@pytest.mark.parametrize("where", ["missing/jobs.duckdb", "file/jobs.duckdb", "y" * 252])
def test_a_place_where_no_file_can_be(tmp_path: Path, where: str) -> None:
    """A directory that does not exist, a file in place of one, a name too long: a sentence that names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(dn.StoreError, match="cannot be taken: "):
        dn.open(tmp_path / where)


NOBODY = """
import os, sys
import durably_nb as dn
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    dn.open(sys.argv[1])
except dn.StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_directory_that_one_may_not_write_to(path: Path, launch: Callable[..., Any]) -> None:
    """In a read-only directory the refusal says so, and no file is left."""
    duckdb.connect(path).close()
    for directory in [path.parent, *path.parents]:
        if directory.owner() == path.owner() and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    path.parent.chmod(0o555)
    try:
        said = launch(NOBODY, path).finished()
    finally:
        path.parent.chmod(0o755)
    assert "Permission denied" in said
    assert "that you may write to" in said
    assert files_of(path) == {"jobs.duckdb"}


@pytest.mark.slow
def test_a_file_that_one_may_not_write_to(path: Path, launch: Callable[..., Any]) -> None:
    """A read-only file in a directory of one's own is refused in a sentence, without a lock left behind."""
    duckdb.connect(path).close()
    path.chmod(0o444)
    for directory in path.parents:
        if directory.owner() == path.owner() and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    path.parent.chmod(0o777)
    said = launch(NOBODY, path).finished()
    assert "jobs.duckdb" in said
    assert "ermission" in said
    assert files_of(path) == {"jobs.duckdb"}


# --- what is left afterwards ---


def descriptors() -> set[str]:
    """Give what this process has open below its temporary directories."""
    return {str(link.readlink()) for link in list(Path("/proc/self/fd").iterdir()) if link.is_symlink()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list open files in /proc")
def test_no_file_stays_open_after_close(path: Path) -> None:
    """close() lets go of every file: the database, its log, its lock, its artifacts."""
    d = dn.open(path)

    @d.job
    async def several(step: dn.AsyncStepContext) -> int:
        await step.transaction("table", create, "t")
        return len(await step.run("large", bytes, 40_000))

    assert several.trigger().result(timeout=30) == 40_000
    d.cursor().execute("select * from t")
    d.events()
    assert any(path.name in name for name in descriptors())
    d.close()
    assert not [name for name in descriptors() if str(path.parent) in name]


def test_threads_are_named_and_joined(path: Path) -> None:
    """Every thread of the library is called durably-…, and none is left after close()."""
    before = set(threading.enumerate())
    d = dn.open(path, max_concurrent_runs=3, checkpoint="pipelined")

    @d.on("*")
    async def listen(event: dn.DurablyEvent) -> None:
        del event

    work(d)
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert all(name.startswith("durably-") for name in started)
    assert started >= {"durably-writer", "durably-worker-1", "durably-worker-3", "durably-lease"}
    d.close()
    assert set(threading.enumerate()) <= before
