"""Questions to the database; each thread asks on a connection of its own."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import duckdb

from durably_nb.database import explained
from durably_nb.errors import NotFoundError
from durably_nb.models import ACTIVE, CompletedStep
from durably_nb.rows import EMITTED, Row, encode_json, event_from_row
from durably_nb.run_state import read_state
from durably_nb.store import Overview, RecentEvents
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from durably_nb.events import DurablyEvent
    from durably_nb.models import JSONValue, RunRecord
    from durably_nb.store import RunQuery

_BEGINNINGS = ("run:trigger", "run:leased")
_ENDS = ("run:complete", "run:fail", "run:cancel")

_LOOSE = """lower(translate(replace(replace({}, '":', '='), ', ', ','), '"''', ''))"""
"""Text as it is sought: an input is found as it is stored, and as tables show it."""

_SOUGHT = _LOOSE.format(
    """concat_ws(
        ' ', run_id, job_name, labels::varchar,
        if(state ->> '$.input."$"' = 'files', state ->> '$.input.value', state ->> '$.input'),
        if(status = 'failed', concat_ws(': ', state ->> '$.failure.type', state ->> '$.failure.message'), '')
    )"""
)

# The conditions of a RunQuery; the numbers are those of _asked.
_IS_AMONG = "($4 is null or run_id in (select unnest($4::varchar[])))"
_IN_STATE = "($5 is null or status in (select unnest($5::varchar[])))"
_MATCHES = f"""
    ($1 is null or job_name in (select unnest($1::varchar[])))
    and ($2 is null or json_contains(labels, $2::json))
    and ($3 is null or contains({_SOUGHT}, {_LOOSE.format("$3")}))
    and {_IS_AMONG}
"""


class Cursors:
    """One connection a thread, made when the thread first asks; all are closed together."""

    def __init__(self, make: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        """Take what makes a connection."""
        self._make = make
        self._lock = threading.Lock()
        self._made: dict[threading.Thread, duckdb.DuckDBPyConnection] = {}

    def get(self) -> duckdb.DuckDBPyConnection:
        """Give this thread's connection."""
        thread = threading.current_thread()
        cursor = self._made.get(thread)
        if cursor is None or _is_closed(cursor):
            with self._lock:
                self._close_of_ended_threads()
                cursor = self._made[thread] = self._make()
        return cursor

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for thread, cursor in self._made.items():
                self.interrupt(thread)  # a thread that still stands would hold the close up until its query ends
                with suppress(duckdb.Error):  # it stands in the middle of one: what it holds is closed with the thread
                    cursor.close()
            self._made.clear()

    def interrupt(self, thread: threading.Thread) -> None:
        """Stop the query that the connection of a thread executes, if it does."""
        cursor = self._made.get(thread)
        if cursor is not None:
            with suppress(duckdb.Error):  # closed by the user
                cursor.interrupt()

    def _close_of_ended_threads(self) -> None:
        for thread in [thread for thread in self._made if not thread.is_alive()]:
            self._made.pop(thread).close()


class Reading:
    """What is on disk; who needs the latest calls the store's `flush` before."""

    def __init__(self, make_cursor: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        """Take what makes a connection that sees the library's tables."""
        self.cursors = Cursors(make_cursor)

    def run(self, run_id: str) -> RunRecord | None:
        """Give the state of a run."""
        found = self._rows("select state from run_state where run_id = ?", [run_id])
        return read_state(found[0][0]) if found else None

    def runs_with_idempotency_keys(self, keys: Sequence[tuple[str, str]]) -> list[RunRecord]:
        """Give the runs that were triggered with these (job name, key) pairs."""
        found = self._rows(
            "select state from run_state join (select unnest($1) as job, unnest($2) as key) as wanted "
            "on job_name = wanted.job and idempotency_key = wanted.key",
            [[job for job, _ in keys], [key for _, key in keys]],
        )
        return [read_state(text) for (text,) in found]

    def find_runs(self, query: RunQuery) -> list[RunRecord]:
        """Give the states of the runs that match, newest first."""
        found = self._rows(
            f"""
            select state from run_state where {_MATCHES} and {_IN_STATE}
            order by created_sequence desc limit $6 offset $7
            """,  # noqa: S608 - the conditions above
            _asked(query),
        )
        return [read_state(text) for (text,) in found]

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them, all as of one moment."""
        [(by_job, counts, states)] = self._rows(
            f"""
            with matching as (
                select run_id, status, created_sequence from run_state where {_MATCHES}
            ), page as (
                select run_id, created_sequence from matching where {_IN_STATE}
                order by created_sequence desc limit $6 offset $7
            )
            select
                (select list((job_name, status, runs)) from (
                    select job_name, status, count(*)::bigint as runs from run_state where {_IS_AMONG}
                    group by all order by all
                )),
                (select list((status, runs)) from (select status, count(*)::bigint as runs from matching group by all)),
                (select list(state order by page.created_sequence desc) from run_state join page using (run_id))
            """,  # noqa: S608 - as above
            _asked(query),
        )
        jobs: dict[str, dict[Any, int]] = {}
        for job_name, state, runs in by_job or ():
            jobs.setdefault(job_name, {})[state] = runs
        return Overview(by_job=jobs, counts=dict(counts or ()), runs=[read_state(text) for text in states or ()])

    def completed_steps(self, run_id: str) -> dict[str, CompletedStep]:
        """Give the checkpoints of a run by step name."""
        found = self._rows(
            "select data from log where run_id = ? and type = 'step:complete' order by sequence", [run_id]
        )
        rows: list[dict[str, Any]] = [json.loads(data) for (data,) in found]
        return {
            data["stepName"]: CompletedStep(
                name=data["stepName"], index=data["stepIndex"], output=data.get("output"), code=data.get("code")
            )
            for data in rows
            if EMITTED not in data
        }

    def step_output(self, run_id: str, step_name: str) -> JSONValue:
        """Give what a completed step returned. Raises NotFoundError."""
        steps = self.completed_steps(run_id)
        if step_name not in steps:
            names = ", ".join(repr(name) for name in steps) or "none"
            raise NotFoundError(f"Run {run_id} has no completed step {shown(step_name)}; completed: {names}.")
        if self._rows("select 1 from log where run_id = ? and type = 'store:drop-outputs'", [run_id]):
            raise NotFoundError(
                f"What step {step_name!r} of run {run_id} returned was dropped when the run completed, since the store "
                "has preserve_steps=False."
            )
        return steps[step_name].output

    def latest_events(self, run: RunRecord) -> list[DurablyEvent]:
        """Give a run's latest state event and its latest progress, in sequence order."""
        # The end of a run that was resumed is not its state any more.
        states = ", ".join(repr(kind) for kind in (_BEGINNINGS if run.status in ACTIVE else _ENDS))
        found = self._rows(
            f"""
            select sequence, ms, run_id, type, data from log
            where run_id = ? and type in ({states}, 'run:progress') and (data ->> 'emitted') is null
            qualify row_number() over (partition by type = 'run:progress' order by sequence desc) = 1
            order by sequence
            """,  # noqa: S608 - the event names above
            [run.run_id],
        )
        return [
            event_from_row(Row(sequence, ms, run_id, kind, json.loads(data)), run)
            for sequence, ms, run_id, kind, data in found
        ]

    def recent_events(self, run: RunRecord, most: int) -> RecentEvents:
        """Give a run's latest events, at most so many of each kind and the ends of these steps, in sequence order."""
        found = self._rows(
            """
            with events as (
                select sequence, ms, run_id, type, data, (count(*) over (partition by type))::bigint as of_type,
                    starts_with(type, 'step:') and type <> 'step:start' as is_end,
                    if(type in ('log:write', 'run:progress', 'step:start'), type, '') as kind,
                    row_number() over (partition by kind, is_end order by sequence desc) <= $2 as is_recent
                from log
                where run_id = $1 and not starts_with(type, 'store:') and type <> 'run:lease-renewed'
                  and (type = 'log:write' or (data ->> 'emitted') is null)
            )
            select sequence, ms, run_id, type, data, of_type from events
            where if(not is_end, is_recent, (data ->> 'stepIndex') in (
                select data ->> 'stepIndex' from events where type = 'step:start' and is_recent
            ))
            order by sequence
            """,
            [run.run_id, most],
        )
        rows = [Row(sequence, ms, run_id, kind, json.loads(data)) for sequence, ms, run_id, kind, data, _ in found]
        counts = {kind: of_type for _, _, _, kind, _, of_type in found}
        read = Counter(row.type for row in rows)
        return RecentEvents(
            [event_from_row(row, run) for row in rows],
            hidden={kind: count - read[kind] for kind, count in counts.items()},
        )

    def ended_before(self, ms: int, limit: int) -> list[str]:
        """Give the ids of runs that ended before a time, oldest first."""
        found = self._rows(
            "select run_id from run_state where completed_ms < ? and status not in ('pending', 'leased') "
            "order by completed_ms, created_sequence limit ?",
            [ms, limit],
        )
        return [run_id for (run_id,) in found]

    def _rows(self, query: str, values: list[object]) -> list[tuple[Any, ...]]:
        with explained("The database"):
            return self.cursors.get().execute(query, values).fetchall()


def _asked(query: RunQuery) -> list[object]:
    """Give the values of a query, in the order of their numbers in the conditions."""
    return [
        _list(query.job_names),
        encode_json(dict(query.labels)) if query.labels else None,
        query.text or None,
        _list(query.run_ids),
        _list(query.status),
        query.limit,
        query.offset,
    ]


def _list(values: Collection[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _is_closed(cursor: duckdb.DuckDBPyConnection) -> bool:
    try:
        cursor.query_progress()  # the cheapest thing that a closed connection refuses
    except duckdb.ConnectionException:
        return True
    return False
