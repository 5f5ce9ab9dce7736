"""The table `run_state`: writes and reads the states of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pydantic

from durably_nb.models import RunRecord
from durably_nb.rows import encode_json, to_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

_record: Final = pydantic.TypeAdapter(RunRecord)


def read_state(text: str) -> RunRecord:
    """Read the column `state`."""
    return _record.validate_json(text)


def write_states(connection: duckdb.DuckDBPyConnection, schema: str, runs: Sequence[RunRecord]) -> None:
    """Write the states of runs, in one statement."""
    if runs:
        columns = [list(column) for column in zip(*map(_row, runs), strict=True)]
        connection.execute(
            f"insert or replace into {schema}.run_state select unnest($1), unnest($2), unnest($3), unnest($4), "
            "unnest($5), unnest($6::bigint[]), unnest($7::varchar[]), unnest($8), unnest($9)",
            columns,
        )


def set_meta(connection: duckdb.DuckDBPyConnection, schema: str, key: str, value: str) -> None:
    """Set one value of the table `meta`."""
    connection.execute(f"insert or replace into {schema}.meta values (?, ?)", [key, value])  # noqa: S608 - the catalog's name, quoted


def _row(run: RunRecord) -> tuple[object, ...]:
    return (
        run.run_id,
        run.job_name,
        run.status,
        run.created_sequence,
        run.last_sequence,
        None if run.completed_at is None else to_ms(run.completed_at),
        run.idempotency_key,
        encode_json(dict(run.labels)),
        _record.dump_json(run).decode(),
    )
