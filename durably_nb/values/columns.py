"""One column of pandas, of any dtype ↔ Arrow columns in a sheet, and JSON that describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from durably_nb.values.arrays import objects
from durably_nb.values.kinds import Attr, Fields
from durably_nb.values.libraries import np, pa, pc, pd

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.values.sheets import NewSheet, Sheet

Array: TypeAlias = Any
"""A NumPy array or a pandas extension array: one-dimensional."""


def pack(array: Array, sheet: NewSheet, label: object) -> Fields:
    """Add a column to the sheet and return what describes it."""
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy()
    name = _family(array.dtype)
    if name is None:
        raise sheet.walk.refuse(
            f"has dtype {array.dtype}, which cannot be kept exactly. Convert it with .astype() first"
        )
    return {"of": name, **_FAMILIES[name].pack(array, sheet, label)}


def unpack(stored: Fields, sheet: Sheet) -> Array:
    """Return the column that was packed."""
    return _FAMILIES[stored["of"]].unpack(stored, sheet)


def numbers(column: pa.ChunkedArray, null: object = None) -> np.ndarray[Any, Any]:
    """Make an array that can be written to, with ``null`` where the column has none."""
    filled = column if null is None or not column.null_count else column.fill_null(null)
    array: np.ndarray[Any, Any] = filled.to_numpy()
    return array if array.flags.writeable else array.copy()  # Arrow's memory is nobody's to write to


# --- numbers and time ---


def _pack_number(array: Array, sheet: NewSheet, label: object) -> Fields:
    if array.dtype.isnative and (array.dtype.kind in "biu" or array.dtype.name in {"float32", "float64"}):
        return {"at": sheet.add(pa.array(array, from_pandas=False), label)}
    return {"npy": sheet.walk.encode(array, Attr("array"))}


def _unpack_number(stored: Fields, sheet: Sheet) -> Array:
    return sheet.walk.decode(stored["npy"]) if "npy" in stored else numbers(sheet[stored["at"]])


_NAT: Final = -(1 << 63)


def _pack_moment(array: Array, sheet: NewSheet, label: object) -> Fields:
    """Count units since 1970, or of time; Arrow timestamps where Parquet has them too."""
    tz = getattr(array.dtype, "tz", None)
    unit = np.datetime_data(array.dtype)[0] if tz is None else array.dtype.unit
    code = array.dtype.kind
    counts = np.asarray(array, dtype=f"{code}8[{unit}]").view("i8")
    column = pa.array(counts, mask=counts == _NAT)
    if code == "M" and unit != "s":
        column = column.view(pa.timestamp(unit, tz and "UTC"))
    fields: Fields = {"at": sheet.add(column, label), "dtype": f"{code}8[{unit}]"}
    return fields if tz is None else {**fields, "tz": sheet.walk.encode(tz, Attr("tz"))}


def _unpack_moment(stored: Fields, sheet: Sheet) -> Array:
    dtype = np.dtype(stored["dtype"])
    if dtype.kind not in "mM":
        raise TypeError(f"{dtype} counts no time")
    values = numbers(sheet[stored["at"]].cast(pa.int64()), _NAT).view(dtype)
    tz: Any = sheet.walk.decode(stored.get("tz"))
    return values if tz is None else pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(tz).array


def _pack_period(array: Array, sheet: NewSheet, label: object) -> Fields:
    name = array.freqstr
    if pd.PeriodDtype(name) != array.dtype:
        raise sheet.walk.refuse(f"has dtype {array.dtype}, a frequency that its name does not give back")
    return {"at": sheet.add(pa.array(array.asi8), label), "freq": name}


def _unpack_period(stored: Fields, sheet: Sheet) -> Array:
    index: Any = pd.PeriodIndex
    return index.from_ordinals(numbers(sheet[stored["at"]]), freq=stored["freq"]).array


def _pack_masked(array: Array, sheet: NewSheet, label: object) -> Fields:
    values = array.to_numpy(dtype=array.dtype.numpy_dtype, na_value=0)
    column = pa.array(values, mask=array.isna(), from_pandas=False)
    return {"at": sheet.add(column, label), "dtype": array.dtype.name}


def _unpack_masked(stored: Fields, sheet: Sheet) -> Array:
    column = sheet[stored["at"]]
    dtype: Any = pd.api.types.pandas_dtype(stored["dtype"])
    null = False if dtype.kind == "b" else 0
    mask = np.array(column.is_null().to_numpy())
    return dtype.construct_array_type()(numbers(column, null), mask)


# --- text and objects ---


def _pack_text(array: Array, sheet: NewSheet, label: object) -> Fields:
    fields: Fields = {"storage": array.dtype.storage, "na": "NA" if array.dtype.na_value is pd.NA else "nan"}
    if sheet.text_beside:
        return {**fields, "items": sheet.walk.items(array.to_numpy(dtype=object, na_value=None).tolist())}
    return {**fields, "at": sheet.add(pa.array(array, type=pa.large_string()), label)}


def _unpack_text(stored: Fields, sheet: Sheet) -> Array:
    # pandas 2.2 has no na_value; there the storage "pyarrow_numpy" says it.
    known = stored["na"] == "NA" or stored["storage"] == "pyarrow_numpy"
    dtype: Any = pd.StringDtype(stored["storage"], **({} if known else {"na_value": float("nan")}))
    if "items" in stored:
        return pd.array(sheet.walk.items(stored["items"]), dtype=dtype)
    return dtype.__from_arrow__(sheet[stored["at"]])


def _pack_object(array: Array, sheet: NewSheet, label: object) -> Fields:
    missing = None if sheet.text_beside else _missing(array)
    text = None if missing is None else _text(array)
    if missing is None or text is None:
        return {"items": sheet.walk.items(array.tolist())}
    return {"at": sheet.add(text, label), "missing": sheet.walk.items(missing)}


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


def _unpack_object(stored: Fields, sheet: Sheet) -> Array:
    if "items" in stored:
        return objects(sheet.walk.items(stored["items"]))
    column = sheet[stored["at"]]
    values = column.to_numpy().astype(object, copy=False)
    for missing in sheet.walk.items(stored["missing"]):
        values[column.is_null().to_numpy()] = missing
    return values


def _pack_arrow(array: Array, sheet: NewSheet, label: object) -> Fields:
    return {"at": sheet.add(array.__arrow_array__(), label)}


def _unpack_arrow(stored: Fields, sheet: Sheet) -> Array:
    return pd.arrays.ArrowExtensionArray(sheet[stored["at"]])


# --- columns made of others ---


def _pack_categorical(array: Array, sheet: NewSheet, label: object) -> Fields:
    """Store text itself, for whoever reads the file, and codes of anything else."""
    column = pa.array(array.codes, mask=array.codes < 0)
    names = array.categories.to_numpy(dtype=object)
    text = _text(names) if set(map(type, names)) == {str} else None
    return {
        "at": sheet.add(column if text is None else text.take(column), label),
        "text": text is not None,
        "categories": sheet.walk.encode(array.categories, Attr("categories")),
        "ordered": array.ordered,
    }


def _unpack_categorical(stored: Fields, sheet: Sheet) -> Array:
    column = sheet[stored["at"]]
    categories: Any = sheet.walk.decode(stored["categories"])
    if stored["text"]:
        column = pc.index_in(column, value_set=_text(categories.to_numpy(dtype=object)))
    return pd.Categorical.from_codes(numbers(column, -1), categories=categories, ordered=stored["ordered"])


def _pack_interval(array: Array, sheet: NewSheet, label: object) -> Fields:
    left = pack(array.left.array, sheet, f"{label}.left")
    right = pack(array.right.array, sheet, f"{label}.right")
    return {"ends": [left, right], "closed": array.closed}


def _unpack_interval(stored: Fields, sheet: Sheet) -> Array:
    left, right = (unpack(end, sheet) for end in stored["ends"])
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=stored["closed"])


# --- which column is packed how ---


class _Family(NamedTuple):
    """How columns of some dtypes are packed and unpacked."""

    pack: Callable[[Array, NewSheet, object], Fields]
    unpack: Callable[[Fields, Sheet], Array]


_FAMILIES: Final = {
    "number": _Family(_pack_number, _unpack_number),
    "moment": _Family(_pack_moment, _unpack_moment),
    "period": _Family(_pack_period, _unpack_period),
    "masked": _Family(_pack_masked, _unpack_masked),
    "text": _Family(_pack_text, _unpack_text),
    "object": _Family(_pack_object, _unpack_object),
    "arrow": _Family(_pack_arrow, _unpack_arrow),
    "categorical": _Family(_pack_categorical, _unpack_categorical),
    "interval": _Family(_pack_interval, _unpack_interval),
}
_EXTENSIONS: Final = {
    "DatetimeTZDtype": "moment",
    "PeriodDtype": "period",
    "BooleanDtype": "masked",
    **{f"Float{bits}Dtype": "masked" for bits in (32, 64)},
    **{f"{sign}Int{bits}Dtype": "masked" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "StringDtype": "text",
    "ArrowDtype": "arrow",
    "CategoricalDtype": "categorical",
    "IntervalDtype": "interval",
}


def _family(dtype: Any) -> str | None:  # noqa: ANN401 - a NumPy or a pandas dtype
    if isinstance(dtype, np.dtype):
        return {"O": "object", "M": "moment", "m": "moment"}.get(dtype.kind, "number")
    name = type(dtype).__name__
    return _EXTENSIONS.get(name) if getattr(pd, name, None) is type(dtype) else None
