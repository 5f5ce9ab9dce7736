"""Groups of objects by a key, which let go of an object when nobody else holds it."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class WeakGroups(Generic[T]):
    """The handles of each run: found by its id, held only by their users."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._groups: dict[str, tuple[weakref.ref[T], ...]] = {}
        # The collector calls back at any moment, also while this thread has the lock: it only leaves a note.
        self._gone: deque[tuple[str, weakref.ref[T]]] = deque()

    def add(self, key: str, member: T) -> None:
        """Add an object to the group of a key."""
        with self._lock:
            self._clear_away()
            group = self._groups.get(key, ())
            self._groups[key] = (*group, weakref.ref(member, partial(self._note, key)))

    def members(self, key: str) -> list[T]:
        """Give the objects of a group."""
        found = (reference() for reference in self._groups.get(key, ()))
        return [member for member in found if member is not None]

    def __len__(self) -> int:
        """Give the number of objects in all groups."""
        with self._lock:
            self._clear_away()
            return sum(map(len, self._groups.values()))

    def _note(self, key: str, reference: weakref.ref[T]) -> None:
        self._gone.append((key, reference))

    def _clear_away(self) -> None:
        while self._gone:
            key, reference = self._gone.popleft()
            left = tuple(other for other in self._groups[key] if other is not reference)
            if left:
                self._groups[key] = left
            else:
                del self._groups[key]
