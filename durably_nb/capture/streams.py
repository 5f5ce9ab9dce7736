"""What stands in the place of ``sys.stdout`` and ``sys.stderr``."""

from __future__ import annotations

import codecs
import functools
import io
import sys
from typing import TYPE_CHECKING, Any, Final

from durably_nb.capture.current import current
from durably_nb.capture.replacements import Replacement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durably_nb.models import LogLevel


class Stream:
    """Stands for a stream; outside a capture it is the original in all but identity.

    Attributes are set on the original, and ``write`` is looked up there anew each time, since IPython 9
    takes ``write``, wraps it and puts it back around every cell. Kept here, its wrapper would note
    captured text down for the cell; set there but not read from there, it would call itself.
    """

    __slots__ = ("__weakref__", "_durably_level", "_durably_original")

    def __init__(self, original: Any, level: LogLevel) -> None:  # noqa: ANN401 - whatever stands at sys.stdout
        """Stand for ``original``; what is written inside a capture is of this level."""
        object.__setattr__(self, "_durably_original", original)
        object.__setattr__(self, "_durably_level", level)

    @property  # type: ignore[misc] # read-only: isinstance(sys.stdout, OutStream) is asked by ipykernel
    def __class__(self) -> Any:  # noqa: ANN401 - the class of the original
        """The original's class, for `isinstance`."""
        return type(self._durably_original)

    @property
    def write(self) -> Callable[[str], Any]:
        """The original's write, or the way into the capture."""
        return self._durably_original.write if current() is None else self._durably_route

    @property
    def buffer(self) -> Any:  # noqa: ANN401 - the original's may be of any class
        """The original's buffer, or one that leads into the capture."""
        return self._durably_original.buffer if current() is None else _Bytes(self)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the original; a capture takes lines when they are complete."""
        if current() is None:
            self._durably_original.flush()

    def isatty(self) -> bool:
        """Tell whether it is a terminal: inside a capture it is none."""
        return current() is None and self._durably_original.isatty()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the original
        """Give the original's attribute."""
        return getattr(self._durably_original, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set the original's attribute; nothing inside a capture."""
        # A write taken inside a capture is not the original's, and set on it would call itself.
        if current() is None:
            setattr(self._durably_original, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete the original's attribute; nothing inside a capture."""
        if current() is None:
            delattr(self._durably_original, name)

    def __repr__(self) -> str:
        """Give the original's."""
        return repr(self._durably_original)

    def _durably_route(self, text: str) -> Any:  # noqa: ANN401 - what the original's write returns
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        while (capture := current()) is not None:
            if capture.write(self._durably_level, text):
                return len(text)
        return self._durably_original.write(text)


class _Bytes(io.BufferedIOBase):
    """The ``buffer`` of a stream inside a capture: bytes are taken for UTF-8."""

    def __init__(self, text: Stream) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - anything that has bytes
        self._text.write(self._decoder.decode(bytes(data)))
        return len(data)


STDOUT: Final = Replacement(lambda: sys, "stdout", functools.partial(Stream, level="info"))
STDERR: Final = Replacement(lambda: sys, "stderr", functools.partial(Stream, level="warn"))


def is_console(stream: object) -> bool:
    """Whether what is written to a stream lands on the screen or in a cell."""
    console = (sys.__stdout__, sys.__stderr__, *STDOUT.originals(), *STDERR.originals())
    return type(stream) is Stream or any(stream is each for each in console if each is not None)
