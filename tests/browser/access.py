"""What people without a mouse, or without sight, meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Locator


def barriers(view: Locator) -> str:
    """Give what axe finds wrong in a part of the page, contrast among it; "" if nothing."""
    view.evaluate("view => view.setAttribute('data-axe', '')")
    found = Axe().run(view.page, "[data-axe]")
    view.evaluate("view => view.removeAttribute('data-axe')")
    return found.generate_report() if found.violations_count else ""


def tabbed(view: Locator) -> list[str]:
    """Press Tab from before the view until the focus leaves it; give the names of what was focused."""
    view.evaluate(
        """view => {
            const before = document.createElement("span");
            before.tabIndex = -1;
            view.before(before);
            before.focus();
            before.addEventListener("blur", () => before.remove());
        }"""
    )
    names: list[str] = []
    while True:
        view.page.keyboard.press("Tab")
        name = view.evaluate(
            """view => {
                const control = document.activeElement;
                const label = control.labels?.[0]?.innerText;
                return view.contains(control) ? control.ariaLabel || label || control.innerText : null;
            }"""
        )
        if name is None:
            return names
        if name not in names[-1:]:  # a date has one stop for each of its parts
            names.append(name)
