"""Ids: ULIDs, which sort by the time they were made."""

from __future__ import annotations

import re
import threading
from typing import Final

from ulid import ULID

RUN_ID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Make an id that is greater than every id this process made before.

    Two ids of one millisecond (or of a clock that was set back) still sort in the order they
    were made: the later one is the earlier one plus one.
    """
    global _last  # noqa: PLW0603 - the one fact that makes ids of a process increase
    with _lock:
        _last = max(int(ULID()), _last + 1)
        return str(ULID.from_int(_last))
