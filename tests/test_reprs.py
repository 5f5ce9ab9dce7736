"""What a store, its jobs and a job show as the last expression of a cell."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def read(html: str) -> str:
    """Give what is left for the reader where styles and tags are stripped, as code-hosting sites do."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def shown(thing: Any) -> str:
    html: str = thing._repr_html_()
    for outside in ("<script", "src=", "href=", "@import", "url("):
        assert outside not in html
    return read(html)


@pytest.fixture
def busy(idle: dn.Durably) -> dn.Durably:
    """A store with two jobs: one with a few runs, one whose definition is gone."""

    @idle.job
    def import_flights(step: dn.StepContext, month: int, carrier: str | None = None) -> dict[str, int]:
        """Import a month of flights.

        And much more.
        """
        step.progress(1, 4)
        if month > 12:
            raise ValueError("no such month\nat all")
        return {"month": month, "carriers": len(carrier or "")}

    for month in (1, 13):
        _ = import_flights.options(labels={"team": "blue"}).trigger(month=month)
    idle.process_until_idle()
    _ = import_flights.trigger(month=2)
    _ = idle.job(name="clean")(import_flights.fn).trigger(month=1)
    del idle._definitions["clean"]
    return idle


def test_a_store(busy: dn.Durably) -> None:
    """It shows its file, the worker, the jobs with their signature and numbers, what waits, and where to look on."""
    text = shown(busy)
    assert re.match(r"Durably '.*jobs\.duckdb' stopped ", text)
    assert "Job ◦ pending ▸ running ✓ completed ✕ failed ⊘ cancelled" in text
    assert "import_flights(month: int, carrier: str | None = None) 1 0 1 1 0" in text
    assert "clean not defined here 1 0 0 0 0" in text
    assert "1 pending run waits for job 'clean' to be defined: run the cell that does." in text
    assert "d.dashboard()" in text


def test_a_job(busy: dn.Durably) -> None:
    """It shows its signature, the first line of its docstring, its parameters and its latest runs."""
    text = shown(busy.jobs["import_flights"])
    assert text.startswith(
        "Job import_flights(month: int, carrier: str | None = None) Import a month of flights. "
        "Parameter Type Default month int required carrier str | None None 3 runs: 1 pending, 1 completed, 1 failed"
    )
    assert "ValueError: no such month" in text
    assert "at all" not in text
    assert "team=blue" in text
    for run in busy.get_runs(job_name="import_flights"):
        assert run.id in text


def test_of_many_runs_the_latest(idle: dn.Durably) -> None:
    """Of many runs a job shows the latest five, and says so."""

    @idle.job
    def many(_: dn.StepContext, number: int) -> int:
        return number

    runs = many.batch_trigger([{"number": number} for number in range(1200)])
    text = shown(many)
    assert "1,200 runs: 1,200 pending; the latest 5 of them:" in text
    assert [run.id in text for run in runs[-6:]] == [False, *[True] * 5]


def test_the_jobs(busy: dn.Durably) -> None:
    """The registry shows each job with what it is for and how many runs it has."""
    text = shown(busy.jobs)
    assert text.startswith("Job About Runs import_flights(")
    assert "Import a month of flights. 3 runs: 1 pending, 1 completed, 1 failed" in text


def test_nothing_yet(idle: dn.Durably) -> None:
    """A store without a job says how to make one, and a job without parameters or runs is shown too."""
    assert "decorate a function with @d.job" in shown(idle)
    assert shown(idle.jobs) == "No job is defined here."

    @idle.job
    def bare(_: dn.StepContext) -> None: ...

    assert shown(bare) == "Job bare() 0 runs"


def test_hints_are_shown_as_python_writes_them(idle: dn.Durably) -> None:
    """Types and defaults of parameters read as in the source, without what only machines need."""

    @idle.job
    def job(  # type: ignore[no-untyped-def]
        _: dn.StepContext,
        share: Annotated[float, Field(gt=0, le=1)],
        kind: Literal["a", "b"] = "a",
        anything="<b>",  # noqa: ANN001
    ) -> None: ...

    text = shown(job)
    assert "share float required" in text
    assert "kind Literal['a', 'b'] 'a'" in text
    assert "anything any value '<b>'" in text


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "</style><script>alert(1)</script>", "a & b"])
def test_names_are_no_markup(idle: dn.Durably, name: str) -> None:
    """What comes from a user stays text."""

    def fn(_: dn.StepContext, text: str = "<script>") -> None:
        raise ValueError(text)

    fn.__doc__ = name
    job = idle.job(name=name)(fn)
    _ = job.options(labels={name: name}).trigger(text=name)
    idle.process_until_idle()
    for thing in (idle, idle.jobs, job):
        html = thing._repr_html_()
        assert "<img" not in html
        assert "<script" not in html
        assert html.count("</style>") == 1
        assert name in read(html)


def _not_open(d: dn.Durably) -> None:
    assert not d.storage.is_open


def _closed(d: dn.Durably) -> None:
    d.init().close()


@pytest.mark.parametrize("bring", [_not_open, _closed])
def test_a_store_that_is_not_open(path: Path, bring: Callable[[dn.Durably], None]) -> None:
    """Before it is opened and after it was closed it shows what is known without asking, and raises nothing."""
    d = dn.Durably(path)

    @d.job
    def job(_: dn.StepContext, number: int = 3) -> int:
        """Count."""
        return number

    bring(d)
    assert "job(number: int = 3)" in shown(d)
    assert "0 runs" not in shown(job)
    assert shown(job) == "Job job(number: int = 3) Count. Parameter Type Default number int 3"
    assert "Count." in shown(d.jobs)
