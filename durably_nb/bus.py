"""Subscribe and emit: every listener hears each event it asked for, and none can harm another."""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from durably_nb.capture.current import enter, leave
from durably_nb.capture.origin import Origin
from durably_nb.errors import ValidationError
from durably_nb.events import EVENT_CLASSES, Event
from durably_nb.names import MAX_LENGTH
from durably_nb.wording import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from durably_nb.events import DurablyEvent

    Listener = Callable[[Any], object]
    ErrorHandler = Callable[[BaseException, DurablyEvent], object]
    Unsubscribe = Callable[[], None]
    EventSelector = str | type[Event] | Iterable[str | type[Event]]

_logger: Final = logging.getLogger("durably_nb")


class EventBus:
    """Tells events to listeners, on the thread that emits, in the order they were added."""

    def __init__(self) -> None:
        """Begin without listeners."""
        self._lock = threading.Lock()
        # Tuples that are replaced, never changed: a listener may come or go while one is read.
        self._listeners: dict[str, tuple[_Subscription, ...]] = dict.fromkeys(EVENT_CLASSES, ())
        self._error_handlers: tuple[_Subscription, ...] = ()
        self._loop = BackgroundLoop("durably-loop")

    def on(self, selector: EventSelector, listener: Listener) -> Unsubscribe:
        """Call `listener` for each event that `selector` names, until the returned function is called.

        Raises:
            ValidationError: If the selector names no event, or the listener cannot be called.

        """
        types = select_types(selector)
        if not types:
            raise ValidationError('A listener is for one event or more; the list is empty. "*" stands for all of them.')
        subscription = _Subscription(_callable(listener, "A listener"))
        with self._lock:
            for kind in types:
                self._listeners[kind] += (subscription,)

        def unsubscribe() -> None:
            with self._lock:
                for kind in types:
                    self._listeners[kind] = _without(self._listeners[kind], subscription)

        return unsubscribe

    def on_error(self, handler: ErrorHandler) -> Unsubscribe:
        """Call `handler(error, event)` for each exception of a listener."""
        subscription = _Subscription(_callable(handler, "An error handler"))
        with self._lock:
            self._error_handlers += (subscription,)

        def unsubscribe() -> None:
            with self._lock:
                self._error_handlers = _without(self._error_handlers, subscription)

        return unsubscribe

    def emit(self, event: DurablyEvent) -> None:
        """Tell an event to its listeners; what they raise goes to the error handlers."""
        for subscription in self._listeners[event.type]:
            subscription.origin.context().run(self._guard, subscription.call, event)

    def call(self, listener: Listener, event: DurablyEvent) -> None:
        """Tell an event to one listener, guarded as all are."""
        token = enter(None)
        try:
            self._guard(listener, event)
        finally:
            leave(token)

    def _guard(self, listener: Listener, event: DurablyEvent) -> None:
        try:
            result = listener(event)
            if result is not None and inspect.isawaitable(result):
                self._loop.spawn(self._guarded(result, event))
        except BaseException as error:  # whatever a listener raises stops at this guard
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # of whoever triggers or cancels in a cell; it is no listener's
            self._report(error, event)

    def close(self) -> None:
        """End the loop of async listeners; those that still run are given a moment, then cancelled."""
        self._loop.close()

    async def _guarded(self, awaitable: Awaitable[object], event: DurablyEvent) -> None:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001 - as in emit
            self._report(error, event)

    def _report(self, error: BaseException, event: DurablyEvent) -> None:
        if not self._error_handlers:
            _logger.warning("A listener of %s raised; add d.on_error(...) to handle this.", event.type, exc_info=error)
        for handler in self._error_handlers:
            try:
                handler.origin.context().run(handler.call, error, event)
            except Exception:
                _logger.exception("An on_error handler raised while it handled %r.", error)


class _Subscription:
    """One subscription: the same function may be subscribed twice, and each is ended on its own."""

    __slots__ = ("call", "origin")

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call
        self.origin = Origin()


class BackgroundLoop:
    """An asyncio loop on a thread of its own, started when it is first needed."""

    def __init__(self, name: str, *, grace_s: float = 1.0) -> None:
        """Name the thread; `grace_s` is what running coroutines are given at close."""
        self._name = name
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the loop; nobody waits for it."""
        loop = self._started()
        loop.call_soon_threadsafe(self._begin, coroutine)

    def close(self) -> None:
        """Wait a moment for what runs, cancel the rest, end the thread; may be called twice."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(lambda: loop.create_task(self._finish(loop)))
        if thread is not threading.current_thread():
            thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=self._grace_s)
        loop.stop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def select_types(selector: EventSelector) -> tuple[str, ...]:
    """Give the event types that a name, a class, a pattern or a list of these stands for.

    Raises:
        ValidationError: If one of them stands for none of the fifteen.

    """
    if isinstance(selector, (str, type)):
        selector = [selector]
    try:
        parts = list(selector)
    except TypeError:
        raise ValidationError(
            f"Events are chosen by a name, a pattern, an event class or a list of these, not by {shown(selector)}."
        ) from None
    wanted = {kind for part in parts for kind in _types_of(part)}
    return tuple(kind for kind in EVENT_CLASSES if kind in wanted)


def _types_of(part: str | type[Event]) -> list[str]:
    if isinstance(part, type) and issubclass(part, Event):
        found = [kind for kind, cls in EVENT_CLASSES.items() if issubclass(cls, part)]
    elif isinstance(part, str):
        # A pattern is compiled, which takes its time; none that long can be meant.
        found = fnmatch.filter(EVENT_CLASSES, part) if len(part) <= MAX_LENGTH else []
    else:
        found = []
    if not found:
        raise ValidationError(f"{shown(part)} matches no event: {did_you_mean(part, EVENT_CLASSES, 'the events')}")
    return found


def _callable(function: Callable[..., object], what: str) -> Callable[..., object]:
    if not callable(function):
        raise ValidationError(f"{what} is a function that takes an event, not {shown(function)}.")
    return function


def _without(subscriptions: tuple[_Subscription, ...], ended: _Subscription) -> tuple[_Subscription, ...]:
    return tuple(subscription for subscription in subscriptions if subscription is not ended)
