# ruff: noqa: ARG001 - the jobs here are given more than they use
"""`job.form()`: a job's parameters as widgets, filled in and triggered from Python as a browser would."""

from __future__ import annotations

import datetime as dt
import enum
import threading
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import annotated_types
import ipywidgets
import pydantic
import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Heard

    from durably_nb.jobs import Job
    from durably_nb.widgets.forms import Form

UNSET = object()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Carrier(pydantic.BaseModel):
    code: str
    flights: int = 0


def models() -> set[str]:
    """Give the ids of the widget models there are."""
    return set(ipywidgets.widgets.widget._instances)


def widgets_in(widget: Any) -> Iterator[Any]:
    """Go over a widget and all under it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from widgets_in(child)


class Reader:
    """Somebody who looks at a form, fills it in and presses its button."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.answered = threading.Event()
        line = next(row for row in form.widget.children if self.button in getattr(row, "children", ())).children[1]
        line.observe(self._look, "value")

    def _look(self, change: Any) -> None:
        if "Triggering" not in change["new"]:
            self.answered.set()

    @property
    def button(self) -> Any:
        return next(widget for widget in widgets_in(self.form.widget) if isinstance(widget, ipywidgets.Button))

    def control(self, name: str) -> Any:
        """Give the control with a label."""
        return next(widget for widget in widgets_in(self.form.widget) if getattr(widget, "description", "") == name)

    def row(self, name: str) -> list[Any]:
        """Give what stands in a row with a control."""
        rows = (list(widget.children) for widget in widgets_in(self.form.widget) if hasattr(widget, "children"))
        return next(row for row in rows if self.control(name) in row)

    def problem(self, name: str) -> str:
        """Give what is said beside a control that is wrong."""
        return "".join(
            each.value for each in self.row(name) if isinstance(each, ipywidgets.HTML) and "alert" in each.value
        )

    def text(self) -> str:
        """Give all that is shown as text."""
        return "\n".join(each.value for each in widgets_in(self.form.widget) if isinstance(each, ipywidgets.HTML))

    def press(self) -> None:
        """Press the button, and wait until the form shows what came of it."""
        self.answered.clear()
        self.button.click()
        assert self.answered.wait(20)


@pytest.fixture
def read() -> Iterator[Callable[[Job], Reader]]:
    """Show the form of a job to somebody; closed when the test ends."""
    forms = []

    def show(job: Job) -> Reader:
        forms.append(job.form())
        return Reader(forms[-1])

    yield show
    for form in forms:
        form.close()


@pytest.fixture
def taking(idle: dn.Durably, read: Callable[[Job], Reader]) -> Callable[..., Reader]:
    """Show the form of a job that takes one `value`, of a type, with or without a default."""

    def show(hint: object, default: object = UNSET) -> Reader:
        def without(step: object, value: Any) -> None: ...

        def having(step: object, value: Any = default) -> None: ...

        fn: Any = without if default is UNSET else having
        fn.__annotations__["value"] = hint
        return read(idle.job(name="take")(fn))

    return show


@pytest.fixture
def given(idle: dn.Durably) -> Callable[[], Any]:
    """What the latest run was given as `value`."""

    def value() -> Any:
        return idle.get_runs(limit=1)[0].input["value"]

    return value


# --- a form as a whole ---


def test_a_form_triggers_a_run(d: dn.Durably) -> None:
    """Fields are labelled with the parameters, the button triggers, and the panel of the run appears under it."""

    @d.job
    def load(step: dn.StepContext, month: int, carrier: str = "AA") -> str:
        return f"{carrier} {month}"

    form = load.form()
    reader = Reader(form)
    reader.control("month").value = "3"
    reader.press()
    run = load.get_runs()[0]
    assert run.result(timeout=20) == "AA 3"
    below = form.widget.children[-1]
    assert len(below.children) == 1
    form.close()


def test_a_second_run_takes_the_panel(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """Triggering again shows the new run in the same place, with the fields as they were."""

    @idle.job
    def load(step: dn.StepContext, month: int) -> None: ...

    reader = read(load)
    reader.control("month").value = "3"
    reader.press()
    panel = reader.form.widget.children[-1].children
    reader.press()
    assert reader.form.widget.children[-1].children == panel
    assert [run.input for run in load.get_runs()] == [{"month": 3}, {"month": 3}]


def test_options_of_the_job_hold(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """The form of a job with options triggers with these."""

    @idle.job
    def load(step: dn.StepContext) -> None: ...

    read(load.options(labels={"by": "form"})).press()
    assert idle.get_runs()[0].labels == {"by": "form"}


def test_the_form_says_what_the_job_is_for(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """The docstring stands above the fields, what `Field` describes beside its own, and none of it is markup."""

    @idle.job(name="<img src=x>")
    def load(step: dn.StepContext, month: Annotated[int, pydantic.Field(description="<of> the year")] = 1) -> None:
        """Load <a> month.

        All flights of it.
        """

    reader = read(load)
    for text in ("Load &lt;a&gt; month.", "All flights of it.", "&lt;of&gt; the year", "&lt;img"):
        assert text in reader.text()
    assert "<img" not in reader.text()


def test_a_job_without_parameters_has_a_button(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """There is nothing to fill in, and a run to trigger."""

    @idle.job
    def tidy(step: dn.StepContext) -> None: ...

    read(tidy).press()
    assert len(tidy.get_runs()) == 1


def test_a_form_is_shown_as_a_widget(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """As the last expression of a cell it is a widget; where there are none, a line."""

    @idle.job
    def load(step: dn.StepContext, month: int) -> None: ...

    form = read(load).form
    bundle: Any = form._repr_mimebundle_(include=None, exclude=None)
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == form.widget.model_id
    assert bundle["text/plain"] == repr(form) == "<Form of job load(month)>"


# --- what goes wrong ---


def test_a_wrong_value_is_named_beside_its_field(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """Nothing is triggered; what is wrong stands beside the field that it concerns, until it is mended."""

    @idle.job
    def load(step: dn.StepContext, code: Annotated[str, pydantic.Field(max_length=2)], month: int = 1) -> None: ...

    reader = read(load)
    reader.control("code").value = "<AA>"
    reader.press()
    assert "at most 2 characters" in reader.problem("code")
    assert not reader.problem("month")
    assert "Nothing was triggered: look at code." in reader.text()
    assert load.get_runs() == []
    reader.control("code").value = "AA"
    reader.press()
    assert not reader.problem("code")
    assert "Nothing was triggered" not in reader.text()
    assert load.get_runs()[0].input == {"code": "AA", "month": 1}


def test_all_that_is_wrong_is_said_at_once(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """A value that is refused, one that cannot be read and one that is missing: each has its own problem."""

    @idle.job
    def load(step: dn.StepContext, share: pydantic.PositiveFloat, months: list[int], day: dt.date) -> None: ...

    reader = read(load)
    reader.control("share").value = "0"
    reader.control("months").value = "1, two"
    reader.press()
    assert "greater than 0" in reader.problem("share")
    assert "two" in reader.problem("months")
    assert "A value is needed" in reader.problem("day")


def test_what_keeps_a_run_from_being_is_said(idle: dn.Durably, read: Callable[[Job], Reader]) -> None:
    """An error that concerns no single field stands beside the button."""

    @idle.job
    def load(step: dn.StepContext) -> None: ...

    reader = read(load.options(concurrency_key="one"))
    reader.press()
    assert "role=" not in reader.text()
    reader.press()
    assert "concurrency" in reader.text()
    assert len(load.get_runs()) == 1


def test_a_validator_that_breaks_does_not_break_the_form(
    taking: Callable[..., Reader], given: Callable[[], Any]
) -> None:
    """Whatever a user's own validator raises is shown, and the button can be pressed again."""

    def check(value: str) -> str:
        if not value:
            raise LookupError("<no> such flight")
        return value

    reader = taking(Annotated[str, pydantic.AfterValidator(check)])
    reader.press()
    assert "LookupError: &lt;no&gt; such flight" in reader.text()
    reader.control("value").value = "AA1"
    reader.press()
    assert given() == "AA1"


def test_a_click_is_carried_out_alone(idle: dn.Durably, taking: Callable[..., Reader]) -> None:
    """While a click is carried out the form says so, and a second click does nothing; the focus is not taken away."""
    entered, go_on = threading.Event(), threading.Event()

    def check(value: str) -> str:
        entered.set()
        assert go_on.wait(20)
        return value

    reader = taking(Annotated[str, pydantic.AfterValidator(check)])
    reader.control("value").value = "AA"
    reader.button.click()
    assert entered.wait(20)
    assert "Triggering …" in reader.text()
    assert not reader.button.disabled
    reader.button.click()
    go_on.set()
    assert reader.answered.wait(20)
    assert "Triggering" not in reader.text()
    assert len(idle.get_runs()) == 1


def test_a_form_of_a_closed_file_says_so(path: Path) -> None:
    """When the file is closed its forms are switched off, and say why."""
    d = dn.open(path)

    @d.job
    def load(step: dn.StepContext) -> None: ...

    reader = Reader(load.form())
    d.close()
    assert reader.button.disabled
    assert "The file was closed" in reader.text()
    reader.button.click()
    reader.form.close()


# --- nothing is left behind ---


def test_closing_leaves_nothing_behind(idle: dn.Durably) -> None:
    """A closed form has closed every model it had: fields, styles, layouts, and the panel."""

    @idle.job
    def load(  # noqa: PLR0913, PLR0917 - one of each kind
        step: dn.StepContext,
        flag: bool = False,  # noqa: FBT001, FBT002 - what a form fills in
        month: Annotated[int, pydantic.Field(ge=1, le=12)] = 1,
        limit: int | None = None,
        day: dt.date | None = None,
        mode: Literal["a", "b"] = "a",
        colours: tuple[Colour, ...] = (),
    ) -> None: ...

    before = models()
    form = load.form()
    Reader(form).press()
    assert models() > before
    form.close()
    assert models() == before
    form.close()


def test_a_closed_form_triggers_nothing(idle: dn.Durably) -> None:
    """A click that comes after the form was closed does nothing."""

    @idle.job
    def load(step: dn.StepContext) -> None: ...

    form = load.form()
    button = Reader(form).button
    form.close()
    button.click()
    assert load.get_runs() == []


# --- which control a type has ---


@pytest.mark.parametrize(
    ("hint", "widget", "filled_in", "expected"),
    [
        (int, ipywidgets.Text, " -7", -7),
        (int, ipywidgets.Text, "1_000", 1000),
        (int, ipywidgets.Text, "9007199254740993", 2**53 + 1),
        (float, ipywidgets.Text, "0.5", 0.5),
        (float, ipywidgets.Text, "3", 3.0),
        (float, ipywidgets.Text, "1e6", 1e6),
        (int | None, ipywidgets.Text, "5", 5),
        (int | None, ipywidgets.Text, "", None),
        (str, ipywidgets.Text, "AA", "AA"),
        (dt.date, ipywidgets.DatePicker, dt.date(2026, 1, 31), dt.date(2026, 1, 31)),
        (dt.datetime, ipywidgets.NaiveDatetimePicker, dt.datetime(2026, 1, 31, 12), dt.datetime(2026, 1, 31, 12)),  # noqa: DTZ001 - naive
        (dt.time, ipywidgets.TimePicker, dt.time(12, 30), dt.time(12, 30)),
        (Path, ipywidgets.Text, "a/b.csv", Path("a/b.csv")),
        (Decimal, ipywidgets.Text, "1.50", Decimal("1.50")),
        (dt.timedelta, ipywidgets.Text, "01:30:00", dt.timedelta(hours=1, minutes=30)),
        (list[int], ipywidgets.Text, "1, 2,3", [1, 2, 3]),
        (list[str], ipywidgets.Text, "AA, UA", ["AA", "UA"]),
        (list[str], ipywidgets.Text, "['A, B', 'C']", ["A, B", "C"]),
        (list[str], ipywidgets.Text, 'A, "B, C" ', ["A", "B, C"]),
        (list[str], ipywidgets.Text, "'A, B', 'C'", ["A, B", "C"]),
        (list[str], ipywidgets.Text, "O'Hare, the 5\" gauge,", ["O'Hare", 'the 5" gauge']),
        (set[float], ipywidgets.Text, "[0.5]", {0.5}),
        (tuple[dt.date, ...], ipywidgets.Text, "2026-01-31", (dt.date(2026, 1, 31),)),
        (list[str], ipywidgets.Text, "", []),
        (dict[str, int], ipywidgets.Text, "{'a': 1}", {"a": 1}),
        (Carrier, ipywidgets.Text, "{'code': 'AA'}", Carrier(code="AA")),
        (Any, ipywidgets.Text, "[1, 'two']", [1, "two"]),
        (int | str, ipywidgets.Text, "'three'", "three"),
    ],
)
def test_each_type_has_its_control(  # noqa: PLR0913, PLR0917 - two fixtures, and one case
    taking: Callable[..., Reader],
    given: Callable[[], Any],
    hint: object,
    widget: type[Any],
    filled_in: object,
    expected: object,
) -> None:
    """What is filled in arrives as the type says; what has no control of its own is written as in Python."""
    reader = taking(hint)
    control = reader.control("value")
    assert isinstance(control, widget)
    control.value = filled_in
    reader.press()
    assert reader.problem("value") == ""
    assert given() == expected
    assert type(given()) is type(expected)


@pytest.mark.parametrize(
    ("hint", "bounds"),
    [
        (int, "whole number"),
        (float, "number"),
        (int | None, "whole number, None if left empty"),
        (Annotated[int, pydantic.Field(ge=1, le=12)], "1 to 12"),
        (Annotated[int, pydantic.Field(gt=0, lt=10, multiple_of=3)], "3 to 9"),
        (Annotated[int, annotated_types.Interval(ge=2, lt=5)], "2 to 4"),
        (Annotated[int, annotated_types.Ge(1), annotated_types.Le(10**6)], "1 to 1,000,000"),
        (pydantic.PositiveInt, "from 1"),
        (Annotated[float, pydantic.Field(le=1000)], "up to 1,000"),
        (Annotated[float, pydantic.Field(gt=0, le=1, multiple_of=0.25)], "0 to 1"),
        (Annotated[int | None, pydantic.Field(ge=1, le=12)], "1 to 12, None if left empty"),
        (Optional[Annotated[int, pydantic.Field(ge=1, le=12)]], "1 to 12, None if left empty"),  # noqa: UP045 - as some write it
    ],
)
def test_a_number_is_asked_for(taking: Callable[..., Reader], hint: object, bounds: str) -> None:
    """A field for a number that must be given is empty, and says what the number may be."""
    control = taking(hint).control("value")
    assert control.value == ""
    assert control.placeholder == bounds


@pytest.mark.parametrize("hint", [int, float, bool, Annotated[int, pydantic.Field(ge=1)], Literal["a", "b"], Colour])
def test_nobody_chooses_for_the_user(idle: dn.Durably, taking: Callable[..., Reader], hint: object) -> None:
    """A click on the button of a form in which nothing is filled in does not run the job with a zero or a no."""
    reader = taking(hint)
    reader.press()
    assert reader.problem("value")
    assert "A value is needed here." in reader.text()
    assert idle.get_runs() == []


def test_an_emptied_number_is_missing(taking: Callable[..., Reader], given: Callable[[], Any]) -> None:
    """A field for a number that is emptied stays so: None where the type takes it, and named where it does not."""
    reader = taking(int | None, 3)
    reader.control("value").value = ""
    reader.press()
    assert given() is None
    reader = taking(int, 3)
    reader.control("value").value = " "
    reader.press()
    assert "A value is needed here." in reader.problem("value")


@pytest.mark.parametrize(
    ("hint", "labels", "values"),
    [
        (Literal["fast", "slow"], ["fast", "slow"], ["fast", "slow"]),
        (Literal[1, True], ["1", "True"], [1, True]),
        (Literal[1, "1"], ["1", "'1'"], [1, "1"]),
        (Colour, ["RED", "BLUE"], [Colour.RED, Colour.BLUE]),
        (Colour | None, ["None", "RED", "BLUE"], [None, Colour.RED, Colour.BLUE]),
        (bool, ["True", "False"], [True, False]),
        (bool | None, ["None", "True", "False"], [None, True, False]),
    ],
)
def test_choices_are_chosen_from(
    taking: Callable[..., Reader], given: Callable[[], Any], hint: object, labels: list[str], values: list[object]
) -> None:
    """Where a hint lists the values, one of them is picked; until somebody does it is None, or nothing."""
    reader = taking(hint)
    control = reader.control("value")
    assert [label for label, _ in control.options] == labels
    reader.press()
    assert ("A value is needed" in reader.problem("value")) == (None not in values)
    for index, value in enumerate(values):
        control.index = index
        reader.press()
        assert given() is value


def test_bounds_are_said(taking: Callable[..., Reader]) -> None:
    """What a number may be stands beside a field that is filled in, with what there is to say of it."""
    hint = Annotated[int, pydantic.Field(ge=1, le=12, description="1 is January")]
    assert "1 is January · 1 to 12" in taking(hint, 1).text()
    assert "from 1" in taking(pydantic.PositiveInt, 1).text()


def test_a_flag_with_a_default_is_a_box(taking: Callable[..., Reader], given: Callable[[], Any]) -> None:
    """Where a default says yes or no, a box shows it, to be ticked or not."""
    reader = taking(bool, False)  # noqa: FBT003 - a default
    assert isinstance(reader.control("value"), ipywidgets.Checkbox)
    reader.control("value").value = True
    reader.press()
    assert given() is True


def test_several_can_be_selected(taking: Callable[..., Reader], given: Callable[[], Any]) -> None:
    """A list of choices is a list to select from."""
    reader = taking(list[Literal["AA", "DL", "UA"]], ["DL"])
    control = reader.control("value")
    assert isinstance(control, ipywidgets.SelectMultiple)
    assert control.index == (1,)
    control.index = (0, 2)
    reader.press()
    assert given() == ["AA", "UA"]
    control.index = ()
    reader.press()
    assert given() == []


# --- none and defaults ---


@pytest.mark.parametrize(("hint", "value"), [(str | None, ""), (list[int] | None, [])])
def test_none_is_a_tick(taking: Callable[..., Reader], given: Callable[[], Any], hint: object, value: object) -> None:
    """What may be None has a box that says so, which switches the field off."""
    reader = taking(hint, None)
    box, control = reader.control("value is None"), reader.control("value")
    assert box.value
    assert control.disabled
    reader.press()
    assert given() is None
    box.value = False
    assert not control.disabled
    control.value = ", ".join(map(str, value)) if isinstance(value, list) else value
    reader.press()
    assert given() == value
    box.value = True
    reader.press()
    assert given() is None


def test_an_emptied_date_is_none(taking: Callable[..., Reader], given: Callable[[], Any]) -> None:
    """A picker with nothing picked says None where the type takes it, and is named where it does not."""
    reader = taking(dt.date | None, dt.date(2026, 1, 31))
    reader.control("value").value = None
    reader.press()
    assert given() is None
    reader = taking(dt.date, dt.date(2026, 1, 31))
    reader.control("value").value = None
    reader.press()
    assert "A value is needed" in reader.problem("value")


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (bool, True),
        (int, 3),
        (int, None),
        (Annotated[int, pydantic.Field(ge=0)], -1),
        (int, 2**60),
        (float, 1),
        (float, float("inf")),
        (str, "two\nlines"),
        (dt.date, dt.date(2026, 1, 31)),
        (dt.datetime, dt.datetime(2026, 1, 31, tzinfo=dt.UTC)),
        (dt.datetime, dt.datetime(2026, 1, 31)),  # noqa: DTZ001 - naive
        (pydantic.AwareDatetime, dt.datetime(2026, 1, 31, tzinfo=dt.UTC)),
        (pydantic.AwareDatetime, dt.datetime(2026, 1, 31)),  # noqa: DTZ001 - naive
        (Literal["a", "b"], "c"),
        (Literal["a", "b"], None),
        (Colour, Colour.BLUE),
        (list[str], ["a, b", " c"]),
        (list[int], (1, 2)),
        (tuple[Colour, ...], (Colour.BLUE, Colour.RED)),
        (list[Colour], [Colour.RED, Colour.RED]),
        (Any, None),
        (Any, Colour.RED),
        (dict[str, int], {"a": 1}),
        (Carrier, Carrier(code="AA")),
        (dt.timedelta, dt.timedelta(days=400)),
        (Path, Path("a b")),
    ],
)
def test_a_field_left_alone_gives_the_default(
    taking: Callable[..., Reader], given: Callable[[], Any], hint: object, default: object
) -> None:
    """Whatever a default is, and whether or not a control can show it: left as it is, the run has exactly that."""
    reader = taking(hint, default)
    reader.press()
    assert reader.problem("value") == ""
    assert given() == default
    assert type(given()) is type(default)


def test_a_default_is_filled_in(taking: Callable[..., Reader]) -> None:
    """Somebody who opens a form sees what would be triggered."""
    shown = [
        taking(hint, default).control("value").value
        for hint, default in [
            (int, 3),
            (float, 1),
            (str, "AA"),
            (list[int], [1, 2]),
            (list[str], ["a, b"]),
            (dict[str, int], {"a": 1}),
            (dt.timedelta, dt.timedelta(hours=1)),
        ]
    ]
    assert shown == ["3", "1", "AA", "1, 2", "['a, b']", "{'a': 1}", "PT1H"]


def test_a_default_that_cannot_be_shown_is_named(taking: Callable[..., Reader], given: Callable[[], Any]) -> None:
    """A field for something that no literal says is empty, and says what it stands for."""
    reader = taking(Carrier, Carrier(code="AA"))
    assert reader.control("value").value == ""
    assert "code='AA'" in reader.control("value").placeholder
    reader.control("value").value = "{'code': 'UA', 'flights': 2}"
    reader.press()
    assert given() == Carrier(code="UA", flights=2)


@pytest.mark.parametrize(
    ("hint", "written", "problem"),
    [
        (int, "abc", "&#x27;abc&#x27; is no whole number."),
        (int, "1.5", "is no whole number."),
        (float, "0,5", "&#x27;0,5&#x27; is no number."),
        (Annotated[int, pydantic.Field(ge=1, le=10)], "99", "99 is not from 1 to 10."),
        (Annotated[int, pydantic.Field(ge=3, le=10, multiple_of=3)], "4", "multiple of 3"),
        (Annotated[float, pydantic.Field(gt=0, le=1)], "-1", "-1.0 is not from 0 to 1."),
        (Annotated[float, pydantic.Field(gt=0, le=1)], "0", "greater than 0"),
        (pydantic.PositiveInt, "-1", "greater than 0"),
        (list[str], '"AA, UA', "quoted where they have commas"),
        (Any, "AA", "text needs quotes"),
        (dict[str, int], "{'a': 'b'}", "valid integer"),
        (list[int], "1 2", "with commas between"),
        (list[int], "1], [2", "with commas between"),
        (set[int], "[[1], [2]]", "valid integer"),
        (Path, " ", "A value is needed"),
        (Decimal, "much", "valid decimal"),
    ],
)
def test_what_cannot_be_read_is_explained(
    taking: Callable[..., Reader], hint: object, written: str, problem: str
) -> None:
    """Somebody who writes something else than is asked for is told what to write."""
    reader = taking(hint)
    reader.control("value").value = written
    reader.press()
    assert problem in reader.problem("value")


def test_events_tell_what_was_filled_in(d: dn.Durably, heard: Heard) -> None:
    """A run triggered from a form is a run like any other."""

    @d.job
    def load(step: dn.StepContext, month: int = 1) -> int:
        return month

    d.on(["run:trigger", "run:complete"], heard)
    form = load.form()
    reader = Reader(form)
    reader.control("month").value = "4"
    reader.press()
    assert heard.wait_for("run:complete").output == 4
    assert heard.of("run:trigger")[0].input == {"month": 4}
    form.close()
