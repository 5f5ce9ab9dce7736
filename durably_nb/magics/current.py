"""What a magic is about: the store that is open, and the run that an abbreviated id names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from IPython.core.error import UsageError

from durably_nb import lifetimes
from durably_nb.widgets.render import word
from durably_nb.wording import shown

if TYPE_CHECKING:
    from durably_nb.durably import Durably

_CANDIDATES: Final = 5


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


def run_id_of(durably: Durably, abbreviated: str) -> str:
    """Give the id of the only run whose id begins or ends like this.

    Raises:
        UsageError: If there is no such run, or more than one; it names those that may be meant.

    """
    found = _latest(durably, abbreviated)
    if len(found) == 1:
        return found[0][0]
    if found:
        which = f"Several runs have an id that begins or ends with {shown(abbreviated)}. Type more of it:"
    else:
        found = _latest(durably, "")
        which = f"No run has an id that begins or ends with {shown(abbreviated)}. "
        which += "The latest are" if found else "There are no runs yet."
    named = [f"{run_id} of {job} ({word(status)})" for run_id, job, status in found[:_CANDIDATES]]
    more = ", …" if len(found) > _CANDIDATES else "." if found else ""
    raise UsageError(f"{which} {', '.join(named)}{more}".rstrip())


def _latest(durably: Durably, abbreviated: str) -> list[tuple[str, str, str]]:
    return durably.sql(
        "select run_id, job_name, status from runs where starts_with(run_id, $1) or ends_with(run_id, $1) "
        "order by created_sequence desc limit $2",
        [abbreviated.upper(), _CANDIDATES + 1],
    ).fetchall()
