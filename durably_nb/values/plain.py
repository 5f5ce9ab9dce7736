"""What JSON says exactly, and is stored as it is."""

from __future__ import annotations

import math
import types
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def is_plain(value: object) -> bool:
    """Whether it is a value without parts that JSON says exactly, whoever reads it."""
    check = _CHECKS.get(type(value))
    return check is not None and check(value)


def is_text(value: str) -> bool:
    """Whether it can be UTF-8: a lone surrogate cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_plain_keys(value: Mapping[Any, object]) -> bool:
    """Whether a dict can be a JSON object that nobody takes for a tagged one."""
    return "$" not in value and all(type(key) is str and is_text(key) for key in list(value))


def _is_number(value: float) -> bool:
    """Finite, and not -0.0, whose sign a JSON parser may drop."""
    return math.isfinite(value) and (value != 0.0 or math.copysign(1.0, value) == 1.0)


_CHECKS: Final[dict[type, Callable[[Any], bool]]] = {
    types.NoneType: lambda _: True,
    bool: lambda _: True,
    int: lambda value: -(1 << 63) <= value < 1 << 63,
    float: _is_number,
    str: is_text,
}
