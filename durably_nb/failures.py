"""An exception as it is kept: its type, its message, and a traceback of the user's own lines."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from traceback import TracebackException
from typing import Final

from durably_nb.models import Failure
from durably_nb.names import storable_text

_MACHINERY: Final = tuple(f"{Path(file).parent}{os.sep}" for file in (__file__, asyncio.__file__))
"""Where the frames are from that call the user's functions, and that they call."""

_STEP: Final = "_durably_step"
_MOST: Final = 16_000
"""Characters kept of a message and of a traceback; both ends of a longer one."""


def failure_of(error: BaseException) -> Failure:
    """Describe an exception; one that cannot even say what it is is described as that."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - a hostile __str__ must not hide the failure
        message = f"(its message cannot be shown: {type(broken).__name__})"
    return Failure(type=_name(error), message=_stored(message), traceback=_stored(_traceback(error)))


def is_of_exit(error: BaseException) -> bool:
    """Whether it says that the interpreter ends: pools refuse work from then on, which is no fault of the job."""
    return isinstance(error, RuntimeError) and "shutdown" in str(error) and not threading.main_thread().is_alive()


def note_step(error: BaseException, run_id: str, step_name: str) -> None:
    """Remember on an exception which step it came out of: whoever holds it, nobody else keeps it alive."""
    error.__dict__[_STEP] = (run_id, step_name)


def step_of(error: BaseException, run_id: str) -> str | None:
    """Give the step of a run that an exception came out of, be it in a group, or one raised from it; None if none."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        noted: tuple[str, str] | None = one.__dict__.get(_STEP)
        if noted is not None and noted[0] == run_id:
            return noted[1]
        inside = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [one.__context__, one.__cause__, *reversed(inside)]
    return None


def _name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ in {"builtins", "__main__"} else f"{cls.__module__}.{cls.__qualname__}"


def _traceback(error: BaseException) -> str:
    try:
        described = TracebackException.from_exception(error)
        _leave_out_machinery(described)
        lines = list(described.format())
    except Exception as broken:  # noqa: BLE001 - as above
        return f"(the traceback cannot be shown: {type(broken).__name__})"
    return "".join(lines)


def _leave_out_machinery(described: TracebackException) -> None:
    """Keep the frames of the user's own code, in what is told of an exception and of all that led to it."""
    waiting: list[TracebackException | None] = [described]
    while waiting:
        one = waiting.pop()
        if one is not None:
            users = [frame for frame in one.stack if not frame.filename.startswith(_MACHINERY)]
            one.stack[:] = users or one.stack
            waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _stored(text: str) -> str:
    if len(text) > _MOST:
        text = f"{text[: _MOST // 2]}\n… {len(text) - _MOST:,} characters left out …\n{text[-_MOST // 2 :]}"
    return storable_text(text)
