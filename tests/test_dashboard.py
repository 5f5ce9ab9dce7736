"""The dashboard: a live table of runs, and what is pressed and typed in it."""

from __future__ import annotations

import gc
import threading
import weakref
from datetime import date, timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from ipywidgets.widgets.widget import _instances as open_models

import durably_nb as dn
from durably_nb.store import Overview, RunQuery
from durably_nb.widgets.dashboard import INTERVAL_S, Dashboard
from durably_nb.widgets.pump import pump
from durably_nb.widgets.question import PAGE, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from durably_nb.models import RunStatus


class Front:
    """A front end: it sees what the table's state is, and sends what is pressed and typed."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self.table = dashboard.table
        self._changed = threading.Condition()
        self.table.observe(self._note, "state")

    def _note(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.table.state
        return state

    def wait_for(self, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Give the state as soon as it is so."""
        with self._changed:
            assert self._changed.wait_for(lambda: is_so(self.state), 20), self.state
            return self.state

    def send(self, **message: object) -> None:
        self.table._handle_custom_msg(message, [])

    def ask(self, **changes: object) -> dict[str, Any]:
        """Look at something else, and give what is shown then."""
        wanted = {"page": 0, "status": [], "job": "", "label": "", "search": ""} | changes
        self.send(question=wanted)
        asked = {**wanted, "status": tuple(wanted["status"])}  # type: ignore[arg-type] # a list of states
        return self.wait_for(lambda state: state["question"] == asked)

    def press(self, command: str, *run_ids: str) -> str:
        """Press a button for some of the runs that are shown, and give what is answered."""
        attempts = {row["id"]: row["attempt"] for row in self.state["rows"] if row["id"] in run_ids}
        return self.command(command, attempts)

    def command(self, command: str, attempts: Mapping[str, int]) -> str:
        answered = self.state["answered"]
        self.send(command=command, attempts=dict(attempts))
        return str(self.wait_for(lambda state: state["answered"] > answered)["answer"])

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.state["rows"]]

    def counts(self) -> dict[str, int]:
        return {word: count for _, _, word, count in self.state["states"] if count}

    def cell(self, run_id: str, column: int) -> str:
        cells: list[str] = next(row["cells"] for row in self.state["rows"] if row["id"] == run_id)
        return cells[column]


RUN, INPUT, STATE, PROGRESS, CREATED, TOOK, LABELS, ERROR = range(8)


@pytest.fixture
def look() -> Iterator[Callable[..., Front]]:
    """Look at a store; what is looked at is closed when the test ends."""
    fronts: list[Front] = []

    def begin(d: dn.Durably, **begin: Any) -> Front:
        fronts.append(Front(d.dashboard(**begin)))
        return fronts[-1]

    yield begin
    for front in fronts:
        front.dashboard.close()


@pytest.fixture
def add(idle: dn.Durably) -> dn.Job:
    """A job in a store whose runs are executed when the test says so; it fails for 13."""

    @idle.job
    def add(_: dn.StepContext, number: int) -> int:
        if number == 13:
            raise ValueError("no luck\nat all")
        return number

    return add


def executed(d: dn.Durably, job: dn.Job, *numbers: int) -> list[dn.Run]:
    runs = [job.trigger(number=number) for number in numbers]
    d.process_until_idle()
    return runs


# --- looking ---


def test_newest_first_a_page_at_a_time(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """The newest runs come first, 25 a page, and the number of all of them is said."""
    ids = [run.id for run in reversed([add.trigger(number=n) for n in range(PAGE + 3)])]
    front = look(idle)
    assert (front.ids, front.state["first"], front.state["total"]) == (ids[:PAGE], 0, PAGE + 3)
    front.ask(page=1)
    assert (front.ids, front.state["first"]) == (ids[PAGE:], PAGE)


def test_a_page_that_is_no_more(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """Whoever looks at a page whose runs are gone is shown the last there is."""
    runs = executed(idle, add, *range(PAGE + 1))
    front = look(idle)
    assert front.ask(page=1)["total"] == PAGE + 1
    assert front.press("delete", runs[0].id) == "1 deleted."
    state = front.wait_for(lambda state: state["total"] == PAGE)
    assert (state["question"]["page"], len(state["rows"])) == (0, PAGE)


def test_a_row_says_how_a_run_stands(idle: dn.Durably, look: Callable[..., Front]) -> None:
    """A row has the end of the id, the input, the state as a word, the progress, times, labels and the error.

    Of the error there is the first line, and all of it in the title.
    """

    @idle.job
    def half(step: dn.StepContext, city: str, n: int) -> None:  # noqa: ARG001 - shown
        step.progress(1, 2)
        raise ValueError("no luck\nat all")

    run = half.options(labels={"team": "blue"}).trigger("Bern", 3)
    idle.process_until_idle()
    front = look(idle)
    row = front.state["rows"][0]
    assert (row["id"], row["job"]) == (run.id, "half")
    assert run.id[-6:] in front.cell(run.id, RUN)
    assert ">city=&#x27;Bern&#x27;, n=3<" in front.cell(run.id, INPUT)
    assert "failed" in front.cell(run.id, STATE)
    assert "50 %" in front.cell(run.id, PROGRESS)
    assert 'aria-valuenow="50"' in front.cell(run.id, PROGRESS)
    assert run.created_at.isoformat() in front.cell(run.id, CREATED)
    assert front.cell(run.id, TOOK)
    assert "team=blue" in front.cell(run.id, LABELS)
    assert "ValueError: no luck<" in front.cell(run.id, ERROR)
    assert 'title="ValueError: no luck\nat all"' in front.cell(run.id, ERROR)
    assert row["commands"] == ["resume", "again", "delete"]


def test_a_long_input_is_cut(idle: dn.Durably, look: Callable[..., Front]) -> None:
    """An input is one short line, whatever it is; the title has more of it."""

    @idle.job
    def load(_: dn.StepContext, path: str, when: date, sizes: list[int]) -> None:
        pass

    run = load.trigger("x" * 70, date(2026, 11, 22), [1, 2])
    cell = look(idle).cell(run.id, INPUT)
    title, text = cell.split('title="')[1].split('">')
    assert unescape(title) == f"path='{'x' * 70}', when=<date 2026-11-22>, sizes=[1, 2]"
    assert unescape(text).removesuffix("</code>") == f"path='{'x' * 53}…"


def test_a_column_that_nothing_is_in(idle: dn.Durably, look: Callable[..., Front]) -> None:
    """Input, progress and labels take no room where no run of the page has any."""

    @idle.job
    def plain(step: dn.StepContext) -> None:
        step.progress(1, 2)

    _ = plain.trigger()
    front = look(idle)
    always = ["run", "state", "created", "took", "error"]
    assert front.state["columns"] == always
    assert "Labels" not in front.dashboard._repr_mimebundle_()["text/html"]
    idle.process_until_idle()
    front.wait_for(lambda state: state["columns"] == ["run", "state", "progress", "created", "took", "error"])
    _ = plain.options(labels={"team": "blue"}).trigger()
    front.wait_for(lambda state: "labels" in state["columns"])


def test_a_running_run_is_running(d: dn.Durably, look: Callable[..., Front]) -> None:
    """A leased run reads "running", and its row follows it to its end."""
    go = threading.Event()

    @d.job
    def wait(step: dn.StepContext) -> None:
        step.progress(3, 10)
        assert go.wait(20)

    front = look(d)
    run = wait.trigger()
    front.wait_for(lambda state: state["rows"] and "30 %" in front.cell(run.id, PROGRESS))
    assert "running" in front.cell(run.id, STATE)
    assert "data-since" in front.cell(run.id, TOOK)
    assert front.state["rows"][0]["commands"] == ["cancel"]
    go.set()
    front.wait_for(lambda _: "completed" in front.cell(run.id, STATE))
    assert "data-since" not in front.cell(run.id, TOOK)


def test_filters(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """State, job, label and search narrow the runs; the numbers by state are those under the other filters."""
    other = idle.job(name="other")(add.fn)
    blue = add.options(labels={"team": "blue", "x": "1"}).trigger(number=1)
    red = add.options(labels={"team": "red"}).trigger(number=13)
    idle.process_until_idle()
    third = other.options(labels={"team": "blue"}).trigger(number=2)
    front = look(idle)
    shown: list[tuple[dict[str, object], list[dn.Run]]] = [
        ({"status": ["failed"]}, [red]),
        ({"status": ["pending", "completed"]}, [third, blue]),
        ({"job": "add"}, [red, blue]),
        ({"job": "no such job"}, []),
        ({"label": "team=blue"}, [third, blue]),
        ({"label": " team = blue , x=1"}, [blue]),
        ({"search": red.id[-6:].lower()}, [red]),
        ({"search": "OTHER"}, [third]),
        ({"search": " no luck "}, [red]),
        ({"search": "team=r"}, [red]),
        ({"search": "number=13"}, [red]),
        ({"search": '"number":2'}, [third]),
        ({"search": "output"}, []),
        ({"search": "'; drop table runs; --"}, []),
        ({"search": "%"}, []),
        ({"search": "\0"}, []),
        ({"status": ["completed"], "label": "team=blue"}, [blue]),
    ]
    for changes, runs in shown:
        front.ask(**changes)
        assert front.ids == [run.id for run in runs], changes
    assert front.counts() == {"pending": 1, "completed": 1}
    assert front.state["jobs"] == ["add", "other"]
    front.ask()
    assert front.counts() == {"pending": 1, "completed": 1, "failed": 1}


def test_an_input_is_found_as_it_is_shown(idle: dn.Durably, look: Callable[..., Front]) -> None:
    """What a table shows of an input finds the run, be the rest of it in a file; what the run returned does not."""

    @idle.job
    def measure(_: dn.StepContext, city: str, n: int, data: bytes = b"") -> str:  # noqa: ARG001 - sought
        return f"{city} is fine"

    runs = [measure.trigger("Bern", 3), measure.trigger("Zürich", 30, b"x" * 100_000), measure.trigger("Basel", 4)]
    idle.process_until_idle()
    front = look(idle)
    for text, found in {
        "city='Bern', n=3": [0],
        "city=bern": [0],
        "n=3": [1, 0],
        "zürich": [1],
        "is fine": [],
        "files": [],
    }.items():
        front.ask(search=text)
        assert front.ids == [runs[at].id for at in found], text


def test_half_a_label(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """While a label is not written out it is no filter, and how to write it is said."""
    run = add.trigger(number=1)
    front = look(idle)
    assert "key=value" in front.ask(label="tea")["hint"]
    assert front.ids == [run.id]
    assert front.ask(label="team=blue")["hint"] == ""
    assert (front.ids, front.state["runs"]) == ([], 1)


def test_where_it_begins(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """A dashboard begins with the job and the states that are asked for."""
    good, bad = executed(idle, add, 1, 13)
    assert look(idle, job=add, status="failed").ids == [bad.id]
    assert look(idle, job="add", status=["failed", "completed"]).ids == [bad.id, good.id]
    assert look(idle, job="gone").state["jobs"] == ["add", "gone"]
    with pytest.raises(dn.ValidationError, match="did you mean 'failed'"):
        idle.dashboard(status="faild")  # type: ignore[arg-type]
    with pytest.raises(dn.ValidationError, match="A job's name is a string"):
        idle.dashboard(job=3)  # type: ignore[arg-type]


def test_a_store_that_is_not_open(path: Any) -> None:
    """Of a store that is not open there is no dashboard, and the error says so."""
    with pytest.raises(dn.StoreError, match="not open"):
        dn.Durably(path).dashboard()


# --- keeping up ---


def test_the_worker_and_what_waits(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """A line says whether a worker runs and which jobs are to be defined, and follows without a reload."""
    gone = idle.job(name="gone")(add.fn)
    _ = gone.trigger(number=1)
    del idle._definitions["gone"]
    front = look(idle)
    assert front.state["worker"][0] == "stopped"
    assert front.state["waiting"].startswith("1 pending run waits for job 'gone' to be defined")
    idle.start()
    front.wait_for(lambda state: state["worker"][0] == "working")
    idle.job(name="gone")(add.fn)
    front.wait_for(lambda state: state["waiting"] == "" and front.counts() == {"completed": 1})
    idle.stop()
    front.wait_for(lambda state: state["worker"][0] == "stopped")


def test_a_resume_and_a_purge_are_seen(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """What changes runs without an event is shown too."""
    _, bad = executed(idle, add, 1, 13)
    front = look(idle)
    _ = bad.resume()
    front.wait_for(lambda _: front.counts() == {"pending": 1, "completed": 1})
    assert idle.purge_runs(timedelta(0)) == 1
    front.wait_for(lambda _: front.counts() == {"pending": 1})


def test_a_question_that_is_typed_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody types while a page that is no more is given up is asked next, and not forgotten."""
    monkeypatch.setattr(pump, "add", lambda _: None)
    typed = {"page": 0, "status": [], "job": "", "label": "", "search": "typed"}

    class Emptied(Still):
        def overview(self, query: RunQuery) -> Overview:
            if query.offset:
                front.send(question=typed)
            return super().overview(query)

    dashboard = Dashboard(Emptied(), "here", Question())  # type: ignore[arg-type] # all that is asked of it
    front = Front(dashboard)
    front.send(question={**typed, "page": 4, "search": ""})
    dashboard.draw()
    assert (front.state["question"]["page"], front.state["question"]["search"]) == (0, "")
    dashboard.draw()
    assert front.state["question"]["search"] == "typed"
    dashboard.close()


class Still:
    """A store to look at that counts how often it is asked."""

    is_working = True

    def __init__(self) -> None:
        self.asked = 0

    def overview(self, _: RunQuery) -> Overview:
        self.asked += 1
        counts: dict[RunStatus, int] = {"completed": self.asked}
        return Overview({"job": counts}, counts, [])

    def is_defined(self, _: str) -> bool:
        return True

    def register_view(self, _: object) -> None: ...

    def on_change(self, _: object) -> Callable[[], None]:
        return lambda: None


def test_it_asks_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much happens the store is asked twice a second; what people press is answered at once.

    Nothing more is due after that (None), so that while nothing happens no query is made and no message is sent.
    """
    monkeypatch.setattr(pump, "add", lambda _: None)
    host: Any = Still()
    now = 0.0
    dashboard = Dashboard(host, "here", Question(), clock=lambda: now)
    sent: list[object] = []
    monkeypatch.setattr(dashboard.table.comm, "publish_msg", lambda *_, **message: sent.append(message))
    assert (dashboard.draw(), host.asked, len(sent)) == (None, 2, 1)
    now = 0.125
    assert (dashboard.draw(), host.asked, len(sent)) == (INTERVAL_S - 0.125, 2, 1)
    Front(dashboard).send(question={"page": 0, "status": [], "job": "", "label": "", "search": "x"})
    assert (dashboard.draw(), host.asked, len(sent)) == (None, 3, 2)
    now = 1.0
    assert (dashboard.draw(), host.asked, len(sent)) == (None, 4, 3)
    dashboard.close()


# --- commands ---


def test_cancel_several(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """Several runs are cancelled with one press, and a sentence says what became of each."""
    runs = [add.trigger(number=n) for n in range(3)]
    front = look(idle)
    attempts = {row["id"]: row["attempt"] for row in front.state["rows"]}
    runs[0].cancel()
    answer = front.command("cancel", attempts)
    assert answer.startswith("2 cancelled; 1 could not be: ")
    assert "is cancelled and cannot be cancelled" in answer
    front.wait_for(lambda _: front.counts() == {"cancelled": 3})
    assert front.command("cancel", attempts).startswith("None cancelled; 3 could not be: ")


def test_resume_again_and_delete(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """Ended runs are resumed, triggered again and deleted."""
    good, bad = executed(idle, add, 1, 13)
    front = look(idle)
    assert front.press("resume", bad.id) == "1 resumed."
    assert bad.status == "pending"
    assert front.press("again", good.id) == "1 triggered again."
    front.wait_for(lambda state: state["total"] == 3)
    assert front.press("delete", good.id, bad.id).startswith("1 deleted; 1 could not be: ")
    assert idle.get_run(good.id) is None
    assert front.ask(search="add")["answer"] == ""  # it was read


def test_a_late_click_is_harmless(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """A command that was meant for an earlier attempt does nothing to the present one."""
    _, bad = executed(idle, add, 1, 13)
    front = look(idle)
    seen = {row["id"]: row["attempt"] for row in front.state["rows"]}
    _ = bad.resume()
    idle.process_until_idle()  # it fails a second time
    assert "has begun anew meanwhile" in front.command("delete", {bad.id: seen[bad.id]})
    assert idle.get_run(bad.id) is not None
    assert "There is no run" in front.command("cancel", {"nonsense": 0})


def test_strange_messages_do_no_harm(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """What no front end of ours sends changes nothing."""
    run = add.trigger(number=1)
    front = look(idle)
    typed = {"page": 0, "status": [], "job": "", "label": "", "search": ""}
    front.send(anything=1)
    front.send(open=3)
    front.send(command="explode", attempts={run.id: 0})
    front.send(command=["cancel"], attempts=3)
    for question in (3, {}, {"page": 0}, typed | {"page": "1"}, typed | {"status": 3}, typed | {"search": ["?"]}):
        front.send(question=question)
    assert front.command("cancel", {run.id: 0}) == "1 cancelled."
    front.send(question={"page": 10**30, "status": ["such"], "job": "\ud800", "label": "", "search": "?"})
    assert front.wait_for(lambda state: state["question"]["search"] == "?")["total"] == 0
    assert idle.get_run(run.id) is not None


# --- the panel beneath ---


def test_a_row_opens_its_panel(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """The panel of a run stands beneath the table, another run takes its place, and it can be closed."""
    first, second = executed(idle, add, 1, 13)
    front = look(idle)
    models = len(open_models)
    front.send(open=first.id)
    front.wait_for(lambda state: state["opened"] == first.id)
    assert front.dashboard.widget.children[0] is front.table
    front.send(open=second.id)
    front.wait_for(lambda state: state["opened"] == second.id)
    assert len(front.dashboard.widget.children) == 2
    front.send(open="no such run")
    assert "There is no run" in front.wait_for(lambda state: state["problem"])["problem"]
    front.send(open=None)
    front.wait_for(lambda state: state["opened"] is None)
    assert (front.dashboard.widget.children, len(open_models)) == ((front.table,), models)


# --- what is shown where ---


def test_a_name_is_no_markup(idle: dn.Durably, look: Callable[..., Front]) -> None:
    """A job named like an image stays text, in the table and in what is kept of it."""
    name = "<img src=x onerror=alert(1)>"

    def strange(step: dn.StepContext) -> None:
        step.progress(1, 2)
        raise ValueError(name)

    run = idle.job(name=name)(strange).options(labels={name: name}).trigger()
    idle.process_until_idle()
    front = look(idle)
    assert front.state["rows"][0]["job"] == name  # which the front end takes as text
    html = front.dashboard._repr_mimebundle_()["text/html"]
    for text in (html, *front.state["rows"][0]["cells"]):
        assert "<img" not in text
    assert "&lt;img src=x" in front.cell(run.id, ERROR)


def test_what_a_cell_shows(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """A cell gets the widget, and beside it a table without a script and a line of text for where there is none."""
    _, bad = executed(idle, add, 1, 13)
    dashboard = look(idle).dashboard
    bundle = dashboard._repr_mimebundle_(include=None, exclude=None)
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == dashboard.widget.model_id
    assert bad.id in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    assert "jobs.duckdb" in bundle["text/plain"]
    assert bundle["text/plain"].endswith("2 runs: 1 completed, 1 failed>")


# --- the end ---


def test_closed_it_leaves_nothing(idle: dn.Durably, add: dn.Job) -> None:
    """A dashboard that was closed leaves no listener, no widget model, no thread and no reference."""
    run = add.trigger(number=1)
    listeners, models = dict(idle._bus._listeners), set(open_models)
    front = Front(idle.dashboard())
    front.send(open=run.id)
    front.wait_for(lambda state: state["opened"] == run.id)
    assert set(open_models) != models
    gone = weakref.ref(front.dashboard)
    front.dashboard.close()
    front.dashboard.close()
    assert idle._bus._listeners == listeners
    assert set(open_models) == models
    assert "durably-pump" not in {thread.name for thread in threading.enumerate()}
    del front
    gc.collect()
    assert gone() is None


def test_its_store_is_closed(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """When the file is closed the dashboard says so and keeps what it showed; nothing goes on behind it."""
    run = add.trigger(number=1)
    front = look(idle)
    idle.close()
    assert (front.state["closed"], front.state["worker"][0], front.ids) == (True, "closed", [run.id])
    assert "durably-pump" not in {thread.name for thread in threading.enumerate()}
    front.send(open=run.id)
    front.send(command="cancel", attempts={run.id: 0})
    assert "text/html" in front.dashboard._repr_mimebundle_()


def test_two_at_once(idle: dn.Durably, add: dn.Job, look: Callable[..., Front]) -> None:
    """Two dashboards look at different things, and closing one leaves the other alive."""
    first, second = look(idle), look(idle, status="failed")
    first.dashboard.close()
    executed(idle, add, 13)
    second.wait_for(lambda _: second.counts() == {"failed": 1})
    assert first.ids == []
