"""Two versions of DuckDB: a file that one has written opens under the other, with everything in it.

The other interpreter is named by the environment variable DURABLY_OTHER_PYTHON; `make test` sets it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

VERSION = "import duckdb; print(duckdb.__version__)"

WRITE = """
import datetime, decimal, sys, threading
import pandas as pd
import durably_nb as dn

d = dn.open(sys.argv[1])
d.cursor().execute("create table mine (month integer, made timestamptz, amount decimal(9, 2))")
paused = threading.Event()

def write(cursor, month):
    cursor.execute("insert into mine values (?, now(), 1.50)", [month])

@d.job
def load(step, month: int) -> dict:
    step.transaction("write", write, month)
    frame = step.run("frame", lambda: pd.DataFrame({"carrier": pd.Categorical(["AA", "UA"]), "delay": [1.5, None]}))
    step.run("large", bytes, 100_000)
    step.log.info("loaded", {"month": month})
    step.progress(1, 2, "half")
    if month == 2:
        step.run("stop", lambda: paused.set() or step.signal.wait() and step.throw_if_aborted())
    return {"rows": len(frame), "day": datetime.date(2026, 11, 22), "sum": decimal.Decimal("1.50")}

load.options(labels={"who": "me"}, idempotency_key="first").trigger(1).result(timeout=30)
load.options(idempotency_key="second", concurrency_key="one").trigger(2)
assert paused.wait(30)
d.backup(sys.argv[1] + ".backup")
"""

READ = """
import datetime, decimal, sys
import durably_nb as dn

d = dn.open(sys.argv[1])
executed = []

@d.job
def load(step, month: int) -> dict:
    step.transaction("write", lambda cursor, month: executed.append("write"), month)
    frame = step.run("frame", lambda: executed.append("frame"))
    if month == 3:
        return {}
    assert frame.carrier.dtype == "category" and list(frame.carrier) == ["AA", "UA"] and frame.delay.isna().sum() == 1
    assert step.run("large", lambda: executed.append("large")) == bytes(100_000)
    return {"rows": len(frame), "day": datetime.date(2026, 11, 22), "sum": decimal.Decimal("1.50")}

second, first = d.get_runs()
expected = {"rows": 2, "day": datetime.date(2026, 11, 22), "sum": decimal.Decimal("1.50")}
assert (first.status, first.output, first.labels) == ("completed", expected, {"who": "me"})
assert second.result(timeout=30) == expected, second
assert executed == [], executed
assert d.cursor().execute("select month, amount from mine order by month").fetchall() == [
    (1, decimal.Decimal("1.50")), (2, decimal.Decimal("1.50"))
]
count = "select count(*) from events where type = 'step:complete'"
print(*d.sql(count).fetchall()[0], d.sql("select message from logs").fetchall()[0])
print(load.trigger(3).wait(timeout=30).status)
d.close()
"""

AGAIN = """
import sys
import durably_nb as dn
d = dn.open(sys.argv[1])
print([run.status for run in d.get_runs()])
d.close()
"""


@pytest.fixture
def other(launch: Any) -> str:
    """Give the interpreter that has another major version of DuckDB."""
    python = os.environ.get("DURABLY_OTHER_PYTHON", "")
    if not Path(python).is_file():
        pytest.skip("DURABLY_OTHER_PYTHON names no interpreter with another version of DuckDB")
    versions = [launch(VERSION, python=one).finished() for one in (python, sys.executable)]
    if versions[0].partition(".")[0] == versions[1].partition(".")[0]:
        pytest.skip(f"DURABLY_OTHER_PYTHON has DuckDB {versions[0].strip()}, which is the same major version")
    return python


@pytest.mark.parametrize("name", ["jobs.duckdb", "jobs.duckdb.backup"])
def test_a_file_of_the_other_version_goes_on_here(launch: Any, path: Path, other: str, name: str) -> None:
    """A store (or its backup) made under the other version opens here: its run goes on, its history reads."""
    assert launch(WRITE, path, python=other).finished() == ""
    assert launch(READ, path.with_name(name)).finished() == "6 ('loaded',)\ncompleted\n"
    assert launch(AGAIN, path.with_name(name), python=other).finished() == "['completed', 'completed', 'completed']\n"


@pytest.mark.parametrize("name", ["jobs.duckdb", "jobs.duckdb.backup"])
def test_a_file_of_this_version_goes_on_there(launch: Any, path: Path, other: str, name: str) -> None:
    """A store (or its backup) made here opens under the other version, and here again."""
    assert launch(WRITE, path).finished() == ""
    assert launch(READ, path.with_name(name), python=other).finished() == "6 ('loaded',)\ncompleted\n"
    assert launch(AGAIN, path.with_name(name)).finished() == "['completed', 'completed', 'completed']\n"


def test_a_file_that_the_other_version_killed(launch: Any, path: Path, other: str) -> None:
    """What a killed process of the other version left in DuckDB's log is read, too."""
    killed = WRITE + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    assert launch(killed, path, python=other).finished(-9) == ""
    assert path.with_name("jobs.duckdb.wal").exists()
    assert launch(READ, path).finished() == "6 ('loaded',)\ncompleted\n"


def test_a_users_file_in_a_format_that_is_too_new(launch: Any, path: Path, other: str) -> None:
    """A file in the newest format, which older versions cannot read, is refused by them in a sentence, untouched."""
    make = "import sys, duckdb\nduckdb.connect(sys.argv[1], config={'storage_compatibility_version': 'latest'}).close()"
    refuse = (
        "import sys\nimport durably_nb as dn\ntry:\n    dn.open(sys.argv[1])\n"
        "except dn.StoreError as error:\n    print(error)"
    )
    is_older = launch(VERSION).finished() < launch(VERSION, python=other).finished()
    newer, older = (other, sys.executable) if is_older else (sys.executable, other)
    assert launch(make, path, python=newer).finished() == ""
    before = path.read_bytes()
    said = launch(refuse, path, python=older).finished()
    assert str(path) in said
    assert "newer version of DuckDB" in said
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.glob("jobs.duckdb*")] == ["jobs.duckdb"]
