"""The kind of last resort: pickles, made and read only if the user asked for it."""

from __future__ import annotations

import pickle
from typing import Final

from durably_nb.values.kinds import Fields, Kind, Reader, Writer


def _encode(value: object, walk: Writer) -> Fields:
    return {"type": type(value).__qualname__, "data": walk.put(pickle.dumps(value), "pickle")}


def _decode(stored: Fields, walk: Reader) -> object:
    if not walk.pickles:
        raise walk.refuse(
            "it is a pickle, and reading a pickle runs whatever code it names. If you trust this file, "
            "open it with Durably(..., allow_pickle=True)"
        )
    return pickle.loads(walk.get(stored["data"]))  # noqa: S301 - asked for


PICKLE: Final = Kind("pickle", (), _encode, _decode)
