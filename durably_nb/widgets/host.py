"""`Host`: all that a view needs of the rest of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from durably_nb.widgets.commands import Commands
from durably_nb.widgets.following import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.bus import Unsubscribe
    from durably_nb.store import Overview, RunQuery


class View(Protocol):
    """What draws from the store, and must know when that closes."""

    def retire(self) -> None:
        """Draw a last time, and no more."""


class Host(Source, Commands, Protocol):
    """Where a view gets what it shows, and what carries out its commands."""

    def register_view(self, view: View) -> None:
        """Retire a view before the store closes, unless nobody holds it any more."""


class ListHost(Host, Protocol):
    """Where a list of runs gets what it shows, and what carries out its commands."""

    @property
    def is_working(self) -> bool:
        """Whether worker threads are started."""

    def is_defined(self, job_name: str) -> bool:
        """Whether a job is defined here and now."""

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them."""

    def on_change(self, noted: Callable[[], object]) -> Unsubscribe:
        """Call `noted` after whatever changes a list of runs, until the returned function is called."""
