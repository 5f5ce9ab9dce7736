"""History: events, runs, steps and logs as DataFrames, and SQL over them beside the user's tables."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Unpack

from durably_nb.bus import select_types
from durably_nb.codecs import artifact_names
from durably_nb.database import catalog_of, explained, identifier, literal
from durably_nb.durations import parse_moment
from durably_nb.errors import NotFoundError, SerializationError, ValidationError
from durably_nb.events import EVENT_CLASSES, WIRE_NAMES
from durably_nb.filters import EventFilters, Filters, LogFilters, RunFilters, StepFilters, refuse_unknown
from durably_nb.models import LOG_LEVELS, RUN_STATUSES, STEP_STATUSES
from durably_nb.names import checked_labels, storable_text
from durably_nb.rows import encode_json
from durably_nb.schema import NAME
from durably_nb.wording import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb
    import pandas as pd

    from durably_nb.codecs import Codec
    from durably_nb.store import Store

# Columns in their order, each with its dtype: `text` is pandas' own for strings, a tuple are the categories.
_EVENTS: Final[dict[str, str | tuple[str, ...]]] = {
    "sequence": "int64",
    "timestamp": "datetime64[us, UTC]",
    "type": tuple(EVENT_CLASSES),
    "run_id": "text",
    "job_name": "text",
    "step_name": "text",
    "step_index": "Int64",
    "duration": "timedelta64[us]",
    "error": "text",
    "level": LOG_LEVELS,
    "message": "text",
    "labels": "object",
    "data": "object",
}
_RUNS: Final[dict[str, str | tuple[str, ...]]] = {
    "run_id": "text",
    "job_name": "text",
    "status": RUN_STATUSES,
    "labels": "object",
    "input": "object",
    "output": "object",
    "error": "text",
    "failed_step_name": "text",
    "progress_current": "float64",
    "progress_total": "float64",
    "progress_message": "text",
    "step_count": "int64",
    "lease_owner": "text",
    "lease_generation": "int64",
    "idempotency_key": "text",
    "concurrency_key": "text",
    "created_at": "datetime64[us, UTC]",
    "started_at": "datetime64[us, UTC]",
    "completed_at": "datetime64[us, UTC]",
    "duration": "timedelta64[us]",
}
_STEPS: Final[dict[str, str | tuple[str, ...]]] = {
    "run_id": "text",
    "job_name": "text",
    "step_name": "text",
    "step_index": "int64",
    "status": STEP_STATUSES,
    "started_at": "datetime64[us, UTC]",
    "completed_at": "datetime64[us, UTC]",
    "duration": "timedelta64[us]",
    "error": "text",
    "output_type": "text",
    "output_bytes": "Int64",
    "lease_generation": "int64",
}
_LOGS: Final[dict[str, str | tuple[str, ...]]] = {
    "sequence": "int64",
    "timestamp": "datetime64[us, UTC]",
    "run_id": "text",
    "job_name": "text",
    "step_name": "text",
    "level": LOG_LEVELS,
    "message": "text",
    "data": "object",
}
_ELSEWHERE: Final = frozenset(_EVENTS) - {"data"}
"""Fields of events that have a column of their own; `data` has the others."""

_VALUES: Final = frozenset({"input", "output", "data", "skipped_input"})
"""Fields of events that hold a user's value."""

_MOST: Final = 2**63 - 1

_CANDIDATES: Final = 5
"""Of runs that may be meant, so many are named."""

_ALL: Final = "* replace (epoch_us(duration) as duration)"
"""All columns of a view; Arrow has no interval that pandas would take for a Timedelta."""

_LABELS: Final = "json_contains(labels, ?::json)"
_RUN_LABELS: Final = "run_id in (select run_id from run_state where json_contains(labels, ?::json))"


class History:
    """Answers questions about what happened, from the store alone."""

    def __init__(self, store: Store, codec: Codec) -> None:
        """Take the store and what decodes its values."""
        self._store = store
        self._codec = codec

    def events(self, **filters: Unpack[EventFilters]) -> pd.DataFrame:
        """Give events in sequence order."""
        where = _Where("timestamp", filters, EventFilters, _LABELS)
        found = self._frame(
            f"select found.*, run_state.state -> 'input' as input from (select {_ALL} from events {where}) as found "  # noqa: S608 - see _Where
            "left join run_state using (run_id) order by sequence",
            where,
        )
        data = [self._event_data(*row) for row in zip(found["type"], found["data"], found["input"], strict=True)]
        found["labels"] = _column([_loaded(text) for text in found["labels"]])
        found["data"] = _column(data)
        return _typed(found, _EVENTS)

    def runs(self, **filters: Unpack[RunFilters]) -> pd.DataFrame:
        """Give runs, newest first."""
        where = _Where("created_at", filters, RunFilters, _LABELS)
        found = self._frame(f"select {_ALL} from runs {where} order by created_sequence desc", where)  # noqa: S608 - as above
        found["labels"] = _column([_loaded(text) for text in found["labels"]])
        for name in ("input", "output"):
            found[name] = _column([self._value(_loaded(text)) for text in found[name]])
        return _typed(found, _RUNS)

    def steps(self, **filters: Unpack[StepFilters]) -> pd.DataFrame:
        """Give executions of steps, in the order in which they began."""
        where = _Where("started_at", filters, StepFilters, _RUN_LABELS, statuses=STEP_STATUSES)
        found = self._frame(f"select {_ALL} from steps {where} order by sequence", where)  # noqa: S608 - as above
        return _typed(found, _STEPS)

    def logs(self, **filters: Unpack[LogFilters]) -> pd.DataFrame:
        """Give lines of the logs, in sequence order."""
        where = _Where("timestamp", filters, LogFilters, _RUN_LABELS)
        found = self._frame(f"select * from logs {where} order by sequence", where)  # noqa: S608 - as above
        found["data"] = _column([self._value(_loaded(text)) for text in found["data"]])
        return _typed(found, _LOGS)

    def run_id_of(self, part: str) -> str:
        """Give the id of the only run whose id begins or ends like this: panels show the end of an id.

        Raises:
            NotFoundError: If there is none, or more than one; it names those that may be meant.

        """
        found = self._ids_like(part) if part else []
        if len(found) == 1:
            return found[0][0]
        if found:
            problem = f"Several runs have an id that begins or ends with {shown(part)}; give more of it:"
        else:
            found = self._ids_like("")
            problem = (
                f"There is no run {shown(part)} in this store; {'the latest are' if found else 'there is none yet'}"
            )
        named = [f"{run_id} of {job} ({status})" for run_id, job, status in found[:_CANDIDATES]]
        raise NotFoundError(f"{problem} {', '.join(named)}".rstrip() + (", …" if len(found) > _CANDIDATES else "."))

    def _ids_like(self, part: str) -> list[tuple[str, str, str]]:
        query = """
            select run_id, job_name, status from run_state
            where starts_with(run_id, $1) or ends_with(run_id, $1)
            order by created_sequence desc limit $2
        """
        with explained("The database"):
            found = self._store.reading_cursor().execute(query, [storable_text(part).upper(), _CANDIDATES + 1])
            return found.fetchall()

    def _frame(self, query: str, where: _Where) -> pd.DataFrame:
        cursor = self._store.reading_cursor()
        with explained("The database"):
            # By way of Arrow: duckdb's own .df() does what pandas 3.1 warns of.
            table = cursor.sql(query + where.limit, params=where.values).to_arrow_table()
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def _event_data(self, kind: str, text: str, run_input: str | None) -> dict[str, Any]:
        raw = json.loads(text)
        if kind == "run:leased":
            raw["input"] = _loaded(run_input)
        names = ((name, key) for name, key in WIRE_NAMES[kind] if name not in _ELSEWHERE)
        return {name: self._field(name, raw[key]) for name, key in names if key in raw}

    def _field(self, name: str, stored: Any) -> Any:  # noqa: ANN401 - any field of an event
        if name in _VALUES:
            return self._value(stored)
        return datetime.fromisoformat(stored) if name == "lease_expires_at" else stored

    def _value(self, stored: Any) -> Any:  # noqa: ANN401 - any value that was stored
        """Give a value as it was; what lies in files beside the store stays described."""
        try:
            return stored if artifact_names(stored) else self._codec.decode(stored)
        except SerializationError:  # its class is not defined in this kernel: the description is still an answer
            return stored


def sql_cursor(store: Store, query: object) -> duckdb.DuckDBPyConnection:
    """Give a connection that sees ``events``, ``runs``, ``steps``, ``logs`` and the user's own tables.

    Raises:
        ValidationError: If the query is no text.

    """
    if not isinstance(query, str) or not query.strip():
        raise ValidationError("d.sql takes a query as text, such as d.sql('from events').")
    store.flush()
    # One for each relation: a relation that is half read blocks its connection.
    cursor = store.cursor().cursor()
    catalog, _ = catalog_of(cursor)
    path = f"{identifier(catalog)}.main,{identifier(catalog)}.{NAME}"
    cursor.execute(f"set search_path = {literal(path)}")
    cursor.execute("set TimeZone = 'UTC'")
    cursor.execute("set python_scan_all_frames = true")
    return cursor


class _Where:
    """The conditions of a query: fixed pieces of SQL, and the values for their places."""

    def __init__(
        self,
        moment: str,
        filters: Mapping[str, Any],
        known: type[Filters],
        labels: str,
        *,
        statuses: Sequence[str] = RUN_STATUSES,
    ) -> None:
        self._moment = moment
        self._choices = {"status": statuses, "level": LOG_LEVELS}
        self._labels = labels
        self._conditions: list[str] = []
        self._limit: int | None = None
        self.values: list[object] = []
        refuse_unknown(filters, known)
        for name, value in filters.items():
            if value is not None:
                self._add(name, value)
        if self._limit is not None:
            self.values.append(self._limit)

    def __str__(self) -> str:
        return f"where {' and '.join(self._conditions)}" if self._conditions else ""

    @property
    def limit(self) -> str:
        return "" if self._limit is None else " limit ?"

    def _add(self, name: str, value: object) -> None:
        if name == "limit":
            self._limit = checked_count(value, "limit")
        elif name == "labels":
            self._put(self._labels, encode_json(checked_labels(value)))
        elif name in {"since", "until"}:
            sign = ">=" if name == "since" else "<"
            self._put(f"{self._moment} {sign} ?::timestamptz", parse_moment(value, name).isoformat())
        elif name == "type":
            self._put("type in (select unnest(?::varchar[]))", list(select_types(value)))  # type: ignore[arg-type] # checked there
        else:
            self._put(f"{name} in (select unnest(?::varchar[]))", one_or_many(value, name, self._choices.get(name, ())))

    def _put(self, condition: str, value: object) -> None:
        self._conditions.append(condition)
        self.values.append(value)


def one_or_many(value: object, what: str, choices: Sequence[str] = ()) -> list[str]:
    """Give a list of names: of one, or of many, among `choices` if there are any.

    Raises:
        ValidationError: If it is neither.

    """
    names = [value] if isinstance(value, str) else value
    wanted = f"{what} is a string{' such as run.id' if what == 'run_id' else ''} or a list of strings"
    if not isinstance(names, Iterable):
        raise ValidationError(f"{wanted}, not {shown(value)}.")
    listed = list(names)
    for name in listed:
        if not isinstance(name, str):
            raise ValidationError(f"{wanted}; {shown(name)} is none.")
        if choices and name not in choices:
            raise ValidationError(f"{shown(name)} is no {what}: {did_you_mean(name, choices, 'they')}")
    return [storable_text(name) for name in listed]


def checked_count(value: object, what: str) -> int:
    """Give a whole number from 0 up, as far as DuckDB counts; NumPy's are whole numbers too.

    Raises:
        ValidationError: If it is none.

    """
    try:
        count = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type] # it says so itself
    except TypeError:
        count = -1
    if count < 0:
        raise ValidationError(f"{what} is a whole number from 0 up, not {shown(value)}.")
    return min(count, _MOST)


def _loaded(text: object) -> Any:  # noqa: ANN401 - whatever the JSON says
    return json.loads(text) if isinstance(text, str) else None


def _column(values: list[Any]) -> pd.Series[Any]:
    import pandas as pd  # noqa: PLC0415 - at first use: it takes half a second to load

    return pd.Series(values, dtype=object)


def _typed(frame: pd.DataFrame, columns: Mapping[str, str | tuple[str, ...]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - as above

    text = pd.Series([""]).dtype  # `object` in pandas 2, `str` in pandas 3

    def dtype(kind: str | tuple[str, ...]) -> Any:  # noqa: ANN401 - what astype takes
        if isinstance(kind, tuple):
            return pd.CategoricalDtype(list(kind))
        return text if kind == "text" else kind

    return frame[list(columns)].astype({name: dtype(kind) for name, kind in columns.items()})
