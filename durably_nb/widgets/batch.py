"""One command for several runs, as people press it in a list; what became of it is told in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from durably_nb.errors import ConflictError, DurablyError
from durably_nb.widgets.commands import COMMANDS, Commands
from durably_nb.widgets.render import short
from durably_nb.wording import ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durably_nb.models import RunRecord

_MOST_REASONS: Final = 3


class Host(Commands, Protocol):
    """What knows runs and carries out commands."""

    def run_record(self, run_id: str) -> RunRecord:
        """Give the state of a run. Raises NotFoundError."""


def attempt(run: RunRecord) -> int:
    """Give how many attempts at a run are over: a command that was meant for an earlier one comes too late."""
    return run.lease_generation - (run.status == "leased")


def carry_out_all(host: Host, name: str, attempts: Mapping[str, int]) -> str:
    """Carry out a command for runs, each as it stood at that attempt; say for how many, and why not for all."""
    command = COMMANDS[name]
    problems = []
    for run_id, seen in attempts.items():
        try:
            if attempt(host.run_record(run_id)) != seen:
                raise ConflictError(f"Run {short(run_id)} has begun anew meanwhile; see how it stands now.")
            command.carry_out(host, run_id)
        except DurablyError as error:
            problems.append(str(error))
    return _sentence(command.done, len(attempts) - len(problems), problems)


def _sentence(verb: str, done: int, problems: list[str]) -> str:
    if not problems:
        return f"{done:,} {verb}."
    reasons = " ".join(map(ended, problems[:_MOST_REASONS]))
    more = f" And {len(problems) - _MOST_REASONS:,} more." if len(problems) > _MOST_REASONS else ""
    return f"{f'{done:,}' if done else 'None'} {verb}; {len(problems):,} could not be: {reasons}{more}"
