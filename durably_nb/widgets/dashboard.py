"""`Dashboard`: a live table of runs, and beneath it the panel of the one that is opened."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anywidget
import ipywidgets
import traitlets

from durably_nb.errors import DurablyError
from durably_nb.models import RUN_STATUSES
from durably_nb.widgets import outputs, render, tables
from durably_nb.widgets.batch import attempt, carry_out_all
from durably_nb.widgets.commands import COMMANDS, carry_out, fitting
from durably_nb.widgets.face import free_replies
from durably_nb.widgets.panel import Panel
from durably_nb.widgets.pump import pump
from durably_nb.widgets.question import PAGE, Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.models import RunRecord
    from durably_nb.store import Overview
    from durably_nb.widgets.host import ListHost

INTERVAL_S: Final = 0.5
"""While runs change, the store is asked at most this often."""

_WIDGET: Final = "application/vnd.jupyter.widget-view+json"

_HERE: Final = Path(__file__).parent


class DashboardTable(anywidget.AnyWidget):
    """The table. `state` is all that it shows; what people press and type comes as messages."""

    _esm = (_HERE / "dashboard.js").read_text(encoding="utf-8")  # of a path, anywidget never lets go of a widget
    _css = tables.style() + (_HERE / "dashboard.css").read_text(encoding="utf-8")
    state = traitlets.Dict().tag(sync=True)


class Dashboard:
    """A live table of runs.

    Attributes:
        table: The table alone, a widget.
        widget: The table, and beneath it the panel of the run that is opened.

    """

    def __init__(
        self, host: ListHost, name: str, question: Question, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the first page and show it; the pump does the rest.

        Raises:
            StoreError: If the store is not open.

        """
        self._host = host
        self._name = name
        self._question = question
        self._clock = clock
        self._next_reading = 0.0
        self._is_asked = self._is_retired = False  # asked: by somebody who waits for the answer
        self._problem = ""
        self._lock = threading.Lock()  # of what people asked, and what they are answered
        self._answers = (0, "")  # how many commands were answered, and the last answer
        self._wish: deque[str | None] = deque(maxlen=1)  # the run to be opened; None: the panel is to be closed
        self._panel: Panel | None = None
        self._shown, self._found = self._read()
        self.table = DashboardTable(state=self._state())
        self.widget = ipywidgets.VBox([self.table])
        self.widget.add_class("dn-dashboard-whole")
        self.table.on_msg(self._on_message)
        self.table.observe(self._on_closed, "comm")
        free_replies(self.table)
        pump.add(self)
        self._unsubscribe = host.on_change(self._note)
        host.register_view(self)
        outputs.close_with_cell(self)
        self._note()  # for what came before the pump knew of it

    def __repr__(self) -> str:
        """Show how many runs there are, in a line."""
        return f"<Dashboard of {self._name}: {tables.counted(self._found.counts)}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Show the widget; where there is none, the page as HTML, or the numbers as text."""
        return self.view() | {"text/html": tables.runs_html(self._found), "text/plain": repr(self)}

    def view(self) -> dict[str, Any]:
        """Give what makes a front end show the widget, and nothing beside."""
        return {_WIDGET: self.widget._repr_mimebundle_()[_WIDGET]}

    def draw(self) -> float | None:
        """Read what is looked at and show it; called by the pump."""
        wait_s = self._next_reading - self._clock()
        if wait_s > 0 and not self._is_asked:
            return wait_s
        self._is_asked = False
        self._next_reading = self._clock() + INTERVAL_S
        self._look()
        self._open()
        self.table.state = self._state()
        return None

    def retire(self) -> None:
        """Draw it a last time, and no more: the store is about to close."""
        self._unsubscribe()
        self._is_retired = self._is_asked = True
        pump.remove(self, last=True)

    def close(self) -> None:
        """Take it away: no listener, no widget model and no thread stays behind. May be called twice."""
        self._unsubscribe()
        pump.remove(self)
        if self._panel is not None:
            self._panel.close()
        for widget in (self.table, self.widget):
            widget.layout.close()
            widget.close()

    # --- drawing ---

    def _look(self) -> None:
        """Read anew; where that is impossible, what was seen last stands."""
        self._problem = ""
        try:
            self._shown, self._found = self._read()
        except DurablyError as error:
            self._problem = str(error)

    def _read(self) -> tuple[Question, Overview]:
        """Give what is asked and what is found, which belong together whatever is asked meanwhile."""
        question = self._question
        found = self._host.overview(question.asked())
        if question.page <= question.last_page(found):
            return question, found
        last = replace(question, page=question.last_page(found))  # the page that was shown is no more
        with self._lock:
            if self._question is question:
                self._question = last
        return last, self._host.overview(last.asked())

    def _open(self) -> None:
        """Open the panel that was asked for last."""
        if not self._wish:
            return
        try:
            self._panel = self._panel_of(self._wish.popleft())
        except DurablyError as error:
            self._problem = str(error)
        self.widget.children = [self.table] if self._panel is None else [self.table, self._panel.widget]

    def _panel_of(self, run_id: str | None) -> Panel | None:
        if self._panel is None:
            return None if run_id is None else Panel(self._host, run_id)
        if run_id is None:
            self._panel.close()
            return None
        self._panel.follow(run_id)
        return self._panel

    def _state(self) -> dict[str, Any]:
        """Give all that the table shows."""
        now = datetime.now(UTC)
        question, found = self._shown, self._found
        cells = [tables.cells(run, now) for run in found.runs]
        first = question.page * PAGE
        answered, answer = self._answers
        return {
            "name": self._name,
            "now": round(now.timestamp() * 1000),
            "question": question.message(),
            "states": [[status, *_worded(status), found.counts.get(status, 0)] for status in RUN_STATUSES],
            "jobs": sorted({*found.by_job, *([question.job] if question.job else [])}),
            "runs": sum(map(sum, (counts.values() for counts in found.by_job.values()))),
            "total": question.total(found),
            "first": first,
            "columns": list(tables.columns(cells)),
            "rows": list(map(_row, found.runs, cells)),
            "opened": None if self._panel is None else self._panel.run_id,
            "worker": self._worker(),
            "waiting": tables.waiting_text(tables.pending_where(found, lambda job: not self._host.is_defined(job))),
            "hint": question.hint,
            "problem": self._problem,
            "answered": answered,
            "answer": answer,
            "closed": self._is_retired,
        }

    def _worker(self) -> list[str]:
        """Say whether pending runs are executed: in a word, and in a sentence."""
        if self._is_retired:
            return ["closed", "The store is closed; this is how the runs stood then."]
        if self._host.is_working:
            return ["working", "A worker is running."]
        return ["stopped", "No worker is running: pending runs wait until d.start() is called."]

    # --- what people press and type ---

    def _note(self) -> None:
        pump.note(self)

    def _on_message(self, _: object, content: Any, __: object) -> None:  # noqa: ANN401 - what a front end sends
        """Take a message of a front end, on whatever thread the kernel brings it: it is only noted."""
        match content:
            case {"question": question}:
                with self._lock:
                    self._question = self._question.changed(question)
                    self._answers = (self._answers[0], "")  # a page that misses a number keeps its buttons off
            case {"open": str() | None as run_id}:
                self._wish.append(run_id)
            case {"command": str(command), "attempts": dict(attempts)} if command in COMMANDS:
                carry_out(partial(self._carry_out, command, attempts), self._answer)
                return
        self._is_asked = True
        self._note()

    def _carry_out(self, command: str, attempts: dict[str, int]) -> None:
        self._answer(carry_out_all(self._host, command, attempts))

    def _answer(self, answer: str | None) -> None:
        if answer is not None:
            with self._lock:
                self._answers = (self._answers[0] + 1, answer)
            self._is_asked = True
            self._note()

    def _on_closed(self, change: Any) -> None:  # noqa: ANN401 - a traitlets change
        """The widget was closed by somebody else: draw it no more."""
        if change["new"] is None:
            self._unsubscribe()
            pump.remove(self)


def _worded(status: Any) -> tuple[str, str]:  # noqa: ANN401 - a state
    word = render.word(status)
    return render.ICONS[word], word


def _row(run: RunRecord, cells: dict[str, str]) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "job": run.job_name,
        "attempt": attempt(run),
        "commands": fitting(run.status),
        "cells": list(cells.values()),
    }
