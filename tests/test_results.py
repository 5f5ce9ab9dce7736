# ruff: noqa: ARG001 - the jobs here are given more than they use
"""`dn.results`: what runs were given and what they gave, side by side."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pydantic
import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = ["run_id", "status", "error", "duration", "created_at"]


class Fit(pydantic.BaseModel):
    """What a job may return."""

    slope: float
    name: str = "line"


@dataclasses.dataclass
class Window:
    """What another may return."""

    first: int
    last: int


def ran(d: dn.Durably, fn: Callable[..., Any], inputs: list[dict[str, Any]]) -> pd.DataFrame:
    runs = d.job(fn).batch_trigger(inputs)
    d.process_until_idle()
    return dn.results(runs)


def columns(found: pd.DataFrame) -> list[str]:
    """Give the columns between the library's own."""
    assert [name for name in found.columns if name in OWN] == OWN
    assert list(found.columns[:2]) == OWN[:2]
    assert list(found.columns[-3:]) == OWN[2:]
    return list(found.columns[2:-3])


def test_inputs_and_outputs_stand_side_by_side(idle: dn.Durably) -> None:
    """Each run is a row, in the order of the list, with its parameters and the keys of its output as columns."""

    def halve(step: dn.StepContext, number: int, unit: str = "m") -> dict[str, Any]:
        return {"half": number / 2, "text": f"{number / 2} {unit}"}

    found = ran(idle, halve, [{"number": 4}, {"number": 1, "unit": "km"}])
    assert columns(found) == ["number", "unit", "half", "text"]
    assert found["number"].tolist() == [4, 1]
    assert found["half"].tolist() == [2.0, 0.5]
    assert found["text"].tolist() == ["2.0 m", "0.5 km"]
    assert found["status"].tolist() == ["completed", "completed"]
    assert list(found.index) == [0, 1]


def test_the_columns_have_types(idle: dn.Durably) -> None:
    """Numbers are numbers, durations Timedeltas, times aware: the frame can be computed with."""

    def halve(step: dn.StepContext, number: int) -> dict[str, float]:
        return {"half": number / 2}

    found = ran(idle, halve, [{"number": 4}, {"number": 1}])
    assert str(found["number"].dtype) == "int64"
    assert str(found["half"].dtype) == "float64"
    assert str(found["duration"].dtype) == "timedelta64[us]"
    assert str(found["created_at"].dtype) == "datetime64[us, UTC]"
    assert found["duration"].min() >= pd.Timedelta(0)
    assert found["error"].isna().all()
    assert found.groupby("status", observed=True)["half"].sum()["completed"] == 2.5


@pytest.mark.parametrize("output", [Fit(slope=2.0), Window(first=1, last=2)])
def test_models_and_dataclasses_have_columns(idle: dn.Durably, output: object) -> None:
    """What a job returns as a model or a dataclass is spread out by its fields."""

    def give(step: dn.StepContext) -> Any:
        return output

    found = ran(idle, give, [{}])
    given = dict(output) if isinstance(output, pydantic.BaseModel) else vars(output)
    assert found.loc[0, list(given)].to_dict() == given


def test_other_outputs_are_one_column(idle: dn.Durably) -> None:
    """A number, a list or a DataFrame stands in the column `output` as it is."""

    def give(step: dn.StepContext, kind: str) -> Any:
        return {"list": [1, 2], "frame": pd.DataFrame({"a": [1, 2]}), "dict": {"a": 1}, "array": np.arange(3)}[kind]

    found = ran(idle, give, [{"kind": kind} for kind in ("list", "frame", "dict", "array")])
    assert columns(found) == ["kind", "output"]
    assert found["output"][0] == [1, 2]
    pd.testing.assert_frame_equal(found["output"][1], pd.DataFrame({"a": [1, 2]}))
    assert found["output"][2] == {"a": 1}
    assert found["output"][3].tolist() == [0, 1, 2]


def test_what_is_missing_is_missing(idle: dn.Durably) -> None:
    """A run that failed has its parameters and its error, and no output; the others' whole numbers stay whole."""

    def big(step: dn.StepContext, number: int) -> dict[str, int]:
        if number < 0:
            raise ValueError("negative")
        return {"big": 2**60 + number}

    found = ran(idle, big, [{"number": 1}, {"number": -1}])
    assert found["status"].tolist() == ["completed", "failed"]
    assert found["big"][0] == 2**60 + 1
    assert pd.isna(found["big"][1])
    assert found["error"].tolist()[1] == "ValueError: negative"
    assert found["duration"].notna().all()


def test_runs_of_several_jobs_share_a_frame(idle: dn.Durably) -> None:
    """Where one job has no such parameter or key, the cell is missing."""

    def first(step: dn.StepContext, a: int) -> dict[str, int]:
        return {"x": a}

    def second(step: dn.StepContext, b: str) -> dict[str, int]:
        return {"y": 2}

    runs = [idle.job(first).trigger(a=1), idle.job(second).trigger(b="B")]
    idle.process_until_idle()
    found = dn.results(runs)
    assert columns(found) == ["a", "b", "x", "y"]
    assert found.isna()[["a", "b", "x", "y"]].to_numpy().tolist() == [
        [False, True, False, True],
        [True, False, True, False],
    ]


def test_names_that_clash_get_a_suffix(idle: dn.Durably) -> None:
    """A parameter named like one of the library's columns ends in _in; a key that is taken ends in _out."""

    def clash(step: dn.StepContext, status: str, rows: int, rows_out: int = 0) -> dict[str, Any]:
        return {"rows": rows + 1, "error": "none", "other": 1}

    found = ran(idle, clash, [{"status": "mine", "rows": 1}])
    assert columns(found) == ["status_in", "rows", "rows_out", "rows_out_out", "error_out", "other"]
    assert found.iloc[0][["status_in", "rows", "rows_out", "rows_out_out"]].to_list() == ["mine", 1, 0, 2]


def test_a_suffix_takes_no_name_away(idle: dn.Durably) -> None:
    """A key that is free keeps its name, whatever the order of the keys."""

    def clash(step: dn.StepContext, rows: int) -> dict[str, int]:
        return {"rows": 1, "rows_out": 2}

    found = ran(idle, clash, [{"rows": 0}])
    assert found.iloc[0][["rows", "rows_out_out", "rows_out"]].to_list() == [0, 1, 2]


def test_pending_runs_have_rows(idle: dn.Durably) -> None:
    """Before a batch has ended its frame says which runs are missing."""

    def halve(step: dn.StepContext, number: int) -> float:
        return number / 2

    runs = idle.job(halve).batch_trigger([{"number": 4}, {"number": 1}])
    idle.process_one()
    found = dn.results(runs)
    assert found["status"].tolist() == ["completed", "pending"]
    assert found["output"][0] == 2.0
    assert pd.isna(found["output"][1])
    assert found["duration"].isna().tolist() == [False, True]


def test_no_runs_give_an_empty_frame() -> None:
    """Nothing found is a frame with the usual columns and types, so that code after it goes on working."""
    found = dn.results([])
    assert columns(found) == ["output"]
    assert len(found) == 0
    assert str(found["duration"].dtype) == "timedelta64[us]"
    assert str(found["created_at"].dtype) == "datetime64[us, UTC]"


def test_any_iterable_of_runs_will_do(idle: dn.Durably) -> None:
    """A generator, a tuple or what get_runs gives: all are runs."""

    def one(step: dn.StepContext) -> int:
        return 1

    runs = idle.job(one).batch_trigger([{}, {}])
    expected = [run.id for run in runs]
    assert dn.results(run for run in runs)["run_id"].tolist() == expected
    assert dn.results(tuple(runs))["run_id"].tolist() == expected
    assert dn.results(reversed(idle.get_runs()))["run_id"].tolist() == expected


@pytest.mark.parametrize("wrong", [1, None, ["01ABC"], "01ABC"])
def test_what_is_no_run_is_refused(wrong: Any) -> None:
    """A wrong argument is named, with what to pass instead."""
    with pytest.raises(dn.ValidationError, match=r"d\.get_runs\(\)"):
        dn.results(wrong)
