"""The table of all runs: what people filter, open, and command many at once from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .access import barriers, tabbed
from .jobs import HOSTILE_NAME, LOAD, OPEN
from .panels import bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from .lab import Gate, Notebook

RUNS = """
@d.job
def tidy(step, number: int):
    step.progress(number % 7, 7)
    if number % 10 == 0:
        raise ValueError(f"there is nothing to tidy in {number}")
    step.progress(7, 7)
    return number

for run in tidy.options(labels={"season": "autumn"}).batch_trigger([{"number": number} for number in range(195)]):
    run.wait()
loads = load.batch_trigger([{}] * 5)
"""


def run_ids(output: Locator) -> list[str]:
    """Give the ids of the runs on the page."""
    ids: list[str] = rows(output).evaluate_all("rows => rows.map(row => row.dataset.run)")
    return ids


def rows(output: Locator) -> Locator:
    """Give the rows of runs."""
    return output.locator("tr[data-run]")


def test_two_hundred_runs_are_found_opened_and_cancelled(notebook: Callable[..., Notebook], gate: Gate) -> None:
    """Many runs are paged, counted by state, filtered and searched; a row opens its panel; several are cancelled."""
    lab = notebook(OPEN, LOAD, RUNS, "d.dashboard()")
    lab.page.set_viewport_size({"width": 1100, "height": 1100})
    output = lab.run(0, 1, 2, 3)
    gate.let(2)
    expect(output).to_contain_text("of 200")
    expect(rows(output).first).to_contain_text("load flights")
    lab.screenshot("dashboard", output)

    output.get_by_role("button", name="Next page").click()
    expect(rows(output).first).to_contain_text("tidy")
    output.get_by_role("button", name="failed").click()
    expect(output).to_contain_text("of 20")
    for row in rows(output).all():
        expect(row).to_contain_text("failed")
    output.get_by_label("Search").fill("nothing to tidy in 150")
    expect(rows(output)).to_have_count(1)
    output.get_by_label("Search").fill("")
    output.get_by_label("Label").fill("season=spring")
    expect(output).to_contain_text("No run matches.")
    output.get_by_role("button", name="Show all runs").click()
    expect(output).to_contain_text("of 200")

    output.get_by_label("Job", exact=True).select_option("load flights")
    expect(rows(output)).to_have_count(5)
    running = rows(output).filter(has_text="running")
    running.get_by_role("button", name="load flights").click()
    panel = output.get_by_role("group", name="load flights").locator("visible=true")
    expect(bar(panel)).to_have_attribute("aria-valuenow", "2")
    gate.let(1)
    expect(bar(panel)).to_have_attribute("aria-valuenow", "3")
    lab.screenshot("dashboard-opened", output)

    output.get_by_label("Choose all runs on this page").check()
    output.get_by_role("group", name="Chosen runs").get_by_role("button", name="Cancel").click()
    gate.let(1)
    expect(output.locator(".dn-commands").get_by_role("status")).to_have_text("5 cancelled.")
    expect(rows(output).filter(has_text="cancelled")).to_have_count(5)
    expect(output.get_by_role("group", name="Chosen runs").get_by_role("button", name="Run again")).to_be_enabled()
    lab.screenshot("dashboard-cancelled")


MEASURES = """
@d.job
def measure(step, city: str, n: int):
    if n % 3 == 0:
        raise ValueError(f"the station of {city} has sent nothing since number {n} was asked for")

measure.batch_trigger([{"city": city, "n": n} for n in range(10) for city in ("Bern", "Basel", "Chur")])
"""


LABELLED = """
@d.job
def tidy(step, number: int):
    step.progress(1, 2)
    raise ValueError(f"there is nothing to tidy in {number}, and there was nothing before")

runs = tidy.options(labels={"season": "autumn"}).batch_trigger([{"number": number} for number in range(3)])
[run.wait() for run in runs]
runs
"""


def has_room(output: Locator, failed: Locator) -> bool:
    """Whether no column is cut off, and the error of a run is wide and high enough for two lines."""
    table = output.locator(".dn-dashboard .dn-scroll")
    whole: bool = table.evaluate("table => table.scrollWidth <= table.clientWidth")
    error = failed.locator(".dn-error")
    return whole and bool(error.evaluate("error => error.clientWidth >= 140 && error.clientHeight >= 30"))


def test_a_batch_is_told_apart_where_there_is_little_room(notebook: Callable[..., Notebook]) -> None:
    """Beside the file browser each run shows its input and its error, and the list that a batch gives is live."""
    lab = notebook(OPEN, MEASURES, LABELLED, app="lab/tree")
    lab.page.set_viewport_size({"width": 1200, "height": 700})
    output = lab.run(0, 1)
    expect(output).to_contain_text("of 30")
    expect(output.get_by_role("button", name="failed")).to_contain_text("12")
    failed = rows(output).filter(has_text="failed").first
    expect(failed.locator(".dn-input")).to_have_text("city='Chur', n=9")
    assert has_room(output, failed)
    expect(output.get_by_role("columnheader", name="Labels")).to_be_hidden()
    expect(output.get_by_role("columnheader", name="Progress")).to_be_hidden()
    lab.screenshot("dashboard-narrow")
    output.get_by_label("Search").fill("city='Bern', n=3")
    expect(rows(output)).to_have_count(1)
    output = lab.run(2)
    failed = rows(output).filter(has_text="failed").first
    expect(failed).to_contain_text("season=autumn")
    expect(failed).to_contain_text("50 %")
    lab.screenshot("dashboard-narrow-with-all", output)
    assert has_room(output, failed)


def test_what_is_opened_and_what_is_deleted(notebook: Callable[..., Notebook]) -> None:
    """The panel of a row comes into view; what is asked before a deletion says how many it is about."""
    more = "d.stop()\nmore = measure.batch_trigger([{'city': 'Bern', 'n': n} for n in range(3)])"
    lab = notebook(OPEN, MEASURES, "d.dashboard()", more, "for run in more: run.cancel()")
    lab.page.set_viewport_size({"width": 1100, "height": 700})
    output = lab.run(0, 1, 2)
    expect(output.get_by_role("button", name="failed")).to_contain_text("12")
    for row in (rows(output).nth(1), rows(output).nth(2)):
        row.get_by_role("button").click()
        expect(output.locator(".dn-panel .dn-problem, .dn-panel").first).to_be_in_viewport(ratio=1)
        expect(output.get_by_role("button", name="Close the panel")).to_be_in_viewport()
    lab.screenshot("dashboard-in-view")
    output.get_by_role("button", name="Close the panel").click()
    output.get_by_role("button", name="Next page").click()
    expect(rows(output)).to_have_count(5)
    rows(output).nth(0).get_by_role("checkbox").check()
    chosen = output.get_by_role("group", name="Chosen runs")
    chosen.get_by_role("button", name="Delete").click()
    group = output.locator(".dn-commands")
    expect(group).to_contain_text("Delete this run for good?")
    output.get_by_role("button", name="Keep").click()
    lab.run(3)
    output.get_by_role("button", name="Previous page").click()
    expect(rows(output).first).to_contain_text("pending")
    output.get_by_label("Choose all runs on this page").check()
    chosen.get_by_role("button", name="Delete").click()
    expect(group).to_contain_text("Delete the 22 of 25 that have ended, for good?")
    lab.screenshot("dashboard-deletion", output)
    lab.run(4)
    expect(group).to_contain_text("Delete 25 runs for good?")
    output.get_by_role("button", name="Delete").click()
    expect(group.get_by_role("status")).to_have_text("25 deleted.")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_everybody_can_use_the_dashboard(notebook: Callable[..., Notebook], gate: Gate, theme: str) -> None:
    """Every control is reached by Tab and has a name, and contrast suffices."""
    lab = notebook(OPEN, LOAD, RUNS, "d.dashboard()")
    lab.theme(f"JupyterLab {theme}")
    output = lab.run(0, 1, 2, 3)
    gate.let(2)
    output.get_by_label("Search").fill("load")
    expect(rows(output)).to_have_count(5)
    view = output.locator(".dn-dashboard")
    assert barriers(view) == ""
    lab.screenshot(f"dashboard-{theme.lower()}", output)
    every = [f"Choose run {run} of load flights" for run in run_ids(output)]
    states = ["All 5", "◦ pending 4", "▸ running 1", "✓ completed 0", "✕ failed 0", "⊘ cancelled 0"]
    fields = ["Job", "Label", "Search", "Choose all runs on this page"]
    of_rows = [name for choice in every for name in (choice, "load flights")]
    assert tabbed(view) == [*states, *fields, *of_rows]
    output.get_by_label(every[0]).press("Space")
    assert tabbed(view) == [*states, "Cancel", *fields, *of_rows]


def test_a_name_that_looks_like_html_stays_text(notebook: Callable[..., Notebook]) -> None:
    """Whatever a job, a label or an error is named, the table shows it letter by letter."""
    hostile = f"""
    name = {HOSTILE_NAME!r}

    @d.job(name=name)
    def hostile(step):
        raise ValueError(name)

    hostile.options(labels={{"label": name}}).trigger().wait()
    """
    lab = notebook(OPEN, hostile, "d.dashboard()")
    output = lab.run(0, 1, 2)
    expect(rows(output).get_by_text(HOSTILE_NAME, exact=True)).to_be_visible()
    expect(output.get_by_label("Job", exact=True)).to_contain_text(HOSTILE_NAME)
    rows(output).get_by_role("button").click()
    expect(output.locator(".dn-panel")).to_be_visible()
    expect(output.locator("img")).to_have_count(0)
    lab.screenshot("dashboard-hostile-name")
