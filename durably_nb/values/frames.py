"""Kinds of pandas: DataFrame, Series, indexes and arrays."""

from __future__ import annotations

from typing import Any, Final

from durably_nb.values.columns import Array, numbers, pack, unpack
from durably_nb.values.kinds import Attr, Fields, Kind, Reader, Writer
from durably_nb.values.libraries import pa, pd
from durably_nb.values.sheets import NewSheet, Sheet

_READABLE: Final = 1000
"""Up to this many labels stand in the JSON as text."""


# --- DataFrame and Series ---


def _encode_frame(frame: pd.DataFrame, walk: Writer) -> Fields:
    sheet = NewSheet(walk)
    columns = []
    for at, label in enumerate(frame.columns):
        with walk.inside(label):
            columns.append(pack(frame.iloc[:, at].array, sheet, label))
    labels = walk.encode(frame.columns, Attr("columns"))
    return {"columns": columns, "labels": labels, **_pack_common(frame, sheet), **sheet.put()}


def _decode_frame(stored: Fields, walk: Reader) -> pd.DataFrame:
    sheet = Sheet(stored, walk)
    arrays = [unpack(column, sheet) for column in stored["columns"]]
    # Series with their dtypes: pandas 3 would take objects that are text for its str dtype.
    series = {at: pd.Series(array, dtype=array.dtype) for at, array in enumerate(arrays)}
    frame = pd.DataFrame(series, index=None if series else range(stored["rows"]))
    labels: Any = walk.decode(stored["labels"])
    frame.columns = labels
    _unpack_common(frame, stored, sheet)
    return frame


def _encode_series(series: pd.Series[Any], walk: Writer) -> Fields:
    sheet = NewSheet(walk)
    name = walk.encode(series.name, Attr("name"))
    array = pack(series.array, sheet, "values" if series.name is None else series.name)
    return {"name": name, "array": array, **_pack_common(series, sheet), **sheet.put()}


def _decode_series(stored: Fields, walk: Reader) -> pd.Series[Any]:
    sheet = Sheet(stored, walk)
    array = unpack(stored["array"], sheet)
    name: Any = walk.decode(stored["name"])
    series: pd.Series[Any] = pd.Series(array, dtype=array.dtype, name=name)
    _unpack_common(series, stored, sheet)
    return series


def _pack_common(frame: pd.DataFrame | pd.Series[Any], sheet: NewSheet) -> Fields:
    """Describe what a DataFrame and a Series have in common."""
    with sheet.walk.inside(Attr("index")):
        fields: Fields = {"rows": len(frame), "index": _pack_index(frame.index, sheet)}
    if frame.attrs:
        fields["attrs"] = sheet.walk.encode(frame.attrs, Attr("attrs"))
    if not frame.flags.allows_duplicate_labels:
        fields["unique"] = True
    return fields


def _unpack_common(frame: pd.DataFrame | pd.Series[Any], stored: Fields, sheet: Sheet) -> None:
    """Restore what a DataFrame and a Series have in common."""
    flags: Any = frame.flags
    flags.allows_duplicate_labels = "unique" not in stored
    frame.index = _unpack_index(stored["index"], sheet)
    attrs: Any = sheet.walk.decode(stored.get("attrs", {}))
    frame.attrs = attrs


# --- indexes ---


def _encode_index(index: pd.Index[Any], walk: Writer) -> Fields:
    sheet = NewSheet(walk, text_beside=len(index) <= _READABLE)
    return {**_pack_index(index, sheet), **sheet.put()}


def _decode_index(stored: Fields, walk: Reader) -> pd.Index[Any]:
    return _unpack_index(stored, Sheet(stored, walk))


def _pack_index(index: Any, sheet: NewSheet) -> Fields:  # noqa: ANN401 - an Index of any class
    fields: Fields = {"type": type(index).__name__, "name": sheet.walk.encode(index.name, Attr("name"))}
    if fields["type"] == "RangeIndex":
        return {**fields, "range": [index.start, index.stop, index.step]}
    if fields["type"] == "MultiIndex":
        return {**fields, **_pack_levels(index, sheet)}
    fields["array"] = pack(index.array, sheet, index.name)
    freq = getattr(index, "freq", None) if index.dtype.kind in "mM" else None
    return fields if freq is None else {**fields, "freq": _freq_name(freq, sheet.walk)}


def _unpack_index(stored: Fields, sheet: Sheet) -> pd.Index[Any]:
    name: Any = sheet.walk.decode(stored["name"])
    if "range" in stored:
        start, stop, step = stored["range"]
        return pd.RangeIndex(start, stop, step, name=name)
    if "levels" in stored:
        return _unpack_levels(stored, sheet)
    array = unpack(stored["array"], sheet)
    index: Any = pd.Index(array, dtype=array.dtype, name=name, tupleize_cols=False)
    if "freq" in stored:
        index.freq = stored["freq"]
    return index  # type: ignore[no-any-return]


def _pack_levels(index: Any, sheet: NewSheet) -> Fields:  # noqa: ANN401 - stubs lack sortorder
    return {
        "names": sheet.walk.items(index.names),
        "levels": sheet.walk.items(index.levels),
        "codes": [sheet.add(pa.array(codes), name) for codes, name in zip(index.codes, index.names, strict=True)],
        "sortorder": index.sortorder,
    }


def _unpack_levels(stored: Fields, sheet: Sheet) -> pd.MultiIndex:
    codes: Any = [numbers(sheet[at]) for at in stored["codes"]]
    return pd.MultiIndex(
        levels=sheet.walk.items(stored["levels"]),
        codes=codes,
        names=sheet.walk.items(stored["names"]),
        sortorder=stored["sortorder"],
    )


def _freq_name(freq: pd.offsets.BaseOffset, walk: Writer) -> str:
    if pd.tseries.frequencies.to_offset(freq.freqstr) != freq:
        raise walk.refuse(f"has the frequency {freq!r}, which its name does not give back. Set .freq = None first")
    return freq.freqstr


# --- arrays ---


def _encode_array(array: Array, walk: Writer) -> Fields:
    sheet = NewSheet(walk)
    return {"type": type(array).__name__, "array": pack(array, sheet, "values"), **sheet.put()}


def _decode_array(stored: Fields, walk: Reader) -> object:
    array = unpack(stored["array"], Sheet(stored, walk))
    return pd.array(array, dtype=array.dtype, copy=False)


_INDEXES: Final = (
    *("Index", "RangeIndex", "MultiIndex", "CategoricalIndex", "IntervalIndex"),
    *("DatetimeIndex", "TimedeltaIndex", "PeriodIndex"),
)
_ARRAYS: Final = (
    *("Categorical", "IntegerArray", "FloatingArray", "BooleanArray", "StringArray", "ArrowStringArray"),
    *("ArrowExtensionArray", "DatetimeArray", "TimedeltaArray", "PeriodArray", "IntervalArray"),
    "NumpyExtensionArray",
)
KINDS: Final = (
    Kind("DataFrame", ("DataFrame",), _encode_frame, _decode_frame),
    Kind("Series", ("Series",), _encode_series, _decode_series),
    Kind("Index", _INDEXES, _encode_index, _decode_index),
    Kind("array", tuple(f"arrays.{name}" for name in _ARRAYS), _encode_array, _decode_array),
)
