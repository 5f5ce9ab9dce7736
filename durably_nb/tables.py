"""Tables and arrays: NumPy, pandas and pyarrow values ↔ JSON that describes them and one payload of columns.

A table goes into Parquet, under its real column names, where it is large and Parquet keeps it exactly; into
an Arrow stream otherwise. What Arrow does not know of pandas (index, dtypes, labels, attrs) stands in the
JSON beside it, so nothing depends on what another version of pandas makes of its metadata.
"""

from __future__ import annotations

import importlib
import io
import operator
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias


class _Library:
    """A module that is imported when something of it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        found = getattr(importlib.import_module(self._name), name)
        setattr(self, name, found)
        return found


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import ModuleType

    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from durably_nb.errors import SerializationError
    from durably_nb.models import JSONValue
else:
    np = _Library("numpy")
    pd = _Library("pandas")
    pa = _Library("pyarrow")
    pc = _Library("pyarrow.compute")
    pq = _Library("pyarrow.parquet")

Fields: TypeAlias = dict[str, Any]
"""What describes one value in JSON, by name."""

Array: TypeAlias = Any
"""A NumPy array or a pandas extension array: one-dimensional."""


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


class Kind(NamedTuple):
    """How values of some classes are stored: ``{"$": tag, **encode(value)}`` and back.

    Classes of a library, which need not be imported, are named by where it has them, or by an instance.
    """

    tag: str
    classes: tuple[type | str, ...]
    encode: Callable[[Any, Writer], Fields]
    decode: Callable[[Fields, Reader], object]


def classes(library: ModuleType, kind: Kind) -> Iterator[type]:
    """Find the classes of a kind in the library that has them; one that this version lacks is passed over."""
    for name in kind.classes:
        try:
            found = operator.attrgetter(str(name))(library)
        except AttributeError:
            continue
        yield found if isinstance(found, type) else type(found)


# --- Arrow tables ---

_SMALL: Final = 24 * 1024
_PARQUET_TYPES: Final = frozenset(
    (
        *(
            "bool",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "float",
            "double",
        ),
        *("string", "large_string", "binary", "large_binary", "date32[day]"),
        *("timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
    )
)


def _put_table(table: pa.Table, walk: Writer) -> Fields:
    for field in table.schema:
        if "extension<" in str(field.type):
            raise walk.refuse(
                f"has a column {field.name!r} of the Arrow extension type {field.type}, "
                "which another process may not know. Cast it to its storage type first"
            )
    large = table.nbytes > _SMALL
    if large:
        data = _parquet(table)
        if data is not None:
            return {"parquet": walk.put(memoryview(data), "parquet")}
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if large else None)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    return {"arrow": walk.put(memoryview(sink.getvalue()), "arrow")}


def _parquet(table: pa.Table) -> pa.Buffer | None:
    """Write Parquet, or return None if reading it would not give back the very same table."""
    columns = {field.name: field.type for field in table.schema}
    # A time zone is part of the schema, which is compared below.
    names = {str(pa.timestamp(each.unit) if pa.types.is_timestamp(each) else each) for each in columns.values()}
    if not columns or len(columns) < table.num_columns or not names <= _PARQUET_TYPES:
        return None
    text = [name for name, each in columns.items() if pa.types.is_large_string(each) or pa.types.is_string(each)]
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=text or False)
    data = sink.getvalue()
    return data if pq.read_schema(pa.BufferReader(data)).equals(table.schema, check_metadata=True) else None


def _get_table(stored: Mapping[str, JSONValue], walk: Reader) -> pa.Table:
    if "parquet" in stored:
        return pq.ParquetFile(pa.BufferReader(walk.get(stored["parquet"]))).read()
    table = pa.ipc.open_stream(walk.get(stored["arrow"])).read_all()
    table.validate(full=True)  # Arrow trusts a stream's offsets; a damaged one would crash the process later
    return table


class _Sheet:
    """The columns of one table while it is described; a short one keeps text readable in the description."""

    def __init__(self, *, short: bool = False) -> None:
        self.short = short
        self._columns: dict[str, pa.Array] = {}

    def add(self, column: pa.Array, label: object) -> int:
        """Take a column, under its label if that can be its name, and return its position."""
        at = len(self._columns)
        name = label.encode(errors="replace").decode() if isinstance(label, str) else f"column {at}"
        while name in self._columns:
            name += "_"
        self._columns[name] = column
        return at

    def put(self, walk: Writer) -> Fields:
        return {"table": _put_table(pa.table(self._columns), walk)} if self._columns else {}


def _columns(stored: Fields, walk: Reader) -> list[pa.ChunkedArray]:
    return _get_table(stored["table"], walk).columns if "table" in stored else []


# --- NumPy ---


def _encode_ndarray(array: np.ndarray[Any, Any], walk: Writer) -> Fields:
    if array.dtype == object:
        fortran = array.flags.fnc
        items = walk.items(array.ravel(order="F" if fortran else "C").tolist())
        return {"shape": list(array.shape), "order": "F" if fortran else "C", "items": items}
    if not _npy_keeps(array.dtype):
        raise walk.refuse(f"has dtype {array.dtype!r}, which an .npy file does not keep. Convert it with .astype()")
    return {"npy": walk.put(_npy(array), "npy")}


def _decode_ndarray(stored: Fields, walk: Reader) -> np.ndarray[Any, Any]:
    if "npy" in stored:
        return _from_npy(walk.get(stored["npy"]))
    return _objects(walk.items(stored["items"])).reshape(stored["shape"], order=stored["order"])


def _npy(array: np.ndarray[Any, Any]) -> bytes:
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


def _npy_keeps(dtype: np.dtype[Any]) -> bool:
    if dtype.hasobject or dtype.metadata or dtype.kind not in "biufcmMSUV":
        return False
    kept = _from_npy(_npy(np.empty(0, dtype))).dtype
    return bool(kept == dtype and kept.isalignedstruct == dtype.isalignedstruct)


def _objects(items: list[Any]) -> np.ndarray[Any, Any]:
    """Make an array of the very items, whatever NumPy would make of lists among them."""
    array = np.empty(len(items), dtype=object)
    for at, item in enumerate(items):
        array[at] = item
    return array


def _scalar(name: str, plain: Callable[[Any], object] = operator.methodcaller("item")) -> Kind:
    """Describe a NumPy scalar that a plain Python value says exactly."""

    def decode(stored: Fields, walk: Reader) -> object:
        return getattr(np, name)(walk.decode(stored["v"]))

    return Kind(name, (name,), lambda value, walk: {"v": walk.encode(plain(value), Attr("item()"))}, decode)


def _bits(name: str) -> Kind:
    """Describe a NumPy scalar by its bits; those of a longdouble mean nothing on another kind of machine."""

    def decode(stored: Fields, _: Reader) -> object:
        dtype = np.dtype(stored["dtype"])
        if dtype.type is not getattr(np, name):
            raise TypeError(f"{dtype} is no {name} on this machine")
        return np.frombuffer(bytes.fromhex(stored["v"]), dtype)[0]

    return Kind(name, (name,), lambda value, _: {"dtype": value.dtype.str, "v": value.tobytes().hex()}, decode)


_PLAIN_SCALARS: Final = (
    *(
        "bool_",
        "int8",
        "int16",
        "int32",
        "int64",
        "longlong",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "ulonglong",
    ),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_NUMPY: Final = (
    Kind("ndarray", ("ndarray",), _encode_ndarray, _decode_ndarray),
    *map(_scalar, _PLAIN_SCALARS),
    *map(_bits, ("longdouble", "clongdouble", "datetime64", "timedelta64")),
    _scalar("str_", "".join),  # str() would drop NULs at the end
    _scalar("bytes_", bytes),
)


# --- pandas: one column ---


class _Column(NamedTuple):
    """How columns of some dtypes are split into Arrow columns and a description, and put together again."""

    pack: Callable[[Array, _Sheet, Writer, object], Fields]
    unpack: Callable[[Fields, list[pa.ChunkedArray], Reader], Array]


def _pack(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy()
    name = _column_name(array.dtype)
    if name is None:
        raise walk.refuse(f"has dtype {array.dtype}, which cannot be kept exactly. Convert it with .astype() first")
    return {"of": name, **_COLUMNS[name].pack(array, sheet, walk, label)}


def _unpack(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    return _COLUMNS[stored["of"]].unpack(stored, columns, walk)


def _column_name(dtype: Any) -> str | None:  # noqa: ANN401 - a NumPy or a pandas dtype
    if isinstance(dtype, np.dtype):
        return {"O": "object", "M": "moment", "m": "moment"}.get(dtype.kind, "number")
    name = type(dtype).__name__
    return _EXTENSIONS.get(name) if getattr(pd, name, None) is type(dtype) else None


def _at(stored: Fields, columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    return columns[stored["at"]]


def _numbers(column: pa.ChunkedArray, null: object = None) -> np.ndarray[Any, Any]:
    filled = column if null is None or not column.null_count else column.fill_null(null)
    array: np.ndarray[Any, Any] = filled.to_numpy()
    return array if array.flags.writeable else array.copy()  # Arrow's memory is nobody's to write to


def _pack_number(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    if array.dtype.isnative and (array.dtype.kind in "biu" or array.dtype.name in ("float32", "float64")):
        return {"at": sheet.add(pa.array(array, from_pandas=False), label)}
    return {"npy": walk.encode(array, Attr("array"))}


def _unpack_number(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    return walk.decode(stored["npy"]) if "npy" in stored else _numbers(_at(stored, columns))


_NAT: Final = -(1 << 63)


def _pack_moment(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    """Count units since 1970, or of time; Arrow timestamps where Parquet has them too."""
    tz = getattr(array.dtype, "tz", None)
    unit = np.datetime_data(array.dtype)[0] if tz is None else array.dtype.unit
    code = array.dtype.kind
    counts = np.asarray(array, dtype=f"{code}8[{unit}]").view("i8")
    column = pa.array(counts, mask=counts == _NAT)
    if code == "M" and unit != "s":
        column = column.view(pa.timestamp(unit, tz and "UTC"))
    fields: Fields = {"at": sheet.add(column, label), "dtype": f"{code}8[{unit}]"}
    return fields if tz is None else {**fields, "tz": walk.encode(tz, Attr("tz"))}


def _unpack_moment(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    dtype = np.dtype(stored["dtype"])
    if dtype.kind not in "mM":
        raise TypeError(f"{dtype} counts no time")
    values = _numbers(_at(stored, columns).cast(pa.int64()), _NAT).view(dtype)
    tz: Any = walk.decode(stored.get("tz"))
    return values if tz is None else pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(tz).array


def _pack_masked(array: Array, sheet: _Sheet, _: Writer, label: object) -> Fields:
    values = array.to_numpy(dtype=array.dtype.numpy_dtype, na_value=0)
    return {
        "at": sheet.add(pa.array(values, mask=array.isna(), from_pandas=False), label),
        "dtype": array.dtype.name,
    }


def _unpack_masked(stored: Fields, columns: list[pa.ChunkedArray], _: Reader) -> Array:
    column = _at(stored, columns)
    dtype: Any = pd.api.types.pandas_dtype(stored["dtype"])
    null = False if dtype.kind == "b" else 0
    mask = np.array(column.is_null().to_numpy())
    return dtype.construct_array_type()(_numbers(column, null), mask)


def _pack_text(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    fields: Fields = {"storage": array.dtype.storage, "na": "NA" if array.dtype.na_value is pd.NA else "nan"}
    if sheet.short:
        return {**fields, "items": walk.items(array.to_numpy(dtype=object, na_value=None).tolist())}
    return {**fields, "at": sheet.add(pa.array(array, type=pa.large_string()), label)}


def _unpack_text(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    # pandas 2.2 has no na_value; there the storage "pyarrow_numpy" says it.
    known = stored["na"] == "NA" or stored["storage"] == "pyarrow_numpy"
    dtype: Any = pd.StringDtype(stored["storage"], **({} if known else {"na_value": float("nan")}))
    if "items" in stored:
        return pd.array(walk.items(stored["items"]), dtype=dtype)
    return dtype.__from_arrow__(_at(stored, columns))


def _pack_arrow(array: Array, sheet: _Sheet, _: Writer, label: object) -> Fields:
    return {"at": sheet.add(array.__arrow_array__(), label)}


def _unpack_arrow(stored: Fields, columns: list[pa.ChunkedArray], _: Reader) -> Array:
    return pd.arrays.ArrowExtensionArray(_at(stored, columns))


def _pack_object(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    missing = None if sheet.short else _missing(array)
    text = None if missing is None else _text(array)
    if missing is None or text is None:
        return {"items": walk.items(array.tolist())}
    return {"at": sheet.add(text, label), "missing": walk.items(missing)}


def _missing(values: np.ndarray[Any, Any]) -> list[object] | None:
    """Return what stands for "missing" among text, at most one thing; None if there is more than text."""
    others = set(map(type, values.tolist())) - {str}
    if others == {float}:
        return [float("nan")] if all(each != each for each in values if type(each) is float) else None  # noqa: PLR0124 - NaN
    known = {type(None): None, type(pd.NA): pd.NA}
    return [known[each] for each in others] if len(others) <= 1 and others <= known.keys() else None


def _text(values: np.ndarray[Any, Any]) -> pa.Array | None:
    """Make an Arrow column of text; None if some of it cannot be UTF-8."""
    try:
        return pa.array(values, type=pa.large_string(), from_pandas=True)
    except UnicodeEncodeError:
        return None


def _unpack_object(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    if "items" in stored:
        return _objects(walk.items(stored["items"]))
    column = _at(stored, columns)
    values = column.to_numpy().astype(object, copy=False)
    for missing in walk.items(stored["missing"]):
        values[column.is_null().to_numpy()] = missing
    return values


def _pack_categorical(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    """Store text itself, for whoever reads the file, and codes of anything else."""
    column = pa.array(array.codes, mask=array.codes < 0)
    names = array.categories.to_numpy(dtype=object)
    text = _text(names) if set(map(type, names)) == {str} else None
    return {
        "at": sheet.add(column if text is None else text.take(column), label),
        "text": text is not None,
        "categories": walk.encode(array.categories, Attr("categories")),
        "ordered": array.ordered,
    }


def _unpack_categorical(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    column = _at(stored, columns)
    categories: Any = walk.decode(stored["categories"])
    if stored["text"]:
        column = pc.index_in(column, value_set=_text(categories.to_numpy(dtype=object)))
    return pd.Categorical.from_codes(_numbers(column, -1), categories=categories, ordered=stored["ordered"])


def _pack_period(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    name = array.freqstr
    if pd.PeriodDtype(name) != array.dtype:
        raise walk.refuse(f"has dtype {array.dtype}, a frequency that its name does not give back")
    return {"at": sheet.add(pa.array(array.asi8), label), "freq": name}


def _unpack_period(stored: Fields, columns: list[pa.ChunkedArray], _: Reader) -> Array:
    return pd.PeriodIndex.from_ordinals(_numbers(_at(stored, columns)), freq=stored["freq"]).array  # type: ignore[attr-defined]


def _pack_interval(array: Array, sheet: _Sheet, walk: Writer, label: object) -> Fields:
    ends = [_pack(end.array, sheet, walk, f"{label}.{side}") for side, end in _ends(array)]
    return {"ends": ends, "closed": array.closed}


def _ends(array: Array) -> Iterator[tuple[str, Array]]:
    yield "left", array.left
    yield "right", array.right


def _unpack_interval(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> Array:
    left, right = (_unpack(end, columns, walk) for end in stored["ends"])
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=stored["closed"])


_COLUMNS: Final = {
    "number": _Column(_pack_number, _unpack_number),
    "moment": _Column(_pack_moment, _unpack_moment),
    "masked": _Column(_pack_masked, _unpack_masked),
    "text": _Column(_pack_text, _unpack_text),
    "arrow": _Column(_pack_arrow, _unpack_arrow),
    "object": _Column(_pack_object, _unpack_object),
    "categorical": _Column(_pack_categorical, _unpack_categorical),
    "period": _Column(_pack_period, _unpack_period),
    "interval": _Column(_pack_interval, _unpack_interval),
}
_EXTENSIONS: Final = {
    "DatetimeTZDtype": "moment",
    "StringDtype": "text",
    "ArrowDtype": "arrow",
    "CategoricalDtype": "categorical",
    "PeriodDtype": "period",
    "IntervalDtype": "interval",
    "BooleanDtype": "masked",
    **{f"Float{bits}Dtype": "masked" for bits in (32, 64)},
    **{f"{sign}Int{bits}Dtype": "masked" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


# --- pandas: indexes, Series and DataFrames ---

_SHORT: Final = 1000


def _pack_index(index: Any, sheet: _Sheet, walk: Writer) -> Fields:  # noqa: ANN401 - an Index of any class
    fields: Fields = {"type": type(index).__name__, "name": walk.encode(index.name, Attr("name"))}
    if fields["type"] == "RangeIndex":
        return {**fields, "range": [index.start, index.stop, index.step]}
    if fields["type"] == "MultiIndex":
        return {**fields, **_pack_levels(index, sheet, walk)}
    fields["array"] = _pack(index.array, sheet, walk, index.name)
    freq = getattr(index, "freq", None) if index.dtype.kind in "mM" else None
    return fields if freq is None else {**fields, "freq": _freq_name(freq, walk)}


def _pack_levels(index: Any, sheet: _Sheet, walk: Writer) -> Fields:  # noqa: ANN401 - stubs lack sortorder
    return {
        "names": walk.items(index.names),
        "levels": walk.items(index.levels),
        "codes": [sheet.add(pa.array(codes), name) for codes, name in zip(index.codes, index.names, strict=True)],
        "sortorder": index.sortorder,
    }


def _unpack_index(stored: Fields, columns: list[pa.ChunkedArray], walk: Reader) -> pd.Index[Any]:
    name: Any = walk.decode(stored["name"])
    if "range" in stored:
        start, stop, step = stored["range"]
        return pd.RangeIndex(start, stop, step, name=name)
    if "levels" in stored:
        codes: Any = [_numbers(columns[at]) for at in stored["codes"]]
        return pd.MultiIndex(
            levels=walk.items(stored["levels"]),
            codes=codes,
            names=walk.items(stored["names"]),
            sortorder=stored["sortorder"],
        )
    array = _unpack(stored["array"], columns, walk)
    index: Any = pd.Index(array, dtype=array.dtype, name=name, tupleize_cols=False)
    if "freq" in stored:
        index.freq = stored["freq"]
    return index  # type: ignore[no-any-return]


def _freq_name(freq: pd.offsets.BaseOffset, walk: Writer) -> str:
    if pd.tseries.frequencies.to_offset(freq.freqstr) != freq:
        raise walk.refuse(f"has the frequency {freq!r}, which its name does not give back. Set .freq = None first")
    return freq.freqstr


def _encode_index(index: pd.Index[Any], walk: Writer) -> Fields:
    sheet = _Sheet(short=len(index) <= _SHORT)
    fields = _pack_index(index, sheet, walk)
    return {**fields, **sheet.put(walk)}


def _decode_index(stored: Fields, walk: Reader) -> pd.Index[Any]:
    return _unpack_index(stored, _columns(stored, walk), walk)


def _encode_series(series: pd.Series[Any], walk: Writer) -> Fields:
    sheet = _Sheet()
    fields = {
        "name": walk.encode(series.name, Attr("name")),
        "array": _pack(series.array, sheet, walk, "values" if series.name is None else series.name),
    }
    return {**fields, **_pack_frame(series, sheet, walk)}


def _decode_series(stored: Fields, walk: Reader) -> pd.Series[Any]:
    columns = _columns(stored, walk)
    array = _unpack(stored["array"], columns, walk)
    name: Any = walk.decode(stored["name"])
    series: pd.Series[Any] = pd.Series(array, dtype=array.dtype, name=name)
    _unpack_frame(series, stored, columns, walk)
    return series


def _encode_frame(frame: pd.DataFrame, walk: Writer) -> Fields:
    sheet = _Sheet()
    columns = []
    for at, label in enumerate(frame.columns):
        with walk.inside(label):
            columns.append(_pack(frame.iloc[:, at].array, sheet, walk, label))
    labels = walk.encode(frame.columns, Attr("columns"))
    return {"columns": columns, "labels": labels, **_pack_frame(frame, sheet, walk)}


def _decode_frame(stored: Fields, walk: Reader) -> pd.DataFrame:
    columns = _columns(stored, walk)
    arrays = [_unpack(column, columns, walk) for column in stored["columns"]]
    # Series with their dtypes: pandas 3 would take objects that are text for its str dtype.
    series = {at: pd.Series(array, dtype=array.dtype) for at, array in enumerate(arrays)}
    frame = pd.DataFrame(series, index=None if series else range(stored["rows"]))
    labels: Any = walk.decode(stored["labels"])
    frame.columns = labels
    _unpack_frame(frame, stored, columns, walk)
    return frame


def _pack_frame(frame: pd.DataFrame | pd.Series[Any], sheet: _Sheet, walk: Writer) -> Fields:
    """Describe what a Series and a DataFrame have in common, and put the columns away."""
    with walk.inside(Attr("index")):
        fields: Fields = {"rows": len(frame), "index": _pack_index(frame.index, sheet, walk)}
    if frame.attrs:
        fields["attrs"] = walk.encode(frame.attrs, Attr("attrs"))
    if not frame.flags.allows_duplicate_labels:
        fields["unique"] = True
    return {**fields, **sheet.put(walk)}


def _unpack_frame(
    frame: pd.DataFrame | pd.Series[Any], stored: Fields, columns: list[pa.ChunkedArray], walk: Reader
) -> None:
    """Restore what a Series and a DataFrame have in common."""
    flags: Any = frame.flags
    flags.allows_duplicate_labels = "unique" not in stored
    frame.index = _unpack_index(stored["index"], columns, walk)
    attrs: Any = walk.decode(stored.get("attrs", {}))
    frame.attrs = attrs


def _encode_array(array: Array, walk: Writer) -> Fields:
    sheet = _Sheet()
    return {"type": type(array).__name__, "array": _pack(array, sheet, walk, "values"), **sheet.put(walk)}


def _decode_array(stored: Fields, walk: Reader) -> object:
    array = _unpack(stored["array"], _columns(stored, walk), walk)
    return pd.array(array, dtype=array.dtype, copy=False)


# --- pandas: scalars ---


def _encode_instant(value: pd.Timestamp | pd.Timedelta, walk: Writer) -> Fields:
    tz = getattr(value, "tz", None)
    if tz is None and getattr(value, "fold", False):
        raise walk.refuse("is a Timestamp with fold=1 and no time zone, which cannot be kept")
    fields: Fields = {"v": int(value.asm8.view("i8")), "unit": value.unit}
    return fields if tz is None else {**fields, "tz": walk.encode(tz, Attr("tz"))}


def _decode_timestamp(stored: Fields, walk: Reader) -> object:
    tz: Any = walk.decode(stored.get("tz"))
    moment = pd.Timestamp(np.datetime64(stored["v"], stored["unit"]))
    return moment if tz is None else moment.tz_localize("UTC").tz_convert(tz)


def _decode_timedelta(stored: Fields, _: Reader) -> object:
    return pd.Timedelta(np.timedelta64(stored["v"], stored["unit"]))


def _decode_period(stored: Fields, _: Reader) -> object:
    return pd.Period(ordinal=stored["v"], freq=stored["freq"])


def _decode_interval(stored: Fields, walk: Reader) -> object:
    left, right = walk.items(stored["v"])
    return pd.Interval(left, right, closed=stored["closed"])


def _decode_missing(name: str) -> Callable[[Fields, Reader], object]:
    def decode(_: Fields, __: Reader) -> object:
        return getattr(pd, name)

    return decode


_INDEXES: Final = (
    *("Index", "RangeIndex", "MultiIndex", "CategoricalIndex", "IntervalIndex"),
    *("DatetimeIndex", "TimedeltaIndex", "PeriodIndex"),
)
_ARRAYS: Final = (
    *("Categorical", "IntegerArray", "FloatingArray", "BooleanArray", "StringArray", "ArrowStringArray"),
    *("ArrowExtensionArray", "DatetimeArray", "TimedeltaArray", "PeriodArray", "IntervalArray"),
    "NumpyExtensionArray",
)
_PANDAS: Final = (
    Kind("DataFrame", ("DataFrame",), _encode_frame, _decode_frame),
    Kind("Series", ("Series",), _encode_series, _decode_series),
    Kind("Index", _INDEXES, _encode_index, _decode_index),
    Kind("array", tuple(f"arrays.{name}" for name in _ARRAYS), _encode_array, _decode_array),
    Kind("Timestamp", ("Timestamp",), _encode_instant, _decode_timestamp),
    Kind("Timedelta", ("Timedelta",), _encode_instant, _decode_timedelta),
    Kind("Period", ("Period",), lambda value, _: {"v": value.ordinal, "freq": value.freqstr}, _decode_period),
    Kind(
        "Interval",
        ("Interval",),
        lambda value, walk: {"v": walk.items((value.left, value.right)), "closed": value.closed},
        _decode_interval,
    ),
    Kind("NaT", ("NaT",), lambda _, __: {}, _decode_missing("NaT")),
    Kind("NA", ("NA",), lambda _, __: {}, _decode_missing("NA")),
)
_PYARROW: Final = (
    Kind(
        "Table",
        ("Table",),
        lambda table, walk: {"table": _put_table(table, walk)},
        lambda stored, walk: _get_table(stored["table"], walk),
    ),
)

KINDS: Final[Mapping[str, tuple[Kind, ...]]] = {"numpy": _NUMPY, "pandas": _PANDAS, "pyarrow": _PYARROW}
"""The kinds of each library; nothing of it is imported before one of its values comes by."""
