"""Where a function of the user's comes from: the cell in which what it prints is expected."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

from durably_nb.capture.current import enter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context


class Origin:
    """The place of this call in a notebook: what is called from there later, on any thread, prints there.

    It is outside every capture: what a listener prints is no output of a run; told as its log, it would be heard
    and printed for ever.
    """

    __slots__ = ("_context",)

    def __init__(self) -> None:
        """Note the place: Jupyter keeps the cell that executes in context variables."""
        self._context = copy_context()
        self._context.run(enter, None)

    def context(self) -> Context:
        """Give what to run a call in: each in its own, as one can be entered by one thread, and not again inside."""
        return self._context.copy()


class FromHere:
    """A function that is called from where it was given, whoever calls it; it is found again by the function itself."""

    __slots__ = ("_function", "_origin")

    def __init__(self, function: Callable[..., object]) -> None:
        """Take the function, and note the place."""
        self._function = function
        self._origin = Origin()

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call the function from there."""
        return self._origin.context().run(self._function, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        """Equal the function, and what stands for the same function."""
        return self._function == (other._function if isinstance(other, FromHere) else other)

    def __hash__(self) -> int:
        """Hash as the function does."""
        return hash(self._function)
