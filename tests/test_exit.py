"""Ways for a process to end: it ends soon, says nothing it should not, and the run goes on the next time."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

EXIT_LIMIT_S = 5

SETUP = """
import asyncio, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import durably_nb as dn

d = dn.open(sys.argv[1])
standing = threading.Event()

def note(name):
    d.cursor().execute("insert into executed values (?)", [name])

def stand(do):
    standing.set()
    do()

def in_a_pool():
    with ThreadPoolExecutor(1) as pool:
        while True:
            pool.submit(time.sleep, 0.01).result()

def long_query(cursor):
    standing.set()
    cursor.execute("select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3").fetchall()

def computing():
    while True:
        sum(range(1000))

def own_query():
    d.cursor().execute("select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3")

async def forever():
    standing.set()
    await asyncio.sleep(600)

async def in_a_thread():
    standing.set()
    while True:
        await asyncio.to_thread(time.sleep, 0.01)

d.cursor().execute("create table if not exists executed (name varchar)")
is_first = d.cursor().execute("select count(*) from executed").fetchall() == [(0,)]
until_stopped = {
    "sleeps": lambda: time.sleep(600),
    "computes": computing,
    "waits for the signal": lambda: threading.Event().wait(600),
    "uses a pool": in_a_pool,
    "queries by itself": own_query,
}

@d.job
def work(step, what: str) -> str:
    step.run("before", note, "before")
    if is_first and what == "queries":
        step.transaction("query", long_query)
    if is_first and what == "looks":
        standing.set()
        for _ in step.track(iter(int, 1)):
            step.signal.wait(0.01)
    if is_first and what == "between steps":
        stand(lambda: time.sleep(600))
    if is_first and what == "has threads":
        threading.Thread(target=lambda: time.sleep(600), daemon=True).start()
        step.run("stand", stand, lambda: time.sleep(600))
    if is_first and what in until_stopped:
        step.run("stand", stand, until_stopped[what])
    step.run("after", note, "after")
    return "done"

@d.job
async def async_work(step, what: str) -> str:
    await step.run("before", note, "before")
    if is_first:
        await step.run("stand", forever if what == "async" else in_a_thread)
    await step.run("after", note, "after")
    return "done"

def start(what):
    job = async_work if what.startswith("async") else work
    run = job.options(idempotency_key="the one").trigger(what)
    if is_first:
        assert standing.wait(30)
    return run
"""

LEAVE = """
run = start(sys.argv[2])
print("leaving", flush=True)
"""

FINISH = """
run = start(sys.argv[2])
print(run.disposition, run.result(timeout=30), d.cursor().execute("select name from executed order by all").fetchall())
d.close()
"""


def went_on(launch: Any, path: Path, what: str) -> None:
    """See that the run was left pending, goes on by itself, and did not repeat the step that was completed."""
    said = launch(SETUP + FINISH, path, what).finished()
    assert said == "idempotent done [('after',), ('before',)]\n"
    with dn.open(path) as d:
        assert list(d.events(type="run:fail")["run_id"]) == []


STANDING = [
    "sleeps",
    "computes",
    "waits for the signal",
    "uses a pool",
    "queries",
    "queries by itself",
    "looks",
    "between steps",
    "has threads",
    "async",
    "async in a thread",
]


@pytest.mark.parametrize("what", STANDING)
def test_the_program_ends_with_a_run_in_flight(launch: Any, path: Path, what: str) -> None:
    """Whatever the run is doing, the interpreter exits in seconds and in silence; the run goes on the next time."""
    program = launch(SETUP + LEAVE, path, what)
    assert program.line() == "leaving"
    assert program.finished(timeout=EXIT_LIMIT_S) == ""
    assert not (path.parent / "jobs.duckdb.lock").exists()
    went_on(launch, path, what)


@pytest.mark.parametrize(
    ("ending", "code", "noise"),
    [
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('mine')", 1, "ValueError: mine"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(600)", -signal.SIGINT, "KeyboardInterrupt"),
        ("run.wait() if os.kill(os.getpid(), signal.SIGINT) else None", -signal.SIGINT, "KeyboardInterrupt"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)", -signal.SIGTERM, ""),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); os.kill(os.getpid(), signal.SIGTERM)", 4, ""),
        ("os._exit(5)", 5, ""),
        ("d.stop()", 0, ""),
        ("d.close()", 0, ""),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_every_way_to_end(launch: Any, path: Path, ending: str, code: int, noise: str) -> None:
    """Exits, exceptions and signals end the process as they always do, and the run goes on the next time."""
    program = launch(SETUP + LEAVE + ending, path, "looks")
    assert program.line() == "leaving"
    out, err = program.communicate(timeout=15)
    assert (out, program.returncode) == ("", code)
    assert err.rstrip().rpartition("\n")[2] == noise
    assert "durably_nb" not in err.replace("run.wait", "") or noise == "KeyboardInterrupt"
    went_on(launch, path, "looks")


@pytest.mark.parametrize("open_as", ["dn.open(sys.argv[1])", "dn.open(':memory:')", "dn.Durably().init()"])
def test_an_idle_program_ends_at_once(launch: Any, path: Path, open_as: str) -> None:
    """Opened, used and left open: the interpreter exits at once, without a word, and leaves no lock."""
    source = """
import sys
import durably_nb as dn
d = OPEN
@d.job
def one(step) -> int:
    return step.run("one", lambda: 1)
@d.on("*")
async def listen(event):
    pass
print(one.trigger().result(timeout=30), len(d.sql("select * from events").fetchall()) > 4, d.cursor() is not None)
relation = d.sql("select 1")
"""
    assert launch(source.replace("OPEN", open_as), path).finished(timeout=EXIT_LIMIT_S) == "1 True True\n"
    assert not (path.parent / "jobs.duckdb.lock").exists()


def test_a_program_that_never_opens_anything(launch: Any) -> None:
    """Importing the library is no reason to say anything at exit."""
    assert launch("import durably_nb, duckdb").finished(timeout=EXIT_LIMIT_S) == ""


def test_several_files_with_runs_in_flight(launch: Any, path: Path) -> None:
    """Several files, each with a step that cannot be stopped, do not add up to a long exit."""
    source = """
import sys, threading, time
import durably_nb as dn
for number in range(4):
    d = dn.open(f"{sys.argv[1]}.{number}")
    standing = threading.Event()

    @d.job
    def sleep(step) -> None:
        step.run("sleep", lambda: standing.set() or time.sleep(600))

    sleep.trigger()
    assert standing.wait(30)
print("leaving", flush=True)
"""
    program = launch(source, path)
    assert program.line() == "leaving"
    assert program.finished(timeout=EXIT_LIMIT_S) == ""


def test_pipelined_steps_are_all_stored_at_exit(launch: Any, path: Path) -> None:
    """Steps that were handed over before the exit are on disk after it."""
    source = """
import sys, threading, time
import durably_nb as dn
d = dn.open(sys.argv[1], checkpoint="pipelined")
standing = threading.Event()

@d.job
def many(step) -> None:
    for number in range(500):
        step.run(f"step {number}", lambda: number)
    step.log.info("all handed over")
    standing.set()
    time.sleep(600)

many.trigger()
assert standing.wait(30)
"""
    assert launch(source, path).finished(timeout=15) == ""
    with dn.open(path) as d:
        assert len(d.events(type="step:complete")) == 500
        assert list(d.logs()["message"]) == ["all handed over"]


def test_sys_exit_inside_a_job_fails_its_run_only(launch: Any, path: Path) -> None:
    """sys.exit in a step is that run's failure; the program goes on."""
    source = """
import sys
import durably_nb as dn
d = dn.open(sys.argv[1])

@d.job
def leave(step) -> None:
    step.run("leave", sys.exit, 3)

@d.job
def interrupted(step) -> None:
    raise KeyboardInterrupt

@d.job
def one(step) -> int:
    return 1

print(leave.trigger().wait(timeout=30).error)
print(interrupted.trigger().wait(timeout=30).error)
print(one.trigger().result(timeout=30))
"""
    assert launch(source, path).finished() == "SystemExit: 3\nKeyboardInterrupt\n1\n"
