"""Commands that people press. A click is carried out on a thread of its own: no front end waits for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from durably_nb.errors import DurablyError
from durably_nb.models import ACTIVE, TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durably_nb.models import RunStatus


class HasId(Protocol):
    """A run, as far as a view cares."""

    @property
    def id(self) -> str:
        """Its id."""


class Commands(Protocol):
    """What can be done to a run."""

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""

    def resume(self, run_id: str) -> HasId:
        """Let a failed or cancelled run go on."""

    def retrigger(self, run_id: str) -> HasId:
        """Create a fresh run with the same input."""

    def delete_run(self, run_id: str) -> None:
        """Delete a run that has ended."""


@dataclass(frozen=True, slots=True)
class Command:
    """Something that people press.

    Attributes:
        label: What stands on its button.
        done: What has become of the run: "cancelled".
        carry_out: Does it; gives the run to look at from then on, if it is another.
        fits: The states of a run that it fits.

    """

    label: str
    done: str
    carry_out: Callable[[Commands, str], HasId | None]
    fits: frozenset[RunStatus]


COMMANDS: Final[Mapping[str, Command]] = {
    "cancel": Command("Cancel", "cancelled", lambda host, run_id: host.cancel(run_id), ACTIVE),
    "resume": Command("Resume", "resumed", lambda host, run_id: host.resume(run_id), TERMINAL - {"completed"}),
    "again": Command("Run again", "triggered again", lambda host, run_id: host.retrigger(run_id), TERMINAL),
    "delete": Command("Delete", "deleted", lambda host, run_id: host.delete_run(run_id), TERMINAL),
}
"""What can be done to runs, by the name that front ends have for it."""


def fitting(status: RunStatus) -> list[str]:
    """Give the names of the commands that fit a state."""
    return [name for name, command in COMMANDS.items() if status in command.fits]


def carry_out(command: Callable[[], object], done: Callable[[str | None], object]) -> None:
    """Call `command` on a thread of its own, then ``done(None)``, or `done` with the sentence of what went wrong."""

    def run() -> None:
        problem = None
        try:
            command()
        except DurablyError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - nobody would see it but in the panel
            problem = f"{type(error).__name__}: {error}"
        done(problem)

    threading.Thread(target=run, name="durably-click", daemon=True).start()
