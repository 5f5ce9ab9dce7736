"""One capture: what it takes in, whom it tells, and which of them the running code belongs to."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from durably_nb.capture.lines import Line, pieces
from durably_nb.models import LogLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

Sink: TypeAlias = Callable[[LogLevel, str], None]
"""Who is told: of a level, and of a text."""

_logger = logging.getLogger("durably_nb")
_innermost: Final[ContextVar[Capture | None]] = ContextVar("durably_nb_capture", default=None)


def current() -> Capture | None:
    """Give the innermost capture that is still open, for the code that is running."""
    capture = _innermost.get()
    while capture is not None and capture.is_closed:
        capture = capture.outer
    return capture


def enter(capture: Capture | None) -> Token[Capture | None]:
    """Let the running code belong to a capture, or to none, until the token is given to `leave`."""
    return _innermost.set(capture)


def leave(token: Token[Capture | None]) -> None:
    """Let the running code belong to what it belonged to before."""
    _innermost.reset(token)


@contextmanager
def within(capture: Capture | None) -> Iterator[None]:
    """Let the code inside belong to a capture, or to none."""
    token = enter(capture)
    try:
        yield
    finally:
        leave(token)


class Capture:
    """What one ``captured`` has taken in and not yet handed to its sink."""

    def __init__(self, sink: Sink, inherited: tuple[ContextVar[Any], ...] = ()) -> None:
        """Begin, inside the capture that is current; ``inherited`` goes with the threads that are started."""
        self.outer = current()
        self.inherited = inherited
        self.is_closed = False
        self._sink = sink
        self._sink_failed = False
        self._lock = threading.RLock()  # a destructor that prints may run while this thread holds it
        self._lines: dict[tuple[int, LogLevel], Line] = {}

    def write(self, level: LogLevel, text: str) -> bool:
        """Take text of any length, part of a line or many; False if the capture is over."""
        writer = threading.get_ident(), level
        with self._lock:
            if self.is_closed:
                return False
            line = self._lines.get(writer) or self._lines.setdefault(writer, Line())
            complete = line.feed(text)
        # Not under the lock: the sink may wait for what another writer of this capture holds.
        for each in complete:
            self.deliver(level, each)
        return True

    def deliver(self, level: LogLevel, text: str) -> None:
        """Hand an entry to the sink, unless it is blank."""
        if not text or text.isspace():
            return
        with within(None):
            for piece in pieces(text):
                self._hand_over(level, piece)

    def finish_thread(self) -> None:
        """Deliver what the calling thread has written without a newline."""
        with self._lock:
            mine = [writer for writer in self._lines if writer[0] == threading.get_ident()]
            unended = [(level, self._lines.pop((ident, level))) for ident, level in mine]
        for level, line in unended:
            self.deliver(level, line.end())

    def close(self) -> None:
        """Take no more, and deliver what was written without a newline."""
        with self._lock:
            self.is_closed = True
            lines, self._lines = self._lines, {}
        for (_, level), line in lines.items():
            self.deliver(level, line.end())

    def abandon(self) -> None:
        """Take no more and deliver nothing, in a forked child: the parent delivers."""
        self._lock = threading.RLock()
        self.is_closed = True
        self._lines = {}

    def _hand_over(self, level: LogLevel, text: str) -> None:
        try:
            self._sink(level, text)
        except Exception:
            print(text, file=sys.stdout if level == "info" else sys.stderr)
            if not self._sink_failed:
                self._sink_failed = True
                _logger.exception("Captured output could not be delivered; it was printed instead.")


class _Mute(Capture):
    """Drops what it takes."""

    def write(self, level: LogLevel, text: str) -> bool:  # noqa: ARG002 - dropped
        return True


MUTE: Final = _Mute(lambda _level, _text: None)
"""The capture of code whose words have been told already by another way."""
