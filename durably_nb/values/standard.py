"""Kinds of the standard library's values."""

from __future__ import annotations

import pathlib
import struct
import uuid
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from durably_nb.values.kinds import Attr, Fields, Kind, Reader, Writer, refuse_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def said_by(cls: type, say: Callable[[Any], str], read: Callable[[str], object]) -> Kind:
    """Describe a class whose values a text says."""
    return Kind(cls.__name__, (cls,), lambda value, _: {"v": say(value)}, lambda stored, _: read(stored["v"]))


def made_of(cls: type, parts: Callable[[Any], tuple[object, ...]]) -> Kind:
    """Describe a class whose values are made by calling it with their parts."""
    return Kind(
        cls.__name__,
        (cls,),
        lambda value, walk: {"v": walk.items(parts(value))},
        lambda stored, walk: cls(*walk.items(stored["v"])),
    )


def _data(cls: type, dump: Callable[[Any], bytes], load: Callable[[bytes], object]) -> Kind:
    """Describe a class whose values are bytes at heart, and may be large."""
    return Kind(
        cls.__name__,
        (cls,),
        lambda value, walk: {"data": walk.put(dump(value), "bin")},
        lambda stored, walk: load(walk.get(stored["data"])),
    )


def _collection(cls: type) -> Kind:
    def decode(stored: Fields, walk: Reader) -> object:
        items = walk.items(stored["v"])
        return _complete(cls(items), items, walk)

    return Kind(cls.__name__, (cls,), lambda value, walk: {"v": walk.items(value)}, decode)


def _mapping(cls: type, make: Callable[[Any], Any]) -> Kind:
    def decode(stored: Fields, walk: Reader) -> object:
        pairs = [(walk.decode(key), walk.decode(item)) for key, item in stored["v"]]
        return _complete(make(pairs), pairs, walk)

    return Kind(cls.__name__, (cls,), _encode_mapping, decode)


def _encode_mapping(value: Mapping[Any, object], walk: Writer) -> Fields:
    refuse_attributes(value, walk)
    pairs = list(value.items())
    return {"v": [[walk.encode(key, Attr("keys()")), walk.encode(item, key)] for key, item in pairs]}


def _complete(value: Any, parts: list[Any], walk: Reader) -> object:  # noqa: ANN401 - any collection
    if len(value) != len(parts):
        raise walk.refuse("an element is stored twice")
    return value


def _float_text(value: float) -> str:
    """Say what JSON cannot; a NaN with a payload by its bits."""
    bits = struct.pack(">d", value)
    return repr(value) if bits == struct.pack(">d", float(repr(value))) else bits.hex()


def _float(text: str) -> float:
    if text in ("nan", "inf", "-inf", "-0.0"):
        return float(text)
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


_PURE_PATHS: Final = (pathlib.PurePosixPath, pathlib.PureWindowsPath)
_PATHS: Final = {"Path": pathlib.Path, **{each.__name__: each for each in _PURE_PATHS}}


def _encode_path(value: pathlib.PurePath, walk: Writer) -> Fields:
    name = "Path" if isinstance(value, pathlib.Path) else type(value).__name__
    return {"type": name, "v": walk.encode(str(value), Attr("path"))}


def _decode_path(stored: Fields, walk: Reader) -> pathlib.PurePath:
    text: Any = walk.decode(stored["v"])
    return _PATHS[stored["type"]](text)


KINDS: Final = (
    _mapping(dict, dict),
    _mapping(OrderedDict, OrderedDict),
    _mapping(Counter, lambda pairs: Counter(dict(pairs))),
    _collection(tuple),
    _collection(set),
    _collection(frozenset),
    Kind(
        "deque",
        (deque,),
        lambda value, walk: {"v": walk.items(value), "maxlen": value.maxlen},
        lambda stored, walk: deque(walk.items(stored["v"]), stored["maxlen"]),
    ),
    said_by(int, hex, lambda text: int(text, 16)),
    said_by(float, _float_text, _float),
    made_of(complex, lambda value: (value.real, value.imag)),
    made_of(range, lambda value: (value.start, value.stop, value.step)),
    said_by(Decimal, str, Decimal),
    said_by(uuid.UUID, str, uuid.UUID),
    _data(
        str,
        lambda value: value.encode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "surrogatepass"),
    ),
    _data(bytes, bytes, bytes),
    _data(bytearray, bytes, bytearray),
    Kind("path", (*_PURE_PATHS, type(pathlib.Path())), _encode_path, _decode_path),
)
