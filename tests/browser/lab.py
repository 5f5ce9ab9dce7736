"""Page objects: a notebook in JupyterLab, and the gate that lets its jobs go on step by step."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Final

import nbformat
from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from playwright.sync_api import Locator

    from .server import Server

SCREENSHOTS: Final = Path(__file__).parents[2] / "build" / "screenshots"

_PANEL: Final = "window.jupyterapp?.shell.currentWidget"

_IS_SHOWN: Final = f"() => {_PANEL}?.context?.isReady && {_PANEL}.content.widgets.length > 0"

_HAS_KERNEL: Final = f"{_IS_SHOWN} && {_PANEL}.sessionContext.session?.kernel?.status === 'idle'"

_HAS_NO_KERNEL: Final = f"{_IS_SHOWN} && !{_PANEL}.sessionContext.session?.kernel"


class Gate:
    """A pipe through which a job asks for leave: each ``os.read(gate, 1)`` returns when the test lets one through."""

    def __init__(self, path: Path) -> None:
        """Make the pipe. It is held open for both directions, so that no end waits for the other to be there."""
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR)

    def let(self, count: int) -> None:
        """Let so many reads through."""
        os.write(self._pipe, b"." * count)

    def close(self) -> None:
        """Let everything through that still waits."""
        self.let(10_000)
        os.close(self._pipe)


class Notebook:
    """A notebook file in a tab of JupyterLab, or of another app of its server, driven as its reader drives it."""

    def __init__(self, page: Page, server: Server, path: Path, cells: Iterable[str], app: str) -> None:
        """Write the file, from the sources of its cells; `open` shows it."""
        self.page = page
        self.path = path
        self._server = server
        self._url = server.url(f"/{app}/{path.relative_to(server.folder)}")
        sources = [dedent(source).strip() for source in cells]
        notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.path)

    # --- opening and closing ---

    def open(self) -> Notebook:
        """Open it, with its kernel idle."""
        self.page.goto(self._url)
        return self._ready()

    def open_without_kernel(self, *, trusted: bool = True) -> Notebook:
        """Open it as somebody does who has no such kernel; not trusted, as somebody who has it from elsewhere."""
        self._server.shut_down_kernels()
        saved = nbformat.read(self.path, as_version=4)
        saved.metadata.kernelspec = {"name": "elsewhere", "display_name": "Elsewhere", "language": "elsewhere"}
        saved.metadata.pop("language_info", None)
        nbformat.write(saved, self.path)
        if trusted:
            self._server.trust(saved)
        self.page.goto(self._url)
        self.page.get_by_role("dialog").get_by_role("combobox").select_option("No Kernel")
        self.page.get_by_role("dialog").get_by_role("button", name="Select").click()
        self.page.wait_for_function(_HAS_NO_KERNEL)
        return self

    def reload(self) -> Notebook:
        """Load the page again, as F5 does; what was not saved is lost."""
        self.page.reload()
        return self._ready()

    def save(self) -> None:
        """Save it."""
        self.command("docmanager:save")

    def _ready(self) -> Notebook:
        self.page.wait_for_function(_HAS_KERNEL)
        return self

    # --- running ---

    def run(self, *numbers: int) -> Locator:
        """Run cells one after the other, and give the output of the last; an error in one of them is the test's."""
        for number in numbers:
            self._select(number)
            self.command("notebook:run-cell")
            errors = self.output(number).locator('[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts()
            assert not errors, "".join(errors)
        return self.output(numbers[-1])

    def start(self, number: int) -> Locator:
        """Let a cell begin, and give its output; the cell goes on."""
        self._select(number)
        self.page.evaluate("() => void jupyterapp.commands.execute('notebook:run-cell')")
        return self.output(number)

    def finished(self, number: int) -> Locator:
        """Wait until a cell that was begun has ended, and give its output."""
        expect(self.cell(number).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"))
        return self.output(number)

    def write(self, number: int, source: str) -> None:
        """Make this the source of a cell."""
        self._select(number)
        self.page.evaluate(
            "source => jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.setSource(source)", source
        )

    def text(self, number: int) -> str:
        """Run a cell and give the text that it shows."""
        return self.run(number).inner_text()

    def _select(self, number: int) -> None:
        self.page.evaluate("n => { jupyterapp.shell.currentWidget.content.activeCellIndex = n }", number)

    # --- the kernel ---

    def restart_kernel(self) -> None:
        """Restart the kernel, as the menu does."""
        self.command("kernelmenu:restart")
        self.page.wait_for_function(_HAS_KERNEL)

    def kill_kernel(self, process_id: int) -> None:
        """Kill the kernel as a crash does, and wait until JupyterLab has started another."""
        os.kill(process_id, signal.SIGKILL)
        self.page.get_by_role("dialog").get_by_role("button", name="Ok").click()
        self.page.wait_for_function(_HAS_KERNEL)

    # --- what is seen ---

    def cell(self, number: int) -> Locator:
        """Give a cell, the first being 0."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def output(self, number: int) -> Locator:
        """Give the output of a cell."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def theme(self, name: str) -> None:
        """Take a theme, for this and all later pages."""
        self.command("apputils:change-theme", theme=name)
        light = "false" if "Dark" in name else "true"
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)

    def screenshot(self, name: str, of: Locator | None = None) -> None:
        """Keep a picture of the page, or of a part of it, among the build artefacts."""
        (of or self.page).screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    def command(self, name: str, **arguments: object) -> None:
        """Carry out a command of JupyterLab, as its menus do, to the end."""
        self.page.evaluate("([name, args]) => jupyterapp.commands.execute(name, args)", [name, arguments])
