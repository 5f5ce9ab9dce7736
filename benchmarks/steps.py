"""What a step costs, beside what the disk and a bare DuckDB commit cost in the same run.

Call it with ``python -m benchmarks.steps [repetitions]``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS = 1_000
RUNS_AT_ONCE = 8
BATCH = 10_000
CALLS = 10_000
IDLE_S = 3.0


def seconds(work: Callable[[], object]) -> float:
    """Give how long some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fdatasyncs_per_second(folder: Path) -> float:
    """Give how many writes of 4 KiB the disk makes durable in a second."""
    descriptor = os.open(folder / "disk", os.O_RDWR | os.O_CREAT)
    block = os.urandom(4096)

    def write() -> None:
        for number in range(STEPS):
            os.pwrite(descriptor, block, number * 4096)
            os.fdatasync(descriptor)

    try:
        return STEPS / seconds(write)
    finally:
        os.close(descriptor)


def bare_commits_per_second(folder: Path) -> float:
    """Give how many narrow rows DuckDB commits in a second, one by one."""
    with duckdb.connect(folder / "bare.duckdb") as connection:
        connection.execute("create table bare (number bigint, text varchar)")

        def insert() -> None:
            for number in range(STEPS):
                connection.execute("insert into bare values (?, ?)", [number, "x"])

        return STEPS / seconds(insert)


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[dn.Durably]:  # noqa: ANN401 - options of Durably
    """Give a new store."""
    with dn.Durably(folder / f"{time.monotonic_ns()}.duckdb", **options) as d:
        yield d


def tiny_steps(step: dn.StepContext, count: int) -> None:
    """Do nothing, in many steps."""
    for number in range(count):
        step.run(f"step {number}", int, number)


def steps_per_second(folder: Path, checkpoint: Any) -> float:  # noqa: ANN401 - one of two strings
    """Give the rate of tiny steps, one after the other."""
    count = STEPS if checkpoint == "strict" else 10 * STEPS
    with opened(folder, checkpoint=checkpoint) as d:
        job = d.job(tiny_steps)
        job.trigger(10).result(timeout=60)
        return count / seconds(lambda: job.trigger(count).result(timeout=600))


def steps_per_second_at_once(folder: Path) -> float:
    """Give the rate of tiny steps of eight runs at once."""
    with opened(folder, max_concurrent_runs=RUNS_AT_ONCE) as d:
        job = d.job(tiny_steps)
        job.trigger(10).result(timeout=60)

        def work() -> None:
            for run in job.batch_trigger([{"count": STEPS // 2}] * RUNS_AT_ONCE):
                run.result(timeout=600)

        return RUNS_AT_ONCE * (STEPS // 2) / seconds(work)


def batch_seconds(folder: Path) -> float:
    """Give how long it takes to trigger many runs at once."""
    with opened(folder) as d:
        d.stop()
        job = d.job(tiny_steps)
        inputs = [{"count": number} for number in range(BATCH)]
        return seconds(lambda: job.batch_trigger(inputs))


def microseconds_a_call(folder: Path, call: Callable[[dn.StepContext, int], None]) -> float:
    """Give what one call of the step context costs within a step."""
    taken: list[float] = []

    def chatty(step: dn.StepContext) -> None:
        def work() -> None:
            for number in range(CALLS):
                call(step, number)

        step.run("calls", lambda: taken.append(seconds(work)))

    with opened(folder) as d:
        d.job(chatty).trigger().result(timeout=60)
    return taken[0] / CALLS * 1e6


def idle_percent(folder: Path) -> float:
    """Give the share of a core that an idle worker uses."""
    with opened(folder):
        before = time.process_time()
        time.sleep(IDLE_S)
        return (time.process_time() - before) / IDLE_S * 100


def measure(folder: Path) -> dict[str, float]:
    """Measure everything once."""
    bare = bare_commits_per_second(folder)
    strict = steps_per_second(folder, "strict")
    return {
        "fdatasync of 4 KiB, a second": fdatasyncs_per_second(folder),
        "bare DuckDB commits, a second": bare,
        "strict steps, a second": strict,
        "  a strict step in bare commits (aim: at most 1.3)": bare / strict,
        "pipelined steps, a second (aim: 5,000)": steps_per_second(folder, "pipelined"),
        "8 runs at once, against one (aim: 3)": steps_per_second_at_once(folder) / strict,
        "batch_trigger of 10,000, seconds (aim: 0.5)": batch_seconds(folder),
        "a progress call, µs (aim: 10)": microseconds_a_call(folder, lambda step, number: step.progress(number, CALLS)),
        "a log line, µs": microseconds_a_call(folder, lambda step, number: step.log.info(f"line {number}")),
        "idle, % of a core (aim: 0.5)": idle_percent(folder),
    }


def main() -> None:
    """Print the median of several repetitions, with the range."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: list[dict[str, float]] = []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Path(folder)))
    print(f"duckdb {duckdb.__version__}, Python {sys.version.split()[0]}, median of {repetitions} (lowest to highest)")
    for name in found[0]:
        values = sorted(one[name] for one in found)
        print(f"{name:55} {statistics.median(values):>12,.2f}   ({values[0]:,.2f} to {values[-1]:,.2f})")


if __name__ == "__main__":
    main()
