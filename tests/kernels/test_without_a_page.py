"""Where no front end shows widgets: what would be a panel is text, and nothing fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program

OPEN = """
import sys
import durably_nb as dn
d = dn.open(PATH)
@d.job
def count(step, to: int):
    for number in range(to):
        step.run(f"count {number}", print, number)
        step.progress(number + 1, to)
    return to
"""
CELLS = {
    "a run": "run = count.trigger(to=3)\nrun",
    "waiting": "run.result(20)",
    "its panel": "d.watch(run)",
    "its bar": "run.progress_bar()",
    "all runs": "d.dashboard()",
    "a form": "count.form()",
    "a job": "count",
    "a list": "d.get_runs()",
    "the file": "d",
}
CLOSE = "d.close()"


def test_a_notebook_that_is_executed_without_a_page(
    version: str, options: Callable[[str], dict[str, Any]], path: Path
) -> None:
    """`jupyter execute` runs every cell; what each shows is there as text, the run's as it ended."""
    sources = [OPEN.replace("PATH", repr(str(path))), *CELLS.values(), "await run", CLOSE]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, km=AsyncKernelManager(**options(version)), timeout=60).execute(cleanup_kc=True)
    shown: dict[str, Any] = dict(zip(CELLS, (cell.outputs for cell in notebook.cells[1:]), strict=False))
    assert [name for name, outputs in shown.items() if not outputs[0]["data"].get("text/plain")] == []
    assert "completed" in shown["a run"][0]["data"]["text/plain"]
    assert not [cell.outputs for cell in (notebook.cells[0], notebook.cells[-1]) if cell.outputs]


def test_a_terminal(launch: Callable[..., Program], path: Path) -> None:
    """In IPython at a terminal, each of them is a line of text or a few."""
    program = """
import sys
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(simple_prompt=True)
for cell in CELLS:
    shell.run_cell(cell, store_history=False).raise_error()
    print("---")
"""
    cells = [OPEN.replace("PATH", repr(str(path))), *CELLS.values(), "await run", CLOSE]
    shown = launch(program.replace("CELLS", repr(cells))).finished().split("---\n")
    assert shown[0] == ""
    assert [name for name, text in zip(CELLS, shown[1:], strict=False) if not text] == []
    assert shown[-2:] == ["", ""]
