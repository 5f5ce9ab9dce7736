"""`Question`: which runs a list shows, as people put it in its filters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from durably_nb.errors import ValidationError
from durably_nb.history import one_or_many
from durably_nb.models import RUN_STATUSES
from durably_nb.names import checked_labels, checked_name, storable_text
from durably_nb.store import RunQuery

if TYPE_CHECKING:
    from durably_nb.store import Overview

PAGE: Final = 25
"""Runs a page."""


@dataclass(frozen=True, slots=True)
class Question:
    """A page of the runs in these states, of a job, with labels, with a text somewhere; what is empty is no filter.

    Of the runs `among`, which no front end changes nor is told; None: of all.
    """

    page: int = 0
    status: tuple[str, ...] = ()
    job: str = ""
    label: str = ""
    search: str = ""
    among: tuple[str, ...] | None = None

    def changed(self, sent: object) -> Self:
        """Take what a front end sends; what none of ours would send changes nothing."""
        match sent:
            case {"page": int(page), "status": list(states), "job": str(job), "label": str(label), "search": str(text)}:
                return replace(
                    self,
                    page=min(max(0, page), 10**12),
                    status=tuple(status for status in RUN_STATUSES if status in states),
                    job=storable_text(job),
                    label=storable_text(label),
                    search=storable_text(text),
                )
        return self

    def message(self) -> dict[str, Any]:
        """Give what a front end is told."""
        return {name: getattr(self, name) for name in ("page", "status", "job", "label", "search")}

    @property
    def hint(self) -> str:
        """What is wrong with the label, which is no filter then; empty if nothing is."""
        try:
            _labels(self.label)
        except ValidationError as error:
            return str(error)
        return ""

    def asked(self) -> RunQuery:
        """Give what the store is asked."""
        states: Any = self.status  # of which there are no others, see `changed` and `question`
        return RunQuery(
            status=states or None,
            job_names=[self.job] if self.job else None,
            labels=None if self.hint else _labels(self.label),
            text=self.search.strip() or None,
            run_ids=self.among,
            limit=PAGE,
            offset=self.page * PAGE,
        )

    def total(self, found: Overview) -> int:
        """Give how many runs there are on all pages."""
        return sum(runs for status, runs in found.counts.items() if not self.status or status in self.status)

    def last_page(self, found: Overview) -> int:
        """Give the number of the last page, from 0."""
        return max(0, self.total(found) - 1) // PAGE


def question(job: object, status: Any) -> Question:  # noqa: ANN401 - one state or many
    """Give the question for the runs of a job, in a state or in some.

    Raises:
        ValidationError: If the job is no name, or there is no such state.

    """
    statuses = () if status is None else tuple(one_or_many(status, "status", RUN_STATUSES))
    return Question(status=statuses, job="" if job is None else checked_name(job, "A job's name"))


def _labels(text: str) -> dict[str, str] | None:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(key.strip() and sign for key, sign, _ in pairs):
        raise ValidationError("A label is written key=value, such as team=blue; several are separated by commas.")
    return checked_labels({key.strip(): value.strip() for key, _, value in pairs}) or None
