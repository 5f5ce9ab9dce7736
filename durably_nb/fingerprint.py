"""The fingerprint of a function's code, to tell whether a step was edited since it was stored."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from types import CodeType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""Bytecode differs between versions of Python, so that fingerprints of two say nothing."""


def fingerprint(fn: Callable[..., object]) -> str | None:
    """Give the fingerprint of what `fn` does; None for what has no Python code (builtins).

    It covers bytecode, constants and names, of nested functions too, but neither line numbers nor
    comments: moving a function is no change of it.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        fn = inspect.unwrap(fn)
    except ValueError:  # it claims to wrap itself
        return None
    fn = getattr(fn, "__func__", fn)
    if not hasattr(fn, "__code__") and callable(fn):
        fn = type(fn).__call__
    code = getattr(fn, "__code__", None)
    return f"{_PYTHON}:{_digest(code)}" if isinstance(code, CodeType) else None


def has_changed(stored: str | None, current: str | None) -> bool:
    """Whether two fingerprints can be compared, and differ."""
    if stored is None or current is None or stored == current:
        return False
    return stored.partition(":")[0] == current.partition(":")[0]


@functools.lru_cache(maxsize=4096)
def _digest(code: CodeType) -> str:
    return hashlib.blake2b(_text(code).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _text(code: CodeType) -> str:
    constants = [_constant(value) for value in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars))


def _constant(value: object) -> str:
    if isinstance(value, CodeType):
        return _text(value)
    if isinstance(value, frozenset):  # its order differs from process to process
        return f"frozenset({sorted(map(repr, value))})"
    return repr(value)
