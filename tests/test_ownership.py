"""Ownership: one process at a time has the file, the others are told which; a forked child has nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OWNER = """
import sys
import durably_nb as dn
d = dn.open(sys.argv[1])
print("open", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
d.close()
"""

VISITOR = """
import sys
import durably_nb as dn
try:
    dn.open(sys.argv[1]).close()
    print("opened")
except dn.DurablyError as error:
    print(type(error).__name__, error)
"""

Launch = Any
"""What the fixture `launch` gives: it runs a program in a process of its own."""


def tell(program: Any, line: str) -> None:
    """Have the owner execute a line, and wait until it has."""
    program.stdin.write(line + "\n")
    program.stdin.flush()
    assert program.line() == "done"


@pytest.fixture
def owner(launch: Launch, path: Path) -> Any:
    """Another process that has the file open."""
    program = launch(OWNER, path, JPY_SESSION_NAME="/home/me/flights.ipynb")
    assert program.line() == "open"
    return program


# --- processes ---


@pytest.mark.slow
def test_a_second_process_is_told_who_has_the_file(owner: Any, path: Path) -> None:
    """The refusal names the process, the host, since when, the notebook, and what can be done."""
    with pytest.raises(dn.StoreLockedError) as refused:
        dn.open(path)
    said = str(refused.value)
    noted = json.loads((path.parent / "jobs.duckdb.lock").read_text())
    assert noted["pid"] == owner.pid
    for part in (
        f"{path} is in use by process {owner.pid} on {socket.gethostname()} (since {noted['since']}",
        ", /home/me/flights.ipynb)",
        "Go on in that notebook, or shut its kernel down and try again, or open another file here.",
    ):
        assert part in said
    owner.finished()
    assert not (path.parent / "jobs.duckdb.lock").exists()
    dn.open(path).close()


@pytest.mark.slow
def test_reading_the_file_in_its_owner_lets_nobody_in(owner: Any, launch: Launch, path: Path) -> None:
    """To open, copy or hash the database file inside the process that has it loses DuckDB's lock, not ours."""
    tell(owner, "open(sys.argv[1], 'rb').close()")
    tell(owner, "import shutil; shutil.copy(sys.argv[1], sys.argv[1] + '.copy')")
    assert launch(VISITOR, path).finished().startswith("StoreLockedError")
    owner.finished()
    assert launch(VISITOR, path).finished() == "opened\n"


@pytest.mark.slow
def test_a_killed_process_leaves_the_file_free(owner: Any, path: Path) -> None:
    """A lock file that a dead process left behind holds nobody up, whatever it says."""
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    lock = path.parent / "jobs.duckdb.lock"
    assert json.loads(lock.read_text())["pid"] == owner.pid
    with dn.open(path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    assert not lock.exists()


@pytest.mark.slow
def test_a_program_without_this_library_has_the_file(launch: Launch, path: Path) -> None:
    """A plain DuckDB program that has the file is named by DuckDB's own words, and no lock of ours is left."""
    program = launch(
        "import sys, duckdb\nc = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\ninput()\nc.close()", path
    )
    assert program.line() == "open"
    with pytest.raises(dn.StoreLockedError, match=rf"in use by another program.*{program.pid}"):
        dn.open(path)
    assert not (path.parent / "jobs.duckdb.lock").exists()
    program.communicate("\n")
    dn.open(path).close()


@pytest.mark.slow
def test_processes_that_race_for_a_new_file(launch: Launch, path: Path) -> None:
    """Of several processes that open a new file at once each gets it or is told who has it; the file is good."""
    programs = [launch(VISITOR, path) for _ in range(4)]
    said = [program.finished().split()[0] for program in programs]
    assert set(said) <= {"opened", "StoreLockedError"}
    assert "opened" in said
    with dn.open(path) as d:
        assert d.get_runs() == []


# --- in one process ---


def test_a_second_one_on_the_same_file_is_refused(path: Path) -> None:
    """A second Durably of the same process is pointed to the one that has the file."""
    with dn.Durably(path), pytest.raises(dn.StoreLockedError, match=r"open in this process already\. Use dn\.open"):
        dn.Durably(path).init()
    with dn.Durably(path) as again:
        assert again.get_runs() == []


def test_the_lock_file_tells_its_owner(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Jupyter, the program stands in place of the notebook."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with dn.Durably(path):
        noted = json.loads((path.parent / "jobs.duckdb.lock").read_text())
    assert noted == {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": noted["since"],
        "notebook": sys.argv[0],
    }


@pytest.mark.parametrize("left", ["", "{", "[1, 2]", "\xff\xfe", '{"pid": 1}', "x" * 100_000])
def test_whatever_stands_in_a_free_lock_file(path: Path, left: str) -> None:
    """A lock file that nobody holds is taken over, whatever it says."""
    (path.parent / "jobs.duckdb.lock").write_text(left, encoding="latin-1")
    with dn.Durably(path) as d:
        assert d.get_runs() == []
    assert not (path.parent / "jobs.duckdb.lock").exists()


def symlink(lock: Path) -> None:
    (lock.parent / "precious").write_text("mine")
    lock.symlink_to(lock.parent / "precious")


def dangling(lock: Path) -> None:
    lock.symlink_to(lock.parent / "nowhere")


def directory(lock: Path) -> None:
    lock.mkdir()


@pytest.mark.parametrize("plant", [symlink, dangling, directory])
def test_what_is_planted_in_place_of_the_lock(path: Path, plant: Callable[[Path], None]) -> None:
    """A link or a directory in place of the lock file is refused, and left as it is."""
    lock = path.parent / "jobs.duckdb.lock"
    plant(lock)
    before = {file.name: file.is_file() and file.read_text() for file in path.parent.iterdir()}
    with pytest.raises(dn.StoreError, match=r"jobs\.duckdb\.lock cannot be taken"):
        dn.open(path)
    assert {file.name: file.is_file() and file.read_text() for file in path.parent.iterdir()} == before


# --- forks ---

FORK = """
import os, sys, warnings
import durably_nb as dn

d = dn.open(sys.argv[1], max_concurrent_runs=2)

@d.job
def add_one(step, number: int) -> int:
    step.transaction("keep", lambda cursor: cursor.execute("insert into mine values (1)") and None)
    return step.run("add", lambda: number + 1)

@d.job
def wait_for_stop(step) -> None:
    step.signal.wait(60)

d.cursor().execute("create table mine (one integer)")
first = add_one.trigger(1)
first.result(timeout=30)
waiting = wait_for_stop.trigger()
for event in d.subscribe(waiting.id):
    if event.type == "run:leased":
        break

def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the very thing that is tried
        return os.fork()
"""

REFUSED = """
def refused(call):
    try:
        return call()
    except dn.StoreError as error:
        return type(error).__name__ + " " + str(error)

calls = [
    lambda: add_one.trigger(2),
    lambda: d.get_runs(),
    lambda: d.get_run(first.id),
    lambda: d.cursor(),
    lambda: d.sql("select 1"),
    lambda: d.events(),
    lambda: d.process_one(),
    lambda: d.start(),
    lambda: waiting.wait(),
    lambda: waiting.cancel(),
    lambda: dn.open(sys.argv[1]),
]
child = fork()
if child == 0:
    for number, call in enumerate(calls):
        print(number, refused(call), flush=True)
    d.stop()
    d.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent", add_one.trigger(2).result(timeout=30), add_one.trigger(3).result(timeout=30), flush=True)
waiting.cancel()
d.close()
"""


@pytest.mark.slow
def test_a_forked_child_is_refused_and_its_parent_unharmed(launch: Launch, path: Path) -> None:
    """Whatever a forked child calls is refused with a sentence, at once; its parent goes on."""
    lines = launch(FORK + REFUSED, path).finished().splitlines()
    assert lines[-1] == "parent 3 4"
    for line in lines[:-1]:
        assert "and this is a process forked from it" in line or " StoreLockedError " in line, line
    assert len(lines) == 12
    with dn.open(path) as d:
        assert sorted(run.status for run in d.get_runs()) == ["cancelled", "completed", "completed", "completed"]
        assert d.cursor().execute("select count(*) from mine").fetchall() == [(3,)]


@pytest.mark.slow
def test_a_forked_child_that_exits_as_usual(launch: Launch, path: Path) -> None:
    """A child that ends by sys.exit, cleaning up as interpreters do, does not end or change anything of its parent."""
    ends = """
child = fork()
if child == 0:
    os.close(2)  # what duckdb says of its leaks in a child is not ours
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("parent", add_one.trigger(2).result(timeout=30))
waiting.cancel()
d.close()
"""
    assert launch(FORK + ends, path).finished() == "parent 3\n"
    with dn.open(path) as d:
        assert d.cursor().execute("select count(*) from mine").fetchall() == [(2,)]


@pytest.mark.slow
def test_a_child_that_outlives_its_killed_parent(launch: Launch, path: Path) -> None:
    """The file is free as soon as its owner is dead, even while a child of it lives on."""
    outlives = """
hears, says = os.pipe()
child = fork()
if child == 0:
    os.write(says, b".")  # it has let go of what it inherited
    os.close(1)
    os.close(2)
    os.read(0, 1)
    os._exit(0)
os.read(hears, 1)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    program = launch(FORK + outlives, path)
    child = int(program.line())
    assert program.wait() == -signal.SIGKILL
    os.kill(child, 0)
    with dn.open(path) as d:
        assert [run.status for run in d.get_runs()] == ["pending", "completed"]
    os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_a_process_pool_inside_a_step(launch: Launch, path: Path) -> None:
    """A step may hand work to forked processes, which is how process pools begin on Linux."""
    pool = """
import concurrent.futures, multiprocessing

@d.job
def squares(step) -> list[int]:
    return step.run("square", square_all)

def square(number):
    return number * number

def square_all():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            return list(pool.map(square, range(5)))

waiting.cancel()
print(squares.trigger().result(timeout=60))
d.close()
"""
    assert launch(FORK + pool, path).finished() == "[0, 1, 4, 9, 16]\n"
