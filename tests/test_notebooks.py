"""The notebooks as they are read where they are hosted; `make notebooks` executes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
COLUMNS = 80


def cells_of(path: Path, kind: str) -> list[Any]:
    """Give the cells of one kind."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def outputs_of(path: Path) -> list[Any]:
    """Give the outputs of all cells."""
    return [output for cell in cells_of(path, "code") for output in cell["outputs"]]


def texts_of(cells: list[Any], kind: str) -> list[str]:
    """Give what cells show, in one of its forms."""
    shown = [output["data"] for cell in cells for output in cell["outputs"]]
    return ["".join(data[kind]) for data in shown if kind in data]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_reader_sees_what_came_out(path: Path) -> None:
    """Every cell was executed, from the top, and showed values, widgets or nothing: no error, no stray line."""
    cells = cells_of(path, "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "make outputs"
    assert {output["output_type"] for output in outputs_of(path)} <= {"execute_result", "display_data"}
    assert "" not in texts_of(cells, "text/plain")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_reader_needs_no_kernel(path: Path) -> None:
    """What was a widget is HTML or text, and each run is shown as it ended."""
    assert {kind for output in outputs_of(path) for kind in output["data"]} <= {"text/html", "text/plain"}
    assert "widgets" not in json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert [html for html in texts_of(cells_of(path, "code"), "text/html") if "Last known state" in html] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_nothing_tells_where_it_ran(path: Path) -> None:
    """No output names a folder of the machine that made it, but the kernel's own in tracebacks."""
    cells = cells_of(path, "code")
    shown = "\n".join(texts_of(cells, "text/html") + texts_of(cells, "text/plain"))
    paths = re.findall(r"(?<![\w.<])/[\w.-]+/[\w./-]+", shown)
    assert [path for path in paths if "ipykernel_" not in path] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_tables_fit_a_terminal(path: Path) -> None:
    """No table is folded, or wider than a terminal."""
    tables = [cell for cell in cells_of(path, "code") if "table" in cell["metadata"].get("tags", [])]
    lines = "\n".join(texts_of(tables, "text/plain")).splitlines()
    assert lines
    assert [line for line in lines if len(line) > COLUMNS or line.endswith("\\")] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_link_is_dead(path: Path) -> None:
    """Every relative link leads to a file."""
    text = "\n".join("".join(cell["source"]) for cell in cells_of(path, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []
