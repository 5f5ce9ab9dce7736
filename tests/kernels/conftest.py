"""A kernel of each supported version, and the page in front of it."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

ROOT = Path(__file__).parent.parent.parent
INSTALLED = "installed"
KERNELS = ROOT / ".kernels"
VERSIONS = ("6.31", "7.3", INSTALLED)

PATIENCE_S = 20
"""No test takes so long, unless something that it waits for never comes."""

WIDGET: Final = "application/vnd.jupyter.widget-view+json"

Message = dict[str, Any]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Kernels take seconds to start and to stop."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


# --- kernels ---


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Give what a kernel manager needs for one version: this Python, with another ipykernel before its own."""
    specs = tmp_path_factory.mktemp("specs")
    for version in VERSIONS:
        first = [] if version == INSTALLED else [str(KERNELS / version)]
        spec = {
            "argv": [
                *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
                *("--log-level=ERROR", "--HistoryManager.enabled=False"),
            ],
            "display_name": f"ipykernel {version}",
            "language": "python",
            "env": {"PYTHONPATH": os.pathsep.join([*first, str(ROOT)])},
        }
        (specs / version).mkdir()
        (specs / version / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    numbers = count(1)
    with TemporaryDirectory() as sockets:  # not of pytest's: a socket's path must be short

        def given(version: str) -> dict[str, Any]:
            """Files for sockets: of two kernels that start at once on ports, both may choose the same."""
            return {
                "kernel_name": version,
                "kernel_spec_manager": KernelSpecManager(kernel_dirs=[str(specs)]),
                "transport": "ipc",
                "ip": f"{sockets}/{next(numbers)}",
            }

        yield given


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each version of ipykernel."""
    there = request.param == INSTALLED or (KERNELS / request.param / "ipykernel").is_dir()
    assert there, f"ipykernel {request.param} is not there to be tested with; put it there: make kernels"
    return str(request.param)


# --- what stands in front of them ---


@dataclass
class Cell:
    """An executed cell, with the messages that name it as their parent."""

    id: str
    messages: list[Message] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the kernel has finished with it."""
        return any(message["content"]["execution_state"] == "idle" for message in self.of("status"))

    @property
    def text(self) -> str:
        """What was printed into it, and the plain text of what it shows."""
        printed = [message["content"]["text"] for message in self.of("stream")]
        shown = [message["content"]["data"]["text/plain"] for message in self.of("execute_result", "display_data")]
        return "".join([*printed, *shown])

    @property
    def error(self) -> str | None:
        """The name of the exception that ended it."""
        return next((message["content"]["ename"] for message in self.of("error")), None)

    def of(self, *kinds: str) -> list[Message]:
        """Give the messages of these types."""
        return [message for message in self.messages if message["msg_type"] in kinds]


@dataclass
class Model:
    """A widget as a page knows it; of a panel also what it shows."""

    id: str
    state: dict[str, Any] = field(default_factory=dict)
    turn: str = ""
    regions: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What a panel shows, without its markup."""
        return " ".join(re.sub("<style.*?</style>|<[^>]*>", " ", " ".join(self.regions.values())).split())

    def update(self, state: dict[str, Any]) -> None:
        """Take a part of the state."""
        self.state |= state
        self.show(state.get("state", {}))

    def show(self, message: dict[str, Any]) -> None:
        """Show what a panel's message brings."""
        self.turn = message.get("turn", self.turn)
        self.regions |= message.get("regions", {})


class Page:
    """A notebook's page: it executes cells, keeps what comes in, and sends what people press.

    As JupyterLab does, it has what widgets send carried out on a subshell, where the kernel has such.
    """

    def __init__(self, manager: KernelManager) -> None:
        """Open the page of a running kernel."""
        self._manager = manager
        self.cells: dict[str, Cell] = {}
        self.models: dict[str, Model] = {}
        self._replies: dict[str, Message] = {}
        self.open()

    def open(self) -> None:
        """Connect to the kernel, the first time or again."""
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE_S)
        info: Any = self._client.kernel_info(reply=True, timeout=PATIENCE_S)
        self.has_subshells = "kernel subshells" in info["content"].get("supported_features", [])
        self._subshell = self._asked("create_subshell_request")["subshell_id"] if self.has_subshells else None

    def clear(self) -> None:
        """Forget all cells and widgets."""
        self.cells.clear()
        self.models.clear()

    def close(self) -> None:
        """Let go of the kernel, which runs on."""
        if self._subshell is not None:
            self._asked("delete_subshell_request", subshell_id=self._subshell)
        self._client.stop_channels()

    # --- cells ---

    def begin(self, code: str, cell_id: str | None = None) -> Cell:
        """Have a cell executed, and go on at once; the page may say which cell it is."""
        request = self._client.session.msg("execute_request", {"code": code, "silent": False})
        request["metadata"] = {"cellId": cell_id} if cell_id else {}
        cell = self.cells[request["header"]["msg_id"]] = Cell(request["header"]["msg_id"])
        self._client.shell_channel.send(request)
        return cell

    def finish(self, cell: Cell) -> Cell:
        """Wait until a cell is done."""
        self.until(lambda: cell.is_done)
        # ipykernel before 7.4 overlooks a request that comes while it sends a reply (its pull request 1529).
        self._reply(cell.id, self._client.get_shell_msg)
        return cell

    def run(self, code: str, cell_id: str | None = None) -> Cell:
        """Execute a cell that raises nothing."""
        cell = self.finish(self.begin(code, cell_id))
        assert cell.error is None, cell.of("error")[0]["content"]["evalue"]
        return cell

    def interrupt(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Kill the kernel and have a new one."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=True)
        self.open()

    # --- widgets ---

    def panel(self, code: str) -> Model:
        """Execute a cell that shows a panel, and give that; its view says hello, as each does when it is shown."""
        outputs = [shown["content"]["data"] for shown in self.run(code).of("display_data")]
        (view,) = [data[WIDGET] for data in outputs if WIDGET in data]
        model = self.models[view["model_id"]]
        self.send(model, hello=True)
        return model

    def see(self, panel: Model, *words: str) -> None:
        """Wait until a panel shows all of these."""
        self.until(lambda: all(word in panel.text for word in words))

    def press(self, panel: Model, command: str) -> None:
        """Press a button of a panel."""
        self.send(panel, command=command, turn=panel.turn)

    def send(self, model: Model, **content: object) -> None:
        """Send a message of a widget's view to the kernel."""
        data = {"method": "custom", "content": content}
        message = self._client.session.msg("comm_msg", {"comm_id": model.id, "data": data})
        if self._subshell is not None:
            message["header"]["subshell_id"] = self._subshell
        self._client.shell_channel.send(message)

    def comms(self) -> set[str]:
        """Ask the kernel which comms are open."""
        request: Any = self._client.comm_info()
        return set(self._reply(request, self._client.get_shell_msg)["comms"])

    # --- what comes in ---

    def until(self, happened: Callable[[], object]) -> None:
        """Take in what the kernel sends until something has happened."""
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            try:
                self._take(self._client.get_iopub_msg(timeout=deadline - time.monotonic()))
            except Empty:
                pytest.fail(f"It never happened. Text of the cells: {[cell.text for cell in self.cells.values()]}")

    def _take(self, message: Message) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id"))
        if cell is not None:
            cell.messages.append(message)
        content = message["content"]
        match message["msg_type"]:
            case "comm_open":
                self.models[content["comm_id"]] = Model(content["comm_id"])
                self.models[content["comm_id"]].update(content["data"]["state"])
            case "comm_close":
                self.models.pop(content["comm_id"], None)
            case "comm_msg" if content["comm_id"] in self.models:
                data = content["data"]
                model = self.models[content["comm_id"]]
                if data["method"] == "custom":
                    model.show(data["content"])
                else:
                    model.update(data.get("state", {}))

    def _asked(self, kind: str, **content: object) -> Message:
        """Give the answer to a request on the control channel, which no cell holds up."""
        request = self._client.session.msg(kind, content)
        self._client.control_channel.send(request)
        return self._reply(request["header"]["msg_id"], self._client.get_control_msg)

    def _reply(self, request: str, get: Callable[..., Message]) -> Message:
        """Give the answer to a request; those to others are kept for whoever waits for them."""
        while request not in self._replies:
            reply = get(timeout=PATIENCE_S)
            self._replies[reply["parent_header"].get("msg_id")] = reply["content"]
        return self._replies.pop(request)


END = """
import contextlib
import durably_nb as dn
with dn.open({path!r}) as d:
    for run in d.get_runs(status=["pending", "leased"]):
        with contextlib.suppress(dn.ConflictError):
            run.cancel()
"""


class Gate:
    """A place where code in the kernel stops until the test lets it go on."""

    def __init__(self) -> None:
        """Stand ready, closed."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE_S)
        self._stopped: list[socket.socket] = []

    @property
    def definition(self) -> str:
        """The code of a function `gate`, which stops here."""
        address = self._server.getsockname()
        return (
            "import socket\n"
            "def gate():\n"
            f"    with socket.create_connection({address}) as connection:\n"
            "        connection.recv(1)\n"
        )

    def reached(self) -> None:
        """Wait until somebody stops here."""
        self._stopped.append(self._server.accept()[0])

    def open(self) -> None:
        """Let go on who stopped here first."""
        self._stopped.pop(0).close()

    def passed(self) -> None:
        """Wait until somebody stops here, and let them go on."""
        self.reached()
        self.open()

    def close(self) -> None:
        """Stop nobody any more."""
        while self._stopped:
            self.open()
        self._server.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A place to stop at."""
    made = Gate()
    yield made
    made.close()


@pytest.fixture(scope="session")
def front(version: str, options: Callable[[str], dict[str, Any]]) -> Iterator[Page]:
    """The page of a kernel of each version, shared by the tests."""
    manager = KernelManager(**options(version))
    manager.start_kernel()
    with closing(Page(manager)) as page:
        yield page
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


@pytest.fixture
def page(front: Page, path: Path, gate: Gate) -> Iterator[Page]:
    """The page of a kernel that has opened a file as `d`; its cells and jobs can stop at ``gate()``."""
    front.clear()
    front.run(f"import durably_nb as dn\nd = dn.open({str(path)!r})\n{gate.definition}")
    yield front
    gate.close()
    front.run(END.format(path=str(path)))
    front.run("%reset -f")
