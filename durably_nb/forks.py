"""Whether this process was forked: threads, locks and connections stay with the parent."""

from __future__ import annotations

import os

_generation = 0


def generation() -> int:
    """Give a number that is another one in a forked child; far cheaper than asking for the process id."""
    return _generation


def _count() -> None:
    global _generation  # noqa: PLW0603 - the one fact that differs in a child
    _generation += 1


os.register_at_fork(after_in_child=_count)
