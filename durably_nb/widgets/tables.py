"""Tables that need no kernel: what a store, a job and a list of runs show in a notebook; the dashboard has their rows.

Everything that comes from a user is escaped here; what carries meaning is in words and in the order of plain elements,
so that it reads well where styles are stripped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from durably_nb.codecs import outlined_input
from durably_nb.errors import DurablyError, SerializationError
from durably_nb.models import RUN_STATUSES
from durably_nb.store import RunQuery
from durably_nb.widgets import render
from durably_nb.widgets.hints import hint_of
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from durably_nb.definitions import Definition
    from durably_nb.models import RunRecord, RunStatus
    from durably_nb.signature import Parameter
    from durably_nb.store import Overview

_NUMBERS: Final = RunQuery(limit=0)
"""Asks for the numbers of runs alone."""

LATEST: Final = 5
"""A job shows so many of its runs."""

COLUMNS: Final = {
    "run": "Run",
    "input": "Input",
    "state": "State",
    "progress": "Progress",
    "created": "Created",
    "took": "Duration",
    "labels": "Labels",
    "error": "Error",
}
"""The columns of a run after its job's name, by the keys of `cells`."""

_OPTIONAL: Final = {"input", "progress", "labels"}

_MOST_OF_AN_INPUT: Final = 60
_MOST_OF_A_LINE: Final = 300
_MOST_OF_A_TITLE: Final = 2_000


# --- runs ---


def runs_html(overview: Overview) -> str:
    """Show the numbers of runs, and those that an overview has."""
    return _page(_runs(overview))


def run_list_html(counts: Mapping[RunStatus, int], first: list[RunRecord], hint: str) -> str:
    """Show numbers of runs, the first of them, and a hint, which is HTML."""
    count = sum(counts.values())
    where = f"; the first {len(first)} of them:" if len(first) < count else ""
    note = f'<p class="dn-note">{hint}</p>' if first else ""
    return _page(f"<p>{counted(counts)}{where}</p>{_run_table(first)}{note}")


def columns(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Give the columns of a table of these cells: some are there only where any run has something in them."""
    return {
        key: head for key, head in COLUMNS.items() if key not in _OPTIONAL or not rows or any(row[key] for row in rows)
    }


def cells(run: RunRecord, now: datetime, *, whole_id: bool = False) -> dict[str, str]:
    """Give the cells of a run, by the keys of `COLUMNS`."""
    run_id = escape(run.run_id)
    return {
        "run": f'<code title="Run {run_id}">{run_id if whole_id else escape(render.short(run.run_id))}</code>',
        "input": _input(run),
        "state": state(run.status),
        "progress": _progress(run),
        "created": _moment(run.created_at),
        "took": _took(run, now),
        "labels": " ".join(map(_label, label_texts(run.labels))),
        "error": _error(run),
    }


def state(status: RunStatus) -> str:
    """Give a state as an icon and a word."""
    word = render.word(status)
    icon = f'<span aria-hidden="true">{render.ICONS[word]}</span>'
    return f'<span class="dn-state" data-status="{status}">{icon} {word}</span>'


def label_texts(labels: Mapping[str, str]) -> list[str]:
    """Give labels as people write them."""
    return [f"{key}={value}" for key, value in labels.items()]


def counted(counts: Mapping[RunStatus, int], word: Callable[[str], str] = render.word) -> str:
    """Give numbers of runs by state as a phrase: ``12 runs: 1 running, 11 completed``."""
    runs = sum(counts.values())
    states = ", ".join(f"{counts[status]:,} {word(status)}" for status in RUN_STATUSES if counts.get(status))
    return f"{runs:,} {'run' if runs == 1 else 'runs'}{': ' if states else ''}{states}"


def _input(run: RunRecord) -> str:
    try:
        text = outlined_input(run.input)
    except SerializationError:
        text = "damaged"
    title, line = escape(_cut(text, _MOST_OF_A_TITLE)), escape(_cut(text, _MOST_OF_AN_INPUT))
    return f'<code class="dn-input" title="{title}">{line}</code>' if text else ""


def _progress(run: RunRecord) -> str:
    if run.progress is None:
        return ""
    current, total = run.progress.current, run.progress.total
    if not total:
        return render.number(current)
    share, text = render.share(run.progress), render.percent(run.progress)
    name = escape(f"Progress of {run.job_name} {render.short(run.run_id)}")
    figures = f"{render.number(current)} of {render.number(total)}"
    return (
        f'<div class="dn-share" title="{figures}"><div class="dn-bar" role="progressbar" aria-label="{name}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{text.removesuffix(" %")}">'
        f'<div data-status="{run.status}" style="width: {share:.1%}"></div></div> <span>{text}</span></div>'
    )


def _label(text: str) -> str:
    return f'<span class="dn-label" title="{escape(text)}">{escape(text)}</span>'


def _moment(moment: datetime) -> str:
    return f'<time datetime="{moment.isoformat()}">{moment.astimezone():%Y-%m-%d %H:%M:%S}</time>'


def _took(run: RunRecord, now: datetime) -> str:
    if run.started_at is None:
        return ""
    text = render.duration(max(0.0, ((run.completed_at or now) - run.started_at).total_seconds()))
    if run.status != "leased":
        return text if run.completed_at else ""
    return f'<span data-since="{run.started_at.timestamp() * 1000:.0f}">{text}</span>'


def _error(run: RunRecord) -> str:
    if run.failure is None:
        return ""
    text = str(run.failure)
    return f'<span class="dn-error" title="{escape(_cut(text, _MOST_OF_A_TITLE))}">{escape(first_line(text))}</span>'


def first_line(text: str) -> str:
    """Give the first line, cut where nobody reads on."""
    return _cut(text.strip().partition("\n")[0], _MOST_OF_A_LINE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# --- what objects show ---


class _Overseer(Protocol):
    """What gives overviews."""

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them."""


def glimpse(host: _Overseer, query: RunQuery = _NUMBERS) -> Overview | None:
    """Ask for an overview; None where the store cannot be asked: it is closed, not open yet, or another process's."""
    try:
        return host.overview(query)
    except DurablyError:
        return None


def durably_html(name: str, standing: str, definitions: Iterable[Definition], overview: Overview | None) -> str:
    """Show a store: its file, its worker, and the jobs with the numbers of their runs."""
    defined = {definition.name: str(definition.signature) for definition in definitions}
    by_job = {} if overview is None else overview.by_job
    names = [*defined, *(job for job in by_job if job not in defined)]
    rows = [
        [_code(defined[job]) if job in defined else f"{escape(job)} <em>not defined here</em>"]
        + [f"{by_job.get(job, {}).get(status, 0):,}" for status in RUN_STATUSES]
        for job in names
    ]
    table = _table(["Job", *(state(status) for status in RUN_STATUSES)], rows, numbers=True)
    jobs = table if names else "<p>No job yet: decorate a function with <code>@d.job</code>.</p>"
    waiting = waiting_text(pending_where(overview, lambda job: job not in defined)) if overview else ""
    hint = "<code>d.dashboard()</code> shows the runs live, <code>d.runs()</code> as a DataFrame."
    return _page(
        f"<p><strong>Durably</strong> <code>{escape(name)}</code> {escape(standing)}</p>{jobs}"
        + (f'<p class="dn-warning">{escape(waiting)}</p>' if waiting else "")
        + (f'<p class="dn-note">{hint}</p>' if overview else "")
    )


def job_html(definition: Definition, overview: Overview | None) -> str:
    """Show a job: how it is triggered, its parameters, and its latest runs."""
    about = first_line(definition.fn.__doc__ or "")
    parameters = [_parameter(parameter) for parameter in definition.signature.parameters.values()]
    runs = "" if overview is None else _runs(overview)
    return _page(
        f"<p><strong>Job</strong> {_code(str(definition.signature))}</p>"
        + (f"<p>{escape(about)}</p>" if about else "")
        + (_table(["Parameter", "Type", "Default"], parameters) if parameters else "")
        + runs
    )


def jobs_html(definitions: Iterable[Definition], overview: Overview | None) -> str:
    """Show jobs: how each is triggered, what it is for, and how many runs it has."""
    by_job = {} if overview is None else overview.by_job
    rows = [
        [
            _code(str(definition.signature)),
            escape(first_line(definition.fn.__doc__ or "")),
            counted(by_job.get(definition.name, {})) if overview else "",
        ]
        for definition in definitions
    ]
    return _page(_table(["Job", "About", "Runs"], rows) if rows else "<p>No job is defined here.</p>")


def pending_where(overview: Overview, is_meant: Callable[[str], bool]) -> dict[str, int]:
    """Give the numbers of pending runs by job, of the jobs that are meant."""
    pending = {job: counts["pending"] for job, counts in overview.by_job.items() if counts.get("pending")}
    return {job: runs for job, runs in pending.items() if is_meant(job)}


def waiting_text(waiting: Mapping[str, int]) -> str:
    """Say which jobs' runs wait for their definition; empty if none do."""
    if not waiting:
        return ""
    runs = sum(waiting.values())
    jobs = ", ".join(f"{job!r} ({count:,})" if len(waiting) > 1 else repr(job) for job, count in waiting.items())
    return (
        f"{runs:,} pending {'run waits' if runs == 1 else 'runs wait'} for {'job' if len(waiting) == 1 else 'jobs'} "
        f"{jobs} to be defined: run the cell that does."
    )


@cache
def style() -> str:
    """Give the styles of tables."""
    return (Path(__file__).parent / "tables.css").read_text(encoding="utf-8")


# --- the smallest pieces ---


def _page(body: str) -> str:
    return f'<style>{style()}</style><div class="dn-tables">{body}</div>'


def _runs(overview: Overview) -> str:
    count = len(overview.runs)
    latest = f"; the latest {count} of them:" if 0 < count < sum(overview.counts.values()) else ""
    return f"<p>{counted(overview.counts)}{latest}</p>{_run_table(overview.runs)}"


def _run_table(runs: list[RunRecord]) -> str:
    now = datetime.now(UTC)
    rows = [cells(run, now, whole_id=True) for run in runs]
    heads = columns(rows)
    texts = [[escape(run.job_name), *(row[key] for key in heads)] for run, row in zip(runs, rows, strict=True)]
    return _table(["Job", *heads.values()], texts) if rows else ""


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, numbers: bool = False) -> str:
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in rows)
    kind = ' class="dn-numbers"' if numbers else ""
    return f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _parameter(parameter: Parameter) -> list[str]:
    default = "<em>required</em>" if parameter.required else f"<code>{escape(shown(parameter.default))}</code>"
    return [
        f"<code>{escape(parameter.name)}</code>",
        f"<code>{escape(str(hint_of(parameter.annotation)))}</code>",
        default,
    ]
