"""What a magic is about: the store that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from durably_nb import lifetimes

if TYPE_CHECKING:
    from durably_nb.durably import Durably


class Current:
    """The store that the magics work on: the one they opened last, else the only one that is open."""

    def __init__(self) -> None:
        """Begin without one."""
        self._chosen: Durably | None = None

    def choose(self, durably: Durably) -> None:
        """Work on this one, as long as it is open."""
        self._chosen = durably

    def durably(self) -> Durably:
        """Give the store.

        Raises:
            UsageError: If none is open, or several are and none was chosen; it says what to do.

        """
        opened: list[Durably] = lifetimes.opened()
        if self._chosen in opened:
            return self._chosen
        if not opened:
            raise UsageError("No file is open: %durably open FILE opens one, as dn.open does.")
        if len(opened) > 1:
            names = ", ".join(one.storage.name for one in opened)
            raise UsageError(f"Several files are open ({names}): say which one is meant with %durably open FILE.")
        return opened[0]
