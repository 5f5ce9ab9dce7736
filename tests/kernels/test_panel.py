"""The panel's buttons and updates, as the messages of a real front end and a real kernel carry them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager
    from kernels.conftest import Gate, Page

COUNT = """
@d.job
def count(step):
    for number in 1, 2, 3:
        step.run(f"count {number}", gate)
        step.progress(number, 3, f"counted {number}")
    gate()
"""
PATIENT = """
@d.job
def patient(step):
    step.run("wait", lambda: step.signal.wait())
"""
WAITS = {"idle": "pass", "blocking": "run.result()", "awaiting": "await run", "busy": "while run.is_active: pass"}


@pytest.mark.parametrize("wait", WAITS)
def test_a_panel_follows_its_run(page: Page, gate: Gate, wait: str) -> None:
    """A panel shows each progress while it is made, whether a cell is being executed or none; and then the end."""
    page.run(COUNT)
    panel = page.panel("run = count.trigger()\nrun")
    cell = page.begin(WAITS[wait])
    for number in 1, 2, 3:
        gate.passed()
        page.until(lambda number=number: f"counted {number}" in panel.text)
    gate.reached()
    assert cell.is_done == (wait == "idle")
    gate.open()
    page.finish(cell)
    page.until(lambda: "completed" in panel.text)


@pytest.mark.parametrize("wait", ["await run", "run.result()"])
def test_cancel_comes_through_while_a_cell_waits(page: Page, wait: str) -> None:
    """Cancel is carried out while a cell waits for the run, which the cell then reports."""
    page.run(PATIENT)
    panel = page.panel("run = patient.trigger()\nrun")
    cell = page.begin(f"print('waiting')\n{wait}")
    page.until(lambda: cell.text and "running" in panel.text)
    page.press(panel, "cancel")
    page.finish(cell)
    assert cell.error == "CancelledError"
    page.until(lambda: "cancelled" in panel.text)
