"""Keywords that a function takes as ``**some``, shown by name where completion and help look for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def showing(hints: type, defaults: Mapping[str, object] | None = None) -> Callable[[_F], _F]:
    """Have a function show the keywords that `hints` annotates, instead of its ``**``; without a default: None."""
    kinds = {name: getattr(kind, "__forward_arg__", kind) for name, kind in hints.__annotations__.items()}
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=(defaults or {}).get(name), annotation=kind)
        for name, kind in kinds.items()
    ]

    def decorate(function: _F) -> _F:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined] # a function takes it
        return function

    return decorate
