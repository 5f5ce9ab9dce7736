"""Commands that people press. A click is carried out on a thread of its own: no front end waits for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from durably_nb.errors import DurablyError

if TYPE_CHECKING:
    from collections.abc import Callable


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
