"""Ctrl-C, put off for the length of a few lines that must happen together or not at all."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Deferral:
    """Python runs signal handlers on the main thread alone, between any two of its instructions."""

    def __init__(self) -> None:
        self._depth = 0
        self._struck = False
        self._handler: Any = None

    def begin(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth += 1
        if self._depth == 1:
            self._handler = signal.getsignal(signal.SIGINT)
            if callable(self._handler):
                signal.signal(signal.SIGINT, self._note)

    def end(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._depth == 0 and callable(self._handler):
            signal.signal(signal.SIGINT, self._handler)
            if self._struck:
                self._struck = False
                signal.raise_signal(signal.SIGINT)

    def _note(self, *_: object) -> None:
        self._struck = True


_deferral = _Deferral()
begin_uninterrupted = _deferral.begin
"""Put a Ctrl-C off until `end_uninterrupted` was called as often; for where a ``with`` would cost too much."""

end_uninterrupted = _deferral.end


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put a Ctrl-C off to the end of the block, which is to be short."""
    begin_uninterrupted()
    try:
        yield
    finally:
        end_uninterrupted()
