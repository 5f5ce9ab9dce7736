"""News from the worker's thread: they reach the page whatever the kernel does meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kernels.conftest import Gate, Model, Page

COUNT = """
@d.job
def count(step):
    for number in 1, 2, 3:
        step.run(f"count {number}", gate)
        step.progress(number, 3)
    gate()
"""
BAR = """
import ipywidgets, traitlets
bar = ipywidgets.IntProgress(max=3)
run = count.trigger()
traitlets.dlink((run, "progress"), (bar, "value"), lambda progress: 0 if progress is None else progress.current)
"""
WAITS = {"idle": "pass", "blocking": "run.result()"}


def test_the_version_is_the_one_that_is_tested(page: Page, version: str) -> None:
    """The kernel is of the version that the test says."""
    found = page.run("import ipykernel\nprint(ipykernel.__version__)").text
    assert version == "installed" or found.startswith(version)


def reach(page: Page, bar: Model, number: int) -> None:
    """Wait until a bar stands at a number."""
    page.until(lambda: bar.state["value"] == number)


@pytest.mark.parametrize("wait", WAITS)
def test_a_widget_of_the_users_follows_a_run(page: Page, gate: Gate, wait: str) -> None:
    """A bar linked to a run moves on the page with each progress, whether a cell is being executed or none."""
    page.run(COUNT)
    page.run(BAR)
    (bar,) = (model for model in page.models.values() if "bar_style" in model.state)
    cell = page.begin(WAITS[wait])
    for number in 1, 2, 3:
        gate.passed()
        reach(page, bar, number)
    gate.reached()
    assert cell.is_done == (wait == "idle")
    gate.open()
    page.finish(cell)
    assert page.run("run.result()").text == ""
