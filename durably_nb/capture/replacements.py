"""Putting something in the place of an attribute, and back, for as long as captures are open."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.capture.current import Capture


_KEPT: Final = 32


class Replacement:
    """One attribute of a module or class, and what stands in its place while captures are open."""

    def __init__(self, owner: Callable[[], object], name: str, wrap: Callable[[Any], Any]) -> None:
        """Replace attribute ``name`` of ``owner()`` by ``wrap(original)``."""
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._originals: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        # `print` uses sys.stdout without holding it: one that is taken away must not die while another thread prints.
        self._kept: deque[Any] = deque(maxlen=_KEPT)

    def apply(self) -> None:
        """Stand in for what is there, unless it is a replacement already or there is nothing."""
        owner = self._owner()
        found = getattr(owner, self._name, None)
        if found is not None and found not in self._originals:
            ours = next((made for made in self._kept if self._originals[made] is found), None)
            if ours is None:
                ours = self._wrap(found)
                self._originals[ours] = found
                self._kept.append(ours)
            setattr(owner, self._name, ours)

    def undo(self) -> None:
        """Put the original back; what others have put in its place meanwhile is theirs to take away."""
        owner = self._owner()
        found = getattr(owner, self._name, None)
        if found in self._originals:
            setattr(owner, self._name, self._originals[found])

    def originals(self) -> list[Any]:
        """Give what was replaced, as long as the replacement is in use."""
        return list(self._originals.values())


class Installation:
    """Keeps the replacements in place from the first capture to the last."""

    def __init__(self, replacements: list[Replacement]) -> None:
        """Take the replacements; they are made when the first capture is added."""
        self._replacements = replacements
        self._lock = threading.Lock()
        self._open: set[Capture] = set()

    def add(self, capture: Capture) -> None:
        """Note that a capture begins."""
        with self._lock:
            self._open.add(capture)
            # Each time, since a redirect_stdout may have covered them in the meantime.
            for replacement in self._replacements:
                replacement.apply()

    def remove(self, capture: Capture) -> None:
        """Note that a capture is over."""
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
