"""What a kind of value is: how values of some classes become JSON that describes them, and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from durably_nb.wording import with_article

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from durably_nb.errors import SerializationError
    from durably_nb.models import JSONValue

Fields: TypeAlias = dict[str, Any]
"""What describes one value in JSON, by name."""

WAYS_OUT: Final = (
    "Use plain values or a DataFrame; or save it to a file yourself and keep its path; "
    "or open the store with Durably(..., allow_pickle=True)"
)


class Attr(str):
    """A step of the path inside a value that is an attribute, not a key."""

    __slots__ = ()


class Writer(Protocol):
    """What a kind needs to store a value."""

    def encode(self, value: object, part: object) -> JSONValue:
        """Encode a part of the value, which the path calls ``part``."""

    def items(self, values: Iterable[object]) -> list[JSONValue]:
        """Encode parts that the path numbers."""

    def inside(self, part: object) -> AbstractContextManager[None]:
        """Extend the path for what is encoded meanwhile."""

    def put(self, data: bytes | memoryview, suffix: str) -> JSONValue:
        """Take a payload and return what stands for it."""

    def refuse(self, reason: str) -> SerializationError:
        """Make the error that says so, with the path."""


class Reader(Protocol):
    """What a kind needs to read a value back."""

    pickles: bool

    def decode(self, stored: JSONValue) -> object:
        """Decode a part of the value."""

    def items(self, stored: JSONValue) -> list[Any]:
        """Decode a list of parts."""

    def get(self, stored: JSONValue) -> bytes:
        """Return a payload."""

    def refuse(self, reason: str) -> SerializationError:
        """Make the error that says so."""


Encode: TypeAlias = "Callable[[Any, Writer], Fields]"
Decode: TypeAlias = "Callable[[Fields, Reader], object]"


class Kind(NamedTuple):
    """How values of some classes are stored: ``{"$": tag, **encode(value)}`` and back.

    Classes of a library, which need not be imported, are named by where it has them, or by an instance.
    """

    tag: str
    classes: tuple[type | str, ...]
    encode: Encode
    decode: Decode


def class_name(cls: type) -> str:
    """Return what a sentence calls a class."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def refuse_attributes(value: object, walk: Writer) -> None:
    """Refuse a container that someone hung attributes on."""
    if getattr(value, "__dict__", None):
        raise walk.refuse(f"is {with_article(type(value).__name__)} with attributes of its own, which cannot be kept")
