"""Cells that the tests share: jobs that ask the test for leave, so that it sees every moment of them."""

from __future__ import annotations

from typing import Final

OPEN: Final = """
import asyncio, os
import durably_nb as dn

d = dn.open("jobs.duckdb")
"""

LOAD: Final = """
@d.job(name="load flights")
def load(step, months: int = 5):
    gate = os.open("gate", os.O_RDONLY)
    for month in range(1, months + 1):
        step.run(f"month {month}", lambda: os.read(gate, 1).decode())
        step.progress(month, months, f"month {month} is in")
        print(f"{month * 1_000:,} flights so far")
    return {"months": months}
"""

ENDLESS: Final = """
@d.job(name="endless")
async def endless(step):
    step.progress(1, 3, "waiting for what never comes")
    await step.run("wait", asyncio.Event().wait)
"""

FAILING: Final = """
@d.job(name="divide")
def divide(step, by: int = 0):
    step.run("prepare", lambda: 1)
    step.log.warn("about to divide", {"by": by})
    return step.run("divide", lambda: 1 / by)
"""

RUN: Final = "run = load.trigger()\nrun"

HOSTILE_NAME: Final = "<img src=x onerror=alert(1)>"
"""Whoever takes this for HTML opens a dialog, and that fails the test."""
