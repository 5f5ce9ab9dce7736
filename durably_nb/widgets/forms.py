"""`Form`: a job's parameters as input widgets, a button that triggers it, and the panel of its run."""

from __future__ import annotations

import inspect
import threading
from dataclasses import dataclass
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from durably_nb.widgets import outputs, tables
from durably_nb.widgets.commands import carry_out
from durably_nb.widgets.fields import DEFAULT, Field, alarming, described
from durably_nb.widgets.panel import Panel
from durably_nb.widgets.pump import pump

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.definitions import Definition
    from durably_nb.widgets.commands import HasId
    from durably_nb.widgets.host import Host


@dataclass(slots=True)
class _Outcome:
    """What came of a click: a run, or what kept it from being: problems of fields by name, or one of the whole."""

    problems: dict[str, str]
    problem: str | None = None
    run_id: str | None = None

    def __str__(self) -> str:
        if self.problems:
            return f"Nothing was triggered: look at {', '.join(self.problems)}."
        return self.problem or ""


class Form:
    """The form of a job. A field that is left as it was gives the parameter's default.

    A click is carried out on a thread of its own, which notes what came of it; the pump shows that.

    Attributes:
        widget: The widget, to be shown or put into a layout.

    """

    def __init__(self, definition: Definition, trigger: Callable[..., HasId], host: Host) -> None:
        """Lay it out; `trigger` takes the inputs by name."""
        self._definition = definition
        self._trigger = trigger
        self._host = host
        self._clicked = threading.Lock()  # held from a click until its outcome is shown
        self._outcome: _Outcome | None = None
        self._panel: Panel | None = None
        self._is_retired = False
        parameters = definition.signature.parameters
        label_width = f"{max(map(len, parameters), default=0) + 2}ch"
        self._fields = [Field(parameter, label_width) for parameter in parameters.values()]
        self._button = ipywidgets.Button(description="Trigger", button_style="primary")
        self._button.tooltip = f"Trigger {definition.name}"
        self._button.on_click(self._on_click)
        self._line = ipywidgets.HTML()
        self._below = ipywidgets.VBox()
        self._below.add_class("dn-beneath")
        head = ipywidgets.HTML(_headed(definition))
        rows = [field.widget for field in self._fields]
        actions = ipywidgets.HBox([self._button, self._line])
        self.widget: Any = ipywidgets.VBox([head, *rows, actions, self._below])
        self.widget.add_class("dn-form")
        pump.add(self)
        host.register_view(self)
        outputs.close_with_cell(self)

    def __repr__(self) -> str:
        """Show what it is, in a line."""
        return f"<Form of job {self._definition.name}({', '.join(self._definition.signature.parameters)})>"

    def draw(self) -> None:
        """Show what came of a click; called by the pump."""
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        try:
            self._show(outcome)
        finally:
            self._clicked.release()
            self._line.value = alarming(str(outcome))

    def retire(self) -> None:
        """Take no more clicks: the store is about to close."""
        self._is_retired = True
        pump.remove(self, last=True)
        self._button.disabled = True
        self._line.value = alarming("The file was closed. Open it again, and run this cell again.")

    def close(self) -> None:
        """Take it away, with the panel under it; no widget model stays behind. May be called twice."""
        self._button.on_click(self._on_click, remove=True)
        pump.remove(self)
        if self._panel is not None:
            self._panel.close()
        _close(self.widget)

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        """Show the widget in a cell; where widgets are not shown, what can be filled in."""
        bundle: dict[str, object] = self.widget._repr_mimebundle_()
        return bundle | {"text/html": tables.job_html(self._definition, None), "text/plain": repr(self)}

    def _on_click(self, _: object) -> None:
        """Take what is filled in, once at a time; called by the kernel, on any of its threads.

        The button stays enabled: the keyboard focus would be lost with it.
        """
        given, outcome = self._read()
        if self._is_retired or not self._clicked.acquire(blocking=False):
            return
        self._line.value = described("Triggering …")
        carry_out(partial(self._carry_out, given, outcome), partial(self._note, outcome))

    def _read(self) -> tuple[dict[str, object], _Outcome]:
        given: dict[str, object] = {}
        outcome = _Outcome({})
        for field in self._fields:
            try:
                given[field.name] = field.read()
            except ValueError as error:
                outcome.problems[field.name] = str(error)
        return {name: value for name, value in given.items() if value is not DEFAULT}, outcome

    def _carry_out(self, given: dict[str, object], outcome: _Outcome) -> None:
        refused = self._definition.signature.problems(given)
        worded = {
            field.name: field.worded(given.get(field.name), refused[field.name])
            for field in self._fields
            if field.name in refused
        }
        outcome.problems = worded | outcome.problems
        if not outcome.problems:
            outcome.run_id = self._trigger(**given).id

    def _note(self, outcome: _Outcome, problem: str | None) -> None:
        outcome.problem = problem
        self._outcome = outcome
        pump.note(self)

    def _show(self, outcome: _Outcome) -> None:
        for field in self._fields:
            field.show(outcome.problems.get(field.name))
        if outcome.run_id is None:
            return
        if self._panel is not None:
            self._panel.follow(outcome.run_id)
            return
        self._panel = Panel(self._host, outcome.run_id)
        self._below.children = [self._panel.widget]


def _headed(definition: Definition) -> str:
    """Give the job's name and what its docstring says, as HTML."""
    fn: Any = definition.fn
    summary, _, more = (inspect.getdoc(getattr(fn, "func", fn)) or "").partition("\n\n")  # of a partial: its function's
    folded = f"<details><summary>More</summary><pre>{escape(more)}</pre></details>" if more else ""
    return f"<style>{_style()}</style><strong>{escape(definition.name)}</strong><div>{escape(summary)}</div>{folded}"


@cache
def _style() -> str:
    return (Path(__file__).parent / "forms.css").read_text(encoding="utf-8")


def _close(widget: Any) -> None:  # noqa: ANN401 - ipywidgets is not typed
    """Close a widget and all that belongs to it: its children, its layout, its style."""
    for name in widget.keys:
        part = getattr(widget, name)
        for each in part if isinstance(part, (list, tuple)) else (part,):
            if isinstance(each, ipywidgets.Widget):
                _close(each)
    widget.close()
