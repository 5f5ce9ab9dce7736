"""What speaks by other ways than the streams: ``logging``, ``warnings``, IPython's display, new threads."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final, TextIO

from durably_nb.capture.current import MUTE, current, within
from durably_nb.capture.replacements import Replacement
from durably_nb.capture.streams import is_console

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durably_nb.capture.current import Capture
    from durably_nb.models import LogLevel

_formatter = logging.Formatter()


def _inside_captures(during: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a replacement: ``during(capture, original, ...)`` inside a capture, elsewhere the original."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on as they are
            capture = current()
            if capture is None:
                return original(*args, **kwargs)
            return during(capture, original, *args, **kwargs)

        return replacement

    return wrap


# --- logging and warnings ---


@_inside_captures
def _call_handlers(
    capture: Capture, original: Callable[..., None], logger: logging.Logger, record: logging.LogRecord
) -> None:
    capture.deliver(_level(record), _message(record))
    with within(MUTE):  # files and the like get it too; what handlers print has been told already
        original(logger, record)


@_inside_captures
def _handle(
    _capture: Capture, original: Callable[..., Any], handler: logging.Handler, record: logging.LogRecord
) -> object:
    # A handler that was made earlier holds the original stream: it can only be left out.
    on_screen = isinstance(handler, logging.StreamHandler) and is_console(handler.stream)
    return False if on_screen else original(handler, record)


def _level(record: logging.LogRecord) -> LogLevel:
    if record.levelno >= logging.ERROR:
        return "error"
    return "warn" if record.levelno >= logging.WARNING else "info"


def _message(record: logging.LogRecord) -> str:
    try:
        return _formatter.format(record)
    except Exception:  # noqa: BLE001 - arguments that do not fit the message; logging itself never raises
        return f"{record.msg!r} % {record.args!r}"


@_inside_captures
def _show_warning(  # noqa: PLR0913, PLR0917 - the signature of warnings.showwarning
    capture: Capture,
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
    with within(MUTE):  # a hook of the user's is called too; what it prints has been told already
        original(message, category, filename, lineno, file, line)


# --- IPython's display ---


@_inside_captures
def _publish(
    capture: Capture,
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


def _publisher_class() -> object:
    """Give the class through which IPython displays, if a shell runs; IPython is never imported for it."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(get_shell(), "display_pub_class", None)


# --- threads ---


@_inside_captures
def _start(capture: Capture, original: Callable[..., None], thread: threading.Thread) -> None:
    if capture is not MUTE:
        thread.run = _inheriting(thread, capture)  # type: ignore[method-assign] # of this thread alone
    original(thread)


def _inheriting(thread: threading.Thread, capture: Capture) -> Callable[[], None]:
    run = thread.run
    # Not the whole context: decimal's, for one, would then be shared with the thread that starts this one.
    inherited = [(variable, variable.get()) for variable in capture.inherited]

    def run_captured() -> None:
        vars(thread).pop("run")  # or thread and function would keep each other alive
        for variable, value in inherited:
            variable.set(value)
        with within(capture):
            try:
                run()
            except BaseException:  # noqa: BLE001 - as threading does, but while the capture still holds
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), thread)))
            finally:
                capture.finish_thread()

    return run_captured


HOOKS: Final = (
    Replacement(lambda: logging.Logger, "callHandlers", _call_handlers),
    Replacement(lambda: logging.Handler, "handle", _handle),
    Replacement(lambda: warnings, "showwarning", _show_warning),
    Replacement(_publisher_class, "publish", _publish),
    Replacement(_publisher_class, "clear_output", _clear_output),
    Replacement(lambda: threading.Thread, "start", _start),
)
