"""Which kind a value is of, by its class, and a stored one, by its tag."""

from __future__ import annotations

import itertools
import operator
import sys
from typing import TYPE_CHECKING, Final

from durably_nb.values import arrays, arrow, classes, frames, pandas_scalars, standard, times
from durably_nb.values.pickles import PICKLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from durably_nb.values.kinds import Kind

_LIBRARIES: Final[dict[str, tuple[Kind, ...]]] = {
    "numpy": arrays.KINDS,
    "pandas": (*frames.KINDS, *pandas_scalars.KINDS),
    "pyarrow": arrow.KINDS,
}
_FAMILIES: Final[tuple[tuple[Callable[[type], bool], Kind], ...]] = (
    (classes.is_enum, classes.ENUM),
    (classes.is_namedtuple, classes.NAMEDTUPLE),
    (classes.is_model, classes.MODEL),
    (classes.is_dataclass, classes.DATACLASS),
    (times.is_pytz, times.PYTZ),
)
_STANDARD: Final = (*standard.KINDS, *times.KINDS)
_ALL: Final = (*_STANDARD, *itertools.chain(*_LIBRARIES.values()), *(kind for _, kind in _FAMILIES), PICKLE)
_BY_TAG: Final[dict[str, Kind]] = {kind.tag: kind for kind in _ALL}
_BY_CLASS: Final[dict[type, Kind]] = {cls: kind for kind in _STANDARD for cls in kind.classes if isinstance(cls, type)}


def kind_of(cls: type) -> Kind | None:
    """Find the kind of exactly this class; a library's kinds are looked at when its first value comes by."""
    if cls in _BY_CLASS:
        return _BY_CLASS[cls]
    library = str(cls.__module__).partition(".")[0]
    if library in _LIBRARIES and library in sys.modules:
        for kind in _LIBRARIES[library]:
            _BY_CLASS.update(dict.fromkeys(_classes(sys.modules[library], kind), kind))
        return _BY_CLASS.get(cls)
    return next((kind for fits, kind in _FAMILIES if fits(cls)), None)


def kind_tagged(tag: str) -> Kind:
    """Return the kind that stores under this tag; ``KeyError`` if there is none."""
    return _BY_TAG[tag]


def _classes(library: ModuleType, kind: Kind) -> Iterator[type]:
    """Find the classes of a kind in the library that has them; one that this version lacks is passed over."""
    for name in kind.classes:
        try:
            found = operator.attrgetter(str(name))(library)
        except AttributeError:
            continue
        yield found if isinstance(found, type) else type(found)
