"""A JupyterLab of the tests' own: on loopback, with a token, and with no file of the user's read or written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from nbformat.sign import NotebookNotary

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

_TOKEN: Final = "browser-tests"  # noqa: S105 - it guards an empty folder, on loopback, for a minute

_SETTINGS: Final = {
    # A test saves when it wants to, and nobody asks anything of the network or of the user.
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False, "lastModifiedCheckMargin": 60_000},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension:sessionDialogs": {"skipKernelRestartDialog": True},
}


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address, and where it keeps its files."""

    address: str
    home: Path

    @property
    def folder(self) -> Path:
        """The folder that it serves."""
        return self.home / "notebooks"

    def url(self, path: str) -> str:
        """Give the URL of a path of the server, with the token that opens it."""
        return f"{self.address}{path}?token={_TOKEN}"

    def trust(self, notebook: NotebookNode) -> None:
        """Trust a notebook, as those are that were executed here."""
        NotebookNotary(data_dir=str(self.home / "data")).sign(notebook)

    def forget_settings(self) -> None:
        """Forget what was set by hand, the theme for one."""
        shutil.rmtree(self.home / "config" / "lab", ignore_errors=True)

    def shut_down_kernels(self) -> None:
        """End every kernel, and forget which notebook it belonged to."""
        for session in json.loads(self._ask("GET", "/api/sessions")):
            self._ask("DELETE", f"/api/sessions/{session['id']}")

    def _ask(self, method: str, path: str) -> bytes:
        request = Request(self.url(path), method=method)  # noqa: S310 - the scheme is http, written below
        with urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            content: bytes = answer.read()
        return content


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Run a JupyterLab that keeps all it writes under `home`. Its kernels are of the interpreter of the tests."""
    settings = home / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(_SETTINGS))
    (home / "notebooks").mkdir()
    pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(_command(home / "notebooks"), env=_environment(home), **pipes)  # noqa: S603 - our own
    try:
        yield Server(_address(process, home / "server.log"), home)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _command(folder: Path) -> list[str]:
    options = [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={_TOKEN}",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]
    if os.geteuid() == 0:
        options.append("--allow-root")
    return [sys.executable, "-m", "jupyterlab", *options]


def _environment(home: Path) -> dict[str, str]:
    own = {
        "HOME": home,
        "IPYTHONDIR": home / "ipython",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "PYTHONPATH": Path(dn.__file__).parent.parent,
    }
    return os.environ | {name: str(value) for name, value in own.items()}


def _address(process: subprocess.Popen[str], log: Path) -> str:
    """Read what the server says until it says where it is; what it says later goes to its log."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            _keep_reading(process, log)
            return found[0]
    raise RuntimeError(f"JupyterLab did not start; it said:\n{''.join(said)}")


def _keep_reading(process: subprocess.Popen[str], log: Path) -> None:
    """Take what the server says, so that it never waits for a reader."""

    def copy() -> None:
        assert process.stderr is not None
        with process.stderr, log.open("w") as file:
            file.writelines(process.stderr)

    threading.Thread(target=copy, name="server-log", daemon=True).start()
