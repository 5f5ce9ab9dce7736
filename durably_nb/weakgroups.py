"""Groups of objects by a key, which let go of an object when nobody else holds it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

T = TypeVar("T")


class WeakGroups(Generic[T]):
    """The handles of each run: found by its id, held only by their users."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._groups: WeakValueDictionary[str, WeakSet[T]] = WeakValueDictionary()
        # A group lives as long as one of its members.
        self._group_of: WeakKeyDictionary[T, WeakSet[T]] = WeakKeyDictionary()

    def add(self, key: str, member: T) -> None:
        """Add an object to the group of a key."""
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                self._groups[key] = group = WeakSet()
            group.add(member)
            self._group_of[member] = group

    def members(self, key: str) -> list[T]:
        """Give the objects of a group."""
        if key not in self._groups:  # most events have no handle; they should cost next to nothing
            return []
        with self._lock:
            return list(self._groups.get(key, ()))

    def __len__(self) -> int:
        """Give the number of objects in all groups."""
        return len(self._group_of)
