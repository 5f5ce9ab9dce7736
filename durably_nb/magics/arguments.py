"""The arguments of the magics: parsed as in a terminal, refused in sentences."""

from __future__ import annotations

import argparse
import functools
import shlex
from typing import TYPE_CHECKING, Any, Final, TypeVar

import traitlets
from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument

from durably_nb.errors import DurablyError
from durably_nb.options import Configured
from durably_nb.wording import ended, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_F = TypeVar("_F", bound="Callable[..., Any]")

_OPTIONS: Final = {
    name: trait
    for name, trait in Configured.class_traits(config=True).items()
    if name != "labels"  # it takes a class, which no text can be
}


def parsed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a magic called with its arguments parsed; errors of the library are shown as their sentences."""

    @functools.wraps(method)
    def magic(self: object, line: str, *cell: str) -> Any:  # noqa: ANN401 - what the magic shows
        try:
            words = shlex.split(line)  # IPython's own way would keep the quotes
            # Intermixed: by itself argparse takes no second positional after an option.
            arguments = magic.parser.parse_intermixed_args(words)  # type: ignore[attr-defined] # magic_arguments adds it
        except (ValueError, UsageError) as error:
            called = f"{'%%' if cell else '%'}{method.__name__}"
            raise UsageError(f"{called}: {ended(str(error))} {called}? tells what can be written there.") from error
        try:
            return method(self, arguments, *cell)
        except DurablyError as error:
            raise UsageError(str(error)) from error

    return magic


def store_options(method: _F) -> _F:
    """Add the options of a store to the arguments of a magic."""
    for name, trait in reversed(_OPTIONS.items()):  # decorators stand in their order when the last comes first
        choices = _choices(trait)
        method = argument(
            _flag(name),
            type=functools.partial(_read, trait),
            choices=choices,
            metavar=None if choices else "VALUE",
            default=argparse.SUPPRESS,
            help=f"{trait.help} (If never given: {trait.default_value}.)",
        )(method)
    return method


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the options of a store that were given."""
    return {name: value for name, value in vars(arguments).items() if name in _OPTIONS}


def label(text: str) -> tuple[str, str]:
    """Read a label as it is written: ``name=value``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"a label is written name=value; {shown(text)} is none")
    return name, value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _choices(trait: traitlets.TraitType[Any, Any]) -> Sequence[object] | None:
    if isinstance(trait, traitlets.Bool):
        return (True, False)
    return trait.values if isinstance(trait, traitlets.Enum) else None


def _read(trait: traitlets.TraitType[Any, Any], text: str) -> object:
    try:
        return trait.from_string(text)
    except ValueError:
        return text  # which the choices, or the option itself, refuse in a sentence
