"""What people see of a run: the same, whether its events were followed as they came or read from the file later."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import durably_nb as dn
from durably_nb.models import RunRecord
from durably_nb.store import RecentEvents
from durably_nb.views import MOST_SHOWN, RunView
from durably_nb.widgets.following import Following

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from conftest import Program

    from durably_nb.events import DurablyEvent
    from durably_nb.models import JSONValue, ProgressData, StepStatus
    from durably_nb.widgets.following import Follower

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def followed(d: dn.Durably, run_id: str) -> Following:
    """Give a view of a run that is kept up to date."""
    return Following(d._dispatch, run_id, lambda: None)


def seen(following: Following) -> RunView:
    """Give a view, without the samples that its rate is told from: of these the file keeps fewer."""
    return replace(following.view(), samples=())


def read(d: dn.Durably, run_id: str) -> RunView:
    """Give the view of a run that history gives."""
    return seen(followed(d, run_id))


def read_again(path: Path, run_id: str) -> RunView:
    """Give the view of a run that its file gives tomorrow."""
    opened = dn.Durably(path)
    opened.migrate()
    try:
        return read(opened, run_id)
    finally:
        opened.close()


def steps(view: RunView) -> list[tuple[str, StepStatus, bool]]:
    """Give the steps of a view: name, state, and whether they were reused."""
    return [(step.name, step.status, step.reused) for step in view.steps]


# --- live and from history ---


def test_a_run_is_seen_the_same_live_and_from_history(idle: dn.Durably, path: Path) -> None:
    """Steps, log, progress, moments: who watched from the beginning knows what the file tells afterwards."""

    def job(step: dn.StepContext) -> str:
        step.progress(1, 3, "reading")
        step.run("read", lambda: 1)
        step.log.warning("half of it is missing")
        step.run("write", lambda: print("written"))
        step.progress(3, 3)
        return "done"

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    assert seen(live) == RunView(record=live.view().record)
    idle.process_until_idle()
    view = seen(live)
    assert steps(view) == [("read", "completed", False), ("write", "completed", False)]
    assert [(line.level, line.message, line.step_name) for line in view.lines] == [
        ("warn", "half of it is missing", None),
        ("info", "written", "write"),
    ]
    assert view.progress == dn.ProgressData(current=3, total=3)
    assert (view.attempts, view.endings, view.is_active, view.record.status) == (1, 1, False, "completed")
    assert read(idle, run.id) == view
    idle.close()
    assert read_again(path, run.id) == view


def test_a_resumed_run_shows_what_it_reused(idle: dn.Durably, path: Path) -> None:
    """Completed steps of the first attempt are marked, the failed one stands, and what came after follows."""
    is_broken = [True]

    def shaky() -> None:
        if is_broken.pop():
            message = "no such month"
            raise ValueError(message)

    def job(step: dn.StepContext) -> None:
        step.run("load", lambda: 1)
        step.run("check", shaky)

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    assert steps(live.view()) == [("load", "completed", False), ("check", "failed", False)]
    assert live.view().steps[1].error == "ValueError: no such month"
    is_broken.append(False)
    assert run.resume() is run
    assert (live.view().record.status, live.view().is_active) == ("pending", True)
    idle.process_until_idle()
    view = seen(live)
    assert steps(view) == [("load", "completed", True), ("check", "failed", False), ("check", "completed", False)]
    assert (view.attempts, view.endings, view.record.status) == (2, 2, "completed")
    assert read(idle, run.id) == view
    idle.close()
    assert read_again(path, run.id) == view


def test_a_cancelled_run(idle: dn.Durably, path: Path) -> None:
    """The step that was stopped says so."""

    def job(step: dn.StepContext) -> None:
        def work() -> None:
            run.cancel()
            step.throw_if_aborted()

        step.run("work", work)

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    view = seen(live)
    assert (view.record.status, steps(view)) == ("cancelled", [("work", "cancelled", False)])
    idle.close()
    assert read_again(path, run.id) == view


def test_a_run_that_was_given_back_is_seen_to_wait(d: dn.Durably, path: Path) -> None:
    """After stop() the run does not look as if it went on: it is pending, and its step was interrupted."""
    begun = threading.Event()

    @d.job
    def job(step: dn.StepContext) -> None:
        def work() -> None:
            begun.set()
            while step.signal.wait(20):
                step.throw_if_aborted()

        step.run("first", lambda: None)
        step.run("second", work)

    run = job.trigger()
    assert begun.wait(20)
    noted = threading.Event()
    live = Following(d._dispatch, run.id, noted.set)
    d._engine.stop(0)
    assert noted.wait(20)
    view = seen(live)
    assert (run.status, view.record.status) == ("pending", "pending")
    assert steps(view) == [("first", "completed", False), ("second", "interrupted", False)]
    assert (view.running_step, view.elapsed_s(NOON)) == (None, None)
    d.close()
    assert read_again(path, run.id) == view


@pytest.mark.slow
def test_a_run_whose_process_was_killed(path: Path, launch: Callable[..., Program]) -> None:
    """What was running when it died was interrupted; the attempt after it takes over what was completed."""
    source = """
import os, sys, threading
import durably_nb as dn

def hang():
    d.storage.flush()
    os.write(1, b"begun\\n")
    threading.Event().wait()

def job(step):
    step.run("first", lambda: 1)
    step.run("second", hang)

d = dn.open(sys.argv[1], jobs=[job])
d.get_job("job").trigger()
threading.Event().wait()
"""
    program = launch(source, path)
    assert program.line() == "begun"
    program.send_signal(signal.SIGKILL)
    program.wait()
    d = dn.Durably(path)
    d.migrate()
    [run] = d.get_runs()
    live = followed(d, run.id)
    before = live.view()
    assert before.record.status == "pending"
    assert steps(before) == [("first", "completed", False), ("second", "interrupted", False)]

    @d.job
    def job(step: dn.StepContext) -> None:
        step.run("first", lambda: 1)
        step.run("second", lambda: 2)

    d.process_until_idle()
    view = seen(live)
    assert steps(view) == [
        ("first", "completed", True),
        ("second", "interrupted", False),
        ("second", "completed", False),
    ]
    assert (view.attempts, view.endings) == (2, 1)
    d.close()
    assert read_again(path, run.id) == view


def test_of_a_long_run_the_latest_is_seen_and_the_rest_is_counted(idle: dn.Durably, path: Path) -> None:
    """Of 170 steps and 120 lines, fifty each are shown, live as from the file, and the others are said to be hidden."""

    def job(step: dn.StepContext) -> None:
        for number in range(170):
            step.run(f"step {number}", lambda: None)
        for number in range(120):
            step.log.info(f"line {number}")

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    view = seen(live)
    assert [step.name for step in view.steps] == [f"step {number}" for number in range(120, 170)]
    assert [line.message for line in view.lines] == [f"line {number}" for number in range(70, 120)]
    assert (view.hidden_steps, view.hidden_lines) == (120, 70)
    idle.close()
    assert read_again(path, run.id) == view


def test_of_many_steps_at_once_each_is_seen_to_have_ended(idle: dn.Durably) -> None:
    """Two hundred steps that begin together and end in the other order: none looks as if it still ran."""
    width = 200

    async def job(step: dn.AsyncStepContext) -> None:
        ended = [asyncio.Event() for _ in range(width + 1)]
        ended[width].set()

        async def work(number: int) -> None:
            await ended[number + 1].wait()

        async def run_one(number: int) -> None:
            await step.run(f"step {number}", lambda: work(number))
            ended[number].set()

        await asyncio.gather(*(run_one(number) for number in range(width)))

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    assert run.result() is None
    view = seen(live)
    assert {step.status for step in view.steps} == {"completed"}
    assert (len(view.steps), view.hidden_steps) == (MOST_SHOWN, width - MOST_SHOWN)
    assert read(idle, run.id) == view


@pytest.mark.slow
def test_attempts_are_counted_however_many(idle: dn.Durably) -> None:
    """Of a run that failed eighty times, all attempts count."""

    def job(_: dn.StepContext) -> None:
        raise ValueError

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    for _ in range(79):
        idle.process_until_idle()
        assert run.resume() is run
    idle.process_until_idle()
    view = seen(live)
    assert (view.attempts, view.endings) == (80, 80)
    assert read(idle, run.id) == view


def test_a_step_whose_code_changed_is_not_said_to_be_reused(idle: dn.Durably) -> None:
    """With on_code_change="rerun", what was executed again is shown as what it is: two executions."""

    def first(step: dn.StepContext) -> None:
        step.run("load", lambda: 1)
        raise ValueError

    def second(step: dn.StepContext) -> None:
        step.run("load", lambda: 2)

    run = idle.job(name="job", on_code_change="rerun")(first).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    idle.job(name="job", on_code_change="rerun")(second)
    assert run.resume() is run
    idle.process_until_idle()
    assert steps(live.view()) == [("load", "completed", False), ("load", "completed", False)]
    assert read(idle, run.id) == seen(live)


def test_what_users_emit_is_no_part_of_a_run(idle: dn.Durably, path: Path) -> None:
    """Emitted events change nothing in a view, however many there are; only an emitted line of the log shows."""

    def job(step: dn.StepContext) -> None:
        step.run("real", lambda: None)
        about: dict[str, Any] = {"run_id": run.id, "job_name": "job"}
        for number in range(160):
            idle.emit(dn.StepStartEvent(step_name=f"false {number}", step_index=0, **about))
            idle.emit(dn.StepFailEvent(step_name="real", step_index=0, error="false", **about))
            idle.emit(dn.RunProgressEvent(progress=dn.ProgressData(current=99), **about))
        idle.emit(dn.LogWriteEvent(level="warn", message="noted", step_name=None, data=None, **about))

    run = idle.job(job).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    view = seen(live)
    assert steps(view) == [("real", "completed", False)]
    assert [line.message for line in view.lines] == ["noted"]
    assert (view.progress, view.hidden_steps, view.attempts) == (None, 0, 1)
    idle.close()
    assert read_again(path, run.id) == view


def test_a_deleted_run_is_seen_to_be_deleted(idle: dn.Durably) -> None:
    """The view keeps what it knew, and says that the run is gone."""
    run = idle.job(name="job")(lambda step: step.run("one", int)).trigger()
    live = followed(idle, run.id)
    idle.process_until_idle()
    run.delete()
    view = live.view()
    assert (view.is_deleted, view.is_active, steps(view)) == (True, False, [("one", "completed", False)])


def test_a_run_that_does_not_exist_cannot_be_followed(idle: dn.Durably) -> None:
    """It is refused at once, and nothing is left that waits for its events."""
    with pytest.raises(dn.NotFoundError, match="no run"):
        followed(idle, "01J00000000000000000000000")
    assert len(idle._dispatch._followers) == 0


Act = tuple[str, Any]
ACTS = st.one_of(
    st.tuples(st.just("step"), st.sampled_from("abc")),
    st.tuples(st.just("fail"), st.sampled_from("abc")),
    st.tuples(st.just("progress"), st.integers(0, 9)),
    st.tuples(st.just("log"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("emit"), st.none()),
    st.tuples(st.just("look"), st.none()),
)
ENDS = st.sampled_from(["complete", "fail", "cancel", "interrupt"])
ATTEMPTS = st.lists(st.tuples(st.lists(ACTS, max_size=6), ENDS), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts=ATTEMPTS)
def test_whatever_happens_to_a_run(idle: dn.Durably, attempts: list[tuple[list[Act], str]]) -> None:
    """Attempt after attempt, however each ends and whenever somebody looks, live and history show the same."""
    numbers = count()

    def failing() -> None:
        raise ValueError

    def act(step: dn.StepContext, kind: str, value: Any) -> None:
        with suppress(dn.DuplicateStepError, ValueError):
            {
                "step": lambda: step.run(value, lambda: None),
                "fail": lambda: step.run(f"{value} {next(numbers)}", failing),
                "progress": lambda: step.progress(value, 9),
                "log": lambda: step.log.info(value),
                "emit": lambda: idle.emit(
                    dn.StepStartEvent(step_name="x", step_index=0, run_id=run.id, job_name="job")
                ),
                "look": live.view,
            }[kind]()

    def job(step: dn.StepContext) -> None:
        acts, end = remaining.pop(0)
        for kind, value in acts:
            act(step, kind, value)
        if end == "cancel":
            run.cancel()
        elif end != "complete":
            raise {"fail": ValueError, "interrupt": KeyboardInterrupt}[end]

    remaining = [*attempts, ([], "complete")]
    run = idle.job(name="job")(job).trigger()
    live, late = followed(idle, run.id), followed(idle, run.id)
    while run.status != "completed":
        if run.is_terminal:
            assert run.resume() is run
        with suppress(KeyboardInterrupt):
            idle.process_until_idle()
        assert seen(live) == read(idle, run.id)
    assert seen(live) == seen(late)


# --- while somebody looks ---


class Told:
    """A source that a test tells the events of its one run."""

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        self.record = RunRecord(
            run_id="r",
            job_name="job",
            status="leased",
            input=None,
            labels={},
            created_at=NOON,
            created_sequence=0,
            last_sequence=0,
        )

    def follow(self, _: str, follower: Follower) -> None:
        self.followers.append(follower)

    def run_record(self, _: str) -> RunRecord:
        return self.record

    def recent_events(self, _: str, __: int) -> RecentEvents:
        return RecentEvents([], hidden={})

    def waits_for(self, _: str) -> str | None:
        return None

    def outlined(self, stored: JSONValue) -> str:
        return repr(stored)


def test_what_arrives_while_somebody_looks_is_not_lost() -> None:
    """Events may come between any two lines of the looking: the next look knows of all of them."""
    for moment in range(30):
        view = looked_at_while_it_goes_on(moment)
        assert (steps(view), view.progress) == ([("load", "completed", False)], dn.ProgressData(current=2)), moment


def looked_at_while_it_goes_on(moment: int) -> RunView:
    """Give the view of a run that went on after so many lines of an earlier look at it."""
    source = Told()
    following = Following(source, "r", lambda: None)
    about: dict[str, Any] = {"run_id": "r", "job_name": "job", "labels": {}, "timestamp": NOON}
    of_step = about | {"step_name": "load", "step_index": 0}
    arriving: list[DurablyEvent] = [
        dn.StepCompleteEvent(sequence=3, output=None, duration=1, **of_step),
        dn.RunProgressEvent(sequence=4, progress=dn.ProgressData(current=2), **about),
    ]
    lines = count()

    def each_line(_: FrameType, what: str, __: object) -> Any:
        if what == "line" and next(lines) == moment:
            for event in arriving:
                source.followers[0].on_event(event)
            arriving.clear()
        return each_line

    source.followers[0].on_event(dn.StepStartEvent(sequence=1, **of_step))
    source.followers[0].on_event(dn.RunProgressEvent(sequence=2, progress=dn.ProgressData(current=1), **about))
    traced = sys.gettrace()
    sys.settrace(lambda frame, *_: each_line if frame.f_code is Following.view.__code__ else None)
    try:
        following.view()
    finally:
        sys.settrace(traced)
    for event in arriving:
        source.followers[0].on_event(event)
    return following.view()


# --- how fast it goes ---


@dataclass
class Course:
    """A run that a test moves along in time."""

    view: RunView
    sequence: int = 0
    moment: datetime = NOON

    def leased(self, at: float) -> Course:
        """Begin an attempt, so many seconds after noon."""
        event = dn.RunLeasedEvent(input=None, lease_owner="me", lease_expires_at=NOON, **self._about(at))
        self.view = self.view.after(event)
        return self

    def progress(self, at: float, current: float, total: float | None = None) -> Course:
        """Report progress, so many seconds after noon."""
        progress: ProgressData = dn.ProgressData(current=current, total=total)
        self.view = self.view.after(dn.RunProgressEvent(progress=progress, **self._about(at)))
        return self

    def pace(self, later: float = 0) -> tuple[float | None, float | None]:
        """Give rate and remaining seconds, so many seconds after what was told last."""
        now = self.moment + timedelta(seconds=later)
        return self.view.rate(now), self.view.remaining_s(now)

    def _about(self, at: float) -> dict[str, Any]:
        self.sequence += 1
        moment = self.moment = NOON + timedelta(seconds=at)
        return {"sequence": self.sequence, "timestamp": moment, "run_id": "r", "job_name": "j", "labels": {}}


@pytest.fixture
def course() -> Course:
    """A run at noon."""
    return Course(RunView(record=replace(Told().record, status="leased")))


def test_rate_and_remaining_time(course: Course) -> None:
    """Ten units in five seconds are two a second; at that rate ninety more take 45 seconds."""
    assert course.leased(0).progress(0, 0, 100).progress(5, 10, 100).pace() == (2.0, 45.0)


def test_the_pace_slackens_while_nothing_is_reported(course: Course) -> None:
    """A burst at the beginning promises no quick end: it is spread over the time since."""
    course.leased(0).progress(0, 0, 5).progress(0.01, 2, 5)
    assert course.pace() == (None, None)
    assert course.pace(later=19.99) == pytest.approx((0.1, 30))


def test_slow_work_has_a_pace_too(course: Course) -> None:
    """Units that take minutes each are told by the last two of them."""
    course.leased(0).progress(0, 0, 10).progress(120, 1, 10).progress(240, 2, 10)
    assert course.pace() == pytest.approx((1 / 120, 960))


@pytest.mark.parametrize(
    "reports",
    [[], [(0, 5)], [(0, 5), (0, 9)], [(0, 9), (3, 4)], [(0, 5), (3, 5)]],
    ids=["no report", "one report", "no time between", "going backwards", "standing still"],
)
def test_no_rate_where_none_can_be_told(course: Course, reports: list[tuple[float, float]]) -> None:
    """Rather no figure than a wrong one."""
    course.leased(0)
    for at, current in reports:
        course.progress(at, current, 10)
    assert course.pace() == (None, None)


def test_no_time_is_told_that_nobody_lives_to_see(course: Course) -> None:
    """Progress that would take for ever, for one unit or for all, has no rate or no remaining time."""
    assert course.leased(0).progress(0, 0, 1e308).progress(10, 1, 1e308).pace()[1] is None
    assert course.leased(20).progress(20, 0).progress(30, 1e-300).pace()[0] is None


def test_without_a_total_there_is_a_rate_but_no_remaining_time(course: Course) -> None:
    """How much is left cannot be told, how fast it goes can."""
    assert course.leased(0).progress(0, 0).progress(4, 8).pace() == (2.0, None)


def test_what_a_resumed_run_skips_through_does_not_count(course: Course) -> None:
    """A new attempt begins without a rate; thousands reported at once are forgotten after half a minute."""
    course.leased(0).progress(0, 0, 1000).progress(10, 500, 1000).leased(100)
    assert course.pace() == (None, None)
    course.progress(100, 0, 1000).progress(100.5, 500, 1000)
    for second in range(1, 60):
        course.progress(100.5 + second, 500 + second, 1000)
    assert course.pace() == pytest.approx((1, 441))


def test_samples_are_few(course: Course) -> None:
    """However often a run reports, a view keeps about one sample a second of the last half minute."""
    course.leased(0)
    for number in range(10_000):
        course.progress(number / 100, number)
    assert len(course.view.samples) < 40
    assert course.pace()[0] == pytest.approx(100, rel=0.05)


def test_more_than_the_total_leaves_nothing_to_wait_for(course: Course) -> None:
    """Who reports 15 of 10 is done, not minus five seconds away."""
    assert course.leased(0).progress(0, 1, 10).progress(5, 15, 10).pace()[1] == 0


def test_elapsed(course: Course) -> None:
    """The time runs from the beginning of the attempt to its end, and not before or between attempts."""
    assert course.view.elapsed_s(NOON) is None
    view = course.leased(0).leased(60).view
    assert view.elapsed_s(NOON + timedelta(seconds=90)) == 30
    assert view.elapsed_s(NOON) == 0, "clocks may be set back"
    ended = replace(view.record, status="completed", completed_at=NOON + timedelta(seconds=75))
    assert view.with_record(ended).elapsed_s(NOON + timedelta(days=1)) == 15
    assert view.with_record(replace(view.record, status="pending")).elapsed_s(NOON + timedelta(days=1)) is None
