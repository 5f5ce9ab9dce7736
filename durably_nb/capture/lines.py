"""Text as it is written → lines as a terminal would show them, in pieces that a log entry can hold."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ENTRY_BYTES: Final = 32 * 1024
"""The most UTF-8 that one entry has."""

_LONGEST_CHARACTER: Final = 4


class Line:
    """What was written since the last newline; a carriage return begins it anew."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """Add text; give the lines that are complete, or too long to wait for their end."""
        *complete, rest = (self._rest + text).split("\n")
        if len(rest) > MAX_ENTRY_BYTES:
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


def pieces(text: str) -> Iterator[str]:
    """Give text that UTF-8 can say, in pieces that an entry can hold."""
    if text.isascii() and len(text) <= MAX_ENTRY_BYTES:
        yield text
        return
    data = text.encode("utf-8", "backslashreplace")
    decoder = codecs.getincrementaldecoder("utf-8")()
    # The decoder may hold back a part of one character: the next piece begins with it.
    step = len(data) if len(data) <= MAX_ENTRY_BYTES else MAX_ENTRY_BYTES - _LONGEST_CHARACTER
    for start in range(0, len(data), step):
        yield decoder.decode(data[start : start + step])


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]
