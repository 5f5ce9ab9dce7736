"""Values ↔ what is stored, exactly or refused.

What JSON can say is stored as it is. Everything else is ``{"$": tag, ...}``, written and read by the kind of
that tag (see ``durably_nb.values``); a dict of the user's that has a key ``"$"`` is stored as pairs, so the two
cannot be confused. Large payloads become files beside the store, which ``{"$": "files", ...}`` at the top lists.

Nothing runs that a damaged or hostile database could choose: classes are found among those already imported,
objects are rebuilt without their constructors, and pickles are not read unless asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durably_nb.errors import SerializationError
from durably_nb.values.walk import ReadingWalk, WritingWalk
from durably_nb.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durably_nb.artifacts import Artifacts
    from durably_nb.models import JSONValue
    from durably_nb.values.walk import Payload

INLINE_LIMIT: Final = 32 * 1024
"""The most JSON text, in bytes, that is stored in the row itself."""

_SHORT: Final = 40
"""So many characters that describe a value may stand in its outline."""

_dumps = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


class Codec:
    """Turns values into JSON that can be stored, and back, exactly.

    Attributes:
        allow_pickle: Whether what has no exact form may be pickled, and pickles be read. Off unless asked
            for: reading a pickle runs whatever code the file names.

    """

    def __init__(self, artifacts: Artifacts | None = None, *, allow_pickle: bool = False) -> None:
        """Keep large payloads in ``artifacts``; without it, everything inline."""
        self.allow_pickle = allow_pickle
        self.artifacts = artifacts

    def encode(self, value: object, *, run_id: str, where: str = "value") -> JSONValue:
        """Return JSON that stands for ``value`` and shares nothing mutable with it.

        Raises:
            SerializationError: It cannot be stored exactly; the message names the path to it from ``where``.
            StoreError: A file could not be written.

        """
        limit = math.inf if self.artifacts is None else INLINE_LIMIT
        walk = WritingWalk(where, pickles=self.allow_pickle, inline_limit=limit)
        stored = walk.run(value)
        if self.artifacts is None:
            return stored
        return _placed(self.artifacts, run_id, stored, walk.payloads)

    def decode(self, stored: JSONValue, *, where: str = "value") -> object:
        """Return the value that was encoded.

        Raises:
            SerializationError: What is stored is damaged, or its class is not defined here.

        """
        with _reading(where):
            files = _files(stored)
            walk = ReadingWalk(where, lambda number: self._fetch(files[number]), pickles=self.allow_pickle)
            if files and files[-1].name.endswith(".json"):
                return walk.decode(json.loads(self._fetch(files[-1])))
            return walk.decode(stored["value"] if files else stored)  # type: ignore[call-overload, index]

    def _fetch(self, file: _File) -> bytes:
        if self.artifacts is None:
            raise SerializationError(f"The stored file {file.name} belongs to a store on disk; open that one.")
        data = self.artifacts.read(file.name)
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.digest:
            raise SerializationError(
                f"The stored file {file.name} was changed or cut short since it was written ({file.size:,} bytes "
                f"then, {len(data):,} now). Put it back from a backup, or delete the run and trigger it again."
            )
        return data


def describe(stored: JSONValue) -> tuple[str, int]:
    """Return a stored value's type and its size in bytes, files included, without decoding it.

    Raises:
        SerializationError: What is stored is damaged.

    """
    with _reading("value"):
        return _type_name(stored), len(_dumps(stored)) + sum(file.size for file in _files(stored))


def outlined(stored: JSONValue) -> str:
    """Return a stored value in one line, as its repr where JSON can say it, without decoding the rest."""
    with _reading("value"):
        return shown(_outline(stored))


def outlined_input(stored: JSONValue) -> str:
    """Return the stored input of a run in one line, each parameter as `outlined` gives it: ``city='Bern', n=3``."""
    listed = stored["value"] if isinstance(stored, dict) and stored.get("$") == "files" else stored
    if not isinstance(listed, dict) or "$" in listed:
        return outlined(stored)
    return ", ".join(f"{name}={outlined(value)}" for name, value in listed.items())


def artifact_names(stored: JSONValue) -> set[str]:
    """Return the names of all files that belong to a stored value.

    Raises:
        SerializationError: What is stored is damaged.

    """
    with _reading("value"):
        return {file.name for file in _files(stored)}


class _Verbatim(str):
    """Text that is shown as it is, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _outline(stored: JSONValue) -> object:
    if type(stored) is list:
        return [_outline(item) for item in stored]
    if type(stored) is not dict:
        return stored
    if "$" not in stored:
        return {key: _outline(item) for key, item in stored.items()}
    inner = stored.get("v")
    if type(inner) in {int, float, bool}:  # a number of NumPy's
        return inner
    said = f" {inner}" if type(inner) is str and len(inner) <= _SHORT else ""
    return _Verbatim(f"<{_type_name(stored)}{said}>")


class _File(NamedTuple):
    """A file that belongs to a stored value, as the value lists it."""

    name: str
    size: int
    digest: str


def _placed(artifacts: Artifacts, run_id: str, stored: JSONValue, payloads: list[Payload]) -> JSONValue:
    """Write what is too large to files and return what refers to them."""
    text = _dumps(stored)
    inline = len(text) <= INLINE_LIMIT
    if inline and not payloads:
        return stored
    if not inline:
        payloads = [*payloads, (text.encode(), "json")]
    files: list[JSONValue] = [
        [artifacts.write(run_id, data, suffix), memoryview(data).nbytes, hashlib.sha256(data).hexdigest()]
        for data, suffix in payloads
    ]
    return {"$": "files", "type": _type_name(stored), "files": files, "value": stored if inline else None}


def _files(stored: JSONValue) -> list[_File]:
    if type(stored) is not dict or stored.get("$") != "files":
        return []
    listed: Any = stored["files"]
    files = [_File(*each) for each in listed]
    if not files or any(tuple(map(type, file)) != (str, int, str) for file in files):
        raise ValueError("a file is listed by its name, size and checksum")
    return files


def _type_name(stored: JSONValue) -> str:
    if type(stored) is not dict or "$" not in stored:
        return "None" if stored is None else type(stored).__name__
    return str(stored.get("type", stored["$"])).rpartition(":")[2]


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn whatever reading a damaged or hostile value raises into one sentence."""
    try:
        yield
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(
            f"{where} cannot be read back: what is stored is damaged, or was written by a newer version "
            f"({type(error).__name__}: {error!s:.200}). Restore the file from a backup, update "
            "durably_nb, or delete the run and trigger it again."
        ) from error
