"""`RunList`: the runs of a batch or a search, a list that shows where they stand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, cast, overload

from durably_nb.errors import StoreError
from durably_nb.runs import Run
from durably_nb.widgets import tables

if TYPE_CHECKING:
    from durably_nb.models import RunRecord, RunStatus

_MOST_LINES: Final = 10
_MOST_ROWS: Final = 20
_HINT: Final = "<code>dn.results(runs)</code> gives their inputs and outputs as a DataFrame."


class RunList(list[Run]):
    """A list of runs. As the last expression of a cell it is a live table of them, which a saved notebook keeps."""

    @overload
    def __getitem__(self, at: SupportsIndex, /) -> Run: ...
    @overload
    def __getitem__(self, at: slice, /) -> RunList: ...
    def __getitem__(self, at: SupportsIndex | slice, /) -> Run | RunList:
        """Give one run, or those of a slice."""
        return RunList(super().__getitem__(at)) if isinstance(at, slice) else super().__getitem__(at)

    def __repr__(self) -> str:
        """Show how many stand where, and the first of them, one a line."""
        more = [f"… and {len(self) - _MOST_LINES:,} more"] if len(self) > _MOST_LINES else []
        return "\n".join([f"<{tables.counted(self._counts(), str)}>", *map(repr, self[:_MOST_LINES]), *more])

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Show them live, where a front end can; it keeps the text and the table beside that."""
        from durably_nb.widgets import outputs  # noqa: PLC0415 - IPython is loaded when it is needed

        return self._live() if outputs.have_front_end() else {}

    def _live(self) -> dict[str, Any]:
        from durably_nb.widgets.dashboard import Dashboard  # noqa: PLC0415 - as above
        from durably_nb.widgets.question import Question  # noqa: PLC0415 - as above

        hosts = {run._host for run in self}  # noqa: SLF001 - the list looks at its own
        if len(hosts) != 1:  # none, or runs of several stores
            return {}
        try:
            return Dashboard(hosts.pop(), "this list", Question(among=tuple(run.id for run in self))).view()
        except StoreError:  # closed meanwhile
            return {}

    def _repr_html_(self) -> str:
        """Show the same as a table, as they are at this moment."""
        return tables.run_list_html(self._counts(), [_record(run) for run in self[:_MOST_ROWS]], _HINT)

    def _counts(self) -> Counter[RunStatus]:
        return Counter(cast("RunStatus", run.status) for run in self)


def _record(run: Run) -> RunRecord:
    try:
        return run._now()  # noqa: SLF001 - the list looks at its own
    except StoreError:  # closed meanwhile: the last that was known
        return run._record  # noqa: SLF001 - as above
