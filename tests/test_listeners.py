from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb import (
    ConflictError,
    Durably,
    DurablyEvent,
    LogWriteEvent,
    NotFoundError,
    ProgressData,
    RunCancelEvent,
    RunLeasedEvent,
    RunProgressEvent,
    StepCompleteEvent,
    StepContext,
    StepStartEvent,
    ValidationError,
    WorkerErrorEvent,
)
from durably_nb.events import EVENT_CLASSES, Event, RunEvent, now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Heard

    from durably_nb import Job

COURSE = [
    "run:trigger",
    "run:leased",
    "step:start",
    "run:progress",
    "log:write",
    "step:complete",
    "step:start",
    "step:complete",
    "run:complete",
]


def course(step: StepContext) -> int:
    """Do a bit of everything, without a thread of its own."""

    def one() -> int:
        step.progress(1, 2)
        step.log.info("one")
        return 1

    return step.run("one", one) + step.run("two", lambda: 2)


@pytest.fixture
def job(idle: Durably) -> Job:
    return idle.job(course)


# --- order and threads ---


def test_a_run_is_told_in_its_course(job: Job, idle: Durably, heard: Heard) -> None:
    """Each event comes once, in sequence order, with its run, its job and its labels."""
    idle.on("*", heard)
    run = job.options(labels={"by": "me"}).trigger()
    idle.process_until_idle()
    assert heard.types() == COURSE
    assert [event.sequence for event in heard] == sorted({event.sequence for event in heard})
    assert {(event.run_id, event.job_name, event.labels["by"]) for event in heard} == {(run.id, "course", "me")}


def test_listeners_are_called_in_the_order_they_were_added(job: Job, idle: Durably) -> None:
    """Whatever they asked for by."""
    calls: list[int] = []

    def note(number: int, _: DurablyEvent) -> None:
        calls.append(number)

    selectors: list[Any] = ["run:trigger", "*", RunEvent, "run:*", ["run:trigger"]]
    for number, selector in enumerate(selectors):
        idle.on(selector, partial(note, number))
    _ = job.trigger()
    assert calls == [0, 1, 2, 3, 4]


def test_listeners_stand_on_the_thread_that_emits(d: Durably) -> None:
    """run:trigger is told on the triggering thread before trigger returns, the rest where the run executes."""
    threads: dict[str, set[str]] = {}
    d.on("*", lambda event: threads.setdefault(event.type, set()).add(threading.current_thread().name))
    job = d.job(course)
    run = job.trigger()
    assert threads.pop("run:trigger") == {threading.current_thread().name}
    run.result(20)
    d.stop()
    assert set.union(*threads.values()) == {"durably-worker-1"}


def test_cancel_and_delete_are_told_on_the_callers_thread(job: Job, idle: Durably) -> None:
    """Both have been told when the call returns."""
    threads: list[tuple[str, threading.Thread]] = []
    idle.on(["run:cancel", "run:delete"], lambda event: threads.append((event.type, threading.current_thread())))
    run = job.trigger()
    run.cancel()
    run.delete()
    here = threading.current_thread()
    assert threads == [("run:cancel", here), ("run:delete", here)]


def test_each_event_is_in_sequence_whatever_falls_together(path: Path) -> None:
    """Renewals every millisecond, cancels, emits and pipelined checkpoints: one run is heard in order."""
    heard: list[DurablyEvent] = []
    with Durably(path, lease_ms=60_000, lease_renew_interval_ms=1, checkpoint="pipelined", max_concurrent_runs=3) as d:
        d.on("*", heard.append)

        @d.job
        def busy(step: StepContext) -> None:
            for number in range(40):
                step.run(f"step {number}", lambda: 1)
                step.progress(number)

        runs = busy.batch_trigger([{}] * 6)

        def disturb() -> None:
            for number, run in enumerate(runs * 5):
                d.emit(LogWriteEvent(run_id=run.id, job_name="", step_name=None, level="info", message=str(number)))
                if number % 7 == 6:
                    with suppress(ConflictError):
                        run.cancel()

        threads = [threading.Thread(target=disturb) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run in runs:
            _ = run.wait(20)
    for run in runs:
        sequences = [event.sequence for event in heard if event.run_id == run.id]
        assert sequences == sorted(set(sequences))
    assert len({event.sequence for event in heard}) == len(heard)


def test_a_state_change_is_on_disk_when_it_is_told(idle: Durably) -> None:
    """A listener that looks into the file with a cursor of its own finds the event there."""
    durable = ["run:trigger", "run:complete", "run:fail", "run:cancel", "step:complete", "step:fail"]
    looks: list[tuple[str, int]] = []
    catalog = idle.cursor().execute("select current_catalog()").fetchall()[0][0]

    def look(event: DurablyEvent) -> None:
        cursor = idle.cursor().cursor()
        found = cursor.execute(
            f'select count(*) from "{catalog}".durably.log where sequence = ? and type = ?',  # noqa: S608 - our own name
            [event.sequence, event.type],
        ).fetchall()
        cursor.close()
        looks.append((event.type, found[0][0]))

    idle.on(durable, look)

    @idle.job
    def work(step: StepContext, *, fail: bool) -> None:
        step.run("fine", lambda: 1)
        step.run("may fail", lambda: 1 // (not fail))

    _ = work.trigger(fail=False)
    _ = work.trigger(fail=True)
    idle.process_until_idle()
    work.trigger(fail=False).cancel()
    assert {kind for kind, _ in looks} == set(durable)
    assert {count for _, count in looks} == {1}


def test_a_handle_knows_before_a_listener_hears(job: Job, idle: Durably) -> None:
    """Whoever is told that a run has ended and asks its handle finds it ended."""
    run = job.trigger()
    seen: list[str] = []
    idle.on("run:complete", lambda _: seen.append(f"{run.status} {run.result()}"))
    idle.process_until_idle()
    assert seen == ["completed 3"]


# --- selection ---


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("run:complete", ["run:complete"]),
        (StepStartEvent, ["step:start"] * 2),
        ("step:*", ["step:start", "step:complete"] * 2),
        ("*:start", ["step:start"] * 2),
        (["run:leased", StepCompleteEvent, "log:*"], ["run:leased", "log:write", "step:complete", "step:complete"]),
        (["run:leased", "run:leased", "run:l*"], ["run:leased"]),
        (("run:trigger",), ["run:trigger"]),
        (Event, COURSE),
        (RunEvent, COURSE),
        ("*", COURSE),
        (list(EVENT_CLASSES), COURSE),
    ],
    ids=str,
)
def test_what_a_listener_asked_for(selector: Any, expected: list[str], job: Job, idle: Durably, heard: Heard) -> None:
    """A name, a class, a pattern, or any list of them; each event once."""
    idle.on(selector, heard)
    _ = job.trigger()
    idle.process_until_idle()
    assert heard.types() == expected


@pytest.mark.parametrize("selector", ["run:completed", "", "jobs:*", int, None, 3, ["run:complete", "nothing"], object])
def test_a_selector_that_names_no_event_is_refused(selector: Any, idle: Durably) -> None:
    """A typing error would be a listener that never hears."""
    with pytest.raises(ValidationError):
        idle.on(selector, print)


def test_a_near_miss_is_named(idle: Durably) -> None:
    """The refusal says what may have been meant."""
    with pytest.raises(ValidationError, match="run:complete"):
        idle.on("run:completed", print)


@pytest.mark.parametrize("listener", [3, "print", object()])
def test_a_listener_that_cannot_be_called_is_refused(listener: Any, idle: Durably) -> None:
    """At once, not with the first event."""
    with pytest.raises(ValidationError, match="is a function"):
        idle.on("*", listener)
    with pytest.raises(ValidationError, match="is a function"):
        idle.on_error(listener)


# --- coming and going ---


def test_on_is_a_decorator_too(job: Job, idle: Durably) -> None:
    """The function stays what it is."""
    calls: list[str] = []

    @idle.on("run:trigger")
    def listener(event: DurablyEvent) -> str:
        calls.append(event.type)
        return "itself"

    run = job.trigger()
    assert calls == ["run:trigger"]
    assert listener(RunCancelEvent(run_id=run.id, job_name="course")) == "itself"


def test_unsubscribe_may_be_called_twice(job: Job, idle: Durably, heard: Heard) -> None:
    """One of two subscriptions of the same function ends, the other stays."""
    first = idle.on("run:trigger", heard)
    idle.on("run:trigger", heard)
    first()
    first()
    _ = job.trigger()
    assert len(heard) == 1


def test_a_listener_may_come_and_go_while_it_is_called(job: Job, idle: Durably, heard: Heard) -> None:
    """What it subscribes hears from the next event on; itself may end in the middle."""

    def once(_: DurablyEvent) -> None:
        unsubscribe()
        idle.on("run:trigger", heard)

    unsubscribe = idle.on("run:trigger", once)
    _ = job.trigger()
    assert heard == []
    second = job.trigger()
    assert [event.run_id for event in heard] == [second.id]


# --- what listeners raise ---


class SaidError(Exception):
    pass


@pytest.mark.parametrize("error", [SaidError("no"), SystemExit(1), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_what_a_listener_raises_reaches_on_error_alone(
    error: BaseException, job: Job, idle: Durably, heard: Heard
) -> None:
    """Not the run, not whoever triggers, not the next listener."""
    errors: list[tuple[BaseException, Any]] = []

    def broken(_: DurablyEvent) -> None:
        raise error

    idle.on_error(lambda raised, event: errors.append((raised, event)))
    idle.on("*", broken)
    idle.on("*", heard)
    run = job.trigger()
    idle.process_until_idle()
    assert run.result() == 3
    assert heard.types() == COURSE
    assert [event for _, event in errors] == heard
    assert {raised for raised, _ in errors} == {error}


def test_an_error_handler_that_raises_is_logged(job: Job, idle: Durably, caplog: pytest.LogCaptureFixture) -> None:
    """The next handler hears all the same."""
    errors: list[BaseException] = []

    def broken(*_: object) -> None:
        raise SaidError

    idle.on("run:trigger", broken)
    idle.on_error(broken)
    remove = idle.on_error(lambda error, _: errors.append(error))
    _ = job.trigger()
    assert "on_error handler raised" in caplog.text
    remove()
    remove()
    _ = job.trigger()
    assert [type(error) for error in errors] == [SaidError]


def test_without_a_handler_it_is_logged(job: Job, idle: Durably, caplog: pytest.LogCaptureFixture) -> None:
    """A listener that raises is never silent."""

    def broken(_: DurablyEvent) -> None:
        raise SaidError

    idle.on("run:trigger", broken)
    _ = job.trigger()
    assert "d.on_error" in caplog.text


def test_a_broken_listener_of_everything_is_not_told_of_itself(job: Job, idle: Durably) -> None:
    """That it raised is logged by the library, and is no output of the run."""

    def broken(_: DurablyEvent) -> None:
        raise SaidError

    idle.on("*", broken)
    run = job.trigger()
    idle.process_until_idle()
    assert run.result() == 3
    assert len(run.logs()) == 1


def test_a_listener_of_everything_may_print(d: Durably, capsys: pytest.CaptureFixture[str]) -> None:
    """What a listener prints is no output of the run: else it would be heard and printed for ever."""
    d.on("*", lambda event: print("heard", event.type))
    run = d.job(course).trigger()
    assert run.result(20) == 3
    d.stop()
    assert capsys.readouterr().out.splitlines() == [f"heard {kind}" for kind in COURSE]
    assert run.logs()["message"].tolist() == ["one"]


# --- async listeners ---


def test_an_async_listener_runs_on_the_librarys_loop(d: Durably, heard: Heard) -> None:
    """The run does not wait for it; its exception reaches on_error."""
    errors: list[tuple[str, str]] = []
    noted = threading.Event()
    go_on = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    threads: set[str] = set()

    def note(error: BaseException, event: DurablyEvent) -> None:
        errors.append((type(error).__name__, event.type))
        noted.set()

    d.on_error(note)

    @d.on(["run:complete", "step:start"])
    async def listener(event: DurablyEvent) -> None:
        threads.add(threading.current_thread().name)
        loops.append(asyncio.get_running_loop())
        await go_on.wait()
        print("this is no output of the run")
        heard(event)
        if event.type == "run:complete":
            raise SaidError

    run = d.job(course).trigger()
    assert run.result(20) == 3
    assert heard == []
    loops[0].call_soon_threadsafe(go_on.set)
    heard.wait_for("run:complete")
    heard.wait_for("step:start", 2)
    assert noted.wait(20)
    assert sorted(heard.types()) == ["run:complete", "step:start", "step:start"]
    assert errors == [("SaidError", "run:complete")]
    assert threads == {"durably-loop"}
    assert run.logs()["message"].tolist() == ["one"]


def test_close_gives_async_listeners_a_moment(path: Path, heard: Heard) -> None:
    """What was told before the end is heard; what never ends is cancelled."""
    ended: list[str] = []
    with Durably(path) as d:

        @d.on("run:complete")
        async def quick(event: DurablyEvent) -> None:
            await asyncio.sleep(0)
            heard(event)

        @d.on("run:complete")
        async def endless(_: DurablyEvent) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        d.job(course).trigger().result(20)
    assert heard.types() == ["run:complete"]
    assert ended == ["cancelled"]


# --- listeners that act ---


def test_a_listener_may_trigger_the_next_run(d: Durably, heard: Heard) -> None:
    """A chain of jobs: when one completes, the next is triggered."""
    second = d.job(name="second")(lambda step: 2)  # noqa: ARG005
    d.on("run:complete", lambda event: second.trigger() if event.job_name == "course" else None)
    d.on("run:complete", heard)
    _ = d.job(course).trigger()
    heard.wait_for("run:complete", 2)
    assert [event.job_name for event in heard] == ["course", "second"]


@pytest.mark.parametrize("kind", ["run:trigger", "run:leased", "step:start", "step:complete", "log:write"])
def test_a_listener_may_cancel_its_own_run(kind: str, d: Durably, heard: Heard) -> None:
    """At any moment of it; the cancel is told after the event that caused it."""
    listened = threading.Event()

    def cancel(event: Any) -> None:
        if not listened.is_set():
            listened.set()
            d.cancel(event.run_id)

    d.on(kind, cancel)
    d.on("*", heard)
    run = d.job(course).trigger()
    assert run.wait(20).status == "cancelled"
    d.stop()
    kinds = [one for one in heard.types() if one != "step:cancel"]
    assert kinds[kinds.index(kind) + 1] == "run:cancel"
    assert kinds[-1] == "run:cancel"
    assert [event.sequence for event in heard] == sorted(event.sequence for event in heard)


def test_a_listener_may_cancel_another_run(job: Job, idle: Durably, heard: Heard) -> None:
    """It is told before the cancel returns, or after the listener: never lost."""
    first, other = job.trigger(), job.trigger()
    idle.on("run:complete", lambda _: other.cancel())
    idle.on(["run:complete", "run:cancel"], heard)
    idle.process_until_idle()
    assert sorted(heard.types()) == ["run:cancel", "run:complete"]
    assert (first.status, other.status) == ("completed", "cancelled")


def test_two_runs_whose_listeners_cancel_each_other(path: Path) -> None:
    """Listeners that act on each other's runs do not wait for each other for ever."""
    together = threading.Barrier(2, timeout=20)
    with Durably(path, max_concurrent_runs=2) as d:
        d.stop()

        @d.job
        def work(step: StepContext) -> None:
            step.run("one", step.signal.wait, 20)

        runs = work.batch_trigger([{}, {}])
        others = {runs[0].id: runs[1], runs[1].id: runs[0]}

        def cancel(event: Any) -> None:
            together.wait()
            with suppress(ConflictError):
                others[event.run_id].cancel()

        d.on("step:start", cancel)
        d.start()
        assert {run.wait(20).status for run in runs} == {"cancelled"}


def test_a_listener_may_emit(job: Job, idle: Durably, heard: Heard) -> None:
    """What it emits is told after what it was told, in sequence order."""

    def comment(event: StepCompleteEvent) -> None:
        idle.emit(
            LogWriteEvent(run_id=event.run_id, job_name="", step_name=event.step_name, level="info", message="heard")
        )

    idle.on("step:complete", comment)
    idle.on("*", heard)
    _ = job.trigger()
    idle.process_until_idle()
    kinds = heard.types()
    assert kinds.count("log:write") == 3
    assert [event.sequence for event in heard] == sorted(event.sequence for event in heard)
    assert kinds[-1] == "run:complete"


# --- emit ---


def test_emit_stores_and_tells(job: Job, idle: Durably, heard: Heard) -> None:
    """Sequence and time are assigned anew, job and labels are the run's; it is in the history."""
    run = job.options(labels={"by": "me"}).trigger()
    idle.on("*", heard)
    idle.emit(
        LogWriteEvent(
            sequence=10**9, run_id=run.id, job_name="other", labels={"a": "b"}, step_name="s", level="warn", message="m"
        )
    )
    (event,) = heard
    assert (event.job_name, event.labels, event.message) == ("course", {"by": "me"}, "m")
    assert event.sequence == idle.events()["sequence"].max() < 10**9
    assert run.logs()[["sequence", "level", "message"]].to_numpy().tolist() == [[event.sequence, "warn", "m"]]


def test_emit_takes_any_value_that_can_be_stored(job: Job, idle: Durably, heard: Heard) -> None:
    """What JSON cannot say is kept as JSON that describes it, and comes back from the history."""
    run = job.trigger()
    idle.on("*", heard)
    data = {"when": now(), "raw": b"\0\xff", "text": "\0 é 🎉"}
    idle.emit(
        LogWriteEvent(run_id=run.id, job_name="", step_name=None, level="info", message="m", data=data)  # type: ignore[arg-type]
    )
    json.dumps(heard[0].to_dict(), allow_nan=False)
    assert run.logs()["data"].tolist() == [data]


def operational(run_id: str) -> list[Any]:
    about: dict[str, Any] = {"run_id": run_id, "job_name": "course"}
    return [
        RunLeasedEvent(input={}, lease_owner="me", lease_expires_at=now(), **about),
        RunProgressEvent(progress=ProgressData(current=99, total=100), **about),
        StepStartEvent(step_name="one", step_index=0, **about),
        StepCompleteEvent(step_name="one", step_index=0, output=99, duration=1.0, **about),
        StepCompleteEvent(step_name="more", step_index=7, output=99, duration=1.0, **about),
    ]


@pytest.mark.parametrize("ended", [False, True])
def test_emit_changes_no_state(ended: bool, job: Job, idle: Durably, heard: Heard) -> None:  # noqa: FBT001 - a case
    """A step:complete of a user's completes no step, a run:leased leases no run, a progress is not the run's."""
    run = job.trigger()
    if ended:
        idle.process_until_idle()
    again = idle.get_run(run.id)
    assert again is not None
    before = (run.status, run.progress, run.current_step, idle.runs().to_csv())
    idle.on("*", heard)
    for event in operational(run.id):
        idle.emit(event)
    assert len(heard) == 5
    assert (run.status, run.progress, run.current_step, idle.runs().to_csv()) == before
    assert (again.status, again.progress, again.current_step) == before[:3]
    idle.process_until_idle()
    assert run.result() == 3
    assert run.steps()["step_name"].tolist() == ["one", "two"]
    with pytest.raises(NotFoundError):
        run.step_output("more")
    idle.close()
    assert run.result() == 3


def test_emitted_state_is_none_after_a_restart_either(job: Job, idle: Durably, path: Path) -> None:
    """What is read back from the file is the run's own story."""
    run = job.trigger()
    for event in operational(run.id):
        idle.emit(event)
    idle.close()
    again = Durably(path, jobs=[course])
    again.migrate()
    record = again.get_run(run.id)
    assert record is not None
    assert (record.status, record.progress) == ("pending", None)
    assert next(iter(again.subscribe(run.id))).type == "run:trigger"
    assert again.process_until_idle() == 1
    assert record.result() == 3
    again.close()


def test_emit_of_a_worker_error_without_a_run(idle: Durably, heard: Heard) -> None:
    """An error of no run is told and kept too."""
    idle.on("worker:error", heard)
    idle.emit(WorkerErrorEvent(error="disk full", context="my watchdog"))
    assert heard[0].error == "disk full"
    assert idle.events(type="worker:error")["error"].tolist() == ["disk full"]


def refused(run_id: str) -> list[tuple[Callable[[], Any], type[Exception]]]:
    about: dict[str, Any] = {"run_id": run_id, "job_name": "course"}
    log: dict[str, Any] = {"step_name": None, "level": "info", "message": "m"}
    return [
        (lambda: RunCancelEvent(**about), ValidationError),
        (lambda: "log:write", ValidationError),
        (lambda: {"type": "log:write"}, ValidationError),
        (lambda: LogWriteEvent(**about, **(log | {"level": "debug"})), ValidationError),
        (lambda: LogWriteEvent(**about, **(log | {"message": 3})), ValidationError),
        (lambda: LogWriteEvent(**about, **(log | {"message": "\ud800"})), ValidationError),
        (lambda: LogWriteEvent(**(about | {"run_id": "nobody"}), **log), NotFoundError),
        (lambda: RunProgressEvent(**about, progress=ProgressData(current=float("nan"))), ValidationError),
        (lambda: RunProgressEvent(**about, progress=3), ValidationError),  # type: ignore[arg-type]
        (
            lambda: StepCompleteEvent(**about, step_name="s", step_index=0, output=1, duration=float("inf")),
            ValidationError,
        ),
    ]


def test_emit_refuses_what_it_cannot_store(job: Job, idle: Durably, heard: Heard) -> None:
    """Nothing is stored or told, and the store is as good as before."""
    run = job.trigger()
    idle.on("*", heard)
    for make, error in refused(run.id):
        with pytest.raises(error):
            idle.emit(make())
    assert heard == []
    assert len(run.events()) == 1
    idle.process_until_idle()
    assert run.result() == 3
