"""What is open in this process: found again by its path, and closed when the interpreter exits."""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import ExitStack
from typing import Any, Final, Protocol


class Closable(Protocol):
    """Something that is to be closed at exit."""

    def close_at_exit(self, within_s: float) -> None:
        """Close within about so many seconds; the interpreter waits for it."""


_EXIT_S: Final = 3.0
"""What all that is open may take together to close at exit."""

_LEAST_S: Final = 0.2
"""What each may take in any case."""

_opening = threading.RLock()
_lock = threading.Lock()
_open: dict[Closable, tuple[object, ...]] = {}


def register(opened: Closable, *names: object) -> None:
    """Keep something until it is closed; it is found by its path, and by the connection it was opened on."""
    with _lock:
        _open[opened] = names


def unregister(closed: Closable) -> None:
    """Let go of something that was closed."""
    with _lock:
        _open.pop(closed, None)


def find(name: object) -> Any:  # noqa: ANN401 - whatever was registered
    """Give what is open by a name; None if nothing is."""
    with _lock:
        return next((opened for opened, names in _open.items() if name in names), None)


def opened() -> list[Any]:
    """Give all that is open, in the order in which it was opened."""
    with _lock:
        return list(_open)


def one_at_a_time() -> threading.RLock:
    """Give the lock under which a file is looked up and opened."""
    return _opening


def _close_all() -> None:
    deadline = time.monotonic() + _EXIT_S
    with ExitStack() as closing:  # which goes on with the others if one cannot be closed
        for opened in list(_open):
            closing.callback(_close, opened, deadline)


def _close(opened: Closable, deadline: float) -> None:
    opened.close_at_exit(max(deadline - time.monotonic(), _LEAST_S))


def _forget_in_child() -> None:
    # What was open belongs to the parent: its threads are not here, and its lock may be held for ever.
    global _lock, _opening
    _lock, _opening = threading.Lock(), threading.RLock()
    _open.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_in_child)
