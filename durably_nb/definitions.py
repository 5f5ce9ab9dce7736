"""What a job is, apart from any store: a name, a function, and what it accepts and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from durably_nb.errors import ValidationError
from durably_nb.keywords import showing
from durably_nb.names import checked_labels, checked_name
from durably_nb.signature import Signature
from durably_nb.wording import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.models import LogData, ProgressData

OnCodeChange = Literal["reuse", "rerun"]
_CHOICES: Final = ("reuse", "rerun")


class Definition:
    """A job function with its name and its checked signature; made by `job`, bound to a store by `register`.

    Attributes:
        name: What runs of it are stored under.
        fn: The plain function.
        on_code_change: ``"reuse"`` or ``"rerun"``: what a replay does with a step whose code changed.

    """

    def __init__(
        self, fn: Callable[..., Any], *, name: str | None = None, on_code_change: OnCodeChange = "reuse"
    ) -> None:
        """Check the function at the door.

        Raises:
            ValidationError: If it cannot be a job.

        """
        if on_code_change not in _CHOICES:
            raise ValidationError(f'on_code_change is "reuse" or "rerun", not {shown(on_code_change)}.')
        if name is not None:
            checked_name(name, "A job's name")
        self.signature = Signature(fn, name=name)
        self.name = checked_name(self.signature.name, "A job's name")
        self.fn = fn
        self.on_code_change = on_code_change

    def __repr__(self) -> str:
        """Show the job as its function is written."""
        return f"<Definition {self.signature}>"

    @property
    def is_async(self) -> bool:
        """Whether the function is ``async def``."""
        return self.signature.is_async


@overload
def job(fn: Callable[..., Any], /) -> Definition: ...
@overload
def job(
    *, name: str | None = None, on_code_change: OnCodeChange = "reuse"
) -> Callable[[Callable[..., Any]], Definition]: ...
def job(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    on_code_change: OnCodeChange = "reuse",
) -> Definition | Callable[[Callable[..., Any]], Definition]:
    """Make a job of a function without a store yet; `Durably.register` binds it to one.

    Raises:
        ValidationError: If the function cannot be a job.

    """
    if fn is not None:
        return Definition(fn, name=name, on_code_change=on_code_change)
    return lambda function: Definition(function, name=name, on_code_change=on_code_change)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a run is triggered and waited for.

    Attributes:
        idempotency_key: A second trigger with the same key gives back the first one's run.
        concurrency_key: At most one run of the key executes, and at most one is pending.
        coalesce: ``"skip"``: a trigger that meets a pending run of its key is given that run.
        labels: Short strings by name, to find the run by.
        timeout: Seconds that `trigger_and_wait` waits; never the life of the run.
        on_progress: Called with each `ProgressData` of the run.
        on_log: Called with each `LogData` of the run.

    """

    idempotency_key: str | None = None
    concurrency_key: str | None = None
    coalesce: Literal["skip"] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    on_progress: Callable[[ProgressData], object] | None = None
    on_log: Callable[[LogData], object] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValidationError: The message names the option.

        """
        for option in ("idempotency_key", "concurrency_key"):
            if getattr(self, option) is not None:
                checked_name(getattr(self, option), option)
        if self.coalesce not in (None, "skip"):
            raise ValidationError(f'coalesce is "skip" or nothing, not {shown(self.coalesce)}.')
        if self.coalesce is not None and self.concurrency_key is None:
            raise ValidationError('coalesce="skip" needs a concurrency_key: it says which runs are the same work.')
        object.__setattr__(self, "labels", checked_labels(self.labels))
        checked_timeout(self.timeout)
        for option in ("on_progress", "on_log"):
            callback = getattr(self, option)
            if callback is not None and not callable(callback):
                raise ValidationError(f"{option} is a function, not {shown(callback)}.")


def options_from(given: Mapping[str, Any], base: Options | None = None) -> Options:
    """Give `base` with the options that are given.

    Raises:
        ValidationError: If one is unknown, or its value cannot be meant.

    """
    known = [item.name for item in fields(Options)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValidationError(
            f"There is no option {shown(unknown[0])}: {did_you_mean(unknown[0], known, 'the options')}"
        )
    before = {} if base is None else {name: getattr(base, name) for name in known}
    return Options(**(before | dict(given)))


def checked_timeout(timeout: object) -> None:
    """Refuse a timeout that is no number of seconds from 0 up.

    Raises:
        ValidationError: It names what was given.

    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValidationError(f"timeout is a number of seconds from 0 up, not {shown(timeout)}.")


OPTIONS: Final = asdict(Options())
"""The options as they are where none is given."""


class Trigger:
    """One entry of `batch_trigger`: an input, with options of its own.

    Raises:
        ValidationError: If the input is no mapping, or an option cannot be meant.

    """

    @showing(Options, OPTIONS)
    def __init__(self, input: Mapping[str, Any], /, **options: Any) -> None:  # noqa: A002, ANN401 - the public name; options_from checks them
        """Take the input by parameter name, and the options of `Job.options`."""
        if not isinstance(input, Mapping):
            raise ValidationError(f"The input of a Trigger is a mapping by parameter name, not {type(input).__name__}.")
        self.input = input
        self.given = options
        options_from(options)

    def __repr__(self) -> str:
        """Show it as it was written."""
        options = [f"{name}={shown(value)}" for name, value in self.given.items()]
        return f"Trigger({', '.join([shown(self.input), *options])})"
