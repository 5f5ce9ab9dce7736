"""The magics, in a notebook's shell without a kernel; tests/kernels kills one in the middle of a %%job."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import durably_nb as dn
from durably_nb.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Notebook:
    """Runs cells as a notebook does."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    def run(self, *lines: str) -> Any:
        """Run a cell that raises nothing, and give what it shows."""
        result = self.shell.run_cell("\n".join(lines), store_history=True)
        result.raise_error()
        return result.result

    def refused(self, *lines: str) -> str:
        """Run a cell that is refused, and give the sentence that is shown."""
        result = self.shell.run_cell("\n".join(lines), store_history=True)
        assert type(result.error_in_exec) is UsageError, result.error_in_exec
        return str(result.error_in_exec)

    def completed(self, text: str) -> list[str]:
        """Press the tabulator behind a text, and give the lines that are offered."""
        with provisionalcompleter():
            offered = list(self.shell.Completer.completions(text, len(text)))
        return [text[: one.start] + one.text + text[one.end :] for one in offered]

    @property
    def names(self) -> dict[str, Any]:
        """The names of the notebook."""
        names: dict[str, Any] = self.shell.user_ns
        return names


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A notebook that has loaded the magics; it keeps no history, and its directory is empty."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # a shell puts its own there
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    try:
        shell.run_line_magic("load_ext", "durably_nb")
        yield Notebook(shell)
    finally:
        InteractiveShell.clear_instance()


@pytest.fixture
def opened(notebook: Notebook) -> Iterator[Notebook]:
    """The same, with a file open."""
    notebook.run("%durably open jobs.duckdb")
    yield notebook
    notebook.names["d"].close()


# --- opening ---


def test_a_file_is_opened_under_a_name(notebook: Notebook, path: Path) -> None:
    """%durably open is dn.open: the file is d, with the options given, and opened again it is the same object."""
    shown = notebook.run("%durably open --checkpoint pipelined jobs.duckdb --max-concurrent-runs 3")
    with notebook.names["d"] as d:
        assert shown is d is dn.open(path)
        assert (d.checkpoint, d.max_concurrent_runs, d.capture_output) == ("pipelined", 3, True)
        assert notebook.run("%durably open 'jobs.duckdb' --as jobs --capture-output false --retain-runs 7d") is d
        assert notebook.names["jobs"] is d
        assert (d.checkpoint, d.capture_output, d.retain_runs.days) == ("pipelined", False, 7)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("open", "%durably open takes the path of a file, such as %durably open jobs.duckdb."),
        ("shut", "%durably: argument action: invalid choice: 'shut' (choose from"),
        ("open x.duckdb --as 3", "--as takes a name for the notebook, and '3' can be none."),
        ("open x.duckdb --as if", "--as takes a name for the notebook, and 'if' can be none."),
        ("open x.duckdb --lease-ms soon", "This option cannot be meant: The 'lease_ms' trait"),
        ("open x.duckdb --speed 3", "%durably: unrecognized arguments: --speed 3. %durably? tells what"),
        ("open 'x.duckdb", "%durably: No closing quotation. %durably? tells what"),
        ("open none/x.duckdb", "Open a database in a directory that exists"),
        ("close x.duckdb", "%durably close takes no file"),
    ],
)
def test_what_cannot_be_opened_is_refused(notebook: Notebook, line: str, sentence: str) -> None:
    """A mistake in the line is answered by one sentence that says what to write, and nothing is left open."""
    assert sentence in notebook.refused(f"%durably {line}")
    assert notebook.refused("%runs").startswith("No file is open")


def test_a_file_that_the_notebook_opened_is_found(notebook: Notebook, path: Path) -> None:
    """Whoever opened one file by dn.open needs no %durably open; of several one has to be named."""
    with dn.open(path):
        assert len(notebook.run("%runs")) == 0
        with dn.open(path.with_name("others.duckdb")):
            refusal = notebook.refused("%runs")
            assert "jobs.duckdb" in refusal
            assert "others.duckdb" in refusal
            assert "%durably open FILE" in refusal
            d = notebook.run("%durably open others.duckdb")
            assert len(notebook.run("%runs")) == 0
            notebook.run("%durably close")
            assert "closed" in repr(d)
        assert len(notebook.run("%runs")) == 0


def test_the_state_of_it_all(opened: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    """%durably shows the file in a line, and a table of jobs with their runs counted by state."""
    d: dn.Durably = opened.names["d"]

    @d.job
    def fail(step: dn.StepContext) -> None:
        raise ValueError(step.run_id)

    @d.job
    def idle(step: dn.StepContext) -> None: ...

    for _ in range(2):
        _ = fail.trigger().wait(timeout=20)
    d.stop()
    idle.trigger().cancel()
    _ = idle.trigger()
    table = opened.run("%durably")
    assert "jobs.duckdb' stopped, 2 jobs" in capsys.readouterr().out
    assert table.loc["fail"].to_dict() == {"pending": 0, "running": 0, "completed": 0, "failed": 2, "cancelled": 0}
    assert table.loc["idle"].to_dict() == {"pending": 1, "running": 0, "completed": 0, "failed": 0, "cancelled": 1}


# --- looking ---


def test_runs_and_events_are_the_frames(opened: Notebook) -> None:
    """%runs and %events give the DataFrames of d.runs() and d.events(), filtered by their options."""
    for name in ("first", "second", "third"):
        opened.run(f"%%job {name}", "1 / (3 - len(step.run('count', lambda: [1, 2, 3])))").wait(timeout=20)
    assert list(opened.run("%runs")["job_name"]) == ["third", "second", "first"]
    assert list(opened.run("%runs --job first --job third --limit 1")["job_name"]) == ["third"]
    assert len(opened.run("%runs --status failed --status running")) == 3
    assert opened.run("frame = %runs --status completed") is None
    assert len(opened.names["frame"]) == 0
    run_id = opened.run("%runs --job second")["run_id"][0]
    assert list(opened.run(f"%events {run_id[-6:].lower()} --type run:*")["type"]) == [
        *("run:trigger", "run:leased", "run:fail")
    ]
    assert list(opened.run(f"%events --type step:start --type run:fail {run_id} --limit 1")["type"]) == ["step:start"]
    assert len(opened.run("%events --since 1h")) == len(opened.names["d"].events()) == 15
    assert "since is an aware datetime" in opened.refused("%events --since soon")


def test_a_run_is_named_by_a_part_of_its_id(opened: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    """%watch and %cancel take the end or the beginning of an id; one that is not clear is answered by candidates."""
    d: dn.Durably = opened.names["d"]
    assert opened.refused("%watch ABC") == "There is no run 'ABC' in this store; there is none yet."
    assert opened.refused("%cancel").startswith("%cancel: the following arguments are required: run.")
    d.stop()
    runs = [opened.run("%%job job --new", "pass") for _ in range(7)]
    last = runs[-1].id
    assert last in opened.refused("%watch ILOU")
    assert (refusal := opened.refused(f"%watch {last[:5]}")).startswith("Several runs have an id that begins or ends")
    assert f"{last} of job (pending)" in refusal
    assert refusal.count(" of job (pending)") == 5
    assert refusal.endswith(", …")
    with_panel = d.watch(last)
    assert type(opened.run(f"%watch {last[-6:]}")) is type(with_panel)
    opened.run(f"%cancel {last[-6:].lower()}")
    assert f"Run {last} is cancelled" in capsys.readouterr().out
    assert [run.status for run in d.get_runs(limit=2)] == ["cancelled", "pending"]
    assert f"Run {last} is cancelled" in opened.refused(f"%cancel {last}")


# --- cells that are jobs ---


def test_a_cell_is_a_job(opened: Notebook) -> None:
    """The cell sees the notebook's names as they are when it runs, keeps its own, and gives its last expression."""
    opened.run("base, total = 3, 'the notebook has one, too'")
    run = opened.run(
        *("%%job add --label month=3 --label kind= --concurrency-key sums", '"""Add numbers."""', "import math"),
        *("def load(number):", "    return base + number"),
        *("total = sum(step.run(f'load {n}', load, n) for n in step.track(range(3)))", "math.sqrt(total + 4)"),
    )
    assert run.result(timeout=20) == 4.0
    assert (run.job_name, run.labels) == ("add", {"month": "3", "kind": ""})
    assert list(run.steps()["step_name"]) == ["load 0", "load 1", "load 2"]
    assert opened.names["total"] == "the notebook has one, too"
    assert {"math", "load", "add", "step"}.isdisjoint(opened.names)
    assert opened.names["_"] is run
    assert opened.names["d"].jobs.add.__doc__ == "Add numbers."
    opened.run("base = 10")
    assert opened.names["d"].jobs.add.trigger().result(timeout=20) == 37**0.5


def test_a_cell_without_an_expression_at_its_end_gives_none(opened: Notebook) -> None:
    """Only an expression in the last line is an output."""
    assert opened.run("%%job job", "1", "x = 2").result(timeout=20) is None


@pytest.mark.parametrize(
    "body",
    [
        "await step.run('five', five)",
        "async with asyncio.timeout(20):\n    pass\n5",
        "[x async for x in numbers()][0]",
        "async for x in numbers():\n    found = x\nfound",
    ],
)
def test_a_cell_that_awaits_is_an_async_job(opened: Notebook, body: str) -> None:
    """`await` and its like can stand anywhere in the cell, as in any cell."""
    opened.run("import asyncio", "async def five():", "    return 5", "async def numbers():", "    yield 5")
    run = opened.run("%%job job", body)
    assert run.result(timeout=20) == 5
    assert opened.names["d"].jobs.job.definition.is_async


def test_await_in_a_function_of_the_cell_concerns_that_alone(opened: Notebook) -> None:
    """A cell that defines async functions, and does not await itself, is an ordinary job."""
    opened.run("%%job job", "async def inner():", "    return await inner()", "step.run('one', int)")
    assert not opened.names["d"].jobs.job.definition.is_async


def test_ipython_syntax_in_the_cell(opened: Notebook) -> None:
    """Lines of shell and magics work in a job as in any cell."""
    opened.run("word = 'hello'")
    run = opened.run("%%job job", "", "said = !echo {word}", "here = %pwd", "[list(said), here]")
    assert run.result(timeout=20) == [["hello"], opened.run("%pwd")]


@pytest.mark.parametrize("first", [[], ["", "   ", ""], ["# a remark", ""]])
def test_a_traceback_shows_the_lines_of_the_cell(opened: Notebook, first: list[str]) -> None:
    """A run that fails names the line of the cell, counted as the notebook counts them, and shows it."""
    run = opened.run("%%job broken", *first, "def divide(x):", "    return x / 0", "step.run('one', divide, 5)")
    run.wait(timeout=20)
    with pytest.raises(dn.RunFailedError) as caught:
        run.raise_if_not_completed()
    line = len(first) + 3
    assert f", line {line}, in divide\n    return x / 0\n" in caught.value.traceback
    assert f", line {line + 1}, in broken\n    step.run('one', divide, 5)\n" in caught.value.traceback
    filename = opened.names["d"].jobs.broken.fn.__code__.co_filename
    assert filename.startswith("<ipython-input-2-")  # which IPython shows as Cell In[2]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("x = 1\nx = (2", "line 3\n    x = (2\n"),
        ("from math import *\n", "line 2\n    from math import *\n"),
        ("x = 1\nnonlocal x", "line 3\n    nonlocal x\n"),
    ],
)
def test_a_syntax_error_is_shown_as_of_any_cell(
    opened: Notebook, capsys: pytest.CaptureFixture[str], body: str, shown: str
) -> None:
    """IPython shows where the cell is no Python; nothing is defined, and nothing triggered."""
    opened.run("%colors nocolor")
    assert opened.refused("%%job job", body) == "Nothing was defined or triggered: mend what is shown above."
    said = capsys.readouterr().out
    assert shown in said
    assert "SyntaxError: " in said
    assert "commands.py" not in said
    assert len(opened.names["d"].jobs) == len(opened.run("%runs")) == 0


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%%job job\n\n# later\n", "This job has no body: write below the %%job line what it does"),
        ("%%job job\n\nif step:\n    return 3\n4", "Line 4 of the cell returns, but a %%job cell gives the value of"),
        ("%%job job\nyield 3", "cannot be a job: it is a generator"),
        ("%%job ''\n3", "A job's name is empty"),
        (f"%%job {'x' * 256}\n3", "A job's name has 256 characters"),
        ("%%job\n3", "%%job: the following arguments are required: job. %%job? tells what can be written there."),
        ("%%job job --label month\n3", "%%job: argument --label: a label is written name=value; 'month' is none."),
        ("%%job job --coalesce skip\n3", 'coalesce="skip" needs a concurrency_key'),
        ("%%job job --on-code-change never\n3", "argument --on-code-change: invalid choice: 'never'"),
        ("%%job job --new --idempotency-key k\n3", "--new wants a new run, and --idempotency-key the one that"),
    ],
)
def test_what_cannot_be_a_job_is_refused(opened: Notebook, cell: str, sentence: str) -> None:
    """What is wrong is said in a sentence; nothing is defined, and nothing triggered."""
    assert sentence in opened.refused(cell)
    assert len(opened.names["d"].jobs) == len(opened.run("%runs")) == 0


def test_a_return_in_a_function_of_the_cell_is_fine(opened: Notebook) -> None:
    """Functions and classes in a cell are what they are anywhere."""
    cell = ["def f():", "    return 3", "class C:", "    x = f()", "g = lambda: C.x", "g()"]
    assert opened.run("%%job job", *cell).result(timeout=20) == 3


@pytest.mark.parametrize("name", ["'two words'", "class", "'<img src=x onerror=alert(1)>'", "über"])
def test_any_name_is_a_name(opened: Notebook, name: str) -> None:
    """A job may have a name that no function could have."""
    run = opened.run(f"%%job {name}", "3")
    assert run.result(timeout=20) == 3
    assert run.job_name == name.strip("'")
    assert run.job_name in opened.names["d"].jobs


# --- running a cell again ---

JOB = ["%%job count", "def one():", "    return len(step.run_id)", "step.run('one', one)"]


def test_a_run_that_has_not_ended_goes_on(opened: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    """The same cell run again shows the run that is there, and says so; --new, or other labels, begin another."""
    opened.names["d"].stop()
    first = opened.run(*JOB)
    assert opened.run(*JOB).id == first.id
    assert f"Run {first.id} goes on; %%job count --new triggers another." in capsys.readouterr().out
    second = opened.run(f"{JOB[0]} --new", *JOB[1:])
    assert second.id != first.id
    labelled = opened.run(f"{JOB[0]} --label month=3", *JOB[1:])
    assert labelled.id not in {first.id, second.id}
    assert opened.run(f"{JOB[0]} --label month=3", *JOB[1:]).id == labelled.id
    assert opened.run(f"{JOB[0]} --new", *JOB[1:]).id not in {first.id, second.id, labelled.id}


def test_after_a_restart_the_same_cells_go_on(notebook: Notebook, path: Path) -> None:
    """A run that waited in the file is executed as soon as its cell is run again."""
    with dn.Durably(path) as d:
        d.stop()

        @d.job
        def count(step: dn.StepContext) -> None: ...

        waiting = count.trigger()
    with notebook.run("%durably open jobs.duckdb"):
        run = notebook.run(*JOB)
        assert run.id == waiting.id
        assert run.result(timeout=20) == 26


@pytest.mark.parametrize("end", ["failed", "cancelled", "completed"])
def test_after_the_end_of_a_run_there_is_a_new_one(
    opened: Notebook, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    """A cell whose run has ended begins another, without a word."""
    d: dn.Durably = opened.names["d"]
    opened.run("ok = False")
    cell = ["%%job count", "step.run('one', lambda: 1 if ok else 1 / 0)"]
    if end == "cancelled":
        d.stop()
        former = opened.run(*cell)
        former.cancel()
        d.start()
    else:
        opened.run(f"ok = {end == 'completed'}")
        former = opened.run(*cell).wait(timeout=20)
    assert former.status == end
    opened.run("ok = True")
    capsys.readouterr()
    run = opened.run(*cell)
    assert run.id != former.id
    assert run.result(timeout=20) == 1
    assert "goes on" not in capsys.readouterr().out


def test_a_key_gives_the_run_that_it_made(opened: Notebook) -> None:
    """A cell with an idempotency key has one run for each value of it, whatever became of that."""
    opened.run("month = 3")
    cell = ["%%job load --idempotency-key month-{month}", "3"]
    run = opened.run(*cell)
    run.result(timeout=20)
    assert opened.run(*cell).id == run.id
    opened.run("month = 4")
    assert opened.run(*cell).id != run.id


def test_steps_of_a_cell_are_known_again(opened: Notebook) -> None:
    """A step of the cell that was not edited is reused by a resumed run; an edited one is executed again, if asked."""
    opened.run("executed, ok = [], False")
    head = "%%job work --on-code-change rerun"
    kept = ["", "def kept():", "    executed.append('kept')", "step.run('kept', kept)"]
    edited = ["step.run('edited', lambda: executed.append('edited'))", "1 if ok else 1 / 0"]
    run = opened.run(head, *kept, *edited).wait(timeout=20)
    opened.run("ok = True")
    d: dn.Durably = opened.names["d"]
    d.stop()
    run.resume()
    assert (
        opened.run(head, "# moved by a line", *kept, edited[0].replace("'edited'))", "'new'))"), edited[1]).id == run.id
    )
    d.start()
    assert run.result(timeout=20) == 1
    assert opened.names["executed"] == ["kept", "edited", "new"]
    assert "kept" not in "".join(run.logs()["message"])


def test_the_source_of_a_function_in_a_cell_can_be_read(opened: Notebook) -> None:
    """Debuggers, inspect and `??` find the source of what a cell defines."""
    opened.run("found = {}")
    opened.run("%%job job", "", "def load():", "    return 3", "found['load'] = load").wait(timeout=20)
    assert inspect.getsource(opened.names["found"]["load"]) == "def load():\n    return 3\n"


# --- completion and help ---


def nothing(step: dn.StepContext) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%durably ", ["%durably open", "%durably close"]),
        ("%durably c", ["%durably close"]),
        ("%durably open jobs.duckdb --max", ["%durably open jobs.duckdb --max-concurrent-runs"]),
        ("%durably open x --checkpoint p", ["%durably open x --checkpoint pipelined"]),
        (
            "%durably open x --allow-pickle ",
            ["%durably open x --allow-pickle True", "%durably open x --allow-pickle False"],
        ),
        ("%durably open jobs.duckdb.l", ["%durably open jobs.duckdb.lock"]),
        ("%runs ", ["%runs --status", "%runs --job", "%runs --limit"]),
        ("%runs --status can", ["%runs --status cancelled"]),
        ("  frame = %runs --limit 3 --j", ["  frame = %runs --limit 3 --job"]),
        ("%runs --job ", ["%runs --job 'my job'", "%runs --job other"]),
        (
            "%events --type run:c",
            ["%events --type run:coalesced", "%events --type run:complete", "%events --type run:cancel"],
        ),
        ("%events --type lo", ["%events --type log:write"]),
        ("%%job o", ["%%job other"]),
        (
            "%%job other --on-code-change re",
            ["%%job other --on-code-change reuse", "%%job other --on-code-change rerun"],
        ),
        ("%%job other --new --idem", ["%%job other --new --idempotency-key"]),
    ],
)
def test_the_tabulator_completes_a_magic(opened: Notebook, text: str, offered: list[str]) -> None:
    """Subcommands, options, their values and the names of jobs are offered, and nothing else."""
    d: dn.Durably = opened.names["d"]
    d.register(dn.job(name="other")(nothing), dn.job(name="my job")(nothing))
    assert opened.completed(text) == offered


def test_ids_are_completed(opened: Notebook) -> None:
    """Runs are offered, newest first; behind %cancel only those that can be cancelled."""
    opened.names["d"].stop()
    runs = [opened.run("%%job job --new", "pass").id for _ in range(3)]
    opened.run(f"%cancel {runs[1]}")
    assert opened.completed("%watch ") == [f"%watch {run}" for run in reversed(runs)]
    assert opened.completed(f"%events {runs[0][:-1].lower()}") == [
        f"%events {run}" for run in reversed(runs) if run.startswith(runs[0][:-1])
    ]
    assert opened.completed("%cancel ") == [f"%cancel {run}" for run in (runs[2], runs[0])]


def test_completion_without_a_file_offers_nothing(notebook: Notebook) -> None:
    """The tabulator never raises: where nothing is open there is nothing to offer, and other completion goes on."""
    assert notebook.completed(f"%watch {new_id()}") == []
    assert notebook.completed("%runs --job Zz") == []
    notebook.run("quantity = 3")
    assert notebook.completed("quanti") == ["quantity"]


@pytest.mark.parametrize("name", ["%durably", "%runs", "%events", "%watch", "%cancel", "%%job"])
def test_every_magic_has_its_help(notebook: Notebook, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The question mark shows what a magic does and what can be written behind it."""
    notebook.run(f"{name}?")
    help_text = capsys.readouterr().out
    assert f"  {name.lstrip('%')} " in help_text.replace("%", " ")
    assert "arguments:" in help_text or "options:" in help_text


def test_the_magics_can_be_taken_out_again(notebook: Notebook) -> None:
    """%unload_ext removes them and their completion; %reload_ext brings them back once."""
    notebook.run("%reload_ext durably_nb")
    assert len(notebook.shell.Completer.custom_matchers) == 1
    assert notebook.completed("%runs --st") == ["%runs --status"]
    notebook.run("%unload_ext durably_nb")
    assert notebook.shell.Completer.custom_matchers == []
    assert "%runs --status" not in notebook.completed("%runs --st")
    assert "`%runs` not found" in notebook.refused("%runs")
    assert "`%%job` not found" in notebook.refused("%%job job", "3")
