"""The lease keeper: extends the leases of the runs that execute, on a thread of its own.

Of its own, so that a job that never pauses or a listener that blocks cannot lose the lease.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from durably_nb.errors import CancelledError, LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durably_nb.errors import UnwindReason
    from durably_nb.models import Lease


class LeaseKeeper:
    """Calls `renew` for each lease that is held, every interval."""

    def __init__(
        self,
        renew: Callable[[Lease], None],
        interval_s: Callable[[], float],
        failed: Callable[[Exception, str], None],
    ) -> None:
        """Take what renews a lease; the thread is started when the first one is held."""
        self._renew = renew
        self._interval_s = interval_s
        self._failed = failed
        self._changed = threading.Condition()
        self._held: dict[Lease, Callable[[UnwindReason], None]] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    @contextmanager
    def holding(self, lease: Lease, over: Callable[[UnwindReason], None]) -> Iterator[None]:
        """Keep a lease alive for the length of the block; `over(reason)` is called if it is cancelled or lost."""
        with self._changed:
            self._held[lease] = over
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._loop, name="durably-lease", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._held[lease]

    def close(self) -> None:
        """End the thread; may be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._closing)
                self._changed.wait_for(lambda: self._closing, self._interval_s())
                if self._closing:
                    return
                held = list(self._held.items())
            for lease, over in held:
                self._keep(lease, over)

    def _keep(self, lease: Lease, over: Callable[[UnwindReason], None]) -> None:
        try:
            self._renew(lease)
        except (LeaseLostError, CancelledError) as refusal:
            with self._changed:
                is_held = lease in self._held  # else it ended in the meantime, as it should
            if is_held:
                # A cancel may be seen here before whoever cancels has come to set the signal.
                over("cancelled" if isinstance(refusal, CancelledError) else "lease-lost")
        except Exception as error:  # noqa: BLE001 - the other leases want to be kept
            self._failed(error, lease.run_id)
