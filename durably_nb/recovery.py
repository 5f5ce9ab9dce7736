"""The state that the disk tells of: the table `run_state`, and the rows of the log after it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durably_nb.fold import fold
from durably_nb.models import ACTIVE
from durably_nb.rows import Row
from durably_nb.run_state import read_state

if TYPE_CHECKING:
    import duckdb

    from durably_nb.models import RunRecord


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was read: `unfolded` are the runs whose row in `run_state` is behind the log."""

    states: dict[str, RunRecord]
    unfolded: dict[str, RunRecord]
    last: int

    @property
    def active(self) -> dict[str, RunRecord]:
        """The runs that are not ended."""
        return {run_id: run for run_id, run in self.states.items() if run.status in ACTIVE}


def recover(connection: duckdb.DuckDBPyConnection) -> Recovered:
    """Read the runs that are not ended, and those that the log changed since the last fold."""
    # A fold covers all that is on disk at its time, so that no row before the newest one of them is missing.
    [(folded,)] = connection.execute("select coalesce(max(last_sequence), 0) from run_state").fetchall()
    rows = _rows_after(connection, folded)
    strangers = {row.run_id for row in rows if row.run_id is not None}
    states = _states(connection, sorted(strangers))
    unfolded: dict[str, RunRecord] = {}
    for row in rows:
        before = states.get(row.run_id or "")
        after = fold(before, row)
        if after is None:
            states.pop(row.run_id or "", None)
            unfolded.pop(row.run_id or "", None)
        elif after is not before:
            states[after.run_id] = unfolded[after.run_id] = after
    return Recovered(states, unfolded, max([folded, *(row.sequence for row in rows)]))


def _states(connection: duckdb.DuckDBPyConnection, run_ids: list[str]) -> dict[str, RunRecord]:
    found = connection.execute(
        "select state from run_state where status in ('pending', 'leased') or run_id in (select unnest($1::varchar[]))",
        [run_ids],
    ).fetchall()
    runs = [read_state(text) for (text,) in found]
    return {run.run_id: run for run in runs}


def _rows_after(connection: duckdb.DuckDBPyConnection, sequence: int) -> list[Row]:
    found = connection.execute(
        "select sequence, ms, run_id, type, data from log where sequence > ? order by sequence", [sequence]
    ).fetchall()
    return [Row(sequence, ms, run_id, kind, json.loads(data)) for sequence, ms, run_id, kind, data in found]
