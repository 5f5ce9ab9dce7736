"""The live runs in memory: the authority on what is pending and who holds what.

Kept by folding each accepted row at once, so that no question of the hot path needs the disk.
Not thread-safe: the store calls it with its lock held.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from durably_nb.errors import CancelledError, LeaseLostError
from durably_nb.fold import fold
from durably_nb.models import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from durably_nb.models import Lease, ProgressData, RunRecord
    from durably_nb.rows import Row


class LiveRuns:
    """The runs that are pending or leased, and those that ended but are not in `run_state` yet."""

    def __init__(self, runs: Iterable[RunRecord] = (), generations: Mapping[str, int] | None = None) -> None:
        """Begin with the runs that are not ended, as the disk has them.

        `generations` are those of leases that were granted before, and that the disk may not know of.
        """
        self._generations = generations or {}
        self._runs: dict[str, RunRecord] = {}
        self._leased: dict[str, RunRecord] = {}
        # Deleted, while the disk may still say otherwise.
        self.gone: set[str] = set()
        self._progress: dict[str, ProgressData] = {}
        # Heaps of (turn, run id) by job. An entry of a run that is no longer pending is passed over.
        self._lines: dict[str, list[tuple[tuple[bool, int], str]]] = defaultdict(list)
        self._by_concurrency_key: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._by_idempotency_key: dict[tuple[str, str], str] = {}
        for run in runs:
            self.put(run)

    def __iter__(self) -> Iterator[RunRecord]:
        """Go over the runs."""
        return iter(self._runs.values())

    @property
    def leased(self) -> list[RunRecord]:
        """The runs that somebody holds."""
        return list(self._leased.values())

    def get(self, run_id: str) -> RunRecord | None:
        """Give the state of a run, its latest progress included."""
        run = self._runs.get(run_id)
        if run is None or run_id not in self._progress:
            return run
        return replace(run, progress=self._progress[run_id])

    def put(self, run: RunRecord) -> None:
        """Take in a run, or its new state."""
        self._runs[run.run_id] = run
        if run.idempotency_key is not None:
            self._by_idempotency_key[run.job_name, run.idempotency_key] = run.run_id
        if run.concurrency_key is not None:
            holders = self._by_concurrency_key[run.job_name, run.concurrency_key]
            (holders.add if run.status in ACTIVE else holders.discard)(run.run_id)
        if run.status == "leased":
            self._leased[run.run_id] = run
        else:
            self._leased.pop(run.run_id, None)
        if run.status == "pending":
            heapq.heappush(self._lines[run.job_name], (_turn(run), run.run_id))

    def apply(self, row: Row) -> None:
        """Follow a row that was accepted."""
        run_id = row.run_id or ""
        before = self._runs.get(run_id)
        after = fold(before, row)
        if after is None:
            self.drop(run_id)
        elif after is not before:
            self.put(after)

    def note_progress(self, run_id: str, progress: ProgressData) -> None:
        """Keep the latest progress of a run; much quicker than a fold, and called far more often."""
        self._progress[run_id] = progress

    def drop(self, run_id: str) -> None:
        """Let go of a run that ended."""
        self._progress.pop(run_id, None)
        self._leased.pop(run_id, None)
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        if run.idempotency_key is not None:
            self._by_idempotency_key.pop((run.job_name, run.idempotency_key), None)
        if run.concurrency_key is not None:
            key = (run.job_name, run.concurrency_key)
            self._by_concurrency_key[key].discard(run_id)
            if not self._by_concurrency_key[key]:
                del self._by_concurrency_key[key]

    def with_idempotency_key(self, job_name: str, key: str | None) -> RunRecord | None:
        """Give the live run of a job that was triggered with a key."""
        return None if key is None else self.get(self._by_idempotency_key.get((job_name, key), ""))

    def with_concurrency_key(self, job_name: str, key: str | None, status: str) -> RunRecord | None:
        """Give a run of that key and status."""
        if key is None:
            return None
        holders = (self._runs[run_id] for run_id in self._by_concurrency_key.get((job_name, key), ()))
        return next((run for run in holders if run.status == status), None)

    def next_pending(self, job_names: Iterable[str], excluding: Collection[str]) -> RunRecord | None:
        """Give the run of these jobs whose turn it is: interrupted ones first, then the oldest."""
        firsts = (self._first_in_line(job_name, excluding) for job_name in job_names)
        return min((run for run in firsts if run is not None), key=_turn, default=None)

    def generations(self) -> dict[str, int]:
        """Give the generation of the last lease of each run, those included that the disk never knew of."""
        return {**self._generations, **{run.run_id: self.next_generation(run) - 1 for run in self}}

    def next_generation(self, run: RunRecord) -> int:
        """Give the generation of the next lease; it only grows, over failed commits too."""
        return max(run.lease_generation, self._generations.get(run.run_id, 0)) + 1

    def check(self, lease: Lease) -> None:
        """Refuse a lease that is no longer the newest of its run.

        Raises:
            CancelledError: If the run was cancelled.
            LeaseLostError: If another holder has it, or nobody.

        """
        run = self._runs.get(lease.run_id)
        if run is not None and run.status == "leased" and run.lease_generation == lease.generation:
            return
        if run is not None and run.status == "cancelled":
            raise CancelledError(f"Run {lease.run_id} was cancelled.")
        raise LeaseLostError(
            f"The lease of run {lease.run_id} (generation {lease.generation}) is over; "
            "what its former holder does is no longer stored."
        )

    def _first_in_line(self, job_name: str, excluding: Collection[str]) -> RunRecord | None:
        line = self._lines.get(job_name, [])
        passed = []
        found = None
        while line and found is None:
            turn, run_id = line[0]
            run = self._runs.get(run_id)
            if run is None or run.status != "pending" or _turn(run) != turn:
                heapq.heappop(line)
            elif run_id in excluding or self._is_blocked(run):
                passed.append(heapq.heappop(line))
            else:
                found = run
        for entry in passed:
            heapq.heappush(line, entry)
        return found

    def _is_blocked(self, run: RunRecord) -> bool:
        return self.with_concurrency_key(run.job_name, run.concurrency_key, "leased") is not None


def _turn(run: RunRecord) -> tuple[bool, int]:
    return (not run.interrupted, run.created_sequence)
