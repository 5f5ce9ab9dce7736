"""Output of jobs and listeners: it lands in the log, or in the cell that subscribed, and in no other."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kernels.conftest import Gate, Page

TALK = """
import logging, sys, warnings
from IPython.display import display
@d.job
def talk(step):
    def speak():
        gate()
        print("printed")
        print("complained", file=sys.stderr)
        logging.getLogger("talk").warning("logged")
        warnings.warn("warned")
        display("displayed")
        step.progress(1, 1)
    step.run("speak", speak)
"""
LISTENERS = {
    "d.on": """
        unsubscribe = d.on("run:progress", lambda event: print("heard", event.progress.current))
        run = talk.trigger()
    """,
    "async": """
        @d.on("run:progress")
        async def hear(event):
            print("heard", event.progress.current)
        run = talk.trigger()
    """,
    "observe": """
        run = talk.trigger()
        run.observe(lambda change: print("heard", change["new"].current), "progress")
    """,
    "on_progress": """
        run = talk.options(on_progress=lambda progress: print("heard", progress.current)).trigger()
    """,
    "on_error": """
        unsubscribe = d.on_error(lambda error, event: print("heard", error))
        failing = d.on("run:progress", lambda event: 1 / 0)
        run = talk.trigger()
    """,
}


def test_what_a_job_prints_lands_in_no_cell(page: Page, gate: Gate) -> None:
    """Whatever way a job says something: the cells that define, trigger and wait stay empty, and the log has it."""
    page.run(TALK)
    page.run("run = talk.trigger()")
    waiting = page.begin("run.result()")
    gate.passed()
    page.finish(waiting)
    page.run("pass")
    assert {cell.text for cell in page.cells.values()} == {""}
    assert page.run("print(len(run.logs()))").text == "5\n"


@pytest.mark.parametrize("listener", LISTENERS)
def test_what_a_listener_prints_lands_in_its_cell(page: Page, gate: Gate, listener: str) -> None:
    """A listener's words come under the cell that subscribed it, not under the one that is being executed."""
    page.run(TALK)
    subscribing = page.run(dedent(LISTENERS[listener]))
    gate.reached()
    waiting = page.begin("gate()")
    gate.reached()
    gate.open()
    page.until(lambda: "heard" in "".join(cell.text for cell in page.cells.values()))
    gate.open()
    page.finish(waiting)
    assert {cell.id for cell in page.cells.values() if cell.text} == {subscribing.id}


def test_a_click_prints_into_no_cell(page: Page, gate: Gate) -> None:
    """What a click brings about while another cell is executed comes under no cell but the listener's."""
    page.run("""
@d.job
def patient(step):
    step.run("wait", lambda: (step.signal.wait(), print("stopped"))[1])
    print("never said")
""")
    panel = page.panel("run = patient.trigger()\nd.watch(run)")
    listening = page.run("unsubscribe = d.on(['run:*', 'step:*'], lambda event: print(event.type))")
    page.see(panel, "running")
    if page.has_subshells:  # else the click would have to wait for the cell
        blocking = page.begin("gate()")
        gate.reached()
    page.press(panel, "cancel")
    page.see(panel, "cancelled")
    page.until(lambda: "run:cancel" in listening.text)
    if page.has_subshells:
        gate.open()
        page.finish(blocking)
    page.run("d.stop()")
    assert [cell.text for cell in page.cells.values() if cell is not listening and cell.of("stream")] == []
