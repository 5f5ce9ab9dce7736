"""The panel of a run: what people watch and press."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .access import barriers, tabbed
from .jobs import ENDLESS, FAILING, HOSTILE_NAME, LOAD, OPEN, RUN
from .panels import bar, button, panel, run_id, short_id, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lab import Gate, Notebook


def test_a_run_is_a_panel_whose_bar_moves(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """A run as the last line of a cell is a panel; its bar follows each progress, and the end is told."""
    lab = notebook(OPEN, LOAD, RUN)
    lab.run(0, 1)
    output = lab.run(2)
    expect(state(output)).to_contain_text("running")
    for month in range(1, 4):
        gate.let(1)
        expect(bar(output)).to_have_attribute("aria-valuenow", str(month))
        expect(output).to_contain_text(f"{month} of 5")
        expect(output).to_contain_text(f"month {month} is in")
    expect(output).to_contain_text("3,000 flights so far")
    lab.screenshot("panel-running")
    gate.let(2)
    expect(state(output)).to_contain_text("completed")
    expect(output).to_contain_text("5 of 5")
    expect(output.get_by_role("button")).to_have_count(0)
    lab.screenshot("panel-completed")


def test_notebook_7_shows_the_same(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """In Jupyter Notebook the panel is what it is in JupyterLab."""
    lab = notebook(OPEN, LOAD, RUN, app="notebooks")
    output = lab.run(0, 1, 2)
    gate.let(2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "2")
    lab.screenshot("notebook-7")
    button(output, "Cancel").click()
    gate.let(1)
    expect(state(output)).to_contain_text("cancelled")


def test_a_fast_job_ends_with_its_last_value(notebook: Callable[..., Notebook]) -> None:
    """Of a hundred thousand updates in a second the last one is shown."""
    fast = """
    @d.job
    def count(step):
        for number in range(100_001):
            step.progress(number, 100_000)
    """
    lab = notebook(OPEN, fast, "count.trigger()")
    output = lab.run(0, 1, 2)
    expect(state(output)).to_contain_text("completed")
    expect(bar(output)).to_have_attribute("aria-valuenow", "100000")


def test_cancel_works_while_a_cell_awaits(notebook: Callable[..., Notebook]) -> None:
    """The button is heard although the kernel is busy with the cell that awaits the run."""
    wait = "try:\n    await run\nexcept dn.CancelledError:\n    print('told')"
    lab = notebook(OPEN, ENDLESS, "run = endless.trigger()\nrun", wait)
    output = lab.run(0, 1, 2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "1")
    lab.start(3)
    expect(lab.cell(3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    button(output, "Cancel").click()
    expect(state(output)).to_contain_text("cancelled")
    expect(output).to_contain_text("run.resume()")
    expect(lab.finished(3)).to_have_text("told")
    lab.screenshot("panel-cancelled")


def test_cancel_works_while_a_cell_waits(notebook: Callable[..., Notebook]) -> None:
    """The button is heard although the kernel is blocked by the cell that waits for the result."""
    wait = "try:\n    run.result()\nexcept dn.CancelledError:\n    print('told')"
    lab = notebook(OPEN, ENDLESS, "run = endless.trigger()\nrun", wait)
    output = lab.run(0, 1, 2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "1")
    lab.start(3)
    expect(lab.cell(3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    button(output, "Cancel").click()
    expect(state(output)).to_contain_text("cancelled")
    expect(lab.finished(3)).to_have_text("told")


def test_all_views_of_a_run_are_alive(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """A run shown in two cells, and in a view of its own beside the notebook, moves in all three."""
    lab = notebook(OPEN, LOAD, RUN, "run")
    lab.run(0, 1, 2, 3)
    lab.command("notebook:create-output-view")
    views = [lab.output(2), lab.output(3), lab.page.locator(".jp-LinkedOutputView")]
    for month in (1, 2):
        gate.let(1)
        for view in views:
            expect(bar(view)).to_have_attribute("aria-valuenow", str(month))
    lab.screenshot("panel-three-views")
    gate.let(3)
    for view in views:
        expect(state(view)).to_contain_text("completed")


def test_a_reload_in_the_middle_loses_nothing(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """After F5 the saved panel goes on, and `d.watch` draws the run once more."""
    lab = notebook(OPEN, LOAD, RUN, "d.watch(run)", "d.watch(run.id)")
    output = lab.run(0, 1, 2)
    gate.let(2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "2")
    lab.save()
    lab.reload()
    expect(bar(output)).to_have_attribute("aria-valuenow", "2")
    watched = lab.run(3)
    gate.let(1)
    for view in (output, watched):
        expect(bar(view)).to_have_attribute("aria-valuenow", "3")
    gate.let(2)
    for view in (output, watched, lab.run(4)):
        expect(state(view)).to_contain_text("completed")
    lab.screenshot("panel-watched-after-the-end", lab.cell(4))


def test_a_killed_kernel_goes_on(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """The panel of a dead kernel says so, its buttons off; in the next one the run goes on, finished steps reused."""
    lab = notebook(OPEN, LOAD, RUN, "print(os.getpid())", "d.watch(ID)")
    output = lab.run(0, 1, 2)
    gate.let(2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "2")
    killed = run_id(output)
    lab.kill_kernel(int(lab.text(3)))
    expect(output).to_contain_text("Disconnected")
    expect(button(output, "Cancel")).to_be_disabled()
    lab.screenshot("panel-disconnected")
    lab.run(0, 1)
    lab.write(4, f"d.watch({killed!r})")
    watched = lab.run(4)
    gate.let(3)
    expect(state(watched)).to_contain_text("completed")
    expect(watched.get_by_role("group", name="Steps").get_by_text("reused")).to_have_count(2)
    lab.screenshot("panel-resumed", lab.cell(4))


def test_a_restarted_kernel_leaves_a_panel_that_says_so(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """After a restart the panel keeps what it showed last, and its buttons are off."""
    lab = notebook(OPEN, LOAD, RUN)
    output = lab.run(0, 1, 2)
    gate.let(2)
    expect(bar(output)).to_have_attribute("aria-valuenow", "2")
    gate.let(100)
    lab.restart_kernel()
    expect(output).to_contain_text(re.compile("disconnected", re.IGNORECASE))
    expect(output.get_by_role("button").and_(output.locator(":enabled"))).to_have_count(0)


def test_a_failure_is_told_and_can_be_resumed(notebook: Callable[..., Notebook]) -> None:
    """The error's first line is in sight, the traceback folded under it; `d.watch` offers what can be done."""
    lab = notebook(OPEN, FAILING, "run = divide.trigger()\nrun", "d.watch(run)")
    output = lab.run(0, 1, 2)
    expect(output).to_contain_text("ZeroDivisionError: division by zero")
    expect(output.get_by_text("Traceback (most recent call last)")).to_be_hidden()
    output.get_by_text("Traceback", exact=True).click()
    expect(output.get_by_text("Traceback (most recent call last)")).to_be_visible()
    watched = lab.run(3)
    lab.screenshot("panel-failed", watched)
    button(watched, "Resume").click()
    expect(watched).to_contain_text("attempt 2")
    expect(state(watched)).to_contain_text("failed")
    button(watched, "Delete").click()
    expect(button(watched, "Delete")).to_have_text("Delete for good?")
    expect(state(watched)).to_contain_text("failed")
    button(watched, "Delete").click()
    expect(state(watched)).to_contain_text("deleted")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_everybody_can_use_the_panel(notebook: Callable[..., Notebook], gate: Gate, theme: str) -> None:
    """Every control is reached by Tab and has a name, and contrast suffices, whatever the state."""
    watch = "failed = divide.trigger()\nfailed.wait()\nd.watch(failed)"
    lab = notebook(OPEN, LOAD, FAILING, watch, RUN, "load.trigger()")
    lab.theme(f"JupyterLab {theme}")
    lab.run(0, 1, 2, 3, 4, 5)
    gate.let(2)
    expect(bar(lab.output(4))).to_have_attribute("aria-valuenow", "2")
    expect(state(lab.output(5))).to_contain_text("pending")
    lab.screenshot(f"panels-{theme.lower()}")
    failed, running, pending = (lab.output(number) for number in (3, 4, 5))
    for output in (failed, running, pending):
        assert barriers(panel(output)) == ""
    of = f"divide {short_id(failed)}"
    assert tabbed(panel(failed)) == [
        *("Traceback", "Steps: 1 completed, 1 failed", "Steps", "Log: 1 line", "Log"),
        *(f"Resume {of}", f"Run again {of}", f"Delete {of}"),
    ]
    of = f"load flights {short_id(running)}"
    assert tabbed(panel(running)) == ["Steps: 2 completed, 1 running", "Steps", "Log: 2 lines", "Log", f"Cancel {of}"]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_panel_needs_no_mouse(notebook: Callable[..., Notebook], gate: Gate, key: str) -> None:
    """What is folded is opened, and buttons are pressed, by the key that people press."""
    lab = notebook(OPEN, LOAD, RUN)
    output = lab.run(0, 1, 2)
    gate.let(1)
    expect(bar(output)).to_have_attribute("aria-valuenow", "1")
    steps = output.locator("summary", has_text="Steps")
    was_open = output.get_by_role("group", name="Steps").is_visible()
    steps.focus()
    steps.press(key)
    expect(output.get_by_role("group", name="Steps")).to_be_visible(visible=not was_open)
    button(output, "Cancel").focus()
    lab.page.keyboard.press(key)
    gate.let(1)
    expect(state(output)).to_contain_text("cancelled")


def test_a_name_that_looks_like_html_stays_text(notebook: Callable[..., Notebook]) -> None:
    """Whatever a job, a step, a label or a message is named, it is shown letter by letter."""
    hostile = f"""
    name = {HOSTILE_NAME!r}

    @d.job(name=name)
    def hostile(step):
        step.progress(1, 2, name)
        step.log.info(name)
        step.run(name, lambda: name)
        raise ValueError(name)
    """
    lab = notebook(OPEN, hostile, "run = hostile.options(labels={'label': name}).trigger()\nrun", "d.watch(run)")
    lab.run(0, 1, 2, 3)
    for output in (lab.output(2), lab.output(3)):
        expect(state(output)).to_contain_text("failed")
        expect(output.get_by_text(HOSTILE_NAME).first).to_be_visible()
        expect(output.locator("img")).to_have_count(0)
    lab.screenshot("panel-hostile-name")
