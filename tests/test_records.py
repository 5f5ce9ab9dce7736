"""Records: what is left of a run in a saved notebook, as HTML that needs nothing else, and as a line of text."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import durably_nb as dn
from durably_nb.models import Failure, RunRecord
from durably_nb.views import LineView, RunView, StepView
from durably_nb.widgets import render
from durably_nb.widgets.following import Following

if TYPE_CHECKING:
    from collections.abc import Callable

NOON: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
NASTY: Final = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "</style></pre></td>",
    "' onload='x",
    "&lt;",
)

ALLOWED: Final[dict[str, set[str]]] = {
    "div": {"class", "role", "aria-label", "tabindex", "data-status", "style"}
    | {f"aria-value{what}" for what in ("min", "max", "now", "text")},
    "p": {"class"},
    "span": {"class", "title", "aria-hidden", "data-status", "data-ticking"},
    "strong": {"class"},
    "code": {"title"},
    "pre": set(),
    "details": {"open"},
    "summary": set(),
    "table": set(),
    "tr": {"data-key", "data-level"},
    "td": {"class", "data-status"},
    "style": set(),
}
"""The elements of a record, each with its attributes. No script, no link, no form, nothing that loads or runs."""

FREE_TEXT: Final = {"title", "aria-label", "aria-valuetext"}
"""Attributes in which any text may stand."""

PLAIN: Final = re.compile(r"[\w .:%+-]*")
"""What stands in the others."""


class Checked(HTMLParser):
    """Reads a record, and refuses what is not allowed in one."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.styles: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= ALLOWED[tag], (tag, attrs)
        for name, value in attrs:
            assert name in FREE_TEXT or PLAIN.fullmatch(value or ""), (name, value)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self._open[-1:] == ["style"] else self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def checked(html: str) -> Checked:
    """Read a piece of HTML, refusing what is not allowed."""
    parser = Checked()
    parser.feed(html)
    parser.close()
    return parser


def text(html: str) -> str:
    """Give what is left where tags and styles are stripped."""
    return "".join(checked(html).texts)


def scene_of(d: dn.Durably, run: dn.Run, *, after_s: float = 0) -> render.Scene:
    """Give the scene of a run, so many seconds from now."""
    view = Following(d._dispatch, run.id, lambda: None).view()
    return render.Scene(view, datetime.now(UTC) + timedelta(seconds=after_s), output="[1, 2, 3]")


def work(step: dn.StepContext, *, fail: bool = False) -> list[int]:
    """Do what is worth recording."""
    step.progress(2, 5, "half-way")
    step.run("load", lambda: 1)
    step.run("check", lambda: step.log.warning("two rows are odd"))
    if fail:
        message = "no such month\nand more"
        raise ValueError(message)
    return [1, 2, 3]


# --- what is in it ---


def test_a_record_needs_nothing_else(idle: dn.Durably) -> None:
    """No script, no link, no address of anything; its styles stand in it and load nothing."""
    run = idle.job(work).trigger()
    idle.process_until_idle()
    html = render.record(scene_of(idle, run))
    read = checked(html)
    assert "http" not in html
    assert "//" not in html
    assert re.search(r"url\(|@import|expression\(", html) is None
    assert "".join(read.styles) == render.style()


def test_a_record_reads_well_without_styles(idle: dn.Durably) -> None:
    """In the order in which people ask: how it stands, of what, how far, what came out, its steps, its log."""
    run = idle.job(work).options(labels={"month": "1"}).trigger()
    idle.process_until_idle()
    stripped = text(render.record(scene_of(idle, run)))
    asked = ["completed", "work", run.id[-6:], "month=1", "2 of 5", "40 %", "half-way", "Output: [1, 2, 3]"]
    asked += ["Steps: 2 completed", "load", "check", "Log: 1 line", "two rows are odd"]
    places = [stripped.find(words) for words in asked]
    assert -1 not in places, stripped
    assert places == sorted(places)
    assert "resume" not in stripped


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_record_says_how_to_go_on(idle: dn.Durably, how: str) -> None:
    """Of a failed run and of a cancelled one: what to type."""
    run = idle.job(work).trigger(fail=True)
    if how == "cancel":
        run.cancel()
    idle.process_until_idle()
    stripped = text(render.record(scene_of(idle, run)))
    assert "run.resume()" in stripped
    assert f"d.resume('{run.id}')" in stripped
    if how == "fail":
        assert stripped.index("ValueError: no such month") < stripped.index("Traceback") < stripped.index("Steps")
        assert "raise ValueError(message)" in stripped
    run.delete()
    assert "resume" not in text(render.record(scene_deleted(idle, run)))


def scene_deleted(d: dn.Durably, run: dn.Run) -> render.Scene:
    """Give the scene of a run that was deleted."""
    view = RunView(record=run._record, is_deleted=True)
    assert d.get_run(run.id) is None
    return render.Scene(view, NOON)


def test_while_a_run_goes_on_a_record_is_the_last_known_state(idle: dn.Durably) -> None:
    """It says that it is, of when, and how to see more; as soon as the run has ended, it does not."""
    run = idle.job(work).trigger()
    scene = scene_of(idle, run)
    stripped = text(render.record(scene))
    assert "Last known state" in stripped
    assert f"{scene.now.astimezone():%Y-%m-%d %H:%M}" in stripped
    assert "d.watch" in stripped
    idle.process_until_idle()
    assert "Last known state" not in text(render.record(scene_of(idle, run)))


# --- a line of text ---


def test_the_line_of_a_run(idle: dn.Durably) -> None:
    """Where no HTML is shown: which run, of what, how it stands, and why."""
    run = idle.job(work).trigger(fail=True)
    assert render.line(scene_of(idle, run)) == f"Run {run.id} of work: pending"
    idle.process_until_idle()
    line = render.line(scene_of(idle, run))
    assert re.fullmatch(
        rf"Run {run.id} of work: failed, after [\d.<]+ m?s, 2 steps completed, ValueError: no such month", line
    )


# --- whatever stands in it ---

WORDS = st.one_of(st.text(), st.sampled_from(NASTY), st.tuples(st.text(), st.sampled_from(NASTY)).map("".join))
NAMES = WORDS.filter(str.strip)
AMOUNTS = st.one_of(st.integers(0, 10**6), st.integers(0, 10**308), st.floats(0, allow_nan=False, allow_infinity=False))
STATES = st.sampled_from(["pending", "leased", "completed", "failed", "cancelled"])


@st.composite
def scenes(draw: st.DrawFn) -> render.Scene:
    """Draw a run in any state, with any text in every place where text may stand."""
    status: Any = draw(STATES)
    progress = draw(
        st.none() | st.builds(dn.ProgressData, current=AMOUNTS, total=st.none() | AMOUNTS, message=st.none() | WORDS)
    )
    record = RunRecord(
        run_id="01J0000000000000000000ABCD",
        job_name=draw(NAMES),
        status=status,
        input=None,
        labels=draw(st.dictionaries(NAMES, WORDS, max_size=2)),
        created_at=NOON,
        created_sequence=1,
        last_sequence=9,
        failure=draw(st.builds(Failure, type=NAMES, message=WORDS, traceback=WORDS)) if status == "failed" else None,
        failed_step_name=draw(st.none() | NAMES),
        progress=progress,
        step_count=draw(st.integers(0, 3)),
        completed_at=NOON + timedelta(seconds=9) if status in {"completed", "failed", "cancelled"} else None,
    )
    steps = draw(
        st.lists(
            st.builds(
                StepView,
                name=NAMES,
                index=st.just(0),
                status=st.sampled_from(["running", "interrupted", "completed", "failed", "cancelled"]),
                started_at=st.just(NOON),
                sequence=st.integers(1, 9),
                duration_ms=st.none() | st.floats(0, 1e9),
                error=st.none() | WORDS,
                reused=st.booleans(),
            ),
            max_size=3,
        )
    )
    lines = draw(
        st.lists(
            st.builds(
                LineView,
                timestamp=st.just(NOON),
                level=st.sampled_from(["info", "warn", "error"]),
                message=WORDS,
                step_name=st.none() | NAMES,
                sequence=st.integers(1, 9),
            ),
            max_size=3,
        )
    )
    view = RunView(
        record=record,
        progress=progress,
        steps=tuple(steps),
        hidden_steps=draw(st.integers(0, 10**6)),
        lines=tuple(lines),
        hidden_lines=draw(st.integers(0, 10**6)),
        began_at=draw(st.none() | st.just(NOON)),
        attempts=draw(st.integers(0, 3)),
        is_deleted=status not in {"pending", "leased"} and draw(st.booleans()),
        samples=((NOON, 0.0), (NOON + timedelta(seconds=1), draw(st.floats(0, 1e300)))),
    )
    moment = NOON + timedelta(seconds=draw(st.integers(0, 10**8)))
    return render.Scene(view, moment, waits_for=draw(st.none() | WORDS), output=draw(st.none() | WORDS))


@given(scenes())
def test_any_text_stays_text(scene: render.Scene) -> None:
    """Whatever a job, a step, a label, a message, an error or an output is called, it never becomes markup."""
    read = checked(render.record(scene))
    assert "".join(read.styles) == render.style()
    stripped = "".join(read.texts)
    assert scene.view.record.job_name in stripped.replace("\r\n", "\n") or "\r" in scene.view.record.job_name
    for html in render.regions(scene).values():
        checked(html)


@given(scenes())
def test_any_run_has_a_line_of_its_own(scene: render.Scene) -> None:
    """It is one line, whatever stands in the names."""
    for line in render.line(scene), render.brief(scene):
        assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0001, "< 1 ms"),
        (0.34, "340 ms"),
        (0.9999, "999 ms"),
        (12.34, "12.3 s"),
        (59.96, "59.9 s"),
        (65, "1:05"),
        (7384, "2:03:04"),
        (360_000, "100:00:00"),
        (float("inf"), "∞"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    """As clocks do, they count what has passed: never ``1000 ms`` or ``60.0 s``."""
    assert render.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (1_234_567, "1,234,567"), (2.5, "2.5"), (1 / 3, "0.333333"), (1e9, "1e+09"), (10**300, "1e+300")],
)
def test_numbers_read_as_people_write_them(value: float, words: str) -> None:
    """Thousands set apart, and no more digits than tell anything."""
    assert render.number(value) == words


def test_a_bar_stays_within_its_bounds(idle: dn.Durably) -> None:
    """More than the total is full, and says so to whoever cannot see it."""
    run = idle.job(work).trigger()
    view = Following(idle._dispatch, run.id, lambda: None).view()
    scene = render.Scene(replace(view, progress=dn.ProgressData(current=7, total=3)), NOON)
    html = render.regions(scene)["progress"]
    assert 'aria-valuemax="3" aria-valuenow="3"' in html
    assert "width: 100.00%" in html
    assert "7 of 3" in text(html)


def test_the_same_but_for_its_seconds() -> None:
    """Seconds that a page counts by itself are no change; everything else is."""
    tick: Callable[[float], str] = lambda seconds: f"<b>{render._ticking(seconds)}</b>"  # noqa: E731 - two lines of it
    assert render.is_same(tick(1), tick(75.5))
    assert not render.is_same(None, tick(1))
    assert not render.is_same(tick(1), tick(1) + "more")
    assert not render.is_same(tick(1), "<b>1 s</b>")


def test_output_of_a_terminal_reads_as_in_one(idle: dn.Durably) -> None:
    """Colours of rich and bars of tqdm leave no codes behind, and of a bar the last that it showed."""

    @idle.job
    def colourful(step: dn.StepContext) -> None:
        step.log.warning("\x1b[1;31mlate\x1b[0m flights")
        step.log.info("  0%|  |\r 50%|# |\r100%|##|")
        raise ValueError("\x1b[31mno month\x1b[0m")

    run = colourful.trigger()
    idle.process_until_idle()
    record = text(render.record(scene_of(idle, run)))
    assert "late flights" in record
    assert "100%|##|" in record
    assert "ValueError: no month" in record
    assert "\x1b" not in record
    assert " 50%" not in record


def test_what_a_run_gave_is_readable(idle: dn.Durably) -> None:
    """Numbers of NumPy are numbers, times are themselves; of a table it is said that it is one."""

    @idle.job
    def summed(_: dn.StepContext) -> dict[str, Any]:
        return {"sum": np.int64(41), "mean": np.float64(0.5), "at": NOON, "a": pd.DataFrame({"n": [1]})}

    run = summed.trigger()
    idle.process_until_idle()
    panel = idle.watch(run)
    record = text(render.record(panel.scene()))
    panel.close()
    for said in ("'sum': 41", "'mean': 0.5", "<datetime 2026-11-22T12:00:00", "<DataFrame>"):
        assert said in record


def test_a_run_is_watched_by_the_end_of_its_id(idle: dn.Durably) -> None:
    """What a panel shows of an id is enough to see the run again, unless two runs may be meant."""
    run = idle.job(work).trigger()
    other = idle.jobs.work.trigger()
    panel = idle.watch(render.short(run.id))
    assert panel.run_id == run.id
    panel.close()
    with pytest.raises(dn.NotFoundError, match=f"Several runs.*{other.id} of work"):
        idle.watch(run.id[:4])
    with pytest.raises(dn.NotFoundError, match=f"There is no run 'XYZ'.*{run.id} of work"):
        idle.watch("XYZ")
