"""The ledger: numbers what happens, follows it in memory, and hands it to the writer.

One lock orders all three, so that what listeners hear, what the memory answers and what the disk
keeps are the same story in the same order.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from durably_nb.errors import StoreError
from durably_nb.events import RunProgressEvent
from durably_nb.forks import generation
from durably_nb.interrupts import begin_uninterrupted, end_uninterrupted
from durably_nb.live import LiveRuns
from durably_nb.models import ACTIVE
from durably_nb.recovery import Recovered, recover
from durably_nb.rows import EMITTED, from_ms
from durably_nb.store import Receipt
from durably_nb.writer import Entry, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durably_nb.clock import Clock
    from durably_nb.models import JSONValue, RunRecord
    from durably_nb.opening import Database
    from durably_nb.rows import InternalType
    from durably_nb.store import Draft
    from durably_nb.writer import Commit, Transaction

_CHANGES_STATE: Final = frozenset(
    {"run:trigger", "run:leased", "run:complete", "run:fail", "run:cancel", "run:delete", "step:complete"}
)
_HOLD_AFTER_FAILURE_S: Final = 1.0
"""After a failed commit nothing is claimed for this long, so that a lasting fault is no busy loop."""


class Ledger:
    """The open books of a store.

    ``with ledger:`` holds the lock and makes sure that something can be stored; everything but
    `flush` and `close` is called within it.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        accepted: Callable[[Receipt], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Open the books of a database.

        Args:
            database: The open database.
            clock: Tells the time of events.
            accepted: Called with each event as it is numbered, with the lock held.
            failed: Called after each failed commit, without the lock.

        """
        self.lock = threading.RLock()
        self.live = LiveRuns(database.runs)
        self.held_until = 0.0
        self._database = database
        self._clock = clock
        self._pid = os.getpid()
        self._generation = generation()
        self._accepted = accepted
        self._moment = (0, from_ms(0))
        self._sequence = database.sequence
        self._broken: Exception | None = None
        self._closed = False
        self._has_failed = False
        self._writer = Writer(
            database.cursor(),
            database.catalog,
            self.lock,
            written=database.sequence,
            states={run.run_id: run for run in database.runs},
            folded=self._forget_ended,
            failed=self._start_again,
            report=failed,
        )
        with self.lock:
            self._void_leases()  # to hold the file is to know that whoever held them is dead

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            StoreError: If the store is closed, out of order, or was opened before a fork.

        """
        # Looked at first: a child may have inherited a lock that nobody is left to give up.
        self._refuse_after_fork()
        begin_uninterrupted()  # what is numbered must also be followed, queued and posted
        self.lock.acquire()
        try:
            self._ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock up."""
        self.lock.release()
        end_uninterrupted()

    def _ready(self) -> None:
        self._writer.wait_for_space()
        # Asked after the wait, in which somebody may have closed the store.
        if self._closed:
            raise closed_error()
        if self._broken is not None:
            raise StoreError(
                "The store is out of order since a commit failed and its state could not be read again: "
                f"{self._broken} Call close(), see to the disk, and open it again."
            ) from self._broken

    def _refuse_after_fork(self) -> None:
        if generation() != self._generation:
            raise StoreError(
                f"The store was opened in process {self._pid}, and this is a process forked from it: what it would "
                "write is lost. Use it in the process that opened it, and hand results back to that one."
            )

    def number(self, draft: Draft, run_id: str | None, extra: Mapping[str, JSONValue] | None = None) -> Entry:
        """Give an event its sequence and time; it is not accepted yet."""
        self._sequence += 1
        ms = self._clock.now_ms()
        if ms != self._moment[0]:  # many events share a millisecond, and making a datetime costs more than comparing
            self._moment = (ms, from_ms(ms))
        event = draft(sequence=self._sequence, timestamp=self._moment[1])
        return Entry(sequence=self._sequence, ms=ms, run_id=run_id, type=event.type, event=event, extra=extra)

    def follow(self, entry: Entry) -> None:
        """Change the state in memory as the entry says."""
        event = entry.event
        if isinstance(event, RunProgressEvent):
            if not (entry.extra and EMITTED in entry.extra):
                self.live.note_progress(event.run_id, event.progress)
        elif event is None or entry.type in _CHANGES_STATE:
            self.live.apply(entry.row())

    def put(self, entry: Entry) -> None:
        """Queue an entry that was followed, and post its event."""
        self._writer.put(entry)
        if entry.event is not None:
            # Under the lock: events are posted in the order of their numbers.
            self._accepted(receipt_of(entry))

    def accept(
        self,
        draft: Draft,
        run_id: str | None,
        extra: Mapping[str, JSONValue] | None = None,
        *,
        commit: Commit | None = None,
        transaction: Transaction | None = None,
    ) -> Receipt:
        """Number an event, follow it and queue it."""
        entry = self.number(draft, run_id, extra)
        entry.commit = commit
        entry.transaction = transaction
        self.follow(entry)
        self.put(entry)
        return receipt_of(entry)

    def accept_internal(  # noqa: PLR0913 - what there is to say of a row
        self,
        kind: InternalType,
        run_id: str | None,
        *,
        extra: Mapping[str, JSONValue] | None = None,
        base: RunRecord | None = None,
        commit: Commit | None = None,
        transaction: Transaction | None = None,
    ) -> None:
        """Do the same for a row that no listener hears; `base` brings an ended run back to life."""
        self._sequence += 1
        entry = Entry(
            sequence=self._sequence,
            ms=self._clock.now_ms(),
            run_id=run_id,
            type=kind,
            extra=extra,
            commit=commit,
            transaction=transaction,
            base=base,
        )
        if base is not None:
            self.live.put(base)
        if run_id is not None:
            self.follow(entry)
        self.put(entry)

    def is_active(self, run_id: str) -> bool:
        """Whether a run is pending or leased."""
        run = self.live.get(run_id)
        return run is not None and run.status in ACTIVE

    def flush(self) -> None:
        """Return when everything accepted so far is on disk and folded."""
        with self:
            pass
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, end the writer and close the database; may be called twice."""
        if generation() != self._generation:
            return  # the writer thread, the connection and the lock are the parent's
        with self.lock:
            if self._closed:
                return
            self._closed = True
        self._writer.close()
        # After a failed commit there may be files that no row names: the next opening is to look for them.
        self._database.close(sequence=None if self._has_failed else self._sequence)

    def _void_leases(self) -> None:
        for run in self.live.leased:
            self.accept_internal("store:release", run.run_id)

    # --- called on the writer thread ---

    def _forget_ended(self, runs: Sequence[RunRecord]) -> None:
        with self.lock:
            for run in runs:
                if run.status not in ACTIVE and not self.is_active(run.run_id):
                    self.live.drop(run.run_id)

    def _start_again(self) -> Recovered:
        """After a failed commit: what was accepted is void, and so is every lease."""
        self._has_failed = True
        generations = self.live.generations()
        try:
            cursor = self._database.cursor()
            try:
                found = recover(cursor)
            finally:
                cursor.close()
        except Exception as unreadable:  # noqa: BLE001 - whatever it is, the store can't go on
            self._broken = unreadable
            self.live = LiveRuns()
            return Recovered({}, {}, 0)
        self.live = LiveRuns((found.active | found.unfolded).values(), generations)
        self.held_until = self._clock.monotonic() + _HOLD_AFTER_FAILURE_S
        self._void_leases()
        return found


def receipt_of(entry: Entry) -> Receipt:
    """Give the receipt of an entry that holds an event."""
    event: Any = entry.event
    return Receipt(event, entry.commit, emitted=entry.extra is not None and EMITTED in entry.extra)


def closed_error() -> StoreError:
    """Give what a closed store answers."""
    return StoreError(
        "The store is not open. Was it closed? Open the file again with dn.open(...); init() opens a new Durably."
    )
