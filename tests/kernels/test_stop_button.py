"""The stop button: it ends the waiting, not the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kernels.conftest import Gate, Page

JOB = """
@d.job
def stop_here(step):
    step.run("stop", gate)
    return "done"
run = stop_here.trigger()
"""
WAITS = {
    "await": ("await run", "CancelledError"),
    "result": ("run.result()", "KeyboardInterrupt"),
    "with a limit": ("run.wait(60)", "KeyboardInterrupt"),
    "trigger_and_wait": ("stop_here.trigger_and_wait()", "KeyboardInterrupt"),
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_stop_button_ends_a_wait_and_leaves_the_run_alone(page: Page, gate: Gate, wait: str) -> None:
    """The cell that waits ends while the run stands still; the run then ends well, and can be waited for again."""
    code, error = WAITS[wait]
    page.run(JOB)
    gate.reached()
    cell = page.begin(f"print('waiting')\n{code}")
    page.until(lambda: cell.text)
    page.interrupt()
    page.finish(cell)
    assert cell.error == error
    assert page.run("run.status").text == "'leased'"
    gate.open()
    assert page.run("run.result(20)").text == "'done'"
    if wait == "trigger_and_wait":
        gate.passed()
    assert page.run("[run.result(20) for run in d.get_runs()][0]").text == "'done'"
    assert page.run("await run").text == "'done'"
