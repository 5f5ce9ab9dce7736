"""Kinds of the user's classes: enums, named tuples, pydantic models and dataclasses.

A class is found by its name among what is imported already, and its objects are rebuilt without their
constructors, so nothing runs that a damaged or hostile database could choose.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import operator
import sys
import types
from typing import TYPE_CHECKING, Any, Final

import pydantic

from durably_nb.values.kinds import WAYS_OUT, Attr, Fields, Kind, Reader, Writer, class_name, refuse_attributes
from durably_nb.values.plain import is_text
from durably_nb.wording import with_article

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.values.kinds import Decode


def is_enum(cls: type) -> bool:
    """Whether it is an enum."""
    return issubclass(cls, enum.Enum)


def is_namedtuple(cls: type) -> bool:
    """Whether it is a class of named tuples."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_model(cls: type) -> bool:
    """Whether it is a pydantic model."""
    return issubclass(cls, pydantic.BaseModel)


def is_dataclass(cls: type) -> bool:
    """Whether it is a dataclass."""
    return dataclasses.is_dataclass(cls)


# --- a class by its name ---


def _reference(cls: type, walk: Writer) -> str:
    """Return ``module:qualname``, having made sure that it leads to this very class."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in name:
        raise walk.refuse(
            f"is {with_article(class_name(cls))}, a class made inside a function, which nobody could find again. "
            "Define the class at the top of a cell or module"
        )
    if _find(name) is not cls:
        raise walk.refuse(
            f"is {with_article(class_name(cls))}, but that name now stands for another class or none, as when the cell "
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
            f"it is {with_article(str(stored['$']))} of class {qualname}, which module {module} does not have at the "
            f"moment. Import module {module} (or re-run the cell that defines class {qualname}) and try again"
        )
    return cls


# --- enums ---


def _encode_enum(value: enum.Enum, walk: Writer) -> Fields:
    cls = type(value)
    name: str | None = value.name
    if name is not None and cls.__members__.get(name) is value:
        return {"type": _reference(cls, walk), "name": name}
    if not _combines(cls):
        raise walk.refuse(f"is {with_article(class_name(cls))} that is none of its members")
    return {"type": _reference(cls, walk), "value": value.value}


def _decode_enum(stored: Fields, walk: Reader) -> enum.Enum:
    cls: type[enum.Enum] = _class(stored, walk, is_enum)
    if "name" in stored:
        return cls.__members__[stored["name"]]
    if not _combines(cls) or type(stored["value"]) is not int:
        raise walk.refuse(f"it is none of the members of {class_name(cls)}")
    return cls(stored["value"])


def _combines(cls: type[enum.Enum]) -> bool:
    """Whether members can be or-ed, by the standard library's code and no ``_missing_`` of the class."""
    missing: Any = operator.attrgetter("_missing_.__func__")
    return issubclass(cls, enum.Flag) and missing(cls) is missing(enum.Flag)


# --- named tuples ---


def _encode_namedtuple(value: Any, walk: Writer) -> Fields:  # noqa: ANN401 - any named tuple
    cls = type(value)
    refuse_attributes(value, walk)
    if len(value) != len(cls._fields):
        raise walk.refuse(f"has {len(value)} elements where a {class_name(cls)} has {len(cls._fields)}")
    named = zip(cls._fields, tuple(value), strict=True)
    return {"type": _reference(cls, walk), "v": [walk.encode(item, Attr(name)) for name, item in named]}


def _decode_namedtuple(stored: Fields, walk: Reader) -> object:
    cls = _class(stored, walk, is_namedtuple)
    items = walk.items(stored["v"])
    if len(items) != len(cls._fields):
        raise walk.refuse(f"it has {len(items)} fields, where {class_name(cls)} has {len(cls._fields)} by now")
    return tuple.__new__(cls, items)


# --- objects: pydantic models and dataclasses ---


def _encode_object(value: object, walk: Writer) -> Fields:
    cls = type(value)
    fields: Fields = {"type": _reference(cls, walk)}
    try:
        object.__new__(cls)
    except TypeError as error:
        raise walk.refuse(
            f"is {with_article(class_name(cls))}, which holds more than its fields. {WAYS_OUT}"
        ) from error
    state: Any = object.__getstate__(value)
    for name, part in zip(("attrs", "slots"), state if isinstance(state, tuple) else (state,), strict=False):
        if part:
            fields[name] = _encode_attributes(part, walk)
    return fields


def _encode_attributes(attributes: dict[str, object], walk: Writer) -> Fields:
    if not all(type(name) is str and is_text(name) for name in attributes):
        raise walk.refuse("has attributes whose names are not text, which cannot be kept")
    return {name: walk.encode(item, Attr(name)) for name, item in list(attributes.items())}


def _decode_object(fits: Callable[[type], bool]) -> Decode:
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
                raise walk.refuse(f"{class_name(cls)} no longer has a slot {name!r}")
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


ENUM: Final = Kind("enum", (), _encode_enum, _decode_enum)
NAMEDTUPLE: Final = Kind("namedtuple", (), _encode_namedtuple, _decode_namedtuple)
MODEL: Final = Kind("model", (), _encode_object, _decode_object(is_model))
DATACLASS: Final = Kind("dataclass", (), _encode_object, _decode_object(is_dataclass))
