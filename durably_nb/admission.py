"""Admission: what each trigger gets, and what becomes of a run whose lease is over.

Decided from the memory of the ledger, with its lock held.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from durably_nb.errors import ConflictError
from durably_nb.events import RunCoalescedEvent, RunFailEvent, RunTriggerEvent
from durably_nb.ledger import receipt_of
from durably_nb.models import Failure
from durably_nb.rows import failure_extra
from durably_nb.store import Created
from durably_nb.writer import Commit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durably_nb.ledger import Ledger
    from durably_nb.models import NewRun, RunRecord
    from durably_nb.store import Draft, Receipt
    from durably_nb.writer import Entry


def admit(
    ledger: Ledger, new: Sequence[NewRun], known: Mapping[tuple[str, str], RunRecord], commit: Commit
) -> tuple[list[Created], bool]:
    """Answer triggers, all or none; tell whether there is something to be committed.

    `known` are runs on disk by job name and idempotency key.

    Raises:
        ConflictError: A pending run has the concurrency key of one of them.

    """
    entries: list[Entry] = []
    try:
        created = [_create(ledger, request, known, commit, entries) for request in new]
    except BaseException:
        for entry in entries:
            if entry.type == "run:trigger":
                ledger.live.drop(entry.run_id or "")
        raise
    for entry in entries:
        ledger.put(entry)
    return created, bool(entries)


def expire(ledger: Ledger, run: RunRecord) -> Receipt | None:
    """Give back a run whose lease is over; it fails if it cannot be pending beside another of its key."""
    other = ledger.live.with_concurrency_key(run.job_name, run.concurrency_key, "pending")
    if other is None:
        ledger.accept_internal("store:release", run.run_id)
        return None
    message = (
        f"its lease expired, and run {other.run_id} is pending with the same concurrency_key={run.concurrency_key!r}"
    )
    failure = Failure(type="LeaseLostError", message=message)
    draft = partial(RunFailEvent, error=str(failure), failed_step_name=None, **about(run))
    return ledger.accept(draft, run.run_id, failure_extra(failure), commit=Commit())


def about(run: RunRecord) -> dict[str, Any]:
    """Give the fields that every event about a run has."""
    return {"run_id": run.run_id, "job_name": run.job_name, "labels": run.labels}


def _create(
    ledger: Ledger,
    request: NewRun,
    known: Mapping[tuple[str, str], RunRecord],
    commit: Commit,
    entries: list[Entry],
) -> Created:
    """Decide what one trigger gets, and add the entry to be written to `entries`."""
    job, key = request.job_name, request.concurrency_key
    same = ledger.live.with_idempotency_key(job, request.idempotency_key)
    same = same or known.get((job, request.idempotency_key or ""))
    if same is not None:
        return Created(same, "idempotent", None)
    pending = ledger.live.with_concurrency_key(job, key, "pending")
    if pending is not None and not request.coalesce:
        raise ConflictError(
            f"Run {pending.run_id} of job {job!r} is already pending with concurrency_key={key!r}. Wait for it, "
            'cancel it, or trigger with coalesce="skip" to be given that run.'
        )
    if pending is not None:
        draft: Draft = partial(
            RunCoalescedEvent, skipped_input=request.input, skipped_labels=request.labels, **about(pending)
        )
        entry = ledger.number(draft, pending.run_id)
    else:
        draft = partial(
            RunTriggerEvent, run_id=request.run_id, job_name=job, labels=request.labels, input=request.input
        )
        keys = {"idempotencyKey": request.idempotency_key, "concurrencyKey": key}
        entry = ledger.number(draft, request.run_id, {name: value for name, value in keys.items() if value})
        ledger.follow(entry)
    entry.commit = commit
    entries.append(entry)
    run = pending or ledger.live.get(request.run_id)
    assert run is not None  # noqa: S101 - the ledger follows a trigger by creating its run
    return Created(run, "created" if pending is None else "coalesced", receipt_of(entry))
