"""The panel's buttons and updates, as the messages of a real front end and a real kernel carry them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

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
        page.see(panel, f"counted {number}")
    gate.reached()
    assert cell.is_done == (wait == "idle")
    gate.open()
    page.finish(cell)
    page.see(panel, "Run again")


def test_cancel_comes_through_while_a_cell_awaits(page: Page) -> None:
    """Cancel is carried out while a cell awaits the run, which is what the cell then says."""
    page.run(PATIENT)
    panel = page.panel("run = patient.trigger()\nrun")
    cell = page.begin("print('waiting')\nawait run")
    page.until(lambda: cell.text)
    page.see(panel, "running")
    page.press(panel, "cancel")
    page.finish(cell)
    assert cell.error == "CancelledError"
    page.see(panel, "cancelled")


def test_cancel_comes_through_while_a_cell_blocks(page: Page) -> None:
    """Cancel is carried out while a cell blocks, on a subshell; ipykernel 6, without such, does it after the cell."""
    page.run(PATIENT)
    panel = page.panel("run = patient.trigger()\nrun")
    cell = page.begin("print('waiting')\nrun.result()")
    page.until(lambda: cell.text)
    page.see(panel, "running")
    page.press(panel, "cancel")
    if not page.has_subshells:
        page.interrupt()
    page.finish(cell)
    assert cell.error == ("CancelledError" if page.has_subshells else "KeyboardInterrupt")
    page.see(panel, "cancelled")


def test_cells_come_in_order_after_clicks_that_came_between(page: Page) -> None:
    """What is clicked while a cell awaits overtakes the cells that are to come, which keep their order."""
    page.run(PATIENT)
    panel = page.panel("order = []\nrun = patient.trigger()\nrun")
    cells = [page.begin("try:\n    await run\nexcept dn.CancelledError:\n    order.append(0)")]
    cells += [page.begin(f"order.append({number})") for number in (1, 2, 3)]
    page.press(panel, "cancel")
    cells += [page.begin(f"order.append({number})") for number in (4, 5)]
    for cell in cells:
        page.finish(cell)
    assert page.run("order").text == "[0, 1, 2, 3, 4, 5]"


def test_a_second_click_does_nothing(page: Page) -> None:
    """Cancel twice at once: the run is cancelled, and nobody complains."""
    page.run(PATIENT)
    panel = page.panel("run = patient.trigger()\nrun")
    page.see(panel, "running")
    page.press(panel, "cancel")
    page.press(panel, "cancel")
    page.see(panel, "Resume")
    page.run("d.stop()")  # what was clicked has been carried out
    assert "alert" not in "".join(panel.regions.values())
    assert page.run("list(run.events()['type']).count('run:cancel')").text == "1"


def test_a_click_for_an_earlier_attempt_does_nothing(page: Page) -> None:
    """A Cancel that was meant for an attempt that has ended leaves the resumed run alone; a fresh one ends it."""
    page.run(PATIENT)
    panel = page.panel("run = patient.trigger()\nrun")
    page.see(panel, "running")
    late = panel.turn
    page.press(panel, "cancel")
    page.see(panel, "Resume")
    page.press(panel, "resume")
    page.see(panel, "running")
    page.send(panel, command="cancel", turn=late)
    page.send(panel, command="cancel", turn=late)
    assert page.run("run.is_active").text == "True"
    page.see(panel, "running")
    page.press(panel, "cancel")
    page.see(panel, "Resume")
    assert page.run("list(run.events()['type']).count('run:cancel')").text == "2"


def test_a_click_after_the_end_does_nothing(page: Page, gate: Gate) -> None:
    """A Cancel that comes when the run has just completed changes nothing, and is no error."""
    page.run(COUNT)
    panel = page.panel("run = count.trigger()\nrun")
    page.see(panel, "running")
    late = panel.turn
    for _ in range(4):
        gate.passed()
    page.see(panel, "Run again")
    page.send(panel, command="cancel", turn=late)
    assert page.run("run.result()\nrun.status").text == "'completed'"
    assert "alert" not in "".join(panel.regions.values())


def test_a_closed_panel_leaves_no_comm(page: Page) -> None:
    """Two panels of a run are two widgets; each that is closed is gone from the page and from the kernel."""
    page.run(PATIENT)
    before = page.comms()
    first = page.panel("run = patient.trigger()\none = d.watch(run)\none")
    second = page.panel("two = d.watch(run.id)\ntwo")
    page.run("one.close()")
    assert first.id not in page.models
    page.press(second, "cancel")
    page.see(second, "Resume")
    page.run("two.close()")
    page.run("d.close()")
    assert page.comms() == before
    assert page.run("import threading\n[t.name for t in threading.enumerate() if 'durably' in t.name]").text == "[]"


def test_a_cell_that_is_executed_again_leaves_no_second_panel(page: Page) -> None:
    """Executing the same cell again closes the panel that it had shown; that of another cell stays."""
    page.run(PATIENT)
    page.run("run = patient.trigger()")
    page.run("run", cell_id="another cell")
    before = len(page.comms())
    page.run("run", cell_id="a cell")
    once = len(page.comms())
    page.run("run", cell_id="a cell")
    assert len(page.comms()) == once > before


def test_the_panel_of_a_new_kernel_shows_the_run_go_on(page: Page, path: Path, gate: Gate) -> None:
    """After a restart in the middle, `d.watch` shows the resumed run, with what it did not have to do again."""
    page.run(COUNT)
    page.panel("run = count.trigger()\nrun")
    run_id = page.run("print(run.id)").text.strip()
    gate.passed()
    gate.reached()
    page.restart()
    page.run(f"import durably_nb as dn\nd = dn.open({str(path)!r})\n{gate.definition}")
    page.run(COUNT)
    panel = page.panel(f"d.watch({run_id!r})")
    gate.open()  # for the killed one
    for number in 2, 3:
        gate.passed()
        page.see(panel, f"counted {number}")
    assert "count 1 reused" in panel.text
    gate.passed()
    page.see(panel, "Run again")
