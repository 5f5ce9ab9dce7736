"""`Hint`: what the type hint of a parameter asks of whoever fills it in."""

from __future__ import annotations

import enum
import inspect
import math
import types
from collections import abc
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

_COLLECTIONS: Final = (list, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.Set)


@dataclass(frozen=True, slots=True)
class Limits:
    """The least and the greatest number that fit a hint; None where there is no end."""

    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Give them in words: ``1 to 12``, ``from 1``, ``up to 12``."""
        if self.low is None:
            return "" if self.high is None else f"up to {self.high:,}"
        return f"from {self.low:,}" if self.high is None else f"{self.low:,} to {self.high:,}"

    def refusal(self, value: object) -> str | None:
        """Say of a number that it is not between the two; None if it is, or if one of them is missing."""
        if not isinstance(value, (int, float)) or self.low is None or self.high is None:
            return None
        return None if self.low <= value <= self.high else f"{value:,} is not from {self}."


@dataclass(frozen=True, slots=True)
class Hint:
    """A type hint, taken apart.

    Attributes:
        kind: The type, without ``Annotated`` and without None.
        takes_none: Whether None is a value of it.
        about: The description in a pydantic ``Field``; empty if there is none.
        marks: The bounds and other marks in ``Annotated``.

    """

    kind: Any
    takes_none: bool
    about: str
    marks: tuple[object, ...]

    def __str__(self) -> str:
        """Show the type as Python writes it."""
        if self.kind in (Any, object):
            return "any value"
        holder = types.SimpleNamespace(__annotations__={"kind": self.kind})
        return inspect.formatannotation(get_type_hints(holder)["kind"]) + (" | None" if self.takes_none else "")

    @property
    def choices(self) -> tuple[object, ...]:
        """The values there are, if the hint lists them."""
        if get_origin(self.kind) is Literal:
            return get_args(self.kind)
        if isinstance(self.kind, type) and issubclass(self.kind, enum.Enum):
            return tuple(self.kind)
        return ()

    @property
    def items(self) -> Hint | None:
        """The hint of each item, if this is a list, a set, or a tuple of any length."""
        arguments = get_args(self.kind)
        if get_origin(self.kind) is tuple and arguments[1:] == (...,):
            arguments = arguments[:1]
        elif get_origin(self.kind) not in _COLLECTIONS:
            return None
        return hint_of(arguments[0])

    @property
    def limits(self) -> Limits:
        """The limits of a number."""
        return self._whole_limits() if self.kind is int else self._real_limits()

    def _whole_limits(self) -> Limits:
        """Give the outermost whole numbers that fit the hint."""
        step = max(1, math.floor(next(iter(self._marked("multiple_of")), 1)))
        lows = [*map(math.ceil, self._marked("ge")), *(math.floor(low) + 1 for low in self._marked("gt"))]
        highs = [*map(math.floor, self._marked("le")), *(math.ceil(high) - 1 for high in self._marked("lt"))]
        return Limits(
            max((-(-low // step) * step for low in lows), default=None),
            min((high // step * step for high in highs), default=None),
        )

    def _real_limits(self) -> Limits:
        """Give the bounds; one that the hint itself excludes is among them."""
        lows, highs = [*self._marked("ge"), *self._marked("gt")], [*self._marked("le"), *self._marked("lt")]
        return Limits(max(lows, default=None), min(highs, default=None))

    def _marked(self, name: str) -> list[float]:
        """Give the numbers that marks have under a name: ``Ge.ge``, ``Interval.le``, ``MultipleOf.multiple_of``."""
        found = [getattr(mark, name, None) for mark in self.marks]
        return [number for number in found if isinstance(number, (int, float)) and math.isfinite(number)]


def hint_of(annotation: Any) -> Hint:  # noqa: ANN401 - any type hint
    """Take a resolved type hint apart."""
    takes_none = False
    about = ""
    marks: list[object] = []
    while True:
        if isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__"):  # type Month = Annotated[int, …]
            annotation = annotation.__value__
        elif get_origin(annotation) is Annotated:
            field = FieldInfo.from_annotation(annotation)
            marks += field.metadata
            about = about or field.description or ""
            annotation = field.annotation
        elif get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
            takes_none = True
            annotation = Union[tuple(one for one in get_args(annotation) if one is not type(None))]  # noqa: UP007 - of as many as there are
        else:
            return Hint(annotation, takes_none, about, tuple(marks))
