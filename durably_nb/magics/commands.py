"""The magics themselves, each a few words for what `Durably` does."""

from __future__ import annotations

from keyword import iskeyword
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, get_args

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from durably_nb.definitions import OnCodeChange, options_from
from durably_nb.durably import open as open_file
from durably_nb.magics.arguments import given_options, label, parsed, store_options
from durably_nb.magics.cells import function_of_cell
from durably_nb.magics.completion import Completion
from durably_nb.magics.current import Current
from durably_nb.models import ACTIVE, RUN_STATUSES
from durably_nb.widgets.render import word
from durably_nb.wording import shown

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    import pandas as pd
    from IPython.core.interactiveshell import InteractiveShell

    from durably_nb.durably import Durably
    from durably_nb.runs import Run
    from durably_nb.widgets.panel import Panel

_STATES: Final = {word(status): status for status in RUN_STATUSES} | {status: status for status in RUN_STATUSES}
_CODE_HELP: Final = "whether a completed step is executed again if its function was edited since; reuse if not given"
_RUN_HELP: Final = "the run's id, or as much of its beginning or end as no other has"


@magics_class
class DurablyMagics(Magics):
    """Open a file, define and trigger jobs, look at their runs."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Begin without a file: what the notebook opened itself will do."""
        super().__init__(shell)
        self._shell = shell
        self._current = Current()
        parsers = {f"%{name}": method.parser for name, method in self.magics["line"].items()}
        parsers |= {f"%%{name}": method.parser for name, method in self.magics["cell"].items()}
        self.completion = Completion(parsers, self._current)

    @line_magic
    @magic_arguments()
    @argument("action", nargs="?", choices=["open", "close"], help="what to do; nothing: show the state and the jobs")
    @argument("file", nargs="?", help="the file to open; it is made if there is none")
    @argument("--as", dest="name", default="d", help="the name of what is opened in the notebook; d if not given")
    @store_options
    @parsed
    def durably(self, arguments: Namespace) -> Durably | pd.DataFrame | None:
        """Open or close a file of jobs, or show what is open.

        `%durably open FILE` is dn.open(FILE) under the name d; the other magics then work on this file. In a notebook
        that opened one file by itself they work on that.
        """
        if arguments.action == "open":
            return self._open(arguments)
        if arguments.action == "close":
            self._close(arguments)
            return None
        durably = self._current.durably()
        print(durably)  # noqa: T201 - the line above the table
        return _table_of_jobs(durably)

    @line_magic
    @magic_arguments()
    @argument("--status", choices=_STATES, action="append", help="only runs in this state; may be given again")
    @argument("--job", action="append", help="only runs of this job; may be given again")
    @argument("--limit", type=int, default=20, help="at most so many; 20 if not given")
    @parsed
    def runs(self, arguments: Namespace) -> pd.DataFrame:
        """Show runs, newest first, as d.runs() gives them."""
        durably = self._current.durably()
        statuses = arguments.status and [_STATES[state] for state in arguments.status]
        return durably.runs(status=statuses, job_name=arguments.job, limit=arguments.limit)

    @line_magic
    @magic_arguments()
    @argument("run", nargs="?", help=f"only of this run: {_RUN_HELP}")
    @argument("--type", action="append", help="only of this type, such as run:fail, or step:*; may be given again")
    @argument("--since", help="only from this long ago on, such as 30m, 24h or 7d")
    @argument("--limit", type=int, help="the first so many; all if not given")
    @parsed
    def events(self, arguments: Namespace) -> pd.DataFrame:
        """Show events in their order, as d.events() gives them."""
        durably = self._current.durably()
        run_id = None if arguments.run is None else durably.run_id_of(arguments.run)
        return durably.events(run_id=run_id, type=arguments.type, since=arguments.since, limit=arguments.limit)

    @line_magic
    @magic_arguments()
    @argument("run", help=_RUN_HELP)
    @parsed
    def watch(self, arguments: Namespace) -> Panel:
        """Show the live panel of a run, of any day."""
        return self._current.durably().watch(arguments.run)

    @line_magic
    @magic_arguments()
    @argument("active_run", metavar="run", help=_RUN_HELP)
    @parsed
    def cancel(self, arguments: Namespace) -> None:
        """Cancel a run."""
        durably = self._current.durably()
        run_id = durably.run_id_of(arguments.active_run)
        durably.cancel(run_id)
        print(f"Run {run_id} is cancelled; d.resume({run_id!r}) lets it go on.")  # noqa: T201 - what was done

    @cell_magic
    @magic_arguments()
    @argument("job", help="the name of the job")
    @argument("--new", action="store_true", help="trigger a new run, also if one has not ended yet")
    @argument("--idempotency-key", help="a second trigger with the same key shows the first one's run")
    @argument("--concurrency-key", help="at most one run of this key executes, and at most one is pending")
    @argument("--coalesce", choices=["skip"], help="skip: show the pending run of the concurrency key, if there is one")
    @argument("--label", type=label, action="append", metavar="NAME=VALUE", help="a label; may be given again")
    @argument("--on-code-change", choices=get_args(OnCodeChange), default="reuse", help=_CODE_HELP)
    @parsed
    def job(self, arguments: Namespace, body: str) -> Run:
        """Make the cell a job, and trigger it.

        `step` is in scope. What the cell assigns is local to it; other names are the notebook's, as they are when the
        job runs. The value of the last expression is the output. A cell that awaits is an async job.

        If a run of the job (with these labels) has not ended, it goes on and is shown in place of a new one: after a
        restart of the kernel, run the same cell again.
        """
        durably = self._current.durably()
        options = _options_of_job(arguments)
        function = self._function(arguments.job, body)
        # Before the job is defined: from then on a run that waited for it may end at any moment.
        unended = (
            [] if arguments.new or arguments.idempotency_key else _unended(durably, arguments.job, options["labels"])
        )
        job = durably.job(name=arguments.job, on_code_change=arguments.on_code_change)(function)
        if not unended:
            return job.options(**options).trigger()
        print(f"Run {unended[0].id} goes on; %%job {quote(job.name)} --new triggers another.")  # noqa: T201 - why this one
        return unended[0]

    def _open(self, arguments: Namespace) -> Durably:
        if arguments.file is None:
            raise UsageError("%durably open takes the path of a file, such as %durably open jobs.duckdb.")
        if not arguments.name.isidentifier() or iskeyword(arguments.name):
            raise UsageError(f"--as takes a name for the notebook, and {shown(arguments.name)} can be none.")
        durably = open_file(arguments.file, **given_options(arguments))
        self._current.choose(durably)
        self._shell.push({arguments.name: durably})
        return durably

    def _close(self, arguments: Namespace) -> None:
        if arguments.file is not None:
            raise UsageError("%durably close takes no file: it closes the one that %durably shows.")
        self._current.durably().close()

    def _function(self, name: str, body: str) -> Callable[..., Any]:
        try:
            return function_of_cell(self._shell, name, body)
        except SyntaxError:
            self._shell.showsyntaxerror()
            raise UsageError("Nothing was defined or triggered: mend what is shown above.") from None


def _options_of_job(arguments: Namespace) -> dict[str, Any]:
    """Give the options of `Job.options`; refused here, before anything is defined."""
    if arguments.new and arguments.idempotency_key is not None:
        raise UsageError("--new wants a new run, and --idempotency-key the one that the key made first: leave one out.")
    options = {
        "idempotency_key": arguments.idempotency_key,
        "concurrency_key": arguments.concurrency_key,
        "coalesce": arguments.coalesce,
        "labels": dict(arguments.label or ()),
    }
    options_from(options)
    return options


def _unended(durably: Durably, job_name: str, labels: dict[str, str]) -> list[Run]:
    """Give the latest run of a job, with these labels, that has not ended; none if there is none."""
    return durably.get_runs(job_name=job_name, status=ACTIVE, labels=labels, limit=1)


def _table_of_jobs(durably: Durably) -> pd.DataFrame:
    """Count the runs of each job by their states."""
    import pandas as pd  # noqa: PLC0415 - at first use: it takes half a second to load

    counts = durably.sql("select job_name, status, count(*) from runs group by all").fetchall()
    jobs = sorted({*durably.jobs, *(job for job, _, _ in counts)})
    table = pd.DataFrame(0, index=pd.Index(jobs, name="job"), columns=[word(status) for status in RUN_STATUSES])
    for job, status, count in counts:
        table.loc[job, word(status)] = count
    return table
