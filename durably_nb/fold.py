"""The state of a run is the fold of its rows: one function, used live, at open and in history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durably_nb.models import Failure, ProgressData, RunRecord
from durably_nb.rows import EMITTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.rows import Row


def fold(run: RunRecord | None, row: Row) -> RunRecord | None:
    """Give the state of a run after a row of it; None: there is no such run (any more).

    A row that the state knows of already changes nothing, so that rows may be folded again.
    """
    if run is not None and row.sequence <= run.last_sequence:
        return run
    if row.type == "run:trigger":
        return _triggered(row)
    if row.type == "run:delete":
        return None
    change = _CHANGES.get(row.type)
    if run is None or change is None or EMITTED in row.data:
        return run
    return replace(run, last_sequence=row.sequence, **change(run, row))


def _triggered(row: Row) -> RunRecord:
    data: Any = row.data
    return RunRecord(
        run_id=row.run_id or "",
        job_name=data["jobName"],
        status="pending",
        input=data["input"],
        labels=data["labels"],
        created_at=row.timestamp,
        created_sequence=row.sequence,
        last_sequence=row.sequence,
        idempotency_key=data.get("idempotencyKey"),
        concurrency_key=data.get("concurrencyKey"),
    )


def _leased(run: RunRecord, row: Row) -> dict[str, Any]:
    return {
        "status": "leased",
        "lease_owner": row.data["leaseOwner"],
        "lease_generation": row.data["generation"],
        "interrupted": False,
        "started_at": run.started_at or row.timestamp,
    }


def _released(_: RunRecord, __: Row) -> dict[str, Any]:
    return {"status": "pending", "lease_owner": None, "interrupted": True}


def _resumed(_: RunRecord, __: Row) -> dict[str, Any]:
    return {
        "status": "pending",
        "failure": None,
        "failed_step_name": None,
        "completed_at": None,
        "output": None,
    }


def _progressed(_: RunRecord, row: Row) -> dict[str, Any]:
    progress: Any = row.data["progress"]
    return {"progress": ProgressData(**progress)}


def _step_completed(run: RunRecord, _: Row) -> dict[str, Any]:
    return {"step_count": run.step_count + 1}


def _completed(_: RunRecord, row: Row) -> dict[str, Any]:
    return _ended("completed", row) | {"output": row.data["output"]}


def _failed(_: RunRecord, row: Row) -> dict[str, Any]:
    data: Any = row.data
    failure = Failure(type=data["errorType"], message=data["errorMessage"], traceback=data["traceback"])
    return _ended("failed", row) | {"failure": failure, "failed_step_name": data["failedStepName"]}


def _cancelled(_: RunRecord, row: Row) -> dict[str, Any]:
    return _ended("cancelled", row)


def _ended(status: str, row: Row) -> dict[str, Any]:
    return {"status": status, "completed_at": row.timestamp, "lease_owner": None, "interrupted": False}


_CHANGES: dict[str, Callable[[RunRecord, Row], dict[str, Any]]] = {
    "run:leased": _leased,
    "run:progress": _progressed,
    "run:complete": _completed,
    "run:fail": _failed,
    "run:cancel": _cancelled,
    "step:complete": _step_completed,
    "store:release": _released,
    "store:resume": _resumed,
}
