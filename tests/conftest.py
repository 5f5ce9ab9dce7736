"""What every test may use, and what every test must leave behind: no thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test keeps its database; the file does not exist yet."""
    return tmp_path / "jobs.duckdb"


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """Every thread of the library that a test starts is joined when the test ends."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("durably")]
    assert not left, f"still running: {sorted(left)}; close() what the test opened"
