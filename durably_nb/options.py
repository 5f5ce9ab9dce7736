"""The options of a `Durably`: traits, so that an IPython configuration can set them."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, Final, Literal, TypedDict

import pydantic
import traitlets
from traitlets.config import Config, Configurable

from durably_nb.durations import parse_span
from durably_nb.errors import ValidationError
from durably_nb.names import checked_labels
from durably_nb.wording import did_you_mean, reason_of, shown

_A_DAY_MS: Final = 24 * 60 * 60 * 1000
_MOST_RUNS: Final = 1_000


class OptionsDict(TypedDict, total=False):
    """The options by name, for type checkers."""

    labels: Any
    polling_interval_ms: int
    max_concurrent_runs: int
    lease_ms: int
    lease_renew_interval_ms: int
    preserve_steps: bool
    retain_runs: str | timedelta | None
    checkpoint: Literal["strict", "pipelined"]
    capture_output: bool
    allow_pickle: bool


class Configured(Configurable):
    """What can be set of a store, at any time; it holds for the runs that begin afterwards."""

    labels = traitlets.Any(None, help="A pydantic model or TypedDict that validates labels.").tag(config=True)
    polling_interval_ms = traitlets.Int(
        1_000, min=1, max=_A_DAY_MS, help="How often an idle worker looks for work that nobody told it of."
    ).tag(config=True)
    max_concurrent_runs = traitlets.Int(
        1, min=1, max=_MOST_RUNS, help="Number of worker threads, each executing one run at a time."
    ).tag(config=True)
    lease_ms = traitlets.Int(
        30_000, min=10, max=_A_DAY_MS, help="After this long without renewal a run is given to another worker."
    ).tag(config=True)
    lease_renew_interval_ms = traitlets.Int(
        5_000, min=1, max=_A_DAY_MS, help="How often leases are renewed; a third of lease_ms if that is less."
    ).tag(config=True)
    preserve_steps = traitlets.Bool(
        default_value=True, help="False: what the steps of a run returned is dropped when the run completes."
    ).tag(config=True)
    retain_runs = traitlets.Any(
        default_value=None, help='Ended runs older than this ("30d", "24h", "60m", a timedelta) are purged; None: kept.'
    ).tag(config=True)
    checkpoint = traitlets.Enum(
        ("strict", "pipelined"),
        "strict",
        help='"strict": a step is on disk before step.run returns; "pipelined": a few milliseconds later.',
    ).tag(config=True)
    capture_output = traitlets.Bool(
        default_value=True,
        help="Whether what a job prints, logs and warns of becomes its log instead of some cell's output.",
    ).tag(config=True)
    allow_pickle = traitlets.Bool(
        default_value=False,
        help="Whether values without another form may be pickled, and pickles be read: that runs their code.",
    ).tag(config=True)

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - each is checked by name
        """Take the options that are given; the others are those of IPython's configuration, or the defaults.

        Raises:
            ValidationError: If an option is unknown, or its value cannot be meant.

        """
        self.refuse_unknown(options)
        try:
            super().__init__(config=_ipython_config())
        except traitlets.TraitError as error:
            raise ValidationError(f"The configuration of Durably: {error}") from error
        self.set_options(options)

    @classmethod
    def refuse_unknown(cls, options: dict[str, Any]) -> None:
        """Refuse options that do not exist.

        Raises:
            ValidationError: It says which option may have been meant.

        """
        known = sorted(cls.class_trait_names(config=True))
        for name in options:
            if name not in known:
                raise ValidationError(
                    f"Durably has no option {shown(name)}: {did_you_mean(name, known, 'the options')}"
                )

    def set_options(self, options: dict[str, Any]) -> None:
        """Set several options, all or none.

        Raises:
            ValidationError: If one cannot be meant.

        """
        self.refuse_unknown(options)
        for name, value in options.items():
            if isinstance(getattr(type(self), name), traitlets.Int) and isinstance(value, bool):
                raise ValidationError(f"{name} is a whole number, not {shown(value)}.")
        try:
            with self.hold_trait_notifications():
                for name, value in options.items():
                    setattr(self, name, value)
        except traitlets.TraitError as error:
            raise ValidationError(f"This option cannot be meant: {error}") from None

    def checked_run_labels(self, labels: dict[str, str]) -> dict[str, str]:
        """Give the labels of a run as the label model has them.

        Raises:
            ValidationError: If they do not fit it.

        """
        if self.labels is None:
            return labels
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(self.labels)
        try:
            validated = adapter.validate_python(labels)
        except pydantic.ValidationError as error:
            raise ValidationError(f"These labels do not fit {self.labels.__name__}: {reason_of(error)}.") from None
        return checked_labels(adapter.dump_python(validated, mode="json", exclude_none=True))

    @traitlets.validate("retain_runs")
    def _a_span(self, proposal: Any) -> timedelta | None:  # noqa: ANN401 - as traitlets calls it
        value = proposal["value"]
        try:
            return None if value is None else parse_span(value, "retain_runs")
        except ValidationError as error:  # what is no TraitError would not be rolled back
            raise traitlets.TraitError(str(error)) from None

    @traitlets.validate("labels")
    def _a_model(self, proposal: Any) -> Any:  # noqa: ANN401 - as traitlets calls it
        value = proposal["value"]
        if value is not None:
            wanted = f"labels is a pydantic model or a TypedDict, not {shown(value)}"
            if not isinstance(value, type):
                raise traitlets.TraitError(f"{wanted}.")
            try:
                pydantic.TypeAdapter(value)
            except pydantic.PydanticUserError as error:
                raise traitlets.TraitError(f"{wanted}: {str(error).partition(chr(10))[0]}") from None
        return value


DEFAULTS: Final = {name: trait.default_value for name, trait in Configured.class_traits(config=True).items()}
"""The options as they are where nothing is set."""


def _ipython_config() -> Config:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return Config() if shell is None else shell.config
