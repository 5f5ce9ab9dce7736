"""A browser, a JupyterLab, and the notebooks that a test opens in it."""

from __future__ import annotations

import os
import re
import shutil
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from .lab import Gate, Notebook
from .server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from playwright.sync_api import Browser, BrowserContext, Dialog

    from .server import Server

FAILURES: Final = Path(__file__).parents[2] / "build" / "browser"
"""Of a test that failed, this is where its trace and its last picture are kept."""

TIMEOUT_MS: Final = 20_000

_HAS_FAILED: Final = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in a browser is slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember of a test that it failed, for the fixture that keeps its trace."""
    report = yield
    item.stash[_HAS_FAILED] = item.stash.get(_HAS_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One JupyterLab for all tests here."""
    with serving(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests here. It knows no name but this machine's: what it cannot load offline is missing."""
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-gpu", "--disable-quic"]
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=_chromium(), args=arguments, chromium_sandbox=os.geteuid() != 0
        )
        yield launched
        launched.close()


def _chromium() -> str:
    found = os.environ.get("DURABLY_CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise RuntimeError(
            "No chromium was found on PATH. Install it (on Debian or Ubuntu: apt-get install chromium fonts-dejavu), "
            "or name the program of a Chromium or Chrome: DURABLY_CHROMIUM=/path/to/it."
        )
    return found


@pytest.fixture(scope="package")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One profile for all tests here, so that JupyterLab is loaded once."""
    opened = browser.new_context(viewport={"width": 1100, "height": 800}, reduced_motion="reduce")
    opened.set_default_timeout(TIMEOUT_MS)
    opened.tracing.start(snapshots=True)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab. A dialog that a script opens in it fails the test; of a failed test it is kept what happened."""
    context.tracing.start_chunk()
    tab = context.new_page()
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    tab.on("dialog", note)
    yield tab
    trace = None
    if request.node.stash.get(_HAS_FAILED, False):
        name = _file_name(request.node)
        trace = FAILURES / f"{name}.zip"
        tab.screenshot(path=FAILURES / f"{name}.png")
    context.tracing.stop_chunk(path=trace)
    tab.close()
    assert dialogs == []


def _file_name(test: pytest.Item) -> str:
    return re.sub(r"\W+", "-", f"{test.path.stem}-{test.name}").strip("-")


@pytest.fixture
def folder(server: Server, request: pytest.FixtureRequest) -> Path:
    """Where the test's notebooks lie, and what they write."""
    path = server.folder / _file_name(request.node)
    path.mkdir()
    return path


@pytest.fixture
def notebook(page: Page, server: Server, folder: Path) -> Iterator[Callable[..., Notebook]]:
    """Make a notebook of cells, and open it; its kernel ends with the test."""
    numbers = count(1)

    def make(*cells: str, app: str = "doc/tree") -> Notebook:
        return Notebook(page, server, folder / f"notebook{next(numbers)}.ipynb", cells, app).open()

    yield make
    server.shut_down_kernels()
    server.forget_settings()


@pytest.fixture
def gate(folder: Path) -> Iterator[Gate]:
    """A pipe named "gate" beside the notebooks, through which a job asks for leave."""
    opened = Gate(folder / "gate")
    yield opened
    opened.close()
