"""What is left of a panel: in a saved notebook, for readers without a kernel, and in exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from .access import barriers
from .jobs import FAILING, LOAD, OPEN, RUN
from .panels import bar, panel, state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .lab import Gate, Notebook

FAILED = "failed = divide.trigger()\nfailed"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_finished_notebook_is_read_without_a_kernel(
    notebook: Callable[..., Notebook], gate: Gate, *, trusted: bool
) -> None:
    """A saved notebook shows what became of its runs to who has no kernel, and to who does not trust it."""
    lab = notebook(OPEN, LOAD, FAILING, RUN, FAILED)
    lab.run(0, 1, 2, 3, 4)
    gate.let(5)
    expect(state(lab.output(3))).to_contain_text("completed")
    expect(state(lab.output(4))).to_contain_text("failed")
    lab.save()
    lab.open_without_kernel(trusted=trusted)
    lab.screenshot(f"record-{'trusted' if trusted else 'untrusted'}")
    completed, failed = lab.output(3), lab.output(4)
    for text in ("completed", "load flights", "5 of 5", "month 5 is in", "Steps: 5 completed", "5,000 flights so far"):
        expect(completed).to_contain_text(text)
    for text in ("failed", "ZeroDivisionError: division by zero", "run.resume()", "about to divide"):
        expect(failed).to_contain_text(text)
    for output in (completed, failed):
        expect(output.get_by_role("button")).to_have_count(0)
        assert barriers(panel(output)) == ""


@pytest.mark.parametrize("trusted", [True, False])
def test_a_notebook_saved_meanwhile_says_so(notebook: Callable[..., Notebook], gate: Gate, *, trusted: bool) -> None:
    """Saved while the run goes on, a notebook keeps the last known state, and says that it is not the last word."""
    lab = notebook(OPEN, LOAD, RUN)
    output = lab.run(0, 1, 2)
    gate.let(2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "2")
    expect(output.get_by_text("Last known state")).to_be_attached()
    expect(output.get_by_text("Last known state")).to_be_hidden()
    lab.save()
    lab.open_without_kernel(trusted=trusted)
    lab.screenshot(f"record-meanwhile-{'trusted' if trusted else 'untrusted'}")
    last = panel(output).last
    expect(last).to_contain_text("Last known state")
    expect(last).to_contain_text("2 of 5")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_exported_notebook_is_readable(
    notebook: Callable[..., Notebook], gate: Gate, folder: Path, theme: str
) -> None:
    """What nbconvert makes shows ended runs and those that go on, in either theme, offline."""
    lab = notebook(OPEN, LOAD, FAILING, FAILED, RUN, "load.trigger()")
    lab.run(0, 1, 2, 3, 4)
    gate.let(7)
    expect(state(lab.output(4))).to_contain_text("completed")
    expect(bar(lab.run(5))).to_have_attribute("aria-valuenow", "2")
    expect(lab.output(5).get_by_text("Last known state")).to_be_attached()
    lab.save()
    export(lab.path, folder / "export.html", theme)
    lab.page.goto((folder / "export.html").as_uri())
    lab.screenshot(f"export-{theme}", lab.page.locator("main"))
    failed, completed, running = (lab.page.locator(".jp-Cell").nth(number) for number in (3, 4, 5))
    for output, text in ((failed, "failed"), (completed, "completed"), (running, "running")):
        expect(state(output)).to_contain_text(text)
        assert barriers(panel(output)) == ""
    expect(running).to_contain_text("Last known state")


def export(notebook: Path, html: Path, theme: str) -> None:
    """Export a notebook as HTML, in a theme."""
    content, _ = HTMLExporter(theme=theme).from_filename(str(notebook))
    html.write_text(content)
