"""The two clocks: one tells the time of day, the other only goes forward."""

from __future__ import annotations

import time


class Clock:
    """The machine's clocks; tests pass one of their own."""

    def now_ms(self) -> int:
        """Give milliseconds since the epoch; may jump when the machine's clock is set."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Give seconds that only go forward, and stand still while the machine sleeps."""
        return time.monotonic()
