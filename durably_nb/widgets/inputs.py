"""Controls: the core widget that fits a type hint, and how what is filled in is read as a value."""

from __future__ import annotations

import ast
import csv
import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_origin
from uuid import UUID

import ipywidgets
import pydantic
from pydantic_core import to_jsonable_python

from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durably_nb.widgets.hints import Hint

EMPTY: Final = object()
"""What a control gives in which nothing is filled in; as a start: that there is none."""

_MOST_ROWS: Final = 8
_HOW: Final = "write them with commas between"
_COLLECTIONS: Final = (list, tuple, set, frozenset)
_SPELT: Final = (str, Decimal, UUID, Path, dt.date, dt.datetime, dt.time, dt.timedelta)
"""Types of which pydantic reads a value from plain text."""


@dataclass(frozen=True, slots=True)
class Control:
    """A widget to fill in.

    Attributes:
        widget: The core widget.
        meaning: Gives the value that a state of the widget stands for, or EMPTY; raises ValueError with a sentence.
        trait: The trait that is the widget's state.
        says_none: Whether None can be filled in as any other value can.
        remark: What to know before filling it in, if anything.

    """

    widget: Any
    meaning: Callable[[Any], object]
    trait: str = "value"
    says_none: bool = False
    remark: str = ""

    @property
    def state(self) -> object:
        """What is filled in, as the widget has it."""
        return getattr(self.widget, self.trait)

    def read(self) -> object:
        """Give what is filled in as a value, or EMPTY.

        Raises:
            ValueError: If it cannot be read; the message is a sentence.

        """
        return self.meaning(self.state)


def control_for(hint: Hint, start: object) -> Control:
    """Give the control for a type hint, with `start` filled in: a value or EMPTY."""
    fitting = _fitting(hint)
    control = None if fitting is None else fitting(hint, start)
    return control or _literal(hint, start)


def _fitting(hint: Hint) -> Callable[[Hint, Any], Control | None] | None:
    """Give what makes a control for such values; that in turn gives None if it cannot show the start."""
    if hint.choices or (hint.kind is bool and hint.takes_none):
        return _choice
    if hint.items is not None:
        return _selection if hint.items.choices else _listing
    return _BY_KIND.get(hint.kind) if isinstance(hint.kind, type) else None


# --- numbers and flags ---


def _flag(hint: Hint, start: object) -> Control | None:
    """Give a box to tick; a choice where nothing is filled in, since a box says no before anybody did."""
    if start is EMPTY:
        return _choice(hint, start)
    value = _first(start, bool, neutral=False)
    return None if value is None else Control(ipywidgets.Checkbox(value=value), _itself)


def _whole(hint: Hint, start: object) -> Control | None:
    return _number(hint, start, int, "whole number")


def _real(hint: Hint, start: object) -> Control | None:
    return _number(hint, start, float, "number")


def _number(hint: Hint, start: object, kind: type[float], noun: str) -> Control | None:
    """Give a field for a number as text: one for numbers bends what is out of bounds, and is never empty."""
    if start is not EMPTY and start is not None and type(start) not in (int, kind):
        return None
    text = "" if start is EMPTY or start is None else str(start)
    bounds, emptied = str(hint.limits), "None if left empty" if hint.takes_none else ""
    widget = ipywidgets.Text(value=text, placeholder=", ".join(filter(None, (bounds or noun, emptied))))
    remark = ", ".join(filter(None, (bounds, emptied))) if text else ""  # else the placeholder says it
    return Control(widget, partial(_number_in, kind=kind, noun=noun), says_none=True, remark=remark)


def _number_in(text: str, kind: type[float], noun: str) -> object:
    try:
        return kind(text) if text.strip() else EMPTY
    except ValueError:
        raise ValueError(f"{shown(text.strip())} is no {noun}.") from None


# --- text, dates and what is written as text ---


def _text(_: Hint, start: object) -> Control | None:
    value = _first(start, str, neutral="")
    if value is None:
        return None
    return Control((ipywidgets.Textarea if "\n" in value else ipywidgets.Text)(value=value), _itself)


def _date(_: Hint, start: object) -> Control | None:
    return _picker(ipywidgets.DatePicker, start, dt.date)


def _moment(hint: Hint, start: object) -> Control | None:
    zone = start.tzinfo if isinstance(start, dt.datetime) else None
    if isinstance(start, dt.datetime) and zone is None and hint.kind is pydantic.AwareDatetime:
        return None
    is_aware = zone is not None or hint.kind is pydantic.AwareDatetime
    return _picker(ipywidgets.DatetimePicker if is_aware else ipywidgets.NaiveDatetimePicker, start, dt.datetime)


def _time(_: Hint, start: object) -> Control | None:
    return _picker(ipywidgets.TimePicker, start, dt.time)


def _picker(widget: Any, start: object, kind: type) -> Control | None:  # noqa: ANN401 - ipywidgets is not typed
    if start is EMPTY or start is None or type(start) is kind:
        value = None if start is EMPTY else start
        return Control(widget(value=value), lambda picked: EMPTY if picked is None else picked, says_none=True)
    return None


def _spelt(hint: Hint, start: object) -> Control | None:
    """Give a field for what pydantic reads from text: a path, a decimal number, a span of time."""
    if start is EMPTY or start is None:
        text = ""
    elif isinstance(start, hint.kind):
        text = str(to_jsonable_python(start))
    else:
        return None
    widget = ipywidgets.Text(value=text, placeholder=str(hint))
    return Control(widget, lambda written: written.strip() or EMPTY, says_none=True)


def _literal(hint: Hint, start: object) -> Control:
    """Give a field for what Python writes as a literal, whatever it is."""
    text = "" if start is EMPTY else repr(start) if _is_literal(start) else None
    placeholder = f"{hint}, as Python writes it" if text is not None else f"{shown(start)}, if left empty"
    widget = ipywidgets.Text(value=text or "", placeholder=placeholder)
    return Control(widget, lambda written: _evaluated(written) if written.strip() else EMPTY, says_none=True)


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except Exception:  # noqa: BLE001 - whatever the repr or the comparison of an object of the user's can raise
        return False


def _evaluated(text: str) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(
            f"{shown(text)} is not what Python writes for a value: text needs quotes ('AA'), a list brackets ([1, 2])."
        ) from None


# --- choices and lists ---


def _choice(hint: Hint, start: object) -> Control | None:
    values = list(hint.choices or (True, False))
    if hint.takes_none:
        values = [None, *(value for value in values if value is not None)]
        start = None if start is EMPTY else start
    index = _index(start, values)
    if index is None and start is not EMPTY and start is not None:
        return None
    widget = ipywidgets.Dropdown(options=_options(values), index=index)
    return Control(widget, lambda at: EMPTY if at is None else values[at], trait="index", says_none=True)


def _selection(hint: Hint, start: object) -> Control | None:
    """Give a list of which several can be selected."""
    values = list(hint.items.choices) if hint.items else []
    chosen = _members(start)
    indexes = [_index(one, values) for one in chosen or ()]
    if chosen is None or None in indexes or len(set(indexes)) < len(indexes):
        return None
    widget = ipywidgets.SelectMultiple(
        options=_options(values), index=tuple(indexes), rows=min(max(len(values), 2), _MOST_ROWS)
    )
    return Control(widget, lambda at: _collected(hint, [values[each] for each in at]), trait="index")


def _listing(hint: Hint, start: object) -> Control | None:
    """Give a field for simple values with commas between them."""
    item = hint.items
    read = _split if item is not None and item.kind in _SPELT and not item.takes_none else _listed
    given = _members(start)
    if item is None or given is None or (read is _listed and item.kind not in (int, float, bool)):
        return None
    plain = to_jsonable_python(given) if all(isinstance(one, item.kind) for one in given) else given
    fitting = (text for text in (", ".join(map(str, plain)), repr(plain)) if _reads_as(read, text, plain))
    text = next(fitting, None)
    if text is None:
        return None
    widget = ipywidgets.Text(value=text, placeholder=f"{item}, with commas between")
    return Control(widget, lambda written: _collected(hint, read(written)))


def _split(text: str) -> list[Any]:
    """Read text with commas between, quoted where it has commas itself, or a list as Python writes it."""
    text = text.strip()
    if text.startswith("["):
        return _listed(text)
    quote = "'" if text.startswith("'") else '"'
    try:
        rows = list(csv.reader([text], quotechar=quote, skipinitialspace=True, strict=True))
    except csv.Error:
        raise ValueError(f"{shown(text)} is no list of such values: {_HOW}, quoted where they have commas.") from None
    return [part.strip() for row in rows for part in row if part.strip()]


def _listed(text: str) -> list[Any]:
    """Read numbers with commas between, or a list as Python writes it."""
    with suppress(ValueError):
        found = _evaluated(text if text.strip().startswith("[") else f"[{text}]")
        if isinstance(found, list):
            return found
    raise ValueError(f"{shown(text)} is no list of such values: {_HOW}.")


def _reads_as(read: Callable[[str], list[Any]], text: str, values: list[Any]) -> bool:
    try:
        return read(text) == values
    except ValueError:
        return False


def _members(start: object) -> list[Any] | None:
    """Give what a start has in it; None if it is no collection."""
    if start is EMPTY or start is None:
        return []
    return list(start) if isinstance(start, _COLLECTIONS) else None


def _collected(hint: Hint, values: list[Any]) -> object:
    """Give the values in the collection that the hint names; pydantic converts no list in its strict mode."""
    collection = get_origin(hint.kind)
    with suppress(TypeError):  # what is in a set must be hashable; pydantic says so better
        return collection(values) if collection in _COLLECTIONS else values
    return values


def _options(values: Sequence[object]) -> list[tuple[str, int]]:
    """Give choices by label, each as its place: an enum's by name, text as it is unless something else reads so too."""
    labels = [value.name if isinstance(value, Enum) else str(value) for value in values]
    if len(set(labels)) < len(labels):
        labels = [repr(value) for value in values]
    return [(label, index) for index, label in enumerate(labels)]


def _index(value: object, values: Sequence[object]) -> int | None:
    """Give the place of a value: True is not 1 here."""
    return next((i for i, one in enumerate(values) if type(one) is type(value) and one == value), None)


# --- helpers of all ---


def _first(start: object, kind: type, *, neutral: object) -> Any:  # noqa: ANN401 - a value of that kind, or None
    """Give what is filled in first; None if the start is of another kind."""
    if start is EMPTY or start is None:
        return neutral
    return start if type(start) is kind else None


def _itself(state: object) -> object:
    return state


_BY_KIND: Final[dict[Any, Callable[[Hint, Any], Control | None]]] = {
    bool: _flag,
    int: _whole,
    float: _real,
    str: _text,
    **dict.fromkeys((dt.date, pydantic.PastDate, pydantic.FutureDate), _date),
    **dict.fromkeys((dt.datetime, pydantic.AwareDatetime, pydantic.NaiveDatetime), _moment),
    **dict.fromkeys((pydantic.PastDatetime, pydantic.FutureDatetime), _moment),
    dt.time: _time,
    **dict.fromkeys((Decimal, UUID, Path, dt.timedelta), _spelt),
}
