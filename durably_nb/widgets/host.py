"""`Host`: all that a view needs of the rest of the library."""

from __future__ import annotations

from typing import Protocol

from durably_nb.widgets.commands import Commands
from durably_nb.widgets.following import Source


class View(Protocol):
    """What draws from the store, and must know when that closes."""

    def retire(self) -> None:
        """Draw a last time, and no more."""


class Host(Source, Commands, Protocol):
    """Where a view gets what it shows, and what carries out its commands."""

    def register_view(self, view: View) -> None:
        """Retire a view before the store closes, unless nobody holds it any more."""
