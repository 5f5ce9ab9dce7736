"""`results`: what runs were given and what they gave, side by side in a DataFrame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pydantic

from durably_nb.errors import ValidationError
from durably_nb.models import RUN_STATUSES, TERMINAL
from durably_nb.runs import Run
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta

    import pandas as pd

_OWN: Final = ("run_id", "status", "error", "duration", "created_at")
_INT64: Final = range(-(2**63), 2**63)


def results(runs: Iterable[Run]) -> pd.DataFrame:
    """Give runs as a DataFrame: a row each in their order, with what it was given and what it gave.

    The columns are ``run_id`` and ``status``; each parameter; each key of the outputs if all of them are dicts,
    dataclasses or pydantic models, else ``output``; ``error``, ``duration`` (a Timedelta) and ``created_at`` (in UTC).
    A parameter named like one of the library's columns gets the suffix ``_in``; a key named like one of those, or like
    a parameter, gets ``_out``. Where a run has no value, the cell is missing.

    Raises:
        ValidationError: If something among `runs` is no run.
        SerializationError: If a value cannot be read, such as one whose class is not defined here.

    """
    import pandas as pd  # noqa: PLC0415 - at first use: it takes half a second to load

    rows = [_row(run) for run in _checked(runs)]
    given = _renamed(_columns([row.given for row in rows]), "_in", taken=_OWN)
    output = _renamed(_output_columns([row.output for row in rows]), "_out", taken=[*_OWN, *given])
    text = pd.Series([""]).dtype  # `object` in pandas 2, `str` in pandas 3
    return pd.DataFrame(
        {
            "run_id": pd.Series([row.run_id for row in rows], dtype=text),
            "status": pd.Categorical([row.status for row in rows], RUN_STATUSES),
            **{name: _column(values) for name, values in (given | output).items()},
            "error": pd.Series([row.error for row in rows], dtype=text),
            "duration": pd.Series([row.duration for row in rows], dtype="timedelta64[us]"),
            "created_at": pd.Series([row.created_at for row in rows], dtype="datetime64[us, UTC]"),
        }
    )


class _Row(NamedTuple):
    """One run at a moment."""

    run_id: str
    status: str
    given: dict[str, Any]
    output: Any
    error: str | None
    duration: timedelta | None
    created_at: datetime


def _checked(runs: object) -> list[Run]:
    if not isinstance(runs, Iterable):
        raise ValidationError(f"results takes a list of runs, such as d.get_runs() gives, not {shown(runs)}.")
    listed = list(runs)
    for run in listed:
        if not isinstance(run, Run):
            raise ValidationError(f"results takes runs, such as d.get_runs() gives; {shown(run)} is none.")
    return listed


def _row(run: Run) -> _Row:
    status = run.status  # first: of a run that has ended the rest stands
    began, ended = (run.started_at, run.completed_at) if status in TERMINAL else (None, None)
    return _Row(
        run_id=run.id,
        status=status,
        given=run.input,
        output=run.output if status == "completed" else None,
        error=run.error,
        duration=ended - began if began is not None and ended is not None else None,
        created_at=run.created_at,
    )


def _output_columns(outputs: list[Any]) -> dict[str, list[Any]]:
    """Give a column for each key, or the one column ``output`` unless all outputs that there are have keys."""
    by_key = [_by_key(output) for output in outputs if output is not None]
    if not by_key or None in by_key:
        return {"output": outputs}
    return _columns([_by_key(output) or {} for output in outputs])


def _by_key(output: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - what a job function returned
    if isinstance(output, Mapping):
        return output if all(isinstance(key, str) for key in output) else None
    if isinstance(output, pydantic.BaseModel):
        return dict(output)
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return None


def _columns(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for entry in entries for name in entry)
    return {name: [entry.get(name) for entry in entries] for name in names}


def _renamed(columns: dict[str, list[Any]], suffix: str, *, taken: Collection[str]) -> dict[str, list[Any]]:
    """Give columns whose name is taken the suffix, as often as it takes; the others keep theirs."""
    renamed: dict[str, list[Any]] = {}
    for name, values in columns.items():
        free = name
        while free in taken or free in renamed or (free != name and free in columns):
            free += suffix
        renamed[free] = values
    return renamed


def _column(values: list[Any]) -> pd.Series[Any]:
    """Give values as a column of the type that fits; whole numbers stay exact beside a missing one."""
    import pandas as pd  # noqa: PLC0415 - as above

    column = pd.Series(values, dtype=object)
    is_whole = {type(value) for value in values} == {int, type(None)}
    if is_whole and all(value is None or value in _INT64 for value in values):
        return column.astype("Int64")
    return column.infer_objects()
