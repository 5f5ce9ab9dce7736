"""Kinds of NumPy: arrays as ``.npy`` files, and scalars."""

from __future__ import annotations

import io
import operator
import sys
from typing import TYPE_CHECKING, Any, Final

from durably_nb.values.kinds import Attr, Fields, Kind, Reader, Writer
from durably_nb.values.libraries import np

if TYPE_CHECKING:
    from collections.abc import Callable


def objects(items: list[Any]) -> np.ndarray[Any, Any]:
    """Make an array of the very items, whatever NumPy would make of lists among them."""
    array = np.empty(len(items), dtype=object)
    for at, item in enumerate(items):
        array[at] = item
    return array


def _encode_ndarray(array: np.ndarray[Any, Any], walk: Writer) -> Fields:
    if array.dtype == object:
        order: Any = "F" if array.flags.fnc else "C"
        return {"shape": list(array.shape), "order": order, "items": walk.items(array.ravel(order=order).tolist())}
    if not _npy_keeps(array.dtype):
        raise walk.refuse(f"has dtype {array.dtype!r}, which an .npy file does not keep. Convert it with .astype()")
    return {"npy": walk.put(_to_npy(array), "npy")}


def _decode_ndarray(stored: Fields, walk: Reader) -> np.ndarray[Any, Any]:
    if "npy" in stored:
        return _from_npy(walk.get(stored["npy"]))
    return objects(walk.items(stored["items"])).reshape(stored["shape"], order=stored["order"])


def _npy_keeps(dtype: np.dtype[Any]) -> bool:
    if dtype.hasobject or dtype.metadata or dtype.kind not in "biufcmMSUV":
        return False
    kept = _from_npy(_to_npy(np.empty(0, dtype))).dtype
    return bool(kept == dtype and kept.isalignedstruct == dtype.isalignedstruct)


def _to_npy(array: np.ndarray[Any, Any]) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, array, allow_pickle=False)
    return sink.getvalue()


def _from_npy(data: bytes) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    _check_text(array)
    return array


def _check_text(array: np.ndarray[Any, Any]) -> None:
    """Refuse characters beyond Unicode: NumPy does not look, and Python could crash on them."""
    if array.dtype.kind == "U" and array.dtype.itemsize:
        letters = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if letters.size and letters.max() > sys.maxunicode:
            raise ValueError("text with characters beyond Unicode")
    for name in array.dtype.names or ():
        _check_text(array[name])


def _scalar(name: str, plain: Callable[[Any], object] = operator.methodcaller("item")) -> Kind:
    """Describe a scalar that a plain Python value says exactly."""

    def decode(stored: Fields, walk: Reader) -> object:
        return getattr(np, name)(walk.decode(stored["v"]))

    return Kind(name, (name,), lambda value, walk: {"v": walk.encode(plain(value), Attr("item()"))}, decode)


def _bits(name: str) -> Kind:
    """Describe a scalar by its bits; those of a longdouble mean nothing on another kind of machine."""

    def decode(stored: Fields, _: Reader) -> object:
        dtype = np.dtype(stored["dtype"])
        if dtype.type is not getattr(np, name):
            raise TypeError(f"{dtype} is no {name} on this machine")
        return np.frombuffer(bytes.fromhex(stored["v"]), dtype)[0]

    return Kind(name, (name,), lambda value, _: {"dtype": value.dtype.str, "v": value.tobytes().hex()}, decode)


_NUMBERS: Final = (
    *("bool_", "int8", "int16", "int32", "int64", "longlong", "uint8", "uint16", "uint32", "uint64", "ulonglong"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
KINDS: Final = (
    Kind("ndarray", ("ndarray",), _encode_ndarray, _decode_ndarray),
    *map(_scalar, _NUMBERS),
    *map(_bits, ("longdouble", "clongdouble", "datetime64", "timedelta64")),
    _scalar("str_", "".join),  # str() would drop NULs at the end
    _scalar("bytes_", bytes),
)
