"""Values ↔ what is stored, exactly or refused.

What JSON can say is stored as it is. Everything else is ``{"$": tag, ...}``, written and read by the kind of
that tag; a dict of the user's that has a key ``"$"`` is stored as pairs, so the two cannot be confused. Large
payloads become files beside the store, which ``{"$": "files", ...}`` at the top lists.

Nothing runs that a damaged or hostile database could choose: classes are found among those already imported,
objects are rebuilt without their constructors, and pickles are not read unless asked for.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import hashlib
import inspect
import itertools
import json
import math
import operator
import pathlib
import pickle
import reprlib
import struct
import sys
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, deque
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pydantic

from durably_nb import tables
from durably_nb.errors import DurablyError, SerializationError
from durably_nb.tables import Attr, Fields, Kind, Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from durably_nb.artifacts import Artifacts
    from durably_nb.models import JSONValue

INLINE_LIMIT: Final = 32 * 1024
"""The most JSON text, in bytes, that is stored in the row itself."""

MAX_DEPTH: Final = 100
_SHORT: Final = 80
_FEW: Final = INLINE_LIMIT // (2 * 6 * 2 * _SHORT)
_Payload: TypeAlias = tuple[bytes | memoryview, str]
_WAYS_OUT = (
    "Return plain values or a DataFrame; or save it to a file yourself and return the path; "
    "or open the store with Durably(..., allow_pickle=True)"
)


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
        if _is_short(value):
            return value  # type: ignore[return-value]
        if type(value) is dict and _is_flat(copy := value.copy()):
            return copy
        walk = _Writer(where, pickles=self.allow_pickle, inline=self.artifacts is None)
        stored = walk.start(value)
        if self.artifacts is None:
            return stored
        return _placed(self.artifacts, run_id, stored, walk.payloads)

    def decode(self, stored: JSONValue, *, where: str = "value") -> object:
        """Return the value that was encoded.

        Raises:
            SerializationError: What is stored is damaged, or its class is not defined here.

        """
        if _is_plain(stored):
            return stored
        if type(stored) is dict and _is_flat(stored):
            return stored.copy()
        with _reading(where):
            files = _files(stored)
            walk = _Reader(where, lambda index: self._fetch(files[index]), pickles=self.allow_pickle)
            if files and files[-1][0].endswith(".json"):
                return walk.decode(json.loads(self._fetch(files[-1])))
            return walk.decode(stored["value"] if files else stored)  # type: ignore[call-overload, index]

    def describe(self, stored: JSONValue) -> tuple[str, int]:
        """Return the type's name and the size in bytes, files included, without decoding."""
        with _reading("value"):
            return _type_name(stored), len(_dumps(stored)) + sum(size for _, size, _ in _files(stored))

    def artifact_names(self, stored: JSONValue) -> set[str]:
        """Return the names of all files that belong to a stored value."""
        with _reading("value"):
            return {name for name, _, _ in _files(stored)}

    def _fetch(self, file: tuple[str, int, str]) -> bytes:
        name, size, digest = file
        if self.artifacts is None:
            raise SerializationError(f"The stored file {name} belongs to a store on disk; open that one.")
        data = self.artifacts.read(name)
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise SerializationError(
                f"The stored file {name} was changed or cut short since it was written ({size:,} bytes then, "
                f"{len(data):,} now). Put it back from a backup, or delete the run and trigger it again."
            )
        return data


# --- The walk over a value, and over what is stored ---


class _Writer:
    """One value on its way in: the path to what is at hand, and the payloads that go with it."""

    def __init__(self, where: str, *, pickles: bool, inline: bool) -> None:
        self.payloads: list[_Payload] = []
        self._where = where
        self._path: list[object] = []
        self._pickles = pickles
        self._inline = inline

    def start(self, value: object) -> JSONValue:
        try:
            return self.encode(value, self._where)
        except DurablyError:
            raise
        except RecursionError as error:
            raise self.refuse("is nested too deep for what is left of Python's stack") from error
        except Exception as error:  # whatever a library raises about its own value
            raise self.refuse(f"could not be stored ({type(error).__name__}: {error})") from error

    def encode(self, value: object, part: object) -> JSONValue:
        cls = type(value)
        plain = _PLAIN.get(cls)
        if plain is not None and plain(value):
            return value  # type: ignore[return-value]
        self._path.append(part)
        if len(self._path) > MAX_DEPTH:
            raise self.refuse(f"is nested more than {MAX_DEPTH} deep, or contains itself")
        stored: JSONValue
        if cls is list:
            stored = self.items(value)  # type: ignore[arg-type]
        elif cls is dict and _has_plain_keys(value):  # type: ignore[arg-type]
            stored = {key: self.encode(item, key) for key, item in list(value.items())}  # type: ignore[attr-defined]
        else:
            kind = _kind_of(cls) or self._last_resort(value)
            stored = {"$": kind.tag, **kind.encode(value, self)}
        self._path.pop()
        return stored

    def items(self, values: Iterable[object]) -> list[JSONValue]:
        return [self.encode(value, index) for index, value in enumerate(list(values))]

    @contextmanager
    def inside(self, part: object) -> Iterator[None]:
        self._path.append(part)
        yield
        self._path.pop()  # not after an error: the message names the path

    def put(self, data: bytes | memoryview, suffix: str) -> JSONValue:
        if self._inline or memoryview(data).nbytes * 4 // 3 <= INLINE_LIMIT:
            return base64.b64encode(data).decode()
        self.payloads.append((data, suffix))
        return len(self.payloads) - 1

    def refuse(self, reason: str) -> SerializationError:
        steps = self._path[1:MAX_DEPTH]
        path = "".join(f".{part}" if type(part) is Attr else f"[{_shown(part)}]" for part in steps)
        shown = path if len(path) <= 200 else f"{path[:100]}…{path[-99:]}"  # noqa: PLR2004 - two lines of text
        return SerializationError(f"{self._where}{shown} {reason}.")

    def _last_resort(self, value: object) -> Kind:
        if inspect.isawaitable(value):
            raise self.refuse(f"is a {type(value).__name__}, not a value: did you forget await")
        if self._pickles:
            return _PICKLE
        name = _class_name(type(value))
        known = next((base for base in type(value).__mro__[1:] if base is list or _kind_of(base)), None)
        if known is None:
            raise self.refuse(f"is a {name}, which cannot be stored exactly. {_WAYS_OUT}")
        raise self.refuse(
            f"is a {name}, and what that is beyond a {_class_name(known)} cannot be stored. "
            f"Convert it to a plain {_class_name(known)}. {_WAYS_OUT}"
        )


class _Reader:
    """One stored value on its way out."""

    def __init__(self, where: str, fetch: Callable[[int], bytes], *, pickles: bool) -> None:
        self.pickles = pickles
        self._where = where
        self._fetch = fetch
        self._depth = 0

    def decode(self, stored: JSONValue) -> object:
        if _is_plain(stored):
            return stored
        self._depth += 1
        if self._depth > 3 * MAX_DEPTH:
            raise self.refuse("it is nested deeper than anything that is ever stored")
        value: object
        if type(stored) is list:
            value = self.items(stored)
        elif type(stored) is dict and "$" in stored:
            value = _BY_TAG[stored["$"]].decode(stored, self)  # type: ignore[index]
        elif type(stored) is dict and _has_plain_keys(stored):
            value = {key: self.decode(item) for key, item in stored.items()}
        else:
            raise self.refuse(f"a {type(stored).__name__} like this one is never stored")
        self._depth -= 1
        return value

    def items(self, stored: JSONValue) -> list[Any]:
        if type(stored) is not list:
            raise self.refuse(f"a list was expected, not a {type(stored).__name__}")
        return [self.decode(item) for item in stored]

    def get(self, stored: JSONValue) -> bytes:
        if type(stored) is int and stored >= 0:
            return self._fetch(stored)
        return base64.b64decode(stored, validate=True)  # type: ignore[arg-type]

    def refuse(self, reason: str) -> SerializationError:
        return SerializationError(f"{self._where} cannot be read back: {reason}.")


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


def _shown(key: object) -> str:
    try:
        return reprlib.repr(key)
    except Exception:  # noqa: BLE001 - a user's __repr__; a number too long for Python to print
        return f"<{type(key).__name__}>"


_dumps = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


def _placed(artifacts: Artifacts, run_id: str, stored: JSONValue, payloads: list[_Payload]) -> JSONValue:
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


def _files(stored: JSONValue) -> list[tuple[str, int, str]]:
    """Return name, size and checksum of the files a stored value lists."""
    if type(stored) is not dict or stored.get("$") != "files":
        return []
    listed: Any = stored["files"]
    files = [(name, size, digest) for name, size, digest in listed]
    if not files or any(tuple(map(type, file)) != (str, int, str) for file in files):
        raise ValueError("a file is listed by its name, size and checksum")
    return files


def _type_name(stored: JSONValue) -> str:
    if type(stored) is not dict or "$" not in stored:
        return "None" if stored is None else type(stored).__name__
    return str(stored.get("type", stored["$"])).rpartition(":")[2]


# --- What JSON says exactly ---


def _is_text(value: str) -> bool:
    """Whether it can be UTF-8: a lone surrogate cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_json_number(value: float) -> bool:
    """Finite, and not -0.0, whose sign a JSON parser may drop."""
    return value - value == 0.0 and (value != 0.0 or math.copysign(1.0, value) == 1.0)


_PLAIN: dict[type, Callable[[Any], bool]] = {
    types.NoneType: lambda _: True,
    bool: lambda _: True,
    int: lambda value: -(1 << 63) <= value < 1 << 63,
    float: _is_json_number,
    str: _is_text,
}


def _is_plain(value: object) -> bool:
    plain = _PLAIN.get(type(value))
    return plain is not None and plain(value)


def _is_short(value: object) -> bool:
    return _is_plain(value) and (type(value) is not str or len(value) <= _SHORT)


def _is_flat(value: Mapping[Any, object]) -> bool:
    """Whether it is what most steps return: a few numbers and words, far below the limit."""
    return (
        len(value) <= _FEW
        and "$" not in value
        and all(type(key) is str and _is_short(key) for key in value)
        and all(map(_is_short, value.values()))
    )


def _has_plain_keys(value: Mapping[Any, object]) -> bool:
    return "$" not in value and all(type(key) is str and _is_text(key) for key in list(value))


# --- Kinds: the standard library's values ---


_Decode: TypeAlias = "Callable[[Fields, Reader], object]"


def _items(value: Iterable[object], walk: Writer) -> Fields:
    return {"v": walk.items(value)}


def _pairs(value: Mapping[Any, object], walk: Writer) -> Fields:
    _check_bare(value, walk)
    pairs = list(value.items())
    return {"v": [[walk.encode(key, Attr("keys()")), walk.encode(item, key)] for key, item in pairs]}


def _from_pairs(make: Callable[[list[Any]], Any]) -> _Decode:
    def decode(stored: Fields, walk: Reader) -> object:
        pairs = [(walk.decode(key), walk.decode(item)) for key, item in stored["v"]]
        return _complete(make(pairs), len(pairs), walk)

    return decode


def _from_items(make: Callable[[list[Any]], Any]) -> _Decode:
    def decode(stored: Fields, walk: Reader) -> object:
        items = walk.items(stored["v"])
        return _complete(make(items), len(items), walk)

    return decode


def _complete(value: Any, length: int, walk: Reader) -> object:  # noqa: ANN401 - any collection
    if len(value) != length:
        raise walk.refuse("an element is stored twice")
    return value


def _check_bare(value: object, walk: Writer) -> None:
    """Refuse attributes that someone hung on a container."""
    if getattr(value, "__dict__", None):
        raise walk.refuse(f"is a {type(value).__name__} with attributes of its own, which cannot be kept")


def _encode_float(value: float, _: Writer) -> Fields:
    bits = struct.pack(">d", value)
    return {"v": repr(value) if bits == struct.pack(">d", float(repr(value))) else bits.hex()}


def _decode_float(stored: Fields, _: Reader) -> float:
    text: str = stored["v"]
    if text in ("nan", "inf", "-inf", "-0.0"):
        return float(text)
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _encode_time(value: dt.datetime | dt.time, walk: Writer) -> Fields:
    fields: Fields = {"v": value.replace(tzinfo=None).isoformat()}
    if value.tzinfo is not None:
        fields["tz"] = walk.encode(value.tzinfo, Attr("tzinfo"))
    if value.fold:
        fields["fold"] = value.fold
    return fields


def _decode_time(cls: type[dt.datetime | dt.time]) -> _Decode:
    def decode(stored: Fields, walk: Reader) -> object:
        tzinfo: Any = walk.decode(stored.get("tz"))
        return cls.fromisoformat(stored["v"]).replace(tzinfo=tzinfo, fold=stored.get("fold", 0))

    return decode


def _encode_zone(value: zoneinfo.ZoneInfo, walk: Writer) -> Fields:
    key: str | None = value.key
    if key is None or zoneinfo.ZoneInfo(key) is not value:
        raise walk.refuse("is a ZoneInfo that its key alone does not give back. Use zoneinfo.ZoneInfo(key)")
    return {"v": key}


def _encode_path(value: pathlib.PurePath, walk: Writer) -> Fields:
    name = "Path" if isinstance(value, pathlib.Path) else type(value).__name__
    return {"type": name, "v": walk.encode(str(value), Attr("path"))}


def _decode_path(stored: Fields, walk: Reader) -> pathlib.PurePath:
    classes = {"Path": pathlib.Path, **{each.__name__: each for each in _PURE_PATHS}}
    text: Any = walk.decode(stored["v"])
    return classes[stored["type"]](text)


def _decode_bytes(stored: Fields, walk: Reader) -> bytes:
    return walk.get(stored["data"])


_PURE_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath)
_STANDARD = (
    Kind("dict", (dict,), _pairs, _from_pairs(dict)),
    Kind("OrderedDict", (OrderedDict,), _pairs, _from_pairs(OrderedDict)),
    Kind("Counter", (Counter,), _pairs, _from_pairs(lambda pairs: Counter(dict(pairs)))),
    Kind("tuple", (tuple,), _items, _from_items(tuple)),
    Kind("set", (set,), _items, _from_items(set)),
    Kind("frozenset", (frozenset,), _items, _from_items(frozenset)),
    Kind(
        "deque",
        (deque,),
        lambda value, walk: {"v": walk.items(value), "maxlen": value.maxlen},
        lambda stored, walk: deque(walk.items(stored["v"]), stored["maxlen"]),
    ),
    Kind("int", (int,), lambda value, _: {"v": hex(value)}, lambda stored, _: int(stored["v"], 16)),
    Kind("float", (float,), _encode_float, _decode_float),
    Kind(
        "str",
        (str,),
        lambda value, walk: {"data": walk.put(value.encode("utf-8", "surrogatepass"), "bin")},
        lambda stored, walk: walk.get(stored["data"]).decode("utf-8", "surrogatepass"),
    ),
    Kind(
        "complex",
        (complex,),
        lambda value, walk: {"v": walk.items((value.real, value.imag))},
        lambda stored, walk: complex(*walk.items(stored["v"])),
    ),
    Kind("bytes", (bytes,), lambda value, walk: {"data": walk.put(value, "bin")}, _decode_bytes),
    Kind(
        "bytearray",
        (bytearray,),
        lambda value, walk: {"data": walk.put(bytes(value), "bin")},
        lambda stored, walk: bytearray(walk.get(stored["data"])),
    ),
    Kind(
        "range",
        (range,),
        lambda value, walk: {"v": walk.items((value.start, value.stop, value.step))},
        lambda stored, walk: range(*walk.items(stored["v"])),
    ),
    Kind("Decimal", (Decimal,), lambda value, _: {"v": str(value)}, lambda stored, _: Decimal(stored["v"])),
    Kind("UUID", (uuid.UUID,), lambda value, _: {"v": str(value)}, lambda stored, _: uuid.UUID(stored["v"])),
    Kind(
        "date",
        (dt.date,),
        lambda value, _: {"v": value.isoformat()},
        lambda stored, _: dt.date.fromisoformat(stored["v"]),
    ),
    Kind("datetime", (dt.datetime,), _encode_time, _decode_time(dt.datetime)),
    Kind("time", (dt.time,), _encode_time, _decode_time(dt.time)),
    Kind(
        "timedelta",
        (dt.timedelta,),
        lambda value, _: {"v": [value.days, value.seconds, value.microseconds]},
        lambda stored, _: dt.timedelta(*stored["v"]),
    ),
    Kind(
        "timezone",
        (dt.timezone,),
        lambda value, walk: {"v": walk.items(value.__getinitargs__())},
        lambda stored, walk: dt.timezone(*walk.items(stored["v"])),
    ),
    Kind("ZoneInfo", (zoneinfo.ZoneInfo,), _encode_zone, lambda stored, _: zoneinfo.ZoneInfo(stored["v"])),
    Kind("path", (*_PURE_PATHS, type(pathlib.Path())), _encode_path, _decode_path),
)


# --- Kinds: classes of the user's ---


def _class_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _reference(cls: type, walk: Writer) -> str:
    """Return ``module:qualname``, having made sure that it leads to this very class."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in name:
        raise walk.refuse(
            f"is a {_class_name(cls)}, a class made inside a function, which nobody could find again. "
            "Define the class at the top of a cell or module"
        )
    if _find(name) is not cls:
        raise walk.refuse(
            f"is a {_class_name(cls)}, but that name now stands for another class or none, as when the cell "
            "that defines it was run again. Make the value with the class as it is now"
        )
    return name


def _find(name: str) -> type | None:
    """Look a class up among what is already imported; no code runs, no lazy attribute is filled in."""
    module, _, qualname = name.partition(":")
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        if isinstance(found, types.ModuleType):
            # Not vars(): a lazy module would load itself.
            found = types.ModuleType.__getattribute__(found, "__dict__").get(part)
        elif isinstance(found, type):
            found = vars(found).get(part)
        else:
            return None
    return found if isinstance(found, type) else None


def _class(stored: Fields, walk: Reader, fits: Callable[[type], bool]) -> type[Any]:
    cls = _find(stored["type"])
    if cls is None or not fits(cls):
        module, _, qualname = stored["type"].partition(":")
        raise walk.refuse(
            f"it is a {stored['$']} of class {qualname}, which module {module} does not have at the moment. "
            f"Import module {module} (or re-run the cell that defines class {qualname}) and try again"
        )
    return cls


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def _is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls)


def _is_model(cls: type) -> bool:
    return issubclass(cls, pydantic.BaseModel)


def _is_enum(cls: type) -> bool:
    return issubclass(cls, enum.Enum)


def _is_pytz(cls: type) -> bool:
    return issubclass(cls, dt.tzinfo) and str(cls.__module__).partition(".")[0] == "pytz"


def _encode_enum(value: enum.Enum, walk: Writer) -> Fields:
    cls = type(value)
    name: str | None = value.name
    if name is not None and cls.__members__.get(name) is value:
        return {"type": _reference(cls, walk), "name": name}
    if not _combines(cls):
        raise walk.refuse(f"is a {_class_name(cls)} that is none of its members")
    return {"type": _reference(cls, walk), "value": value.value}


def _decode_enum(stored: Fields, walk: Reader) -> enum.Enum:
    cls: type[enum.Enum] = _class(stored, walk, _is_enum)
    if "name" in stored:
        return cls.__members__[stored["name"]]
    if not _combines(cls) or type(stored["value"]) is not int:
        raise walk.refuse(f"it is none of the members of {_class_name(cls)}")
    return cls(stored["value"])


def _combines(cls: type[enum.Enum]) -> bool:
    """Whether members can be or-ed, by the standard library's code and no ``_missing_`` of the class."""
    missing: Any = operator.attrgetter("_missing_.__func__")
    return issubclass(cls, enum.Flag) and missing(cls) is missing(enum.Flag)


def _encode_namedtuple(value: Any, walk: Writer) -> Fields:  # noqa: ANN401 - any named tuple
    cls = type(value)
    _check_bare(value, walk)
    if len(value) != len(cls._fields):
        raise walk.refuse(f"has {len(value)} elements where a {_class_name(cls)} has {len(cls._fields)}")
    named = zip(cls._fields, tuple(value), strict=True)
    return {"type": _reference(cls, walk), "v": [walk.encode(item, Attr(name)) for name, item in named]}


def _decode_namedtuple(stored: Fields, walk: Reader) -> object:
    cls = _class(stored, walk, _is_namedtuple)
    items = walk.items(stored["v"])
    if len(items) != len(cls._fields):
        raise walk.refuse(f"it has {len(items)} fields, where {_class_name(cls)} has {len(cls._fields)} by now")
    return tuple.__new__(cls, items)


def _encode_object(value: object, walk: Writer) -> Fields:
    cls = type(value)
    fields: Fields = {"type": _reference(cls, walk)}
    try:
        object.__new__(cls)
    except TypeError as error:
        raise walk.refuse(f"is a {_class_name(cls)}, which holds more than its fields. {_WAYS_OUT}") from error
    state: Any = object.__getstate__(value)
    for name, part in zip(("attrs", "slots"), state if isinstance(state, tuple) else (state,), strict=False):
        if part:
            fields[name] = _encode_attributes(part, walk)
    return fields


def _encode_attributes(attributes: dict[str, object], walk: Writer) -> Fields:
    if not all(type(name) is str and _is_text(name) for name in attributes):
        raise walk.refuse("has attributes whose names are not text, which cannot be kept")
    return {name: walk.encode(item, Attr(name)) for name, item in list(attributes.items())}


def _decode_object(fits: Callable[[type], bool]) -> _Decode:
    """Rebuild an object from its state; no method, descriptor or validator of its class runs."""

    def decode(stored: Fields, walk: Reader) -> object:
        cls = _class(stored, walk, fits)
        made = object.__new__(cls)
        attributes = {name: walk.decode(item) for name, item in stored.get("attrs", {}).items()}
        if attributes:
            object.__getattribute__(made, "__dict__").update(attributes)
        for name, item in stored.get("slots", {}).items():
            slot = inspect.getattr_static(cls, name)
            if not isinstance(slot, types.MemberDescriptorType):
                raise walk.refuse(f"{_class_name(cls)} no longer has a slot {name!r}")
            slot.__set__(made, walk.decode(item))
        if isinstance(made, pydantic.BaseModel):
            _check_model(made, walk)
        return made

    return decode


def _check_model(made: pydantic.BaseModel, walk: Reader) -> None:
    """Make sure that pydantic finds what it relies on."""
    kept: list[object] = [made.__pydantic_extra__, made.__pydantic_private__]
    named: object = made.__pydantic_fields_set__
    if not isinstance(named, set) or not all(isinstance(each, dict | None) for each in kept):
        raise walk.refuse("it is not a whole pydantic model")


def _encode_pytz(value: Any, _: Writer) -> Fields:  # noqa: ANN401 - pytz has no type hints
    return {"v": list(value.__reduce__()[1]) or [value.zone]}


def _decode_pytz(stored: Fields, _: Reader) -> object:
    import pytz  # noqa: PLC0415 - only where such a value is stored

    zone, *variant = stored["v"]
    return pytz.tzinfo.unpickler(zone, *variant) if isinstance(zone, str) else pytz.FixedOffset(zone)


_CLASSES: tuple[tuple[Callable[[type], bool], Kind], ...] = (
    (_is_enum, Kind("enum", (), _encode_enum, _decode_enum)),
    (_is_namedtuple, Kind("namedtuple", (), _encode_namedtuple, _decode_namedtuple)),
    (_is_model, Kind("model", (), _encode_object, _decode_object(_is_model))),
    (_is_dataclass, Kind("dataclass", (), _encode_object, _decode_object(_is_dataclass))),
    (_is_pytz, Kind("pytz", (), _encode_pytz, _decode_pytz)),
)


# --- Kinds: pickles, and finding the kind ---


def _encode_pickle(value: object, walk: Writer) -> Fields:
    return {"type": type(value).__qualname__, "data": walk.put(pickle.dumps(value), "pickle")}


def _decode_pickle(stored: Fields, walk: Reader) -> object:
    if not walk.pickles:
        raise walk.refuse(
            "it is a pickle, and reading a pickle runs whatever code it names. If you trust this file, "
            "open it with Durably(..., allow_pickle=True)"
        )
    return pickle.loads(walk.get(stored["data"]))  # noqa: S301 - asked for


_PICKLE = Kind("pickle", (), _encode_pickle, _decode_pickle)
_KINDS = (_PICKLE, *_STANDARD, *(kind for _, kind in _CLASSES), *itertools.chain(*tables.KINDS.values()))
_BY_TAG: dict[str, Kind] = {kind.tag: kind for kind in _KINDS}
_BY_TYPE: dict[type, Kind] = {cls: kind for kind in _STANDARD for cls in kind.classes if isinstance(cls, type)}


def _kind_of(cls: type) -> Kind | None:
    """Find the kind of exactly this class; a library's kinds are looked at when its first value comes by."""
    kind = _BY_TYPE.get(cls)
    if kind is not None:
        return kind
    library = str(cls.__module__).partition(".")[0]
    if library in tables.KINDS and library in sys.modules:
        for each in tables.KINDS[library]:
            _BY_TYPE.update(dict.fromkeys(tables.classes(sys.modules[library], each), each))
        return _BY_TYPE.get(cls)
    return next((kind for fits, kind in _CLASSES if fits(cls)), None)
