"""Durable jobs for notebooks: steps that are never done twice, and a history that is one query away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durably_nb.context import AsyncStepContext, StepContext
from durably_nb.definitions import Trigger, job
from durably_nb.durably import Durably, open  # noqa: A004 - the public name
from durably_nb.errors import (
    CancelledError,
    ConflictError,
    DuplicateStepError,
    DurablyError,
    LeaseLostError,
    NotFoundError,
    RunFailedError,
    SerializationError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    ValidationError,
)
from durably_nb.events import (
    DomainEvent,
    DomainEventType,
    DurablyEvent,
    EventType,
    LogWriteEvent,
    OperationalEvent,
    OperationalEventType,
    RunCancelEvent,
    RunCoalescedEvent,
    RunCompleteEvent,
    RunDeleteEvent,
    RunFailEvent,
    RunLeasedEvent,
    RunLeaseRenewedEvent,
    RunProgressEvent,
    RunTriggerEvent,
    StepCancelEvent,
    StepCompleteEvent,
    StepFailEvent,
    StepStartEvent,
    WorkerErrorEvent,
    event_from_dict,
    is_domain_event,
)
from durably_nb.jobs import Job
from durably_nb.models import LogData, ProgressData
from durably_nb.results import results
from durably_nb.runs import Run

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"

__all__ = [
    "AsyncStepContext",
    "CancelledError",
    "ConflictError",
    "DomainEvent",
    "DomainEventType",
    "DuplicateStepError",
    "Durably",
    "DurablyError",
    "DurablyEvent",
    "EventType",
    "Job",
    "LeaseLostError",
    "LogData",
    "LogWriteEvent",
    "NotFoundError",
    "OperationalEvent",
    "OperationalEventType",
    "ProgressData",
    "Run",
    "RunCancelEvent",
    "RunCoalescedEvent",
    "RunCompleteEvent",
    "RunDeleteEvent",
    "RunFailEvent",
    "RunFailedError",
    "RunLeaseRenewedEvent",
    "RunLeasedEvent",
    "RunProgressEvent",
    "RunTriggerEvent",
    "SerializationError",
    "StepCancelEvent",
    "StepCompleteEvent",
    "StepContext",
    "StepFailEvent",
    "StepStartEvent",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "Trigger",
    "ValidationError",
    "WorkerErrorEvent",
    "__version__",
    "event_from_dict",
    "is_domain_event",
    "job",
    "open",
    "results",
]


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Give a notebook the magics: called by ``%load_ext durably_nb``."""
    from durably_nb.magics.extension import load  # noqa: PLC0415 - it needs IPython, which the root does not load

    load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Take the magics from a notebook: called by ``%unload_ext durably_nb``."""
    from durably_nb.magics.extension import unload  # noqa: PLC0415 - as above

    unload(ipython)
