"""Output of a job's function becomes log entries and lands in no cell.

A context variable says which capture the running code belongs to (``current``), so other threads and tasks are
not touched. What has to be replaced to get at the output looks at that variable, passes all else on to what it
replaced, and stands only while a capture is open: the two ``streams``, and as ``hooks`` a function or two each of
``logging``, ``warnings``, ``threading`` and IPython's display. ``lines`` makes entries of what is written;
``replacements`` puts things in their places and back.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durably_nb.capture.current import Capture, current, within
from durably_nb.capture.hooks import HOOKS
from durably_nb.capture.replacements import Installation
from durably_nb.capture.streams import STDERR, STDOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import ContextVar

    from durably_nb.capture.current import Sink

_installation = Installation([STDOUT, STDERR, *HOOKS])
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_installation.forget_in_child)


@contextmanager
def captured(sink: Sink, *inherited: ContextVar[Any]) -> Iterator[None]:
    """Hand all that the code inside prints, logs, warns of or displays to ``sink(level, text)``.

    This holds for this thread and for the tasks and threads started from it; such a thread also begins with
    the values that the variables ``inherited`` (each with a default) have where it is started. Lines on stdout
    and what ``display`` shows are ``"info"``, lines on stderr and warnings ``"warn"``; a log record goes
    by its own level. A text has at most 32 KiB of UTF-8: a longer one comes in pieces. Blank lines
    are left out; a line overwritten by carriage returns counts by its last state. Of nested captures
    the inner one is told. The sink is called on the thread that writes. What the sink itself prints
    or logs, what comes after the end, and what the sink raises an ``Exception`` for goes on to the
    original streams.
    """
    capture = Capture(sink, inherited)
    _installation.add(capture)
    try:
        with within(capture):
            try:
                yield
            finally:
                capture.close()
    finally:
        _installation.remove(capture)


def finish_line() -> None:
    """Deliver what this thread has printed without a newline: what it prints next is another's."""
    capture = current()
    if capture is not None:
        capture.finish_thread()
