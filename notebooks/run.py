"""Run notebooks from the top, each in a kernel of its own, and print their tables to the terminal.

The notebooks are copied to `build/notebooks/` and run there, so that neither their outputs nor the databases
they make touch the checkout:

    python notebooks/run.py 01_first_job 02_kill_and_resume 04_widgets

A widget is dead where its kernel is gone, so that what is kept of one is the HTML or the text beside it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parent
BUILD = NOTEBOOKS.parent / "build" / "notebooks"
CELL_TIMEOUT = 300  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"


def main(names: list[str]) -> None:
    """Run the notebooks of these names, in this order."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(NOTEBOOKS, BUILD, ignore=shutil.ignore_patterns("*.duckdb*", ".*", "__pycache__"))
    for name in names:
        path = BUILD / f"{name}.ipynb"
        print(f"Running {path.name} in a kernel ...", flush=True)
        notebook = executed(path)
        here = f"{BUILD}{os.sep}"  # what names a file in outputs is the file, and not where it is on this machine
        path.write_text(nbformat.writes(notebook).replace(here, "") + "\n", encoding="utf-8")
        for title, text in tables(notebook):
            print(f"\n{title}\n{'-' * len(title)}\n{text}")


def executed(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with its outputs; a cell that raises ends it all with that cell's traceback."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    language = notebook.metadata.language_info
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],  # the kernel's own warnings say nothing of the notebook
    )
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"{path.name} failed. {error}")
    notebook.metadata.language_info = language  # without the versions of this machine
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        output.get("data", {}).pop(WIDGET, None)
    return notebook


def tables(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Return (heading, text) of every cell that is tagged `table`."""
    heading, found = "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            titles = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = titles[-1] if titles else heading
        elif "table" in cell.metadata.get("tags", []):
            found += [(heading, output.data["text/plain"]) for output in cell.outputs if "data" in output]
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
