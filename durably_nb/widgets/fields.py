"""`Field`: one input of a form, with its way of saying None and the line that says what is wrong with it."""

from __future__ import annotations

from html import escape
from inspect import Parameter as Raw
from typing import TYPE_CHECKING, Any, Final

import ipywidgets

from durably_nb.signature import NEEDS_VALUE
from durably_nb.widgets.hints import hint_of
from durably_nb.widgets.inputs import EMPTY, control_for

if TYPE_CHECKING:
    from durably_nb.signature import Parameter

DEFAULT: Final = object()
"""What a field gives that was left as it was: the parameter's own default."""


class Field:
    """The row of a form that one parameter has.

    Attributes:
        name: The parameter's name, which labels the control.
        widget: The row.

    """

    def __init__(self, parameter: Parameter, label_width: str) -> None:
        """Fill in the default."""
        self.name = parameter.name
        self._hint = hint_of(parameter.annotation)
        self._is_required = parameter.required
        self._control = control_for(self._hint, EMPTY if parameter.default is Raw.empty else parameter.default)
        self._none = self._none_box(is_none=parameter.default is None)
        self._note = ipywidgets.HTML(layout={"flex": "1 1 14rem"})  # beside the control, below it where it is narrow
        self._untouched = self._state()
        control = self._control.widget
        control.description = self.name
        control.style.description_width = label_width
        control.tooltip = str(self._hint)
        control.layout.width = "30rem"
        boxes = [] if self._none is None else [self._none]
        self.widget: Any = ipywidgets.HBox([control, *boxes, self._note], layout={"flex_flow": "row wrap"})
        self.show(None)

    def read(self) -> object:
        """Give the value that is filled in, or DEFAULT.

        Raises:
            ValueError: If there is none, or it cannot be read; the message is a sentence.

        """
        if not self._is_required and self._state() == self._untouched:
            return DEFAULT
        if self._none is not None and self._none.value:
            return None
        value = self._control.read()
        if value is not EMPTY:
            return value
        if self._hint.takes_none:
            return None
        raise ValueError(NEEDS_VALUE)

    def worded(self, value: object, reason: str) -> str:
        """Say why a value was refused: in the words of the form where these are the bounds, else as it was said."""
        return self._hint.limits.refusal(value) or reason

    def show(self, problem: str | None) -> None:
        """Say what is wrong; None: nothing is."""
        about = " · ".join(filter(None, (self._hint.about, self._control.remark)))
        self._note.value = described(about) if problem is None else alarming(problem)

    def _none_box(self, *, is_none: bool) -> Any:  # noqa: ANN401 - ipywidgets is not typed
        """Give the box to say None with, for controls that have no other way."""
        if self._control.says_none or not (self._hint.takes_none or is_none):
            return None
        box = ipywidgets.Checkbox(value=is_none, description=f"{self.name} is None", indent=False)
        box.layout.width = "auto"
        ipywidgets.dlink((box, "value"), (self._control.widget, "disabled"))
        return box

    def _state(self) -> tuple[object, object]:
        return self._control.state, None if self._none is None else self._none.value


def described(text: str) -> str:
    """Give a text that explains, as HTML."""
    return f'<span style="color: var(--jp-content-font-color2, inherit)">{escape(text)}</span>' if text else ""


def alarming(text: str) -> str:
    """Give a text that says what is wrong, as HTML; it is read aloud as soon as it is there."""
    return f'<span role="alert" style="color: var(--jp-error-color0, #b3261e)">{escape(text)}</span>' if text else ""
