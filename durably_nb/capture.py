"""Output of a job's function becomes log entries and lands in no cell.

A context variable says which capture the running code belongs to, so other threads and tasks are not
touched. What has to be replaced to get at the output (the two streams, and a function or two each of
``logging``, ``warnings``, ``threading`` and IPython's display) looks at that variable, passes all else
on to what it replaced, and stands only while a capture is open.
"""

from __future__ import annotations

import codecs
import functools
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO
from weakref import WeakKeyDictionary

from durably_nb.models import LogLevel

Sink = Callable[[LogLevel, str], None]

_MAX_ENTRY_BYTES = 32 * 1024
_LONGEST_CHARACTER = 4
_formatter = logging.Formatter()
_logger = logging.getLogger("durably_nb")


@contextmanager
def captured(sink: Sink) -> Iterator[None]:
    """Hand all that the code inside prints, logs, warns of or displays to ``sink(level, text)``.

    This holds for this thread and for the tasks and threads started from it. Lines on stdout and
    what ``display`` shows are ``"info"``, lines on stderr and warnings ``"warn"``; a log record goes
    by its own level. A text has at most 32 KiB of UTF-8: a longer one comes in pieces. Blank lines
    are left out; a line overwritten by carriage returns counts by its last state. Of nested captures
    the inner one is told. The sink is called on the thread that writes. What the sink itself prints
    or logs, what comes after the end, and what the sink raises an ``Exception`` for goes on to the
    original streams.
    """
    capture = _Capture(sink, outer=_current())
    _installation.add(capture)
    try:
        with _within(capture):
            try:
                yield
            finally:
                capture.close()
    finally:
        _installation.remove(capture)


class _Capture:
    """What one ``captured`` has taken in and not yet handed to its sink."""

    def __init__(self, sink: Sink, outer: _Capture | None = None) -> None:
        self.outer = outer
        self.closed = False
        self._sink = sink
        self._sink_failed = False
        self._lock = threading.RLock()  # a destructor that prints may run while this thread holds it
        self._lines: dict[tuple[int, LogLevel], _Line] = {}

    def write(self, level: LogLevel, text: str) -> bool:
        """Take text of any length, part of a line or many; False if the capture is over."""
        writer = threading.get_ident(), level
        with self._lock:
            if self.closed:
                return False
            line = self._lines.get(writer) or self._lines.setdefault(writer, _Line())
            complete = line.feed(text)
        # Not under the lock: the sink may wait for what another writer of this capture holds.
        for each in complete:
            self.deliver(level, each)
        return True

    def deliver(self, level: LogLevel, text: str) -> None:
        if not text or text.isspace():
            return
        token = _innermost.set(None)
        try:
            for piece in _pieces(text):
                self._hand_over(level, piece)
        finally:
            _innermost.reset(token)

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
            self.closed = True
            lines, self._lines = self._lines, {}
        for (_, level), line in lines.items():
            self.deliver(level, line.end())

    def abandon(self) -> None:
        """Take no more and deliver nothing, in a forked child: the parent delivers."""
        self._lock = threading.RLock()
        self.closed = True
        self._lines = {}

    def _hand_over(self, level: LogLevel, text: str) -> None:
        try:
            self._sink(level, text)
        except Exception:
            print(text, file=sys.stdout if level == "info" else sys.stderr)
            if not self._sink_failed:
                self._sink_failed = True
                _logger.exception("Captured output could not be delivered; it was printed instead.")


class _Mute(_Capture):
    """Takes what has been told already by another way, and drops it."""

    def __init__(self) -> None:
        super().__init__(lambda _level, _text: None)

    def write(self, level: LogLevel, text: str) -> bool:  # noqa: ARG002 - dropped
        return True


class _Line:
    """What was written since the last newline, as a terminal would show it."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """Add text; give the lines that are complete, or too long to wait for their end."""
        *complete, rest = (self._rest + text).split("\n")
        if len(rest) > _MAX_ENTRY_BYTES:
            complete.append(rest)
            rest = ""
        if "\r" in rest:
            # A final carriage return overwrites nothing until more is written.
            rest = _last_state(rest) + ("\r" if rest.endswith("\r") else "")
        self._rest = rest
        return [_last_state(line) for line in complete]

    def end(self) -> str:
        """Give the line that no newline has come for."""
        return _last_state(self._rest)


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]


def _pieces(text: str) -> Iterator[str]:
    """Give text that UTF-8 can say, in pieces that an entry can hold."""
    if text.isascii() and len(text) <= _MAX_ENTRY_BYTES:
        yield text
        return
    data = text.encode("utf-8", "backslashreplace")
    decoder = codecs.getincrementaldecoder("utf-8")()
    # The decoder may hold back a part of one character: the next piece begins with it.
    step = len(data) if len(data) <= _MAX_ENTRY_BYTES else _MAX_ENTRY_BYTES - _LONGEST_CHARACTER
    for start in range(0, len(data), step):
        yield decoder.decode(data[start : start + step])


_innermost: ContextVar[_Capture | None] = ContextVar("durably_nb_capture", default=None)
_muted = _Mute()


def _current() -> _Capture | None:
    """Give the innermost capture that is still open, for the code that is running."""
    capture = _innermost.get()
    while capture is not None and capture.closed:
        capture = capture.outer
    return capture


@contextmanager
def _within(capture: _Capture) -> Iterator[None]:
    token = _innermost.set(capture)
    try:
        yield
    finally:
        _innermost.reset(token)


class _Stream:
    """Stands for ``sys.stdout`` or ``sys.stderr``; outside a capture it is the original in all but identity.

    Attributes are set on the original, and ``write`` is looked up there anew each time, since IPython 9
    takes ``write``, wraps it and puts it back around every cell. Kept here, its wrapper would note
    captured text down for the cell; set there but not read from there, it would call itself.
    """

    __slots__ = ("__weakref__", "_durably_level", "_durably_original")

    def __init__(self, original: Any, level: LogLevel) -> None:  # noqa: ANN401 - whatever stands at sys.stdout
        object.__setattr__(self, "_durably_original", original)
        object.__setattr__(self, "_durably_level", level)

    @property  # type: ignore[misc] # read-only: isinstance(sys.stdout, OutStream) is asked by ipykernel
    def __class__(self) -> Any:  # noqa: ANN401 - the class of the original
        return type(self._durably_original)

    @property
    def write(self) -> Callable[[str], Any]:
        return self._durably_original.write if _current() is None else self._durably_route

    @property
    def buffer(self) -> Any:  # noqa: ANN401 - the original's may be of any class
        return self._durably_original.buffer if _current() is None else _Bytes(self)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if _current() is None:
            self._durably_original.flush()

    def isatty(self) -> bool:
        return _current() is None and self._durably_original.isatty()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the original
        return getattr(self._durably_original, name)

    def __setattr__(self, name: str, value: object) -> None:
        # A write taken inside a capture is not the original's, and set on it would call itself.
        if _current() is None:
            setattr(self._durably_original, name, value)

    def __delattr__(self, name: str) -> None:
        if _current() is None:
            delattr(self._durably_original, name)

    def __repr__(self) -> str:
        return repr(self._durably_original)

    def _durably_route(self, text: str) -> Any:  # noqa: ANN401 - what the original's write returns
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        while (capture := _current()) is not None:
            if capture.write(self._durably_level, text):
                return len(text)
        return self._durably_original.write(text)


class _Bytes(io.BufferedIOBase):
    """The ``buffer`` of a stream inside a capture: bytes are taken for UTF-8."""

    def __init__(self, text: _Stream) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - anything that has bytes
        self._text.write(self._decoder.decode(bytes(data)))
        return len(data)


def _inside_captures(during: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a replacement: ``during(capture, original, ...)`` inside a capture, elsewhere the original."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on as they are
            capture = _current()
            if capture is None:
                return original(*args, **kwargs)
            return during(capture, original, *args, **kwargs)

        return replacement

    return wrap


@_inside_captures
def _call_handlers(
    capture: _Capture, original: Callable[..., None], logger: logging.Logger, record: logging.LogRecord
) -> None:
    capture.deliver(_level(record), _message(record))
    with _within(_muted):  # files and the like get it too; what handlers print has been told already
        original(logger, record)


@_inside_captures
def _handle(
    _capture: _Capture, original: Callable[..., Any], handler: logging.Handler, record: logging.LogRecord
) -> object:
    # A handler that was made earlier holds the original stream: it can only be left out.
    return False if _on_console(handler) else original(handler, record)


@_inside_captures
def _show_warning(  # noqa: PLR0913, PLR0917 - the signature of warnings.showwarning
    capture: _Capture,
    original: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is None:
        capture.deliver("warn", f"{category.__name__}: {message} ({filename}:{lineno})")
    with _within(_muted):  # a hook of the user's is called too; what it prints has been told already
        original(message, category, filename, lineno, file, line)


@_inside_captures
def _start(capture: _Capture, original: Callable[..., None], thread: threading.Thread) -> None:
    if capture is not _muted:
        thread.run = _inheriting(thread, capture)  # type: ignore[method-assign] # of this thread alone
    original(thread)


@_inside_captures
def _publish(
    capture: _Capture,
    _original: Callable[..., None],
    _publisher: object,
    data: Mapping[str, object],
    *_args: object,
    **_kwargs: object,
) -> None:
    capture.deliver("info", str(data.get("text/plain", ", ".join(data))))


@_inside_captures
def _clear_output(*_args: object, **_kwargs: object) -> None:
    """Clear nothing: the cell's output is not the step's."""


def _level(record: logging.LogRecord) -> LogLevel:
    if record.levelno >= logging.ERROR:
        return "error"
    return "warn" if record.levelno >= logging.WARNING else "info"


def _message(record: logging.LogRecord) -> str:
    try:
        return _formatter.format(record)
    except Exception:  # noqa: BLE001 - arguments that do not fit the message; logging itself never raises
        return f"{record.msg!r} % {record.args!r}"


def _on_console(handler: logging.Handler) -> bool:
    if not isinstance(handler, logging.StreamHandler) or handler.stream is None:
        return False
    console = (sys.__stdout__, sys.__stderr__, *_stdout.originals(), *_stderr.originals())
    return type(handler.stream) is _Stream or any(handler.stream is each for each in console)


def _inheriting(thread: threading.Thread, capture: _Capture) -> Callable[[], None]:
    run = thread.run

    def run_captured() -> None:
        vars(thread).pop("run")  # or thread and function would keep each other alive
        with _within(capture):
            try:
                run()
            except BaseException:  # noqa: BLE001 - as threading does, but while the capture still holds
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), thread)))
            finally:
                capture.finish_thread()

    return run_captured


# --- putting it there and back ---


class _Replacement:
    """One attribute of a module or class, and what stands in its place while captures are open."""

    def __init__(self, owner: Callable[[], object], name: str, wrap: Callable[[Any], Any]) -> None:
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._originals: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def apply(self) -> None:
        """Stand in for what is there, unless it is a replacement already or there is nothing."""
        owner = self._owner()
        found = getattr(owner, self._name, None)
        if found is not None and found not in self._originals:
            ours = self._wrap(found)
            self._originals[ours] = found
            setattr(owner, self._name, ours)

    def undo(self) -> None:
        """Put the original back; what others have put in its place meanwhile is theirs to take away."""
        owner = self._owner()
        found = getattr(owner, self._name, None)
        if found in self._originals:
            setattr(owner, self._name, self._originals[found])

    def originals(self) -> list[Any]:
        return list(self._originals.values())


class _Installation:
    """Keeps the replacements in place from the first capture to the last."""

    def __init__(self, replacements: list[_Replacement]) -> None:
        self._replacements = replacements
        self._lock = threading.Lock()
        self._open: set[_Capture] = set()

    def add(self, capture: _Capture) -> None:
        with self._lock:
            self._open.add(capture)
            # Each time, since a redirect_stdout may have covered them in the meantime.
            for replacement in self._replacements:
                replacement.apply()

    def remove(self, capture: _Capture) -> None:
        with self._lock:
            self._open.discard(capture)
            if not self._open:
                for replacement in self._replacements:
                    replacement.undo()

    def forget_in_child(self) -> None:
        """Leave a forked child without captures: its output goes to the streams."""
        self._lock = threading.Lock()
        for capture in self._open:
            capture.abandon()
        self._open.clear()
        for replacement in self._replacements:
            replacement.undo()


def _publisher_class() -> object:
    """Give the class through which IPython displays, if a shell runs; IPython is never imported for it."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(get_shell(), "display_pub_class", None)


_stdout = _Replacement(lambda: sys, "stdout", functools.partial(_Stream, level="info"))
_stderr = _Replacement(lambda: sys, "stderr", functools.partial(_Stream, level="warn"))
_installation = _Installation(
    [
        _stdout,
        _stderr,
        _Replacement(lambda: logging.Logger, "callHandlers", _call_handlers),
        _Replacement(lambda: logging.Handler, "handle", _handle),
        _Replacement(lambda: warnings, "showwarning", _show_warning),
        _Replacement(lambda: threading.Thread, "start", _start),
        _Replacement(_publisher_class, "publish", _publish),
        _Replacement(_publisher_class, "clear_output", _clear_output),
    ]
)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_installation.forget_in_child)
