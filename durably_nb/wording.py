"""How messages show a value of the user's, and guess what was meant."""

from __future__ import annotations

import difflib
import reprlib
from typing import TYPE_CHECKING, Final

import pydantic

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST: Final = 80
_SHOWN_REASONS: Final = 4
_repr: Final = reprlib.Repr()
_repr.maxstring = _repr.maxother = _MOST


def shown(value: object) -> str:
    """Give the repr in one line of some eighty characters; a repr that raises does no harm."""
    try:
        text = " ".join(_repr.repr(value).split())
    except Exception as error:  # noqa: BLE001 - the class is the user's, and so is what its repr raises
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"


def ended(text: str) -> str:
    """Give the text of a sentence that others follow: with a full stop, unless it ends by itself."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def did_you_mean(name: object, known: Iterable[str], what: str) -> str:
    """Give the end of a sentence that refuses a name: the nearest one, else what there is."""
    names = list(known)
    close = difflib.get_close_matches(name[:_MOST], names, 1) if isinstance(name, str) else []
    return f"did you mean {close[0]!r}?" if close else f"{what} are {', '.join(names)}."


def with_article(noun: str) -> str:
    """Give a noun with its article: "a dict", "an int"."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def reason_of(error: Exception) -> str:
    """Say in one line what was expected."""
    if not isinstance(error, pydantic.ValidationError):
        return str(error).partition("\n")[0].rstrip(".")
    found = error.errors(include_url=False, include_context=False, include_input=False)
    reasons = [f"{'.'.join(map(str, each['loc']))}: {each['msg'].rstrip('.')}".removeprefix(": ") for each in found]
    more = len(reasons) - _SHOWN_REASONS
    return ", ".join(reasons[:_SHOWN_REASONS]) + (f", and {more} more" if more > 0 else "")
