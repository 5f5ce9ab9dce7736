"""What there is to find in a panel, and in the record that is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator


def panel(output: Locator) -> Locator:
    """Give the panel, or the record, that is seen in the output of a cell."""
    return output.locator(".dn-panel:visible")


def bar(output: Locator) -> Locator:
    """Give its progress bar."""
    return output.get_by_role("progressbar")


def state(output: Locator) -> Locator:
    """Give the state that it says."""
    return panel(output).locator(".dn-state").first


def button(output: Locator, name: str) -> Locator:
    """Give one of its buttons."""
    return output.get_by_role("button", name=name)


def short_id(output: Locator) -> str:
    """Give the end of the run's id, as it shows it."""
    return panel(output).locator("code[title]").inner_text()


def run_id(output: Locator) -> str:
    """Give the run's id, as it shows it to who points at the end of it."""
    title = panel(output).locator("code[title]").get_attribute("title")
    assert title is not None
    return title.removeprefix("Run ")
