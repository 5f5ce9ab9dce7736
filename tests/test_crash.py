"""Kills: a process dies by SIGKILL at any moment, the next one goes on, and nothing finished is done twice."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from durably_nb.fold import fold
from durably_nb.rows import Row
from durably_nb.run_state import read_state

if TYPE_CHECKING:
    from pathlib import Path

    from durably_nb.models import RunRecord

pytestmark = pytest.mark.slow

RUNS = 3
ROUNDS = 4

PROGRAM = """
import os, random, signal, sys, threading
import durably_nb as dn

path, checkpoint, moment, which = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
chance = random.Random(f"{moment} {which}")
counted = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def reached(name):
    global counted
    if name == moment.removesuffix(", soon after"):
        counted += 1
        if counted == which:
            if moment.endswith("soon after"):
                threading.Timer(chance.uniform(0, 0.01), die).start()
            else:
                die()

if moment == "any time":
    threading.Timer(chance.uniform(0, 0.4), die).start()

d = dn.open(path, checkpoint=checkpoint, max_concurrent_runs=3, lease_ms=24 * 60 * 60 * 1000)
d.cursor().execute("set checkpoint_threshold = '64KB'")
d.cursor().execute("create table if not exists loaded (run varchar, round integer)")

@d.on("*")
def told(event):
    step = getattr(event, "step_name", None)
    say("told", event.sequence, event.type, event.run_id, step)
    reached(event.type)

@d.job
def load(step, rounds: int) -> int:
    def plain(number):
        say("executing", step.run_id, f"plain {number}")
        reached("inside a step")
        return number

    def large(number):
        say("executing", step.run_id, f"large {number}")
        return bytes([number]) * 40_000

    def insert(cursor, number):
        say("executing", step.run_id, f"insert {number}")
        reached("before the writes")
        cursor.execute("insert into loaded values (?, ?)", [step.run_id, number])
        reached("after the writes")

    for number in step.track(range(rounds)):
        step.run(f"plain {number}", plain, number)
        step.transaction(f"insert {number}", insert, number)
        step.run(f"large {number}", large, number)
        reached("between steps")
        print("a line of output")
    return rounds

runs = [load.options(idempotency_key=str(key)).trigger(int(sys.argv[6])) for key in range(int(sys.argv[5]))]
for run in runs:
    run.result(timeout=20)
d.close()
"""

MOMENTS = [
    "inside a step",
    "before the writes",
    "after the writes",
    "after the writes, soon after",
    "between steps",
    "step:start",
    "step:complete",
    "step:complete, soon after",
    "run:leased",
    "run:complete, soon after",
    "any time",
]

PIPELINED = ["inside a step", "after the writes, soon after", "step:complete, soon after", "any time"]


def story(launch: Any, path: Path, checkpoint: str, moment: str) -> list[list[list[str]]]:
    """Let a program be killed twice at a moment, then finish; give what each of the three said."""
    said: list[list[list[str]]] = []
    for which in (2, 5, 0):
        program = launch(PROGRAM, path, checkpoint, moment if which else "never", which, RUNS, ROUNDS)
        out, err = program.communicate(timeout=40)
        assert err == ""
        assert program.returncode in ({0, -signal.SIGKILL} if which else {0})
        assert said or program.returncode == -signal.SIGKILL or "time" in moment or "soon" in moment
        said.append([line.split(" ", 4) for line in out.splitlines() if line.startswith(("told ", "executing "))])
    return said


def heard(lines: list[list[str]]) -> list[int]:
    """Give the sequences that a program's listeners heard."""
    return [int(line[1]) for line in lines if line[0] == "told"]


def check_told(said: list[list[list[str]]]) -> None:
    """No completed step executed again, no number twice, no number lower than one heard before the kill."""
    completed: set[tuple[str, str]] = set()
    for lines in said:
        for line in lines:
            if line[0] == "executing":
                step = (line[1], " ".join(line[2:]))
                assert step not in completed, f"{step} was completed, and executed again"
            elif line[2] == "step:complete":
                completed.add((line[3], line[4]))
    everything = [number for lines in said for number in heard(lines)]
    assert len(everything) == len(set(everything))
    lives = [lines for lines in map(heard, said) if lines]
    assert all(max(earlier) < min(later) for earlier, later in pairwise(lives))


def check_stored(path: Path) -> None:
    """Log, state, the user's table and the files beside the database tell the same story."""
    with duckdb.connect(path) as connection:
        log = connection.execute("select sequence, ms, run_id, type, data from durably.log order by rowid").fetchall()
        states = dict(connection.execute("select run_id, state from durably.run_state").fetchall())
        loaded = connection.execute("select run, round from loaded").fetchall()
    rows = [Row(sequence, ms, run_id, kind, json.loads(data)) for sequence, ms, run_id, kind, data in log]
    assert all(before.sequence < after.sequence for before, after in pairwise(rows))
    folded: dict[str, RunRecord | None] = {}
    for row in rows:
        if row.run_id is not None:
            folded[row.run_id] = fold(folded.get(row.run_id), row)
    assert folded == {run_id: read_state(text) for run_id, text in states.items()}
    assert [run.status for run in folded.values() if run is not None] == ["completed"] * RUNS
    assert Counter(loaded) == Counter((run_id, number) for run_id in folded for number in range(ROUNDS))
    steps = Counter((row.run_id, row.data["stepName"]) for row in rows if row.type == "step:complete")
    assert len(steps) == RUNS * ROUNDS * 3
    assert set(steps.values()) == {1}
    artifacts = path.with_name(path.name + ".artifacts")
    named = {name for *_, data in log for name in re.findall(r"\w{26}/\w{32}\.\w+", data)}
    found = {str(file.relative_to(artifacts)) for file in artifacts.rglob("*") if file.is_file()}
    assert found == named
    assert len(named) == RUNS * ROUNDS


@pytest.mark.parametrize(
    ("moment", "checkpoint"),
    [(moment, "strict") for moment in MOMENTS] + [(moment, "pipelined") for moment in MOMENTS if moment in PIPELINED],
)
def test_a_process_is_killed_and_the_next_goes_on(launch: Any, path: Path, moment: str, checkpoint: str) -> None:
    """Killed twice, a program of three concurrent runs finishes at the third start, with nothing done twice."""
    check_told(story(launch, path, checkpoint, moment))
    check_stored(path)


def test_a_kill_leaves_what_was_completed(launch: Any, path: Path) -> None:
    """After a kill inside a transaction, what its step wrote is not there, and what the one before wrote is."""
    program = launch(PROGRAM, path, "strict", "after the writes", 2, 1, ROUNDS)
    out, _ = program.communicate(timeout=40)
    assert program.returncode == -signal.SIGKILL
    assert "step:complete" in out
    with duckdb.connect(path) as connection:
        assert connection.execute("select round from loaded").fetchall() == [(0,)]
        found = connection.execute(
            "select data ->> 'stepName' from durably.log where type = 'step:complete' order by sequence"
        ).fetchall()
    assert [name for (name,) in found] == ["plain 0", "insert 0", "large 0", "plain 1"]
