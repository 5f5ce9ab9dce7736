"""An exception as it is kept: its type, its message, and a traceback of the user's own lines."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durably_nb.models import Failure
from durably_nb.names import storable_text

if TYPE_CHECKING:
    from types import TracebackType

_HERE: Final = str(Path(__file__).parent)
_MOST: Final = 16_000
"""Characters kept of a message and of a traceback; both ends of a longer one."""


def failure_of(error: BaseException) -> Failure:
    """Describe an exception; one that cannot even say what it is is described as that."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - a hostile __str__ must not hide the failure
        message = f"(its message cannot be shown: {type(broken).__name__})"
    return Failure(type=_name(error), message=_stored(message), traceback=_stored(_traceback(error)))


def is_caused_by(error: BaseException, origin: BaseException | None) -> bool:
    """Whether an exception is `origin`, or was raised from it or while it was handled."""
    seen: set[int] = set()
    while error is not origin and id(error) not in seen:
        seen.add(id(error))
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following
    return error is origin


def _name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ in {"builtins", "__main__"} else f"{cls.__module__}.{cls.__qualname__}"


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _users_part(error.__traceback__))
    except Exception as broken:  # noqa: BLE001 - as above
        return f"(the traceback cannot be shown: {type(broken).__name__})"
    return "".join(lines)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this library that called the user's function."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_HERE):
        part = part.tb_next
    return part or trace


def _stored(text: str) -> str:
    if len(text) > _MOST:
        text = f"{text[: _MOST // 2]}\n… {len(text) - _MOST:,} characters left out …\n{text[-_MOST // 2 :]}"
    return storable_text(text)
