"""The error tree.

Exception
└── DurablyError
    ├── ValidationError       a call, an option or a value that cannot be accepted
    ├── NotFoundError         no such run, job or step
    ├── ConflictError         not possible in the state things are in
    │   └── DuplicateStepError    two steps of one name in one run
    ├── RunFailedError        the run ended in an error (type, message, traceback)
    ├── CancelledError        the run was cancelled
    ├── LeaseLostError        the run was taken from the worker that executed it
    ├── SerializationError    a value that cannot be stored, or read back, exactly
    └── StoreError            the database file
        ├── StoreLockedError      another process has it
        └── StoreCorruptError     it is damaged, of another kind, or too new

BaseException
└── Unwind                    leaves a job function that must stop
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from durably_nb.wording import ended


class DurablyError(Exception):
    """Every error of this library is one of these."""


class ValidationError(DurablyError):
    """Something that was passed in cannot be accepted; nothing was stored."""


class NotFoundError(DurablyError):
    """There is no run, job or step of that name or id."""


class ConflictError(DurablyError):
    """What was asked for is not possible in the present state; nothing was changed."""


class DuplicateStepError(ConflictError):
    """A run used one step name twice; results could not be told apart."""


class RunFailedError(DurablyError):
    """The run ended in an error; its traceback is shown below the message.

    Attributes:
        run_id: The run that failed.
        type: Name of the exception class, such as ``"ValueError"``.
        message: The exception's own message.
        traceback: The traceback as text, as Python prints it; empty if none was kept.
        failed_step_name: The step it came from; None if it came from outside any step.

    """

    def __init__(
        self,
        run_id: str,
        *,
        type: str,  # noqa: A002 - the attribute's public name
        message: str,
        traceback: str = "",
        failed_step_name: str | None = None,
    ) -> None:
        """Keep what is known of the failure; the message says it in one sentence."""
        where = f" in step {failed_step_name!r}" if failed_step_name is not None else ""
        said = f"{type}: {message}" if message else type
        super().__init__(
            f"Run {run_id} failed{where}: {ended(said)} "
            "Mend the cause and call run.resume() to go on after the last completed step."
        )
        self.run_id = run_id
        self.type = type
        self.message = message
        self.traceback = traceback
        self.failed_step_name = failed_step_name
        if traceback:
            self.add_note(traceback.rstrip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy: by itself Python would pass the message on as the only argument."""
        make = partial(
            type(self),
            type=self.type,
            message=self.message,
            traceback=self.traceback,
            failed_step_name=self.failed_step_name,
        )
        return make, (self.run_id,), self.__dict__


class CancelledError(DurablyError):
    """The run was cancelled before it could complete."""


class LeaseLostError(DurablyError):
    """The run was taken from the worker that executed it; nothing more of it is stored."""


class SerializationError(DurablyError):
    """A value cannot be stored, or read back, exactly; the message names the path to it."""


class StoreError(DurablyError):
    """The database file could not be opened, read or written."""


class StoreLockedError(StoreError):
    """Another process has the file open; the message names it."""


class StoreCorruptError(StoreError):
    """The file is damaged, is not a database of this kind, or was made by a newer version."""


class Unwind(BaseException):
    """Leaves a job function whose run was cancelled, taken away or must pause.

    Not an ``Exception``, so that a job's own ``except Exception`` cannot swallow it.

    Attributes:
        reason: ``"cancelled"``, ``"lease-lost"``, ``"stopping"`` (the worker stops; the run goes on
            at the next start) or ``"exiting"`` (the interpreter ends; it goes on at the next open).

    """

    def __init__(self, reason: UnwindReason) -> None:
        """Remember why the function must be left."""
        super().__init__(reason)
        self.reason = reason


UnwindReason = Literal["cancelled", "lease-lost", "stopping", "exiting"]
