# ruff: noqa: ARG001 - what the jobs here take is what matters, not what they do with it
from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import inspect
import threading
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pydantic
import pytest

from durably_nb.errors import ValidationError
from durably_nb.signature import Parameter, Signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from decimal import Decimal


class Carrier(pydantic.BaseModel):
    """A model."""

    code: str
    flights: int = 0


@dataclasses.dataclass
class Window:
    """A dataclass with a field that pydantic knows nothing of."""

    first: int
    last: int
    frame: pd.DataFrame | None = None


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: int


class Plain:
    """A class of the user's that cannot even be shown."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("no repr")


def import_flights(step: object, month: int, limit: int | None = None) -> dict[str, int]:
    raise NotImplementedError


def returning(hint: object) -> Signature:
    def job(step: object) -> None: ...

    job.__annotations__["return"] = hint
    return Signature(job)


def taking(hint: object) -> Signature:
    def job(step: object, value: object) -> None: ...

    job.__annotations__["value"] = hint
    return Signature(job)


# --- what a signature says ---


def test_parameters_and_text() -> None:
    """A job says what it takes, in order and without the step, as Python would show it."""
    signature = Signature(import_flights)
    assert str(signature) == "import_flights(month: int, limit: int | None = None)"
    assert list(signature.parameters.values()) == [
        Parameter(name="month", annotation=int, default=inspect.Parameter.empty, required=True),
        Parameter(name="limit", annotation=int | None, default=None, required=False),
    ]
    assert (signature.name, signature.is_async) == ("import_flights", False)
    assert str(Signature(import_flights, name="flights")).startswith("flights(month")


def test_text_of_a_huge_default() -> None:
    """A DataFrame as a default does not fill the screen."""

    def job(step: object, frame: object = pd.DataFrame({"a": range(1000)})) -> None: ...

    assert len(str(Signature(job))) < 120
    assert "\n" not in str(Signature(job))


def test_async_jobs() -> None:
    """An async function is known as one, by whatever way it is given."""

    async def job(step: object) -> int:
        raise NotImplementedError

    class Callable_:  # noqa: N801 - not to be taken for the hint
        async def __call__(self, step: object) -> None: ...

    assert Signature(job).is_async
    assert Signature(functools.partial(job), name="job").is_async
    assert Signature(Callable_(), name="job").is_async
    assert Signature(job).validate_output("3") == 3


def test_bound_methods_and_callable_objects() -> None:
    """A method of an object can be a job, and so can an object that can be called."""

    class Importer:
        def job(self, step: object, month: int) -> None: ...

        @classmethod
        def of_class(cls, step: object, month: int) -> None: ...

        @staticmethod
        def of_none(step: object, month: int) -> None: ...

        def __call__(self, step: object, month: int) -> None: ...

    for fn in (Importer().job, Importer.of_class, Importer().of_class, Importer.of_none):
        assert Signature(fn).bind(("3",), {}) == {"month": 3}
    assert Signature(Importer(), name="importer").bind(("3",), {}) == {"month": 3}


def test_partials_with_a_name() -> None:
    """A partial is a job of its own once it has a name; what it fixes are defaults."""
    signature = Signature(functools.partial(import_flights, month=3), name="march")
    assert signature.bind((), {}) == {"month": 3, "limit": None}
    assert signature.bind((), {"month": "4"}) == {"month": 4, "limit": None}


def test_wrapped_functions() -> None:
    """A decorated function shows the parameters of the function inside."""

    @functools.wraps(import_flights)
    def wrapper(*args: Any, **kwargs: Any) -> object:
        return import_flights(*args, **kwargs)

    assert str(Signature(wrapper)) == str(Signature(import_flights))


# --- refusals at the door ---


def job_without_parameters() -> None: ...
def job_with_values_only(*step: object) -> None: ...
def job_with_named_step(*, step: object) -> None: ...
def job_with_positional_only(step: object, month: int, /) -> None: ...
def job_with_many(step: object, *months: int) -> None: ...
def job_of_self(self: object, step: object) -> None: ...
def job_with_unknown_hint(step: object, month: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821
def job_with_unknown_output(step: object) -> list[Missing]: ...  # type: ignore[name-defined, empty-body] # noqa: F821
def job_that_yields(step: object) -> Iterator[int]:
    yield 1


async def job_that_yields_later(step: object) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (3, "3 cannot be a job: it is not callable"),
        (Plain(), "<Plain instance at 0x.*> cannot be a job: it is not callable"),
        (Carrier, "it is a class; pass a function"),
        (job_that_yields, "it is a generator; use step.run"),
        (job_that_yields_later, "it is a generator"),
        (functools.partial(job_that_yields), "it is a generator"),
        (lambda _step: None, "it has no name under which its runs could be found again; pass name="),
        (functools.partial(import_flights, month=3), "it has no name"),
        (job_without_parameters, "a job function takes the step context first: def job_without"),
        (job_with_values_only, "takes the step context first"),
        (job_with_named_step, "takes the step context first"),
        (job_with_positional_only, "'month' is positional-only, but the inputs .* are stored .* by name"),
        (job_with_many, r"the values of \*months have no names.*take one list instead: months: list"),
        (job_of_self, "it takes 'self', not the step context; pass the bound method"),
        (job_with_unknown_hint, "its hint month: Missing means nothing here .*'Missing' is not defined"),
        (job_with_unknown_output, r"its hint return: list\[Missing\] means nothing here"),
        (iter, "cannot be a job"),
    ],
)
def test_what_cannot_be_a_job(fn: Callable[..., object], said: str) -> None:
    """What cannot be a job is refused when it is defined, in a sentence that says what to do."""
    with pytest.raises(ValidationError, match=said):
        Signature(fn)


def test_lambdas_with_a_name() -> None:
    """A lambda will do if it is given a name."""
    assert Signature(lambda _step, x=1: x, name="one").bind((), {}) == {"x": 1}


def test_hints_that_pydantic_refuses() -> None:
    """A hint that no value can be validated by is refused when the job is defined."""
    with pytest.raises(ValidationError, match=r"values cannot be validated by its hint value: "):
        taking(Annotated[int | str, pydantic.Field(discriminator="kind")])
    with pytest.raises(ValidationError, match=r"hint value: .*multiple_of=0\.5"):
        taking(Annotated[int, pydantic.Field(multiple_of=0.5)])


def test_hints_of_a_closure() -> None:
    """A hint may name what the function closes over, or itself only later."""

    class Local(pydantic.BaseModel):
        x: int

    def job(step: object, local: Local) -> object:
        return Local, job

    assert Signature(job).bind(({"x": "1"},), {}) == {"local": Local(x=1)}


def test_hints_of_a_notebook() -> None:
    """A hint may name what an earlier cell has defined, as an object or as text."""
    cells: dict[str, Any] = {"__name__": "__main__"}
    exec("from __future__ import annotations\nimport enum\nclass Mode(enum.Enum):\n    FAST = 'fast'", cells)  # noqa: S102
    exec("def job(step, mode: Mode, modes: 'list[Mode]' = ()): pass", cells)  # noqa: S102
    mode = cells["Mode"].FAST
    assert Signature(cells["job"]).bind(("fast", ["fast"]), {}) == {"mode": mode, "modes": [mode]}


# --- calls ---


def test_binding_as_python_does() -> None:
    """Values given by position or by name are stored by name, in order, with the defaults."""

    def job(step: object, a: object, b: object = 2, *, c: object, d: object = 4, **more: int) -> None: ...

    bound = Signature(job).bind((1,), {"x": "9", "c": 3})
    assert list(bound.items()) == [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("x", 9)]


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (int, "3", 3),
        (float, 1, 1.0),
        (int | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (list[int], ("1", 2.0), [1, 2]),
        (dict[str, int], {"a": "1"}, {"a": 1}),
        (Carrier, {"code": "UA"}, Carrier(code="UA")),
        (Window, {"first": "1", "last": 2}, Window(1, 2)),
        (list[Carrier] | None, [{"code": "UA", "flights": "3"}], [Carrier(code="UA", flights=3)]),
        (Colour, "red", Colour.RED),
        (Point, (1, "2"), Point(1, 2)),
        (dt.date, "2013-01-31", dt.date(2013, 1, 31)),
        (Annotated[int, pydantic.Field(ge=1)], "1", 1),
        (None, None, None),
        (Any, "3", "3"),
        (inspect.Parameter.empty, "3", "3"),
    ],
)
def test_values_by_their_hint(hint: object, given: object, expected: object) -> None:
    """A value is taken as its hint says, converted where that is safe."""
    bound = taking(hint).bind((given,), {})["value"]
    assert (bound, type(bound)) == (expected, type(expected))


@pytest.mark.parametrize("value", [pd.DataFrame({"a": [1]}), np.arange(3), threading.Lock(), Plain(), [1, 2]])
def test_objects_of_any_class(value: object) -> None:
    """A hint may be any class; an instance of it is passed as the same object."""
    signature = taking(type(value))
    assert signature.bind((value,), {})["value"] is value
    with pytest.raises(ValidationError, match="Input should be"):
        signature.bind((3,), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (("x",), {}, "cannot take month='x': Input should be a valid integer"),
        ((), {}, "needs 'month', which was not given"),
        ((1, 2, 3), {}, "takes at most 2 positional values, not 3"),
        ((1,), {"month": 1}, "got two values for 'month'"),
        ((1,), {"limt": 1}, r"has no parameter 'limt' \(did you mean 'limit'\?\)"),
        ((1,), {"zzz": 1}, "has no parameter 'zzz'. "),
        ((1,), {3: 1}, "has no parameter 3"),
        ((1,), {"step": 1}, "is given 'step' by the worker"),
        ((Plain(),), {}, "cannot take month=<Plain instance at 0x.*>: Input should be"),
        (("x" * 10_000_000,), {}, "cannot take month='xxx.*: Input should be a valid integer"),
        ((pd.DataFrame({"a": range(9)}),), {}, "cannot take month=a 0 0 1 1 .*: Input should"),
        ((), {"month": {"n": 10**5000}}, "cannot take month=<dict whose repr raises ValueError>: Input should"),
    ],
)
def test_wrong_calls(args: tuple[object, ...], kwargs: dict[str, object], said: str) -> None:
    """A wrong call says what the job takes, what was given and what was expected."""
    with pytest.raises(ValidationError, match=said) as caught:
        Signature(import_flights).bind(args, kwargs)
    message = str(caught.value)
    assert message.startswith("import_flights(month: int, limit: int | None = None) ")
    assert len(message) < 400
    assert "\n" not in message


def test_all_that_is_wrong_at_once() -> None:
    """One error names every wrong value, down to the place inside it."""

    def job(step: object, months: list[int], carrier: Carrier, window: Window, year: int) -> None: ...

    with pytest.raises(ValidationError) as caught:
        Signature(job).bind(([1, "x", "y"],), {"carrier": {"flights": 1}, "window": 3, "yaer": 2013})
    assert str(caught.value) == (
        f"job(months: list[int], carrier: {__name__}.Carrier, window: {__name__}.Window, year: int) "
        "cannot take months=[1, 'x', 'y']: 1: Input should be a valid integer, unable to parse string as an "
        "integer, 2: Input should be a valid integer, unable to parse string as an integer; "
        "it cannot take carrier={'flights': 1}: code: Field required; "
        "it cannot take window=3: Input should be a dictionary or an instance of Window; "
        "it needs 'year', which was not given; it has no parameter 'yaer' (did you mean 'year'?). "
        "Nothing was stored; mend the call."
    )


def test_many_errors_in_one_value() -> None:
    """A list with a thousand wrong items names the first few and counts the others."""
    with pytest.raises(ValidationError, match=r"and 996 more\. ") as caught:
        taking(list[int]).bind((["x"] * 1000,), {})
    assert len(str(caught.value)) < 600


def test_defaults_are_not_validated_but_copied() -> None:
    """A default is passed as it is written, and a mutable one is not shared between runs."""

    def job(step: object, month: int = "all", seen: list[int] = []) -> None: ...  # type: ignore[assignment] # noqa: B006

    signature = Signature(job)
    first, second = signature.bind((), {}), signature.bind((), {})
    assert first == second == {"month": "all", "seen": []}
    assert first["seen"] is not second["seen"]


def test_defaults_that_cannot_be_copied() -> None:
    """A default that cannot be copied is refused with a way out, unless a value is given."""

    def job(step: object, lock: object = threading.Lock()) -> None: ...

    assert Signature(job).bind((1,), {}) == {"lock": 1}
    with pytest.raises(ValidationError, match=r"The default lock=<.*> cannot be copied .* such as None"):
        Signature(job).bind((), {})


def test_hints_that_stay_incomplete() -> None:
    """A model that names a class not yet defined is refused when it is used, by a sentence."""

    class Late(pydantic.BaseModel):
        later: NotYet  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(ValidationError, match=r"not (fully )?defined"):
        taking(Late).bind(({"later": 1},), {})


def test_hints_only_for_the_type_checker() -> None:
    """A hint that was imported for the type checker alone is refused by its name."""

    def job(step: object, price: Decimal) -> None: ...

    with pytest.raises(ValidationError, match=r"its hint price: Decimal means nothing here"):
        Signature(job)


# --- replay ---


def test_replay_of_the_same_function() -> None:
    """A stored input comes back as it was, not validated again."""
    stored = {"month": "not a number", "limit": None}
    assert Signature(import_flights).replay(stored) == stored


def test_replay_with_a_new_default() -> None:
    """A parameter that has come since gets its default, in its place."""
    assert list(Signature(import_flights).replay({"month": 3}).items()) == [("month", 3), ("limit", None)]


@pytest.mark.parametrize(
    ("stored", "said"),
    [({"limit": 1}, "it now needs 'month'"), ({"month": 1, "year": 2}, "it no longer takes 'year'")],
)
def test_replay_that_does_not_fit(stored: dict[str, object], said: str) -> None:
    """An input that the function has outgrown is refused by what is wrong with it."""
    with pytest.raises(ValidationError, match=rf"does not fit import_flights\(.*\): {said}\. Give the job"):
        Signature(import_flights).replay(stored)


def test_replay_of_extra_inputs() -> None:
    """Inputs beyond the named ones come back after them."""

    def job(step: object, a: int = 1, **more: object) -> None: ...

    assert list(Signature(job).replay({"x": 9}).items()) == [("a", 1), ("x", 9)]


# --- output ---


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (pd.DataFrame, pd.DataFrame({"a": [1]})),
        (list, [1, 2]),
        (dict, {"a": 1}),
        (Carrier, Carrier(code="UA")),
        (Window, Window(1, 2)),
        (inspect.Signature.empty, [1]),
        (pd.DataFrame | None, pd.DataFrame({"a": [1]})),
        (Any, [1]),
    ],
)
def test_outputs_that_fit(hint: object, value: object) -> None:
    """An output that is what the hint says is the same object, not a copy."""
    assert returning(hint).validate_output(value) is value


def test_outputs_that_are_converted() -> None:
    """An output that pydantic can make fit is made to fit."""
    assert returning(Carrier).validate_output({"code": "UA"}) == Carrier(code="UA")
    assert returning(list[int]).validate_output(("1", 2)) == [1, 2]


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (None, 3, "job returned 3, but its return hint is None: Input should be None. Return what"),
        (dict, [1], r"job returned \[1\], but its return hint is dict: Input should be a valid dictionary"),
        (pd.DataFrame, None, "job returned None, .* Input should be an instance of DataFrame"),
        (list[int], [1, "x"], "1: Input should be a valid integer"),
    ],
)
def test_outputs_that_do_not_fit(hint: object, value: object, said: str) -> None:
    """An output that does not fit is refused by the job's name, the value and what was expected."""
    with pytest.raises(ValidationError, match=said):
        returning(hint).validate_output(value)


def of_a_number(number: int) -> int:
    """Take no step context."""
    return number


@pytest.mark.parametrize("fn", [lambda n=1: n, of_a_number], ids=["a default", "a hint"])
def test_a_forgotten_step_context_is_said_at_once(fn: Callable[..., object]) -> None:
    """Who forgets the step context hears of it where the job is defined, not at the first trigger."""
    with pytest.raises(ValidationError, match="takes the step context first"):
        Signature(fn, name="job")
