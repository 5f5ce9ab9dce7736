"""The live panel: what a page is sent, what its buttons do, and what is left when it goes away."""

from __future__ import annotations

import gc
import queue
import signal
import threading
import weakref
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final

import comm
import ipywidgets
import pytest
import traitlets
from comm.base_comm import BaseComm
from ipywidgets.widgets.widget import _instances as open_models

import durably_nb as dn
from durably_nb.widgets.pump import pump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Heard, Program

    from durably_nb.widgets.panel import Panel

NASTY: Final = """<img src=x onerror="alert('1')">&amp;</td></script><b style='x'>"""


class Page:
    """A widget's model as a page knows it: its traits, and what it was sent."""

    def __init__(self, front: Front, link: Link) -> None:
        self.front = front
        self.link = link
        self.traits: dict[str, Any] = {}
        self.synced: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.turn: Any = None
        self.regions: dict[str, str] = {}
        self.is_open = True

    def take(self, kind: str, data: dict[str, Any]) -> None:
        """Take a message of the kernel's."""
        if kind == "comm_close":
            self.is_open = False
        elif data.get("method") == "custom":
            self.sent.append(data["content"])
            self._show(data["content"])
        else:
            self.synced += data["state"]
            self.traits |= data["state"]

    def reload(self) -> None:
        """Forget everything but the traits, begin with those, and say hello: as a page that was loaded again does."""
        self.regions.clear()
        self._show(self.traits["state"])
        self.send(hello=True)

    def send(self, **content: object) -> None:
        """Send a custom message."""
        self.deliver(content)

    def deliver(self, content: object) -> None:
        """Send anything."""
        self.link.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})

    def press(self, command: str) -> None:
        """Press a button, which must be there and on."""
        assert command in self.buttons(), self.regions["actions"]
        self.send(command=command, turn=self.turn)

    def buttons(self) -> list[str]:
        """Give the commands of the buttons that are on."""
        found = elements(self.regions["actions"])
        return [about["data-command"] for tag, about in found if tag == "button" and "disabled" not in about]

    def text(self, region: str) -> str:
        """Give the text of a region."""
        return text(self.regions[region])

    def shows(self, *words: str) -> None:
        """Wait until these words are on the page."""
        self.front.wait_for(lambda: all(any(word in text(html) for html in self.regions.values()) for word in words))

    def _show(self, state: dict[str, Any]) -> None:
        self.turn = state["turn"]
        self.regions |= state["regions"]


class Link(BaseComm):
    """A comm that leads to the page of a test."""

    front: Front

    def publish_msg(self, msg_type: str, data: Any = None, *_: Any, **__: Any) -> None:
        self.front.take(self, msg_type, data or {})


class Front:
    """A front end: a page for every model there is."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.broken: set[str] = set()
        self._changed = threading.Condition()

    def connect(self, **about: Any) -> Link:
        """Make a comm, as a kernel does."""
        Link.front = self
        return Link(**about)

    def take(self, link: Link, kind: str, data: dict[str, Any]) -> None:
        """Take a message, unless the line is broken."""
        if link.comm_id in self.broken:
            raise ConnectionError(kind)
        with self._changed:
            if link.comm_id not in self.pages:
                self.pages[link.comm_id] = Page(self, link)
            self.pages[link.comm_id].take(kind, data)
            self._changed.notify_all()

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Wait until something is so; it is looked at after every message."""
        with self._changed:
            assert self._changed.wait_for(happened, 20), [page.regions for page in self.pages.values()]

    def page(self, panel: Panel) -> Page:
        """Give the page of a panel."""
        return self.pages[panel.widget.model_id]

    def open(self) -> list[str]:
        """Give the models that are open."""
        return [name for name, page in self.pages.items() if page.is_open]


class Elements(HTMLParser):
    """What a browser would make of some HTML: elements with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "every element is closed, in order"

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.texts.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def parsed(html: str) -> Elements:
    """Parse a piece of HTML; everything in it must be closed."""
    parser = Elements()
    parser.feed(html)
    parser.close()
    return parser


def elements(html: str) -> list[tuple[str, dict[str, Any]]]:
    """Give the elements of a piece of HTML."""
    return parsed(html).found


def text(html: str) -> str:
    """Give the text of a piece of HTML."""
    return "".join(parsed(html).texts)


class Steered:
    """A run that does what the test says, within a step."""

    def __init__(self, d: dn.Durably, name: str = "steered") -> None:
        self._acts: queue.Queue[Callable[[dn.StepContext], object] | None] = queue.Queue()
        self.run = d.job(name=name)(self._work).trigger()

    def do(self, act: Callable[[dn.StepContext], object]) -> None:
        """Do something with the step's context, and return when it is done."""
        done = threading.Event()

        def acted(step: dn.StepContext) -> None:
            act(step)
            done.set()

        self._acts.put(acted)
        assert done.wait(20)

    def end(self) -> None:
        """Let it complete."""
        self._acts.put(None)
        assert self.run.wait(20).is_terminal

    def _work(self, step: dn.StepContext) -> str:
        step.run("steer", lambda: self._steer(step))
        return "done"

    def _steer(self, step: dn.StepContext) -> None:
        step.signal.on_abort(lambda: self._acts.put(lambda step: step.throw_if_aborted()))
        while (act := self._acts.get(timeout=20)) is not None:
            act(step)


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """The pages that look at this process, all closed when the test ends."""
    made = Front()
    monkeypatch.setattr(comm, "create_comm", made.connect)
    yield made
    made.broken.clear()
    for model in list(open_models.values()):
        model.close()


@pytest.fixture
def steered(front: Front, d: dn.Durably) -> Iterator[Steered]:
    """A run that does what the test says."""
    assert front.pages == {}
    made = Steered(d)
    yield made
    if made.run.is_active and not d._is_closed:
        made.end()


def failing(step: dn.StepContext) -> None:
    step.run("load", lambda: 1)
    message = "no such month"
    raise ValueError(message)


def report_all(step: dn.StepContext) -> None:
    for number in range(5001):
        step.progress(number, 5000)


# --- what a page is sent ---


def test_a_page_begins_with_all_there_is(front: Front, steered: Steered, d: dn.Durably) -> None:
    """Whoever opens a panel sees the run as it is, from the traits alone: they are all that a page is given first."""
    steered.do(lambda step: step.progress(3, 4, "reading"))
    steered.do(lambda step: step.log.info("a line"))
    page = front.page(d.watch(steered.run))
    state = page.traits["state"]
    assert state["label"] == f"Run {steered.run.id[-6:]} of steered"
    assert "running" in text(state["regions"]["head"])
    assert "3 of 4 · 75 %" in text(state["regions"]["progress"])
    assert "reading" in text(state["regions"]["progress"])
    assert "steer" in text(state["regions"]["steps"])
    assert "a line" in text(state["regions"]["log"])
    assert "Cancel" in text(state["regions"]["actions"])


def test_only_what_changed_travels(front: Front, steered: Steered, d: dn.Durably) -> None:
    """A report sends the bar, a line sends the log; neither sends the table of steps, whose seconds the page counts."""
    page = front.page(d.watch(steered.run))
    steered.do(lambda step: step.progress(1, 4))
    page.shows("1 of 4")
    page.sent.clear()
    steered.do(lambda step: step.progress(2, 4))
    page.shows("2 of 4")
    assert [set(message["regions"]) for message in page.sent] == [{"progress"}]
    page.sent.clear()
    steered.do(lambda step: step.log.info("a line"))
    page.shows("a line")
    assert [set(message["regions"]) for message in page.sent] == [{"log"}]


def test_many_changes_are_one_message(front: Front, steered: Steered, d: dn.Durably) -> None:
    """Thousands of reports are a few messages, the last of them right."""
    page = front.page(d.watch(steered.run))
    steered.do(report_all)
    page.shows("5,000 of 5,000")
    assert len(page.sent) < 100


def test_hello_is_answered_with_everything(front: Front, steered: Steered, d: dn.Durably) -> None:
    """A view that comes later missed the messages before; it asks, and gets the whole."""
    page = front.page(d.watch(steered.run))
    steered.do(lambda step: step.progress(1, 4))
    page.shows("1 of 4")
    before = dict(page.regions)
    page.sent.clear()
    page.reload()
    front.wait_for(lambda: page.sent)
    assert set(page.sent[-1]["regions"]) == set(before)
    page.shows("1 of 4")


@pytest.mark.parametrize("content", [None, [], "hello", 7, {}, {"command": 7}, {"hello": NASTY}])
def test_a_message_of_no_known_kind_harms_nothing(
    front: Front, steered: Steered, d: dn.Durably, content: object
) -> None:
    """Whatever a page sends that is no command, it is sent the state, and the run goes on."""
    page = front.page(d.watch(steered.run))
    page.sent.clear()
    page.deliver(content)
    front.wait_for(lambda: page.sent)
    assert steered.run.status == "leased"


def test_the_state_is_synced_slowly_while_it_changes_and_at_the_end(
    front: Front, steered: Steered, d: dn.Durably
) -> None:
    """Pages that are loaded later begin with the synced state: it is sent now and then, and always last."""
    page = front.page(d.watch(steered.run))
    for number in range(20):
        steered.do(lambda step, number=number: step.progress(number, 20))  # type: ignore[misc] # the loop's number
        page.shows(f"{number} of 20")
    assert page.synced.count("state") <= 3
    steered.end()
    page.shows("completed", "'done'")
    front.wait_for(lambda: page.traits["state"]["regions"] == page.regions)
    assert page.traits["state"]["turn"] == page.turn


def test_a_failure_is_shown_with_its_traceback(front: Front, d: dn.Durably) -> None:
    """The first line is in sight, the traceback folded under it, and the buttons are those that help."""
    run = d.job(failing).trigger().wait(20)
    page = front.page(d.watch(run.id))
    assert page.text("problem").startswith("ValueError: no such month")
    assert "raise ValueError" in page.text("problem")
    assert [about for tag, about in elements(page.regions["problem"]) if tag == "details"] == [{}]
    assert page.buttons() == ["resume", "again", "delete"]


def test_a_pending_run_says_what_it_waits_for(front: Front, idle: dn.Durably) -> None:
    """Its panel names it, and sees when that is over, though no event tells."""

    def job(_: dn.StepContext) -> None: ...

    run = idle.job(job).trigger()
    del idle._definitions["job"]
    page = front.page(idle.watch(run))
    page.shows("pending", "job 'job' to be defined")
    idle.job(job)
    front.wait_for(lambda: "to be defined" not in page.text("progress"))


def test_a_run_that_does_not_exist_has_no_panel(front: Front, d: dn.Durably) -> None:
    """It is refused, and nothing is left of the attempt."""
    with pytest.raises(dn.NotFoundError, match="no run"):
        d.watch("01J00000000000000000000000")
    assert front.pages == {}
    with pytest.raises(dn.ValidationError, match="named by its id"):
        d.watch(7)  # type: ignore[arg-type]


# --- commands ---


def test_cancel(front: Front, steered: Steered, d: dn.Durably) -> None:
    """The run is asked to stop, and the panel offers to go on."""
    page = front.page(d.watch(steered.run))
    page.press("cancel")
    page.shows("cancelled")
    front.wait_for(lambda: page.buttons() == ["resume", "again", "delete"])
    assert steered.run.wait(20).status == "cancelled"


def test_a_message_may_come_on_any_thread(front: Front, steered: Steered, d: dn.Durably) -> None:
    """Kernels bring messages on the main thread, on a subshell's, on a thread that executes a cell."""
    page = front.page(d.watch(steered.run))
    bringing = threading.Thread(target=page.press, args=["cancel"])
    bringing.start()
    bringing.join()
    assert steered.run.wait(20).status == "cancelled"


def test_resume(front: Front, d: dn.Durably) -> None:
    """The same run goes on, and its panel with it."""
    attempts: list[int] = []

    @d.job
    def shaky(step: dn.StepContext) -> None:
        step.run("load", lambda: 1)
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError

    run = shaky.trigger().wait(20)
    page = front.page(d.watch(run))
    page.press("resume")
    page.shows("completed", "attempt 2", "reused")
    assert page.text("problem") == ""
    assert run.wait(20).status == "completed"


def test_run_again(front: Front, d: dn.Durably) -> None:
    """A fresh run is made, and the panel shows that one from now on."""
    run = d.job(failing).trigger().wait(20)
    panel = d.watch(run)
    page = front.page(panel)
    page.press("again")
    front.wait_for(lambda: run.id[-6:] not in page.text("head") and "failed" in page.text("head"))
    assert [one.id for one in d.get_runs()] == [panel.run_id, run.id]


def test_delete(front: Front, d: dn.Durably) -> None:
    """What was known stays in sight, without any button."""
    run = d.job(failing).trigger().wait(20)
    page = front.page(d.watch(run))
    page.press("delete")
    page.shows("deleted", "load")
    assert page.buttons() == []
    assert d.get_run(run.id) is None


def test_a_double_click_is_one_click(front: Front, d: dn.Durably) -> None:
    """Both clicks carry the same turn: the second finds that it was obeyed."""
    page = front.page(d.watch(d.job(failing).trigger().wait(20)))
    turn = page.turn
    for _ in range(5):
        page.send(command="again", turn=turn)
    front.wait_for(lambda: page.turn.split()[0] != turn.split()[0] and "failed" in page.text("head"))
    assert len(d.get_runs()) == 2


@pytest.mark.parametrize("turn", [None, "", 7, [], NASTY, "another"])
def test_a_late_command_is_harmless(front: Front, d: dn.Durably, turn: object) -> None:
    """Meant for another run or for an earlier attempt, it does nothing; the page is told how things are."""
    page = front.page(d.watch(d.job(failing).trigger().wait(20)))
    page.sent.clear()
    page.send(command="delete", turn=turn)
    front.wait_for(lambda: page.sent)
    assert page.buttons() == ["resume", "again", "delete"]
    assert len(d.get_runs()) == 1


def test_a_command_of_an_earlier_attempt_is_late(front: Front, d: dn.Durably) -> None:
    """Who resumes a run with run.resume() has made an old page's Delete void."""
    run = d.job(failing).trigger().wait(20)
    page = front.page(d.watch(run))
    turn = page.turn
    assert run.resume().wait(20).status == "failed"
    front.wait_for(lambda: page.turn != turn)
    page.sent.clear()
    page.send(command="delete", turn=turn)
    front.wait_for(lambda: page.sent)
    assert run.status == "failed"


def test_a_button_works_also_if_the_end_was_shown_before_it_was_told(front: Front, d: dn.Durably) -> None:
    """While a listener holds up what is told of a run, its panel shows the end that is stored; Resume then works."""
    run = d.job(failing).trigger().wait(20)
    page = front.page(d.watch(run))
    leased, go_on = threading.Event(), threading.Event()

    def hold_up(_: dn.RunLeasedEvent) -> None:
        leased.set()
        assert go_on.wait(20)

    unsubscribe = d.on("run:leased", hold_up)
    with pump._turning:
        assert run.resume() is run
        assert leased.wait(20)
        cancelling = threading.Thread(target=d.cancel, args=[run.id])
        cancelling.start()
        while d._dispatch.run_record(run.id).status != "cancelled":
            continue
    page.shows("cancelled")
    unsubscribe()
    go_on.set()
    cancelling.join()
    front.wait_for(lambda: page.turn == f"{run.id} 2 0")
    page.press("resume")
    front.wait_for(lambda: page.turn == f"{run.id} 3 1")
    page.shows("failed", "attempt 3")


def test_an_unknown_command_is_harmless(front: Front, d: dn.Durably) -> None:
    """There is nothing that a page can name but the four."""
    page = front.page(d.watch(d.job(failing).trigger().wait(20)))
    page.sent.clear()
    page.send(command="__class__", turn=page.turn)
    front.wait_for(lambda: page.sent)
    assert page.buttons() == ["resume", "again", "delete"]


def test_what_goes_wrong_is_said_in_the_panel(front: Front, d: dn.Durably, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's error is an alert, as text; the next command takes it away."""
    page = front.page(d.watch(d.job(failing).trigger().wait(20)))

    def refuse(_: str) -> None:
        raise RuntimeError(NASTY)

    with monkeypatch.context() as refusing:
        refusing.setattr(d._dispatch, "delete_run", refuse)
        page.press("delete")
        page.shows(f"RuntimeError: {NASTY}")
    assert [about["role"] for tag, about in elements(page.regions["actions"]) if tag == "span"] == ["alert"]
    page.press("delete")
    page.shows("deleted")
    front.wait_for(lambda: "RuntimeError" not in page.text("actions"))


def test_a_command_that_comes_too_late_says_why(front: Front, d: dn.Durably) -> None:
    """Somebody deleted the run meanwhile, in another process or just now: the sentence is the library's own."""
    run = d.job(failing).trigger().wait(20)
    page = front.page(d.watch(run))
    with pump._turning:  # the deletion is not drawn before the click
        run.delete()
        page.press("resume")
        for thread in clicks():
            thread.join(20)
    page.shows("deleted", "There is no run")


# --- hostile names ---


def test_a_name_stays_text(front: Front, d: dn.Durably) -> None:
    """A job, a step, a label, a line, a message, an error, an output: none of them becomes an element."""

    def job(step: dn.StepContext) -> None:
        step.progress(1, 2, NASTY)
        step.log.error(NASTY)
        step.run(NASTY, lambda: None)
        raise ValueError(NASTY)

    run = d.job(name=NASTY)(job).options(labels={"label": NASTY}).trigger().wait(20)
    page = front.page(d.watch(run))
    for name, html in page.regions.items():
        tags = {tag for tag, _ in elements(html)}
        assert tags.isdisjoint({"img", "b", "script"}), name
        names = {attribute for _, about in elements(html) for attribute in about}
        assert names.isdisjoint({"onerror", "src"}), name
    for region in "head", "progress", "problem", "steps", "log":
        assert NASTY in page.text(region), region
    labels = [about["aria-label"] for tag, about in elements(page.regions["actions"]) if tag == "button"]
    assert all(NASTY in label for label in labels)


# --- several panels, and none ---


def alive(references: list[weakref.ref[Any]]) -> list[Any]:
    """Give what is left after the collector came."""
    gc.collect()
    return [reference() for reference in references if reference() is not None]


def close_panel(panel: Panel) -> None:
    for _ in range(2):
        panel.close()


def close_widget(panel: Panel) -> None:
    panel.widget.close()


@pytest.mark.parametrize("close", [close_panel, close_widget])
def test_two_panels_of_a_run_live_and_one_goes_away(
    front: Front, steered: Steered, d: dn.Durably, close: Callable[[Panel], None]
) -> None:
    """Both follow the run; of the one that is closed nothing is left, and the other goes on."""
    stays = d.watch(steered.run)
    models, followers = len(open_models), len(d._dispatch._followers)
    goes = d.watch(steered.run.id)
    page = front.page(goes)
    steered.do(lambda step: step.progress(1, 4))
    for panel in stays, goes:
        front.page(panel).shows("1 of 4")
    close(goes)
    assert (len(open_models), len(d._dispatch._followers)) == (models, followers)
    assert not page.is_open
    assert len(front.open()) == models
    sent = len(page.sent)
    page.deliver({"hello": True})
    steered.do(lambda step: step.progress(2, 4))
    front.page(stays).shows("2 of 4")
    assert len(page.sent) == sent
    references: list[weakref.ref[Any]] = [weakref.ref(goes), weakref.ref(goes.widget)]
    front.pages.clear()
    del goes, panel, page
    assert alive(references) == []
    stays.close()
    assert (len(open_models), "durably-pump" in names_of_threads()) == (0, False)


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def clicks() -> list[threading.Thread]:
    """Give the threads that carry out a command."""
    return [thread for thread in threading.enumerate() if thread.name == "durably-click"]


def test_a_closed_panel_obeys_no_more(front: Front, d: dn.Durably) -> None:
    """A command that was on its way makes its run; the panel does not come to life again for it."""
    run = d.job(failing).trigger().wait(20)
    panel = d.watch(run)
    page = front.page(panel)
    is_made, go_on = threading.Event(), threading.Event()
    retrigger = d._dispatch.retrigger

    def slow(run_id: str) -> dn.Run:
        is_made.set()
        assert go_on.wait(20)
        return retrigger(run_id)

    d._dispatch.retrigger = slow  # type: ignore[method-assign]
    page.press("again")
    assert is_made.wait(20)
    panel.close()
    followers = len(d._dispatch._followers)
    go_on.set()
    for thread in clicks():
        thread.join(20)
    del d._dispatch.retrigger
    assert len(d.get_runs()) == 2
    gc.collect()
    assert len(d._dispatch._followers) <= followers
    assert "durably-pump" not in names_of_threads()


def test_closing_the_file_retires_its_panels(front: Front, steered: Steered, d: dn.Durably) -> None:
    """They show the last state and say what to do, their buttons are off, and the pump's thread ends."""
    page = front.page(d.watch(steered.run))
    steered.do(lambda step: step.progress(3, 4))
    steered.end()
    d.close()
    assert "durably-pump" not in names_of_threads()
    assert "completed" in page.text("head")
    assert "3 of 4" in page.text("progress")
    assert "Its file was closed" in page.text("actions")
    assert page.buttons() == []
    assert page.traits["state"]["regions"] == page.regions, "pages that are loaded later see the same"


def test_a_run_in_flight_is_not_shown_as_running_when_its_file_closes(
    front: Front, steered: Steered, d: dn.Durably
) -> None:
    """It was given back: its panel says that it is pending, and its step was interrupted."""
    page = front.page(d.watch(steered.run))
    d.close()
    assert "pending" in page.text("head")
    assert "interrupted" in page.text("steps")


def test_a_retired_panel_can_be_closed(front: Front, steered: Steered, d: dn.Durably) -> None:
    """Also when its store is long gone; the other way round, too."""
    panel, other = d.watch(steered.run), d.watch(steered.run)
    other.close()
    steered.end()
    d.close()
    panel.close()
    d.close()
    assert front.open() == []


@pytest.mark.usefixtures("front")
def test_a_view_that_is_made_when_the_file_closes_is_retired_too(d: dn.Durably) -> None:
    """A form of a closed file takes no click, and leaves no thread behind."""
    job = d.job(failing)
    d.close()
    form = job.form()
    assert form.widget.children[1].children[0].disabled
    assert "closed" in form.widget.children[1].children[1].value


@pytest.mark.usefixtures("front")
def test_a_run_that_cannot_be_read_says_why(d: dn.Durably, capsys: pytest.CaptureFixture[str]) -> None:
    """Also the last expression of a cell that is run again when the run is deleted, or the file closed."""
    deleted, run = (d.job(failing).trigger().wait(20) for _ in range(2))
    deleted.delete()
    deleted._ipython_display_()
    assert "There is no run" in capsys.readouterr().out
    d.close()
    run._ipython_display_()
    shown = capsys.readouterr().out
    assert repr(run) in shown
    assert "not open" in shown


@pytest.mark.usefixtures("front")
def test_ctrl_c_cuts_no_drawing(idle: dn.Durably) -> None:
    """Who waits also draws; the stop button takes effect when all is drawn that was begun."""
    run = idle.job(failing).trigger()
    drawn: list[str] = []

    def struck(_: object) -> None:
        if not drawn:
            signal.raise_signal(signal.SIGINT)
        drawn.append("struck")

    with pump._turning:  # the pump's own thread stands
        for call in struck, lambda _: drawn.append("the other"):
            idle.watch(run).on_drawn(call)
        with pytest.raises(KeyboardInterrupt):
            _ = run.wait(20)
    assert drawn == ["struck", "the other"]


def test_a_handle_of_a_run_that_is_deleted_as_it_ends(d: dn.Durably, caplog: pytest.LogCaptureFixture) -> None:
    """Who presses Cancel and Delete faster than listeners hear of it gets no complaint, and whoever waits goes on."""
    leased, go_on = threading.Event(), threading.Event()

    def hold_up(_: dn.RunLeasedEvent) -> None:
        leased.set()
        assert go_on.wait(20)

    d.on("run:leased", hold_up)
    run = d.job(failing).trigger()
    assert leased.wait(20)
    cancelling = threading.Thread(target=d.cancel, args=[run.id])
    cancelling.start()
    while d._dispatch.run_record(run.id).status != "cancelled":
        continue
    deleting = threading.Thread(target=d.delete_run, args=[run.id])
    deleting.start()
    while d.get_run(run.id) is not None:
        continue
    go_on.set()
    cancelling.join()
    deleting.join()
    assert "deleted" in repr(run.wait(20))
    assert caplog.records == []


def test_a_broken_line_harms_no_run(front: Front, steered: Steered, d: dn.Durably, heard: Heard) -> None:
    """A page that cannot be reached costs a warning in the log; jobs, listeners and other panels never notice."""
    broken, sound = d.watch(steered.run), d.watch(steered.run)
    d.on("run:complete", heard)
    front.broken.add(broken.widget.model_id)
    steered.do(lambda step: step.progress(1, 4))
    front.page(sound).shows("1 of 4")
    front.broken.clear()
    steered.do(lambda step: step.log.info("here again"))
    front.page(broken).shows("1 of 4", "here again")
    front.broken.add(broken.widget.model_id)
    steered.end()
    heard.wait_for("run:complete")
    front.page(sound).shows("completed")
    assert steered.run.result() == "done"


def test_panels_of_many_runs(front: Front, d: dn.Durably) -> None:
    """Each shows its own run, whatever the order in which they end."""
    runs = d.job(name="counting")(lambda step, number: step.progress(number, 20)).batch_trigger(
        [{"number": number} for number in range(20)]
    )
    panels = [d.watch(run) for run in runs]
    for number, panel in enumerate(panels):
        front.page(panel).shows(f"{number} of 20", "completed")


# --- bars ---


def bar_of(box: ipywidgets.HBox) -> Any:
    return box.children[0]


def test_a_bar_follows_its_run(front: Front, steered: Steered) -> None:
    """`progress_bar()` gives core widgets: the value moves, the label says how far it is, the colour how it ended."""
    box = steered.run.progress_bar()
    assert (bar_of(box).value, bar_of(box).max, bar_of(box).bar_style) == (0, 1, "")
    steered.do(lambda step: step.progress(3, 4, "reading"))
    front.wait_for(lambda: (bar_of(box).value, bar_of(box).max) == (3, 4))
    front.wait_for(lambda: "3 of 4" in box.children[1].value and "reading" in box.children[1].value)
    steered.do(lambda step: step.progress(0.5, 1.5))
    front.wait_for(lambda: isinstance(bar_of(box), ipywidgets.FloatProgress) and bar_of(box).value == 0.5)
    assert bar_of(box).max == 1.5
    steered.do(lambda step: step.progress(7, 3))
    front.wait_for(lambda: (bar_of(box).value, bar_of(box).max) == (3, 3))
    steered.do(lambda step: step.progress(0, 0))
    front.wait_for(lambda: (bar_of(box).value, bar_of(box).max) == (0, 0))
    steered.end()
    front.wait_for(lambda: bar_of(box).bar_style == "success")
    assert "completed" in box.children[1].value
    before = len(open_models)
    box.close()
    assert before - len(open_models) == before
    assert front.open() == []


def test_a_bar_without_a_total_is_full_at_the_end(front: Front, steered: Steered) -> None:
    """How far it is cannot be told before; that it is done can."""
    box = steered.run.progress_bar()
    steered.do(lambda step: step.progress(12_345))
    front.wait_for(lambda: "12,345" in box.children[1].value)
    assert (bar_of(box).value, bar_of(box).max) == (0, 1)
    steered.end()
    front.wait_for(lambda: (bar_of(box).value, bar_of(box).bar_style) == (1, "success"))


@pytest.mark.parametrize(("end", "style"), [("fail", "danger"), ("cancel", "warning")])
def test_a_bar_says_how_its_run_ended(front: Front, steered: Steered, end: str, style: str) -> None:
    """A failed run is red, a cancelled one orange."""
    box = steered.run.progress_bar()
    if end == "cancel":
        steered.run.cancel()
    else:
        steered._acts.put(lambda step: step.run("steer", int))
    front.wait_for(lambda: bar_of(box).bar_style == style)


def test_a_bar_of_a_run_that_has_ended(front: Front, d: dn.Durably) -> None:
    """It shows the end at once."""
    box = d.job(failing).trigger().wait(20).progress_bar()
    assert bar_of(box).bar_style == "danger"
    assert front.open()


WITHOUT = """
import sys
sys.modules["anywidget"] = None
import durably_nb as dn
d = dn.open(sys.argv[1])

@d.job
def job(step):
    step.progress(2, 4)

run = job.trigger().wait(20)
panel = d.watch(run)
box = panel.widget
print(type(box).__name__, box.children[0].value, box.children[0].max, box.children[0].bar_style)
print(box.children[1].value)
panel.close()
d.close()
"""


def test_without_anywidget_a_panel_is_a_bar(path: Path, launch: Callable[..., Program]) -> None:
    """Where it is not installed, `d.watch` shows a bar of core widgets, and nobody sees an error."""
    bar, label = launch(WITHOUT, path).finished().splitlines()
    assert bar == "BarFace 2 4 success"
    assert label == "job · completed · 2 of 4 · 50 %"


# --- widgets of one's own ---


def amount(progress: dn.ProgressData | None) -> int:
    """Give progress as the value of a bar."""
    return 0 if progress is None else int(progress.current)


def observe(run: dn.Run, bar: ipywidgets.IntProgress) -> None:
    run.observe(lambda change: setattr(bar, "value", amount(change["new"])), "progress")


def dlink(run: dn.Run, bar: ipywidgets.IntProgress) -> None:
    traitlets.dlink((run, "progress"), (bar, "value"), amount)


def link(run: dn.Run, bar: ipywidgets.IntProgress) -> None:
    traitlets.link((run, "progress"), (bar, "value"), (amount, int))


@pytest.mark.parametrize("follow", [observe, dlink, link])
def test_ones_own_widgets_follow_the_traits_of_a_run(
    front: Front, steered: Steered, follow: Callable[[dn.Run, ipywidgets.IntProgress], None]
) -> None:
    """From the worker's thread, as fast as a job can report: the last value is the widget's last value."""
    bar = ipywidgets.IntProgress(max=5000)
    label = ipywidgets.Label()
    follow(steered.run, bar)
    traitlets.link((steered.run, "status"), (label, "value"))
    steered.do(report_all)
    assert bar.value == front.pages[bar.model_id].traits["value"] == 5000
    steered.end()
    assert label.value == steered.run.status == "completed"


# --- fifty at once ---


@pytest.mark.slow
def test_fifty_panels_stay_within_the_budget(front: Front, path: Path) -> None:
    """Fifty runs that report all the time send less than a hundred messages a second, and end right."""
    with dn.open(path, max_concurrent_runs=50) as d:
        go_on = threading.Event()

        @d.job
        def busy(step: dn.StepContext) -> None:
            number = 0
            while not go_on.wait(0.05):
                number += 1
                step.progress(number, 1000)
            step.progress(1000, 1000)

        panels = [d.watch(run) for run in busy.batch_trigger([{}] * 50)]
        stop = threading.Timer(3, go_on.set)
        before = sum(len(page.sent) + len(page.synced) for page in front.pages.values())
        stop.start()
        stop.join()
        sent = sum(len(page.sent) + len(page.synced) for page in front.pages.values()) - before
        assert sent < 3.5 * 100
        for panel in panels:
            front.page(panel).shows("1,000 of 1,000", "completed")
