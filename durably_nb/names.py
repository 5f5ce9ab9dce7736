"""What may be a name: of a job, a step, a key, a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from durably_nb.errors import ValidationError
from durably_nb.wording import shown

MAX_LENGTH: Final = 255


def checked_name(value: object, what: str) -> str:
    """Give a name that can be stored, shown and searched.

    Raises:
        ValidationError: If it is no string, empty, longer than 255 characters, or has characters
            that no file can hold (NUL, lone surrogates).

    """
    if type(value) is not str:
        raise ValidationError(f"{what} is a string, not {type(value).__name__} ({shown(value)}).")
    if not value.strip():
        raise ValidationError(f"{what} is empty; give it a name that says what it is.")
    if len(value) > MAX_LENGTH:
        raise ValidationError(
            f"{what} has {len(value):,} characters ({shown(value)}); {MAX_LENGTH} are the most. "
            "Put long text into the input, not into the name."
        )
    if not value.isascii() or "\0" in value:
        _refuse_unstorable(value, what)
    return value


def checked_labels(labels: object) -> dict[str, str]:
    """Give labels as they are stored: short strings by name.

    Raises:
        ValidationError: If they are not a mapping of strings to strings.

    """
    if not isinstance(labels, Mapping):
        raise ValidationError(f"Labels are a mapping of strings to strings, not {type(labels).__name__}.")
    return {checked_name(key, "A label's name"): _checked_label(key, value) for key, value in labels.items()}


def storable_text(text: str) -> str:
    """Give text that can be stored: lone surrogates are replaced by their escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _checked_label(key: str, value: object) -> str:
    return "" if type(value) is str and not value else checked_name(value, f"The label {key!r}")


def _refuse_unstorable(value: str, what: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{what} has a lone surrogate ({shown(value)}), which is no text.") from None
    if "\0" in value:
        raise ValidationError(f"{what} has a NUL character ({shown(value)}).")
