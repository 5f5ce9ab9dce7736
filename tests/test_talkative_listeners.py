"""Listeners that print and log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import durably_nb as dn

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_listener_that_prints_every_event(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`d.on("*", print)` shows each event once on the screen, and nothing of it becomes the run's log."""
    with dn.Durably(path) as d:
        d.on("*", lambda event: print(event.type, event.sequence))

        @d.job
        def job(step: dn.StepContext) -> None:
            step.run("one", print, "from the step")

        run = job.trigger()
        run.result(timeout=20)
        assert list(run.logs()["message"]) == ["from the step"]
        shown = capfd.readouterr().out.splitlines()
    assert len(shown) == len(set(shown))
    assert {line.split()[0] for line in shown} >= {"run:trigger", "step:complete", "log:write", "run:complete"}


def test_a_listener_that_raises_at_every_event(path: Path) -> None:
    """Without an on_error handler each exception of a listener is logged once, not as a line of the run's log."""
    with dn.Durably(path) as d:

        def broken(_: object) -> None:
            logging.getLogger("of the listener").error("about to raise")
            raise ValueError

        d.on("*", broken)

        @d.job
        def job(step: dn.StepContext) -> None:
            step.run("one", int)

        run = job.trigger()
        run.result(timeout=20)
        assert run.logs().empty
