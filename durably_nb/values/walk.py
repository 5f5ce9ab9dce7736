"""The walk over a value, and over what is stored, part by part."""

from __future__ import annotations

import base64
import inspect
import reprlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from durably_nb.errors import DurablyError, SerializationError
from durably_nb.values.kinds import WAYS_OUT, Attr, Kind, class_name
from durably_nb.values.pickles import PICKLE
from durably_nb.values.plain import has_plain_keys, is_plain
from durably_nb.values.registry import kind_of, kind_tagged
from durably_nb.wording import with_article

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from durably_nb.models import JSONValue

MAX_DEPTH: Final = 100
_LONG_PATH: Final = 200

Payload: TypeAlias = tuple[bytes | memoryview, str]
"""Data that is too large to stand in JSON, and the suffix of its file."""


class WritingWalk:
    """One value on its way in: the path to what is at hand, and the payloads that go with it.

    Implements `Writer`, for the kinds.
    """

    def __init__(self, where: str, *, pickles: bool, inline_limit: float) -> None:
        """Call the value ``where``; keep payloads of up to ``inline_limit`` bytes in the JSON."""
        self.payloads: list[Payload] = []
        self._where = where
        self._path: list[object] = []
        self._pickles = pickles
        self._inline_limit = inline_limit

    def run(self, value: object) -> JSONValue:
        """Encode the whole value; whatever goes wrong is a `SerializationError` with the path."""
        try:
            return self.encode(value, self._where)
        except DurablyError:
            raise
        except RecursionError as error:
            raise self.refuse("is nested too deep for what is left of Python's stack") from error
        except Exception as error:  # whatever a library raises about its own value
            raise self.refuse(f"could not be stored ({type(error).__name__}: {error})") from error

    def encode(self, value: object, part: object) -> JSONValue:
        """Encode a part of the value, which the path calls ``part``."""
        if is_plain(value):
            return value  # type: ignore[return-value]
        self._path.append(part)
        if len(self._path) > MAX_DEPTH:
            raise self.refuse(f"is nested more than {MAX_DEPTH} deep, or contains itself")
        stored = self._encode(value)
        self._path.pop()
        return stored

    def _encode(self, value: object) -> JSONValue:
        if type(value) is list:
            return self.items(value)
        if type(value) is dict and has_plain_keys(value):
            return {key: self.encode(item, key) for key, item in list(value.items())}
        kind = kind_of(type(value)) or self._last_resort(value)
        return {"$": kind.tag, **kind.encode(value, self)}

    def items(self, values: Iterable[object]) -> list[JSONValue]:
        """Encode parts that the path numbers."""
        return [self.encode(value, index) for index, value in enumerate(list(values))]

    @contextmanager
    def inside(self, part: object) -> Iterator[None]:
        """Extend the path for what is encoded meanwhile."""
        self._path.append(part)
        yield
        self._path.pop()  # not after an error: the message names the path

    def put(self, data: bytes | memoryview, suffix: str) -> JSONValue:
        """Take a payload and return what stands for it: itself in base64, or its number."""
        if memoryview(data).nbytes * 4 // 3 <= self._inline_limit:
            return base64.b64encode(data).decode()
        self.payloads.append((data, suffix))
        return len(self.payloads) - 1

    def refuse(self, reason: str) -> SerializationError:
        """Make the error that says so, with the path."""
        steps = self._path[1:MAX_DEPTH]
        path = "".join(f".{part}" if type(part) is Attr else f"[{_shown(part)}]" for part in steps)
        if len(path) > _LONG_PATH:
            path = f"{path[: _LONG_PATH // 2]}…{path[-_LONG_PATH // 2 :]}"
        return SerializationError(f"{self._where}{path} {reason}.")

    def _last_resort(self, value: object) -> Kind:
        if inspect.isawaitable(value):
            raise self.refuse(f"is {with_article(type(value).__name__)}, not a value: did you forget await")
        if self._pickles:
            return PICKLE
        name = with_article(class_name(type(value)))
        known = next((base for base in type(value).__mro__[1:] if base is list or kind_of(base)), None)
        if known is None:
            raise self.refuse(f"is {name}, which cannot be stored exactly. {WAYS_OUT}")
        raise self.refuse(
            f"is {name}, and what that is beyond {with_article(class_name(known))} cannot be stored. "
            f"Convert it to a plain {class_name(known)}. {WAYS_OUT}"
        )


class ReadingWalk:
    """One stored value on its way out. Implements `Reader`, for the kinds."""

    def __init__(self, where: str, fetch: Callable[[int], bytes], *, pickles: bool) -> None:
        """Call the value ``where``; get payloads that are not in the JSON by ``fetch(number)``."""
        self.pickles = pickles
        self._where = where
        self._fetch = fetch
        self._depth = 0

    def decode(self, stored: JSONValue) -> object:
        """Decode a part of the value."""
        if is_plain(stored):
            return stored
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.refuse("it is nested deeper than anything that is ever stored")
        value = self._decode(stored)
        self._depth -= 1
        return value

    def _decode(self, stored: JSONValue) -> object:
        if type(stored) is list:
            return self.items(stored)
        if type(stored) is dict and "$" in stored:
            return kind_tagged(stored["$"]).decode(stored, self)  # type: ignore[arg-type]
        if type(stored) is dict and has_plain_keys(stored):
            return {key: self.decode(item) for key, item in stored.items()}
        raise self.refuse(f"a {type(stored).__name__} like this one is never stored")

    def items(self, stored: JSONValue) -> list[Any]:
        """Decode a list of parts."""
        if type(stored) is not list:
            raise self.refuse(f"a list was expected, not a {type(stored).__name__}")
        return [self.decode(item) for item in stored]

    def get(self, stored: JSONValue) -> bytes:
        """Return a payload."""
        if type(stored) is int and stored >= 0:
            return self._fetch(stored)
        return base64.b64decode(stored, validate=True)  # type: ignore[arg-type]

    def refuse(self, reason: str) -> SerializationError:
        """Make the error that says so."""
        return SerializationError(f"{self._where} cannot be read back: {reason}.")


def _shown(key: object) -> str:
    try:
        return reprlib.repr(key)
    except Exception:  # noqa: BLE001 - a user's __repr__; a number too long for Python to print
        return f"<{type(key).__name__}>"
