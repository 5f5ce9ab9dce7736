"""The fingerprint of a step's function: it changes when what the function does changes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb.fingerprint import fingerprint, has_changed

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Program

PRINT = """
from durably_nb.fingerprint import fingerprint

def step(x):
    kinds = {"a", "b", "c", "d"}
    return [n for n in range(3) if x in {"x", "y", "z"} and n in kinds]

print(fingerprint(step))
"""


def defined(source: str, name: str = "step") -> Callable[..., Any]:
    """Define a function from source, as running a cell does."""
    scope: dict[str, Any] = {"functools": functools}
    exec(source, scope)  # noqa: S102 - the sources below
    function: Callable[..., Any] = scope[name]
    return function


@pytest.mark.parametrize(
    "other",
    [
        "def step(x):\n    return x + 1",
        "\n\n\ndef step(x):\n\n    return x + 1",
        "def step(x):\n    # why\n    return x + 1",
        "import os\ndef step(x):\n    return (x + 1)",
        "def step(x: int) -> int:\n    return x + 1",
    ],
)
def test_moving_and_commenting_is_no_change(other: str) -> None:
    """Running the cell again, blank lines, comments, parentheses and type hints change nothing."""
    assert fingerprint(defined(other)) == fingerprint(defined("def step(x):\n    return x + 1"))


@pytest.mark.parametrize(
    "other",
    [
        "def step(x):\n    return x + 2",
        "def step(x):\n    return x - 1",
        "def step(y):\n    return y + 1",
        "def step(x):\n    return x + 1.0",
        "def step(x):\n    return str(x) + '1'",
        "def step(x):\n    return (lambda: x + 1)()",
        "def step(x):\n    return x + True",
    ],
)
def test_another_result_is_a_change(other: str) -> None:
    """An edit that may change the result is noticed, in a constant, an operator or a name."""
    assert has_changed(fingerprint(defined("def step(x):\n    return x + 1")), fingerprint(defined(other)))


def test_an_edit_of_a_nested_function_is_a_change() -> None:
    """What stands inside: lambdas, comprehensions, functions in functions."""
    sources = [
        f"def step(x):\n    def inner():\n        return [n * {factor} for n in x]\n    return inner()"
        for factor in (2, 3)
    ]
    assert has_changed(*(fingerprint(defined(source)) for source in sources))


def test_wrappings_are_looked_through() -> None:
    """A partial, a decorated function, a method and a callable object are known by the code inside."""

    def plain(x: int) -> int:
        return x + 1

    @functools.wraps(plain)
    def wrapped(x: int) -> int:
        return plain(x)

    class Adding:
        def add(self, x: int) -> int:
            return x + 1

        def __call__(self, x: int) -> int:
            return x + 2

    known = fingerprint(plain)
    assert known is not None
    for other in (functools.partial(plain, 1), functools.partial(functools.partial(plain), 1), wrapped):
        assert fingerprint(other) == known
    assert fingerprint(functools.lru_cache(plain)) == known
    assert fingerprint(Adding().add) == fingerprint(Adding.add)
    assert has_changed(fingerprint(Adding().add), fingerprint(Adding()))


def test_what_has_no_python_code_never_changes() -> None:
    """Builtins and classes have no fingerprint, and nothing is said of them."""
    assert fingerprint(len) is None
    assert not has_changed(None, fingerprint(lambda: 1))
    assert not has_changed(fingerprint(lambda: 1), None)
    assert not has_changed(None, None)


def test_another_python_says_nothing() -> None:
    """After an update of Python the bytecode differs although nobody edited anything."""
    current = fingerprint(lambda: 1)
    assert current is not None
    assert not has_changed("2.7:" + current.partition(":")[2], current)
    assert not has_changed("2.7:0", current)


def test_what_cannot_be_unwrapped_has_some_fingerprint() -> None:
    """A function that claims to wrap itself, and one with odd text in it, harm nothing."""

    def circular() -> None: ...

    circular.__wrapped__ = circular  # type: ignore[attr-defined] # what a broken decorator does
    assert not has_changed(fingerprint(circular), fingerprint(circular))
    odd = defined('def step():\n    return "\\ud800"')
    assert fingerprint(odd) == fingerprint(odd)


@pytest.mark.slow
def test_the_fingerprint_is_the_same_in_every_process(launch: Callable[..., Program]) -> None:
    """Sets of strings, whose order differs from process to process, do not look like an edit."""
    assert len({launch(PRINT, PYTHONHASHSEED=str(seed)).finished() for seed in range(3)}) == 1
