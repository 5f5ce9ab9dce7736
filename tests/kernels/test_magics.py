"""A kernel that is killed in the middle of a %%job goes on with it when the same cells are run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from kernels.conftest import Gate, Page

JOB = """%%job import_flights
def load(month):
    executed(month)
    return month

step.run("one", load, 1)
step.run("two", lambda: gate())
step.run("three", load, 3)
"""


def test_the_same_cells_go_on_after_a_kill(page: Page, gate: Gate, path: Path) -> None:
    """After a kill and a restart the notebook is run from the top: the same run goes on, no finished step again."""
    marks = path.with_name("marks.txt")
    setup = f"{gate.definition}\ndef executed(month):\n    open({str(marks)!r}, 'a').write(f'{{month}} ')"
    notebook = [setup, "%load_ext durably_nb", f"%durably open {path}", JOB, "print(_.id)"]
    before = [page.run(cell) for cell in notebook]
    gate.reached()
    page.restart()
    gate.open()
    after = [page.run(cell) for cell in notebook]
    gate.passed()
    assert page.run("_.result(timeout=20)").text == "3"
    assert after[-1].text == before[-1].text
    assert "goes on" in after[-2].text
    assert marks.read_text() == "1 3 "
    assert page.run("print(len(d.get_runs()))").text == "1\n"
