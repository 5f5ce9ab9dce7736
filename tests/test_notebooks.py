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


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_reader_sees_what_came_out(path: Path) -> None:
    """Every cell was executed, from the top, and showed a value or nothing: no error, no stray line."""
    cells = cells_of(path, "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "make outputs"
    assert {output["output_type"] for output in outputs_of(path)} == {"execute_result"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_tables_fit_a_terminal(path: Path) -> None:
    """No table is folded, or wider than a terminal."""
    lines = "".join("".join(output["data"]["text/plain"]) + "\n" for output in outputs_of(path)).splitlines()
    assert [line for line in lines if len(line) > COLUMNS or line.endswith("\\")] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_link_is_dead(path: Path) -> None:
    """Every relative link leads to a file."""
    text = "\n".join("".join(cell["source"]) for cell in cells_of(path, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []
