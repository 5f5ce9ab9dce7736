"""The form of a job: its parameters to fill in, and the panel of the run that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .access import barriers, tabbed
from .jobs import HOSTILE_NAME, OPEN
from .panels import panel, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from .lab import Notebook

REPORT = """
from datetime import date, datetime
from typing import Annotated, Literal
from pydantic import Field

@d.job(name="monthly report")
def report(
    step,
    since: date,
    count: Annotated[int, Field(ge=1, le=10)],
    title: str = "Delays",
    month: Annotated[int, Field(ge=1, le=12)] = 6,
    airline: Literal["AA", "DL", "UA"] = "AA",
    rate: float = 0.5,
    detailed: bool = False,
    airports: list[str] = [],
    until: datetime = datetime(2014, 1, 1),
):
    '''Write the report of a month.'''
    step.progress(1, 1, f"{title} of month {month}, {airline}, {airports}")
    return title
"""


def test_a_form_triggers_a_run(notebook: Callable[..., Notebook]) -> None:
    """What is wrong is said beside the field; what is right becomes a run, its panel under the form."""
    lab = notebook(OPEN, REPORT, "report.form()")
    output = lab.run(0, 1, 2)
    trigger = output.get_by_role("button", name="Trigger")

    def row(label: str) -> Locator:
        return output.locator(".widget-hbox", has=lab.page.get_by_label(label))

    trigger.click()
    expect(row("since").get_by_role("alert")).to_have_text("A value is needed here.")
    expect(row("count").get_by_role("alert")).to_have_text("A value is needed here.")
    output.get_by_label("since").fill("2013-01-01")
    output.get_by_label("count").fill("99")
    output.get_by_label("month").fill("")
    trigger.click()
    expect(row("since").get_by_role("alert")).to_have_count(0)
    expect(row("count").get_by_role("alert")).to_have_text("99 is not from 1 to 10.")
    expect(row("month").get_by_role("alert")).to_have_text("A value is needed here.")
    expect(panel(output)).to_have_count(0)
    lab.screenshot("form-invalid")
    output.get_by_label("count").fill("2")
    output.get_by_label("month").fill("3")
    output.get_by_label("airline").select_option("DL")
    output.get_by_label("airports").fill("JFK, LGA")
    trigger.press("Enter")
    expect(state(output)).to_contain_text("completed")
    expect(trigger).to_be_focused()
    expect(panel(output)).to_contain_text("Delays of month 3, DL, ['JFK', 'LGA']")
    expect(output.get_by_role("alert")).to_have_count(0)
    lab.screenshot("form-triggered")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_everybody_can_use_the_form(notebook: Callable[..., Notebook], theme: str) -> None:
    """Every input is reached by Tab and has a name, and contrast suffices, also of what went wrong."""
    lab = notebook(OPEN, REPORT, "report.form()")
    lab.theme(f"JupyterLab {theme}")
    output = lab.run(0, 1, 2)
    output.get_by_role("button", name="Trigger").click()
    expect(output.get_by_role("alert").first).to_be_visible()
    lab.screenshot(f"form-{theme.lower()}", output)
    form = output.locator(".widget-vbox").first
    assert barriers(form) == ""
    labels = "since count title month airline rate detailed airports until"
    assert tabbed(form) == [*labels.split(), "Trigger"]


def test_a_name_that_looks_like_html_stays_text(notebook: Callable[..., Notebook]) -> None:
    """Whatever a job, its docstring or a choice says, the form shows it letter by letter."""
    hostile = f"""
    from typing import Literal

    @d.job(name={HOSTILE_NAME!r})
    def hostile(step, choice: Literal[{HOSTILE_NAME!r}, "other"] = {HOSTILE_NAME!r}, text: str = {HOSTILE_NAME!r}):
        {HOSTILE_NAME!r}

    hostile.form()
    """
    lab = notebook(OPEN, hostile)
    output = lab.run(0, 1)
    expect(output.get_by_text(HOSTILE_NAME).first).to_be_visible()
    output.get_by_role("button", name="Trigger").click()
    expect(state(output)).to_contain_text("completed")
    expect(output.locator("img")).to_have_count(0)
    lab.screenshot("form-hostile-name")
