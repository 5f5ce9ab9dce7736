"""Lists of runs, as a batch or a search gives them: lists that show where their runs stand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from IPython.core.formatters import DisplayFormatter
from ipywidgets.widgets.widget import _instances as open_models

import durably_nb as dn
from durably_nb.runlist import RunList
from durably_nb.widgets import outputs

if TYPE_CHECKING:
    import pytest
    from conftest import Heard


def halved(step: dn.StepContext, number: int) -> int:
    step.progress(1, 4)
    if number % 2:
        raise ValueError(f"{number} <is> odd\nand that is that")
    return number // 2


def batch(d: dn.Durably, numbers: range) -> RunList:
    runs = d.job(halved).batch_trigger([{"number": number} for number in numbers])
    d.process_until_idle()
    return runs


def test_a_batch_and_a_search_give_lists(d: dn.Durably) -> None:
    """Code that takes a list of runs takes these."""
    job = d.job(halved)
    runs = job.batch_trigger([{"number": 2}, {"number": 4}])
    assert isinstance(runs, list)
    assert isinstance(runs, RunList)
    assert [run.result(timeout=20) for run in runs] == [1, 2]
    for found in (d.get_runs(), job.get_runs(limit=5)):
        assert isinstance(found, RunList)
        assert [run.id for run in found] == [run.id for run in reversed(runs)]


def test_a_slice_shows_itself_as_well(idle: dn.Durably) -> None:
    """Some of the runs are a list of runs too; one of them is a run."""
    runs = batch(idle, range(4))
    assert isinstance(runs[1:3], RunList)
    assert [run.id for run in runs[1:3]] == [runs[1].id, runs[2].id]
    assert isinstance(runs[-1], dn.Run)


def test_the_first_line_counts(idle: dn.Durably) -> None:
    """How a batch stands is told in a line, then come its first runs, one a line."""
    runs = batch(idle, range(12))
    first, *lines, last = repr(runs).split("\n")
    assert first == "<12 runs: 6 completed, 6 failed>"
    assert lines == [repr(run) for run in runs[:10]]
    assert last == "… and 2 more"
    assert repr(runs[:1]).split("\n") == ["<1 run: 1 completed>", repr(runs[0])]
    assert repr(RunList()) == "<0 runs>"


def test_the_table_shows_each_run(idle: dn.Durably) -> None:
    """In a notebook a list is a table: id, job, state, progress and the error's first line, as text."""
    html = batch(idle, range(3))._repr_html_()
    assert "3 runs: 2 completed, 1 failed" in html
    assert html.count("<tr>") == 4
    for text in ("halved", "✓", "25 %", "ValueError: 1 &lt;is&gt; odd", "dn.results(runs)"):
        assert text in html
    assert "that is that<" not in html  # it is in a title only


def test_a_long_list_shows_its_beginning(idle: dn.Durably) -> None:
    """Of hundreds of runs the first twenty are shown, and the counts are of all."""
    runs = idle.job(halved).batch_trigger([{"number": number} for number in range(300)])
    html = runs._repr_html_()
    assert html.count("<tr>") == 21
    assert "300 runs: 300 pending; the first 20 of them:" in html
    assert runs[19].id in html
    assert runs[20].id not in html


def test_an_empty_list_says_so(idle: dn.Durably) -> None:
    """A search that finds nothing shows that, and no empty table."""
    html = idle.get_runs()._repr_html_()
    assert "0 runs" in html
    assert "<table" not in html


def test_a_run_that_executes_reads_running(d: dn.Durably, heard: Heard) -> None:
    """States are worded for people in a table, and as in code where each run shows itself as code knows it."""
    go_on = threading.Event()

    @d.job
    def wait(step: dn.StepContext) -> None:
        step.run("wait", go_on.wait, 20)

    d.on("step:start", heard)
    _ = wait.trigger()
    heard.wait_for("step:start")
    runs = d.get_runs()
    assert "1 run: 1 running" in runs._repr_html_()
    assert repr(runs).startswith(f"<1 run: 1 leased>\n<Run {runs[0].id} of wait: leased")
    go_on.set()


def test_where_widgets_are_shown_a_list_is_live(idle: dn.Durably, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook a list is a dashboard of its runs and no others; text and table of that moment stand beside it."""
    runs = idle.job(halved).batch_trigger([{"number": number} for number in range(30)])
    others = idle.job(name="other")(halved).batch_trigger([{"number": 1}])
    assert runs._repr_mimebundle_() == {}
    monkeypatch.setattr(outputs, "have_front_end", lambda: True)
    models = set(open_models)
    bundle, _ = DisplayFormatter().format(runs)
    dashboard = shown(bundle)
    state = dashboard.table.state
    assert (state["total"], state["jobs"], state["runs"]) == (30, ["halved"], 30)
    assert "among" not in state["question"]
    assert "30 runs: 30 pending; the first 20 of them:" in bundle["text/html"]
    assert bundle["text/plain"].startswith("<30 runs: 30 pending>")
    question = {"page": 0, "status": [], "job": "other", "label": "", "search": ""}
    dashboard.table._handle_custom_msg({"question": question}, [])
    dashboard.draw()
    assert dashboard.table.state["total"] == 0
    dashboard.close()
    assert set(open_models) == models
    idle.close()
    assert (others._repr_mimebundle_(), RunList()._repr_mimebundle_()) == ({}, {})


def shown(bundle: dict[str, Any]) -> Any:
    """Give the dashboard behind an output."""
    widget: Any = open_models[bundle["application/vnd.jupyter.widget-view+json"]["model_id"]]
    [table] = widget.children
    return next(handler.__self__ for handler in table._msg_callbacks.callbacks)


def test_no_name_becomes_markup(idle: dn.Durably) -> None:
    """A job that is named like an image stays text."""
    _ = idle.job(name="<img src=x onerror=alert(1)>")(halved).trigger(number=2)
    assert "<img" not in idle.get_runs()._repr_html_()


def test_a_list_outlives_its_store(idle: dn.Durably) -> None:
    """After the file was closed a list still shows what was known of its runs."""
    runs = batch(idle, range(2))
    pending = idle.job(halved).trigger(number=2)
    idle.close()
    assert "completed" in runs._repr_html_()
    assert "1 run: 1 pending" in RunList([pending])._repr_html_()
