"""`Job`: a definition bound to a store, ready to be triggered; and the registry of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Unpack

from durably_nb.definitions import OPTIONS, Options, Trigger, options_from
from durably_nb.errors import NotFoundError, ValidationError
from durably_nb.filters import JobRunFilters, refuse_unknown
from durably_nb.keywords import showing
from durably_nb.runlist import RunList
from durably_nb.signature import NOTHING_STORED
from durably_nb.store import RunQuery
from durably_nb.widgets import tables
from durably_nb.widgets.host import Host
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from durably_nb.definitions import Definition
    from durably_nb.runs import Run
    from durably_nb.signature import Signature
    from durably_nb.store import Overview
    from durably_nb.widgets.forms import Form

_SHOWN_ERRORS = 5


class Dispatcher(Host, Protocol):
    """What creates runs and finds them, and carries out the commands of views."""

    def create(self, definition: Definition, inputs: list[tuple[dict[str, Any], Options]]) -> list[Run]:
        """Create a run for each validated input, all or none."""

    def wait_until_ended(self, run: Run, timeout: float | None) -> Run:
        """Wait for a run, and raise as `Run.result` does."""

    def get_run(self, run_id: str) -> Run | None:
        """Give a run."""

    @property
    def get_runs(self) -> Callable[..., RunList]:
        """Gives the runs that match."""

    def overview(self, query: RunQuery) -> Overview:
        """Count the runs that match and give a page of them."""


class Job:
    """A job that can be triggered.

    Attributes:
        name: Its name.
        fn: The plain function, for tests.

    """

    def __init__(self, dispatcher: Dispatcher, definition: Definition, options: Options | None = None) -> None:
        """Bind a definition."""
        self._dispatcher = dispatcher
        self.definition = definition
        self._options = options or Options()
        self.__doc__ = definition.fn.__doc__ or self.__doc__  # what help and `job?` show

    @property
    def name(self) -> str:
        """The name that runs of it are stored under."""
        return self.definition.name

    @property
    def fn(self) -> Callable[..., Any]:
        """The plain function."""
        return self.definition.fn

    def __repr__(self) -> str:
        """Show the job as its function is written."""
        return f"<Job {self.definition.signature}>"

    def _repr_html_(self) -> str:
        """Show its parameters and its latest runs."""
        query = RunQuery(job_names=[self.name], limit=tables.LATEST)
        return tables.job_html(self.definition, tables.glimpse(self._dispatcher, query))

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Refuse to be called: whether a run or a plain call is meant must be said.

        Raises:
            TypeError: Always; it names both.

        """
        raise TypeError(
            f"A job is not called: {self.name}.trigger(...) creates a run, and {self.name}.fn(step, ...) calls the "
            "plain function."
        )

    @showing(Options, OPTIONS)
    def options(self, **options: Any) -> Job:  # noqa: ANN401 - each is checked by name
        """Give the same job with options: see `Options` for what there is.

        Raises:
            ValidationError: If an option is unknown, or its value cannot be meant.

        """
        return Job(self._dispatcher, self.definition, options_from(options, self._options))

    def trigger(self, *args: Any, **kwargs: Any) -> Run:  # noqa: ANN401 - checked by the job's own hints
        """Create a run with this input, as you would call the function without `step`; returns at once.

        Raises:
            ValidationError: If the input does not fit the function; nothing is stored.
            ConflictError: If a run of the same concurrency key is pending already.
            SerializationError: If a value of the input cannot be stored exactly.

        """
        return self._dispatcher.create(
            self.definition, [(self.definition.signature.bind(args, kwargs), self._options)]
        )[0]

    def trigger_and_wait(self, *args: Any, **kwargs: Any) -> Run:  # noqa: ANN401 - as in trigger
        """Create a run and wait for it; raises as `trigger` and `Run.result` do."""
        return self._dispatcher.wait_until_ended(self.trigger(*args, **kwargs), self._options.timeout)

    def batch_trigger(self, inputs: Iterable[Mapping[str, Any] | Trigger] | pd.DataFrame) -> RunList:
        """Create a run for each input, in one commit: all, or none if one of them is wrong.

        Args:
            inputs: Mappings by parameter name, `Trigger` objects, or a DataFrame whose columns are
                parameters, one run a row. A missing cell (NaN, NaT, NA, None) is None where the parameter
                takes None, else its default; one that has none is given the cell as it is (a float: NaN).

        Raises:
            ValidationError: If an input does not fit; the message says which.
            ConflictError: As in `trigger`.

        """
        problems: list[str] = []
        bound: list[tuple[dict[str, Any], Options]] = []
        for number, item in enumerate(_each(inputs, self.definition.signature)):
            try:
                bound.append(self._bound(item))
            except ValidationError as error:
                problems.append(f"Input {number}: {str(error).removesuffix(NOTHING_STORED)}")
        if problems:
            more = f" (and {len(problems) - _SHOWN_ERRORS} more)" if len(problems) > _SHOWN_ERRORS else ""
            raise ValidationError("Nothing was triggered. " + " ".join(problems[:_SHOWN_ERRORS]) + more)
        return RunList(self._dispatcher.create(self.definition, bound))

    def get_run(self, run_id: str) -> Run | None:
        """Give a run of this job; None if there is none of that id."""
        run = self._dispatcher.get_run(run_id)
        return run if run is not None and run.job_name == self.name else None

    @showing(JobRunFilters, {"offset": 0})
    def get_runs(self, **filters: Unpack[JobRunFilters]) -> RunList:
        """Give the runs of this job, newest first; filters as in `Durably.get_runs`."""
        if "job_name" in filters:
            raise ValidationError(
                f"The runs of a job have its name: d.get_runs(job_name=…) gives others than {self.name!r}."
            )
        refuse_unknown(filters, JobRunFilters)
        return self._dispatcher.get_runs(job_name=self.name, **filters)

    def form(self) -> Form:
        """Give input widgets for the parameters, with a button that triggers a run and its panel under it."""
        from durably_nb.widgets.forms import Form  # noqa: PLC0415 - at first use: ipywidgets takes long to load

        return Form(self.definition, self.trigger, self._dispatcher)

    def _bound(self, item: object) -> tuple[dict[str, Any], Options]:
        options = self._options
        if isinstance(item, Trigger):
            options = options_from(item.given, options)
            item = item.input
        if not isinstance(item, Mapping):
            raise ValidationError(f"an input is a mapping by parameter name or a Trigger, not {type(item).__name__}.")
        for name in item:
            if not isinstance(name, str):
                raise ValidationError(f"an input's names are strings; {shown(name)} is none.")
        return self.definition.signature.bind((), dict(item)), options


class Jobs:
    """The jobs of a store: ``d.jobs.import_flights`` or ``d.jobs["import_flights"]``."""

    def __init__(self, dispatcher: Dispatcher, definitions: dict[str, Definition]) -> None:
        """Keep the jobs in `definitions`, where the engine finds them."""
        self._dispatcher = dispatcher
        self._definitions = definitions

    def get(self, name: str) -> Job | None:
        """Give the job of a name; None if there is none.

        Raises:
            ValidationError: If it is no name.

        """
        if not isinstance(name, str):
            raise ValidationError(f"A job is found by its name, a string, not by {shown(name)}.")
        definition = self._definitions.get(name)
        return None if definition is None else Job(self._dispatcher, definition)

    def __getitem__(self, name: str) -> Job:
        """Give the job of a name. Raises NotFoundError."""
        job = self.get(name)
        if job is None:
            raise NotFoundError(self._missing(name))
        return job

    def __getattr__(self, name: str) -> Job:
        """Give the job of a name, as an attribute."""
        job = None if name.startswith("_") else self.get(name)
        if job is None:
            raise AttributeError(self._missing(name))
        return job

    def __iter__(self) -> Iterator[str]:
        """Go over the names."""
        return iter(list(self._definitions))

    def __len__(self) -> int:
        """Give the number of jobs."""
        return len(self._definitions)

    def __contains__(self, name: object) -> bool:
        """Whether there is a job of that name."""
        return name in self._definitions

    def __dir__(self) -> list[str]:
        """Complete the names of jobs."""
        return [*super().__dir__(), *(name for name in self._definitions if name.isidentifier())]

    def __repr__(self) -> str:
        """Show each job as its function is written."""
        return f"<Jobs {', '.join(str(one.signature) for one in self._definitions.values()) or '(none)'}>"

    def _repr_html_(self) -> str:
        """Show each job and how many runs it has."""
        return tables.jobs_html(self._definitions.values(), tables.glimpse(self._dispatcher))

    def _missing(self, name: str) -> str:
        defined = ", ".join(self._definitions) or "none"
        return f"There is no job {shown(name)} here; defined are: {defined}. Run the cell that defines it."


def _each(inputs: object, signature: Signature) -> Iterable[Any]:
    if hasattr(inputs, "to_dict") and hasattr(inputs, "columns"):  # a DataFrame, told without importing pandas
        return _rows(inputs, signature)
    if isinstance(inputs, (Mapping, str)) or not isinstance(inputs, Iterable):
        raise ValidationError(
            f"batch_trigger takes a list of inputs or a DataFrame, not {type(inputs).__name__}; "
            "trigger takes one input."
        )
    return inputs


def _rows(frame: Any, signature: Signature) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any DataFrame
    nones = {name for name in frame.columns if signature.accepts(name, None)}
    defaults = {name for name, parameter in signature.parameters.items() if not parameter.required} - nones
    for row, is_missing in zip(frame.to_dict("records"), frame.isna().to_dict("records"), strict=True):
        yield {
            name: None if is_missing[name] and name in nones else value
            for name, value in row.items()
            if not (is_missing[name] and name in defaults)
        }
