"""What fifty live panels cost the kernel, beside the same runs without panels.

Call it with ``python -m benchmarks.panels [panels]``. Each run reports progress 20 times a second for five seconds.
Messages are packed and signed as a kernel does, and not sent.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comm
from comm.base_comm import BaseComm
from jupyter_client.session import Session

import durably_nb as dn
from durably_nb.widgets.pump import pump

if TYPE_CHECKING:
    from collections.abc import Iterable

PANELS = 50
REPORTS_A_SECOND = 20
SECONDS = 5.0


class Counted(BaseComm):
    """A comm that packs its messages and counts them."""

    session = Session(key=b"benchmark")
    messages = 0
    bytes = 0

    def publish_msg(self, msg_type: str, data: Any = None, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as comm has it
        """Pack a message, as a kernel does."""
        message = self.session.msg(msg_type, {"comm_id": self.comm_id, "data": data or {}})
        Counted.messages += 1
        Counted.bytes += sum(map(len, self.session.serialize(message)))


class PumpClock:
    """A drawing that shows nothing: it looks at the clock of the pump's thread."""

    def __init__(self) -> None:
        """Begin before the thread does."""
        self._seconds = 0.0
        self._looked = threading.Event()

    def draw(self) -> None:
        """Look at the time that this thread has used; called by the pump."""
        self._seconds = time.thread_time()
        self._looked.set()

    def seconds(self) -> float:
        """Give the CPU time of the pump's thread."""
        self._looked.clear()
        pump.note(self)
        self._looked.wait()
        return self._seconds


@dataclass
class Cost:
    """What some seconds cost: the process and the pump's thread in shares of a core, messages and bytes a second."""

    process: float
    pump: float
    messages: float
    bytes: float


def measured(folder: Path, runs: int, *, with_panels: bool) -> Cost:
    """Execute runs at once, each with a panel or none, and give what it costs while they report."""
    clock = PumpClock()
    pump.add(clock)
    begin = threading.Event()

    def busy(step: dn.StepContext) -> None:
        begin.wait()
        for number in range(int(SECONDS * REPORTS_A_SECOND)):
            step.progress(number, SECONDS * REPORTS_A_SECOND, "at work")
            time.sleep(1 / REPORTS_A_SECOND)

    with dn.Durably(folder / f"{with_panels}.duckdb", max_concurrent_runs=runs) as d:
        handles = d.job(busy).batch_trigger([{}] * runs)
        panels = [d.watch(run) for run in handles if with_panels]
        cpu, of_pump, messages, size, began = (
            time.process_time(),
            clock.seconds(),
            Counted.messages,
            Counted.bytes,
            time.perf_counter(),
        )
        begin.set()
        waited_for(handles)
        took = time.perf_counter() - began
        cost = Cost(
            process=(time.process_time() - cpu) / took,
            pump=(clock.seconds() - of_pump) / took,
            messages=(Counted.messages - messages) / took,
            bytes=(Counted.bytes - size) / took,
        )
        for panel in panels:
            panel.close()
    pump.remove(clock)
    return cost


def waited_for(runs: Iterable[dn.Run]) -> None:
    """Wait, off the main thread, which would draw meanwhile."""
    waiting = threading.Thread(target=lambda: [run.result() for run in runs])
    waiting.start()
    waiting.join()


def main() -> None:
    """Print what panels cost."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else PANELS
    comm.create_comm = Counted
    with tempfile.TemporaryDirectory() as folder:
        without = measured(Path(folder), runs, with_panels=False)
        with_panels = measured(Path(folder), runs, with_panels=True)
    print(f"{runs} runs at once, each reporting {REPORTS_A_SECOND} times a second; Python {sys.version.split()[0]}")
    print(f"{'without panels, % of a core':55} {without.process:>12.1%}")
    print(f"{'with panels, % of a core':55} {with_panels.process:>12.1%}")
    print(f"{'  what panels add (aim: under 5 %)':55} {with_panels.process - without.process:>12.1%}")
    print(f"{'  the thread that draws, % of a core':55} {with_panels.pump:>12.1%}")
    print(f"{'messages a second (aim: under 100)':55} {with_panels.messages:>12.0f}")
    print(f"{'kilobytes a second':55} {with_panels.bytes / 1000:>12.0f}")


if __name__ == "__main__":
    main()
