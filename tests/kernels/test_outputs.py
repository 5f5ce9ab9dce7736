"""The output of a cell that shows a run: a panel while the run goes on, and a record when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernels.conftest import Gate, Page

WIDGET: Final = "application/vnd.jupyter.widget-view+json"
SHAKY: Final = """
fails = [True]
@d.job
def shaky(step):
    step.run("load", lambda: 1)
    gate()
    if fails.pop():
        raise ValueError("no such month")
run = shaky.trigger()
"""

Outputs = dict[str, list[dict[str, Any]]]


@pytest.fixture
def shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """What every output was and became, by its display id."""
    outputs: Outputs = {}
    take: Callable[[dict[str, Any]], None] = page._take

    def note(message: dict[str, Any]) -> None:
        take(message)
        display_id = message["content"].get("transient", {}).get("display_id")
        if display_id is not None:
            assert (message["msg_type"] == "display_data") == (display_id not in outputs)
            outputs.setdefault(display_id, []).append(message["content"]["data"])

    monkeypatch.setattr(page, "_take", note)
    return outputs


def test_a_panel_becomes_a_record_and_a_panel_again(page: Page, gate: Gate, shown: Outputs) -> None:
    """One output all the time: the widget with its record, the record alone at the end, the widget when it goes on."""
    page.run(SHAKY)
    gate.reached()
    page.run("run")
    [states] = shown.values()
    assert set(states[0]) == {WIDGET, "text/html", "text/plain"}
    assert "Last known state" in states[0]["text/html"]
    assert "running" in states[0]["text/plain"]

    gate.open()
    page.until(lambda: len(states) == 2)
    assert set(states[1]) == {"text/html", "text/plain"}
    for words in "no such month", "run.resume()", "load", "Traceback":
        assert words in states[1]["text/html"]
    assert "ValueError: no such month" in states[1]["text/plain"]

    page.run("fails.append(False)\nrun.resume()\nNone")
    gate.reached()
    page.until(lambda: len(states) == 3)
    assert states[2][WIDGET] == states[0][WIDGET]

    gate.open()
    page.until(lambda: len(states) == 4)
    assert set(states[3]) == {"text/html", "text/plain"}
    assert "completed" in states[3]["text/plain"]
    assert "resume" not in states[3]["text/html"]
    assert len(shown) == 1


def test_a_run_that_has_ended_is_shown_as_its_record(page: Page, gate: Gate, shown: Outputs) -> None:
    """No widget is opened for what will not change; `d.watch` opens one, with its buttons, and it stays."""
    page.run(SHAKY)
    gate.passed()
    assert page.run("run.wait().status, len(run.steps())").text == "('failed', 1)"
    comms = page.comms()
    cell = page.run("run")
    [output] = cell.of("display_data")
    assert set(output["content"]["data"]) == {"text/html", "text/plain"}
    assert page.comms() == comms
    assert shown == {}
    panel = page.panel("d.watch(run)")
    page.until(lambda: "Run again" in panel.text)
    [states] = [states for output, states in shown.items() if not output.endswith("-kept")]
    page.press(panel, "delete")
    page.until(lambda: "deleted" in panel.text)
    assert len(states) == 1


def test_what_a_watched_run_came_to_is_kept_beside_its_panel(page: Page, gate: Gate, shown: Outputs) -> None:
    """The panel of an ended run stays; where no kernel draws it, a record stands in for it, also after a resume."""
    page.run(SHAKY)
    gate.passed()
    page.run("run.wait()")
    panel = page.panel("d.watch(run)")
    [kept] = [states for output, states in shown.items() if output.endswith("-kept")]
    assert "failed" in kept[0]["text/html"]
    page.press(panel, "resume")
    gate.passed()
    page.until(lambda: "attempt 2" in kept[-1]["text/html"])
    assert "Last known state" not in kept[-1]["text/html"]


def test_two_outputs_of_a_run_both_become_records(page: Page, gate: Gate, shown: Outputs) -> None:
    """Shown in two cells, it is live in both, and recorded in both."""
    page.run(SHAKY)
    gate.reached()
    page.run("run", cell_id="one")
    page.run("d.watch(run.id)", cell_id="two")
    gate.open()
    page.until(lambda: [len(states) for states in shown.values()] == [2, 2])
    assert all(WIDGET not in states[1] for states in shown.values())


def test_a_panel_with_a_name_lives_on_when_its_cell_is_run_again(page: Page, gate: Gate, shown: Outputs) -> None:
    """What a cell showed before is closed, but not what this cell or another one still shows."""
    page.run(SHAKY)
    gate.reached()
    page.run("panel = d.watch(run)", cell_id="made")
    for _ in range(2):
        page.run("panel", cell_id="one")
    page.run("panel", cell_id="two")
    page.run("None", cell_id="two")
    page.run("run", cell_id="two")
    gate.open()
    page.until(lambda: [len(states) for states in shown.values()] == [2, 2, 2, 2])


def test_closing_the_file_leaves_a_record(page: Page, gate: Gate, shown: Outputs) -> None:
    """What a saved notebook keeps then says how the run stood, and how to see more."""
    page.run(SHAKY)
    gate.reached()
    page.run("run")
    page.begin("d.close()")
    [states] = shown.values()
    page.until(lambda: len(states) == 2)
    gate.open()
    assert set(states[1]) == {"text/html", "text/plain"}
    assert "d.watch" in states[1]["text/html"]
