"""A run's view as HTML and as a line of text: what the live panel shows, and what a saved notebook keeps.

One renderer for both. Everything that comes from a run is escaped here; what carries meaning is in words
and in the order of plain elements, so that it reads well where styles are stripped.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from durably_nb.models import ProgressData
    from durably_nb.views import LineView, RunView, StepView

WORDS: Final = {"leased": "running"}
"""States as people say them, where they differ."""

ICONS: Final = {
    "pending": "◦",
    "running": "▸",
    "completed": "✓",
    "failed": "✕",
    "cancelled": "⊘",
    "interrupted": "↯",
    "deleted": "⌫",
}
_STEPS_FIRST: Final = ("completed", "running", "failed", "cancelled", "interrupted")
_MILLISECOND: Final = 0.001
_MINUTE: Final = 60
_HOUR: Final = 3600
_FOR_EVER: Final = 1e10
_SHORT_ID: Final = 6
_MOST_OF_A_LINE: Final = 2000
_MOST_IN_FULL: Final = 10**15
_TERMINAL_CODES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_SECONDS: Final = re.compile('data-ticking="[^"]*">[^<]*')


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is drawn: a view at a moment, what a pending run waits for, and the output in a line.

    `is_kept`: for a record, where what is true for a moment only has no place.
    """

    view: RunView
    now: datetime
    waits_for: str | None = None
    output: str | None = None
    is_kept: bool = False

    @property
    def state(self) -> str:
        """The state in a word."""
        if self.view.is_deleted:
            return "deleted"
        return word(self.view.record.status)

    @property
    def elapsed(self) -> float | None:
        """Seconds of this attempt."""
        return self.view.elapsed_s(self.now)


def word(status: str) -> str:
    """Give a state as people say it."""
    return WORDS.get(status, status)


def short(run_id: str) -> str:
    """Give the end of an id, by which people tell runs apart."""
    return run_id[-_SHORT_ID:]


def duration(seconds: float) -> str:
    """Give a time span for people: ``340 ms``, ``12.3 s``, ``1:05``, ``2:03:04``; panel.js counts in the same way."""
    if seconds < 1:
        return f"{int(seconds * 1000)} ms" if seconds >= _MILLISECOND else "< 1 ms"
    if seconds < _MINUTE:
        return f"{int(seconds * 10) / 10} s"
    if seconds >= _FOR_EVER:
        return "∞"
    minutes, second = divmod(int(seconds), _MINUTE)
    hours, minute = divmod(minutes, _MINUTE)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def number(value: float) -> str:
    """Give a number for people: thousands set apart, no more digits than tell."""
    return f"{value:,}" if isinstance(value, int) and value < _MOST_IN_FULL else f"{value:,.6g}"


def share(progress: ProgressData) -> float:
    """Give how much of its total is done, from 0 to 1."""
    return min(1.0, max(0.0, progress.current / progress.total)) if progress.total else 0.0


def percent(progress: ProgressData) -> str:
    """Give how much of its total is done in whole per cent: a hundred only when it is."""
    return f"{math.floor(share(progress) * 100)} %"


def regions(scene: Scene) -> dict[str, str]:
    """Give the panel's regions as HTML, each by its name, from top to bottom."""
    return {
        "head": _head(scene),
        "progress": _progress(scene),
        "problem": _problem(scene),
        "steps": _steps(scene),
        "log": _log(scene.view),
    }


def is_same(before: str | None, now: str) -> bool:
    """Whether a region differs in nothing from before, but in seconds that a page counts by itself."""
    return before == now or (before is not None and _SECONDS.sub("", before) == _SECONDS.sub("", now))


def record(scene: Scene) -> str:
    """Give the whole as HTML that needs no kernel, no script and no file beside it."""
    body = "".join(f"<div>{html}</div>" for html in regions(replace(scene, is_kept=True)).values() if html)
    return f'<style>{style()}</style><div class="dn-panel dn-record">{body}{_note(scene)}</div>'


def watch(run_id: str) -> str:
    """Give what people type to see a run again."""
    return f"d.watch({run_id!r})"


def brief(scene: Scene) -> str:
    """Give it in a few words, for beside a bar."""
    running = scene.view.running_step if scene.view.is_active else None
    about = [scene.view.record.job_name, scene.state, *_figures(scene.view), *_pace(scene)]
    if message := _message(scene.view):
        about.append(message)
    elif running is not None:
        about.append(running.name)
    if scene.view.record.failure is not None:
        about.append(_plain(str(scene.view.record.failure)).partition("\n")[0])
    return _one_line(" · ".join(about))


def kept(model_id: str) -> str:
    """Give the class of the last known state that is kept beside a panel; see outputs.py."""
    return f"dn-kept-{model_id}"


def hiding_kept(model_id: str) -> str:
    """Give what hides it while the panel is there."""
    name = f".{kept(model_id)}"
    return f"<style>{name}, .jp-OutputArea-child:has({name}) {{ display: none }}</style>"


def hiding_lost(model_id: str) -> str:
    """Give what hides the place of a panel that no kernel draws, above what was kept of it."""
    place = '.jp-OutputArea-child:has([data-mime-type="application/vnd.jupyter.widget-view+json"])'
    kept_next = f":has(+ .jp-OutputArea-child .{kept(model_id)})"
    return f"<style>{place}:not(:has(.dn-panel)){kept_next} {{ display: none }}</style>"


def line(scene: Scene) -> str:
    """Give it in a line of text, for where HTML is not shown."""
    view = scene.view
    about = [scene.state if scene.waits_for is None else f"{scene.state}, waiting for {scene.waits_for}"]
    if view.is_active and view.progress is not None:
        about.append(_figures(view)[0])
    if (step := view.running_step) is not None and view.is_active:
        about.append(f"in step {step.name!r}")
    if not view.is_active and scene.elapsed is not None:
        about.append(f"after {duration(scene.elapsed)}")
    if view.record.step_count:
        about.append(f"{view.record.step_count:,} {'step' if view.record.step_count == 1 else 'steps'} completed")
    if view.record.failure is not None:
        about.append(str(view.record.failure).partition("\n")[0])
    return _one_line(f"Run {view.record.run_id} of {view.record.job_name}: {', '.join(about)}")


@cache
def style() -> str:
    """Give the styles of panels and records."""
    return (Path(__file__).parent / "panel.css").read_text(encoding="utf-8")


# --- the regions ---


def _head(scene: Scene) -> str:
    run = scene.view.record
    status = "deleted" if scene.view.is_deleted else run.status
    labels = "".join(f' <span class="dn-label">{escape(f"{key}={value}")}</span>' for key, value in run.labels.items())
    return (
        f'<span class="dn-state" data-status="{status}">{_icon(word(status))} {scene.state}</span> '
        f'<strong class="dn-job">{escape(run.job_name)}</strong> '
        f'<code title="Run {escape(run.run_id)}">{escape(short(run.run_id))}</code>{labels} {_elapsed(scene)}'
    )


def _elapsed(scene: Scene) -> str:
    if scene.elapsed is None:
        return f'<span class="dn-time">triggered {_moment(scene.view.record.created_at)}</span>'
    attempt = f", attempt {scene.view.attempts}" if scene.view.attempts > 1 else ""
    ticking = _ticking(scene.elapsed) if scene.view.record.status == "leased" else duration(scene.elapsed)
    began = _moment(scene.view.began_at) if scene.view.began_at else ""
    return f'<span class="dn-time" title="since {began}">{ticking}{attempt}</span>'


def _progress(scene: Scene) -> str:
    view = scene.view
    waits = f'<div class="dn-note">Waiting for {escape(scene.waits_for)}</div>' if scene.waits_for else ""
    if view.progress is None:
        return waits + _output(scene)
    figures = [*_figures(view), *_pace(scene)]
    bar = ""
    if total := view.progress.total:
        name = escape(f"Progress of {view.record.job_name}")
        current = min(max(view.progress.current, 0), total)
        bar = (
            f'<div class="dn-bar" role="progressbar" aria-label="{name}" aria-valuemin="0" aria-valuemax="{total}" '
            f'aria-valuenow="{current}" aria-valuetext="{escape(", ".join(figures))}">'
            f'<div data-status="{view.record.status}" style="width: {share(view.progress):.2%}"></div></div>'
        )
    shown = [f"<span>{escape(figure)}</span>" for figure in figures]
    if _message(view):
        shown.append(f'<span class="dn-message">{escape(_message(view))}</span>')
    return f'{bar}<div class="dn-figures">{" · ".join(shown)}</div>{waits}{_output(scene)}'


def _figures(view: RunView) -> list[str]:
    """Give the progress in figures: 42 of 100, 42 %."""
    progress = view.progress
    if progress is None:
        return []
    of = "" if progress.total is None else f" of {number(progress.total)}"
    figures = [f"{number(progress.current)}{of}"]
    if progress.total:
        figures.append(percent(progress))
    return figures


def _pace(scene: Scene) -> list[str]:
    """Give how fast it goes, which is of the moment: 3.5 a second, 17 s left."""
    if scene.is_kept:
        return []
    rate, left = scene.view.rate(scene.now), scene.view.remaining_s(scene.now)
    pace = [] if rate is None else [f"{rate:,.3g} a second" if rate >= 1 else f"{duration(1 / rate)} each"]
    return pace if left is None else [*pace, f"{duration(left)} left"]


def _message(view: RunView) -> str:
    return "" if view.progress is None else (view.progress.message or "")[:_MOST_OF_A_LINE]


def _output(scene: Scene) -> str:
    if scene.output is None:
        return ""
    return f'<div class="dn-output">Output: {_code(scene.output)}</div>'


def _problem(scene: Scene) -> str:
    run = scene.view.record
    if run.status != "failed" or run.failure is None or scene.view.is_deleted:
        return ""
    where = f"In step {_code(run.failed_step_name)}: " if run.failed_step_name else ""
    first = _plain(str(run.failure)).partition("\n")[0][:_MOST_OF_A_LINE]
    trace = f"<details><summary>Traceback</summary><pre>{escape(_plain(run.failure.traceback))}</pre></details>"
    return f'<p class="dn-error">{where}{escape(first)}</p>{trace if run.failure.traceback else ""}'


def _steps(scene: Scene) -> str:
    view = scene.view
    if not view.steps:
        return ""
    counts = Counter(step.status for step in view.steps)
    reused = sum(step.reused for step in view.steps)
    summary = [f"{counts[status]:,} {status}" for status in _STEPS_FIRST if counts[status]]
    if reused:
        summary[0] += f" ({reused:,} reused)"
    hidden = ""
    if view.hidden_steps:
        count = view.hidden_steps + len(view.steps)
        summary = [f"{count:,}; of the latest {len(view.steps)} {summary[0]}", *summary[1:]]
        hidden = f'<p class="dn-note">{_code("run.steps()")} gives all of them.</p>'
    running = view.running_step
    now = _aside(running.name) if running is not None and view.is_active else ""
    rows = "".join(_step(step, scene) for step in view.steps)
    return (
        f"<details open><summary>Steps: {', '.join(summary)}{now}</summary>{hidden}"
        f'<div class="dn-scroll" tabindex="0" role="group" aria-label="Steps"><table>{rows}</table></div></details>'
    )


def _step(step: StepView, scene: Scene) -> str:
    status = step.status
    took = "" if step.duration_ms is None else duration(step.duration_ms / 1000)
    if status == "running" and step.started_at is not None:
        took = _ticking(max(0.0, (scene.now - step.started_at).total_seconds()))
    reused = ' <span class="dn-label">reused</span>' if step.reused else ""
    error = f'<div class="dn-error">{escape(step.error.partition(chr(10))[0][:200])}</div>' if step.error else ""
    return (
        f'<tr data-key="{step.sequence}"><td class="dn-state" data-status="{status}">{_icon(status)} {status}</td>'
        f'<td class="dn-wide">{escape(step.name)}{reused}{error}</td><td class="dn-took">{took}</td></tr>'
    )


def _log(view: RunView) -> str:
    if not view.lines:
        return ""
    count = view.hidden_lines + len(view.lines)
    hidden = f", the latest {len(view.lines)} here" if view.hidden_lines else ""
    latest = _aside(_plain(view.lines[-1].message).rpartition("\n")[2][:200])
    rows = "".join(map(_line, view.lines))
    return (
        f"<details open><summary>Log: {count:,} {'line' if count == 1 else 'lines'}{hidden}{latest}</summary>"
        f'<div class="dn-scroll" tabindex="0" role="group" aria-label="Log"><table>{rows}</table></div>'
        "</details>"
    )


def _line(entry: LineView) -> str:
    step = f' <span class="dn-label">{escape(entry.step_name)}</span>' if entry.step_name else ""
    message = escape(_plain(entry.message)[:_MOST_OF_A_LINE])
    return (
        f'<tr data-key="{entry.sequence}" data-level="{entry.level}"><td>{_clock(entry.timestamp)}</td>'
        f'<td>{entry.level}</td><td class="dn-wide">{message}{step}</td></tr>'
    )


def _note(scene: Scene) -> str:
    """Say what a record is, and how to go on from it."""
    run = scene.view.record
    if scene.view.is_active:
        note = f"Last known state, of {_moment(scene.now)}: not ended. As it is now: {_code(watch(run.run_id))}."
    elif run.status in {"failed", "cancelled"} and not scene.view.is_deleted:
        resume = _code(f"d.resume({run.run_id!r})")
        note = f"To go on after its last completed step: {_code('run.resume()')} or {resume}."
    else:
        return ""
    return f'<p class="dn-note">{note}</p>'


# --- the smallest pieces ---


def _icon(status: str) -> str:
    return f'<span aria-hidden="true">{ICONS[status]}</span>'


def _aside(text: str) -> str:
    """Give what a closed fold shows of the latest in it."""
    return f'<span class="dn-now"> · {escape(text)}</span>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _plain(text: str) -> str:
    """Give what a terminal would show: without the codes for colours, and of a line that was drawn anew the last."""
    lines = _TERMINAL_CODES.sub("", text).rstrip().split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ticking(seconds: float) -> str:
    text = duration(seconds) if seconds >= _MINUTE else f"{int(seconds)} s"
    return f'<span data-ticking="{seconds:.1f}">{text}</span>'


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"
