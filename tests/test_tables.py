from __future__ import annotations

import base64
import datetime as dt
import json
import subprocess
import sys
import zoneinfo
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy  # noqa: ICN001 - np is the same without hints
import pandas  # noqa: ICN001 - as above
import pyarrow as pa
import pytest

from durably_nb.artifacts import Artifacts
from durably_nb.codecs import INLINE_LIMIT, Codec, artifact_names
from durably_nb.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

# Without their hints, which know fewer dtypes than the libraries do.
np: Any = numpy
pd: Any = pandas

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
PARIS = "Europe/Paris"


@pytest.fixture
def codec(tmp_path: Path) -> Codec:
    return Codec(Artifacts(tmp_path / "jobs.artifacts"))


def there_and_back(value: object, codec: Codec) -> Any:
    return codec.decode(json.loads(json.dumps(codec.encode(value, run_id=RUN), allow_nan=False)))


def assert_same(left: Any, right: Any) -> None:
    """Nothing of a pandas, NumPy, Arrow or plain value may differ: class, dtype, label types, freq, attrs."""
    assert type(left) is type(right)
    compare = next((check for cls, check in COMPARED.items() if isinstance(left, cls)), None)
    if compare is not None:
        compare(left, right)
    elif left is not right:
        assert repr(left) == repr(right)


def assert_same_frame(left: Any, right: Any) -> None:
    pd.testing.assert_frame_equal(
        left, right, check_exact=True, check_index_type=True, check_column_type=True, check_freq=True
    )
    assert_same(left.columns, right.columns)
    for at in range(left.shape[1]):
        assert_same(left.iloc[:, at].array, right.iloc[:, at].array)
    assert_same_around(left, right)


def assert_same_series(left: Any, right: Any) -> None:
    pd.testing.assert_series_equal(left, right, check_exact=True, check_index_type=True, check_freq=True)
    assert_same(left.name, right.name)
    assert_same(left.array, right.array)
    assert_same_around(left, right)


def assert_same_around(left: Any, right: Any) -> None:
    assert_same(left.index, right.index)
    assert_same(left.attrs, right.attrs)
    assert left.flags == right.flags


def assert_same_table(left: Any, right: Any) -> None:
    assert left.schema.equals(right.schema, check_metadata=True)
    assert left.num_rows == right.num_rows
    for one, other in zip(left.columns, right.columns, strict=True):
        assert_same(one.to_pylist(), other.to_pylist())


def assert_same_items(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert_same(one, other)


def assert_same_index(left: Any, right: Any) -> None:
    pd.testing.assert_index_equal(left, right, exact=True, check_exact=True)
    assert left.dtype == right.dtype
    assert_same(list(left.names), list(right.names))
    if isinstance(left, pd.MultiIndex):
        assert_same(list(left.levels), list(right.levels))
        assert_same([list(each) for each in left.codes], [list(each) for each in right.codes])
    elif isinstance(left, pd.RangeIndex):
        assert (left.start, left.stop, left.step) == (right.start, right.stop, right.step)
    else:
        assert_same(left.array, right.array)
        assert getattr(left, "freq", None) == getattr(right, "freq", None)


def assert_same_array(left: Any, right: Any) -> None:
    assert left.dtype == right.dtype
    if isinstance(left, pd.Categorical):
        assert list(left.codes) == list(right.codes)
        assert_same(left.categories, right.categories)
    elif isinstance(left, pd.arrays.NumpyExtensionArray):
        assert_same_ndarray(left.to_numpy(), right.to_numpy())
    else:
        assert_same(list(left), list(right))


def assert_same_ndarray(left: Any, right: Any) -> None:
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.flags.fnc == right.flags.fnc
    if left.dtype == object:
        assert_same(left.ravel().tolist(), right.ravel().tolist())
    else:
        assert left.tobytes() == right.tobytes()


COMPARED: dict[type, Callable[[Any, Any], None]] = {
    pandas.DataFrame: assert_same_frame,
    pandas.Series: assert_same_series,
    pandas.Index: assert_same_index,
    pandas.api.extensions.ExtensionArray: assert_same_array,
    numpy.ndarray: assert_same_ndarray,
    pa.Table: assert_same_table,
    dict: lambda left, right: assert_same_items(list(left.items()), list(right.items())),
    list: assert_same_items,
    tuple: assert_same_items,
}


# --- what is kept ---

NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "longdouble", "complex64", "complex128", ">i4", ">f8"),
)
MASKED = (
    *("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64"),
    "boolean",
)
UNITS = ("s", "ms", "us", "ns")
ARROW = {
    "int": (pa.int32(), 1),
    "double": (pa.float64(), 1.5),
    "string": (pa.string(), "a"),
    "decimal": (pa.decimal128(10, 2), Decimal("1.10")),
    "timestamp": (pa.timestamp("s", "UTC"), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
    "time": (pa.time32("s"), dt.time(1)),
    "date": (pa.date32(), dt.date(2020, 1, 1)),
    "list": (pa.list_(pa.int8()), [1]),
    "struct": (pa.struct([("a", pa.int8())]), {"a": 1}),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), "b"),
    "duration": (pa.duration("ms"), dt.timedelta(1)),
}


def counts(dtype: str) -> Any:
    return np.array([0, -5, 2**40, -(2**63)], dtype="i8").view(dtype)


def zoned(unit: str) -> Any:
    moments = pd.Series(["2020-10-25 00:30", "2020-10-25 01:30", None]).astype(f"datetime64[{unit}]")
    return moments.dt.tz_localize("UTC").dt.tz_convert(PARIS).array


def arrow(kind: pa.DataType, value: object) -> Any:
    return pd.array([value, None], dtype=pd.ArrowDtype(kind))


def periods(freq: str) -> Any:
    return pd.array(pd.PeriodIndex(["2020-01", None, "2021-03"], freq=freq))


def objects(*values: object) -> Any:
    array = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        array[at] = value
    return array


ARRAYS: dict[str, Callable[[], Any]] = {
    **{f"numpy {name}": partial(np.array, [0, 1, 2, 1], dtype=name) for name in NUMBERS},
    "strange floats": lambda: np.array([np.nan, -0.0, 0.0, np.inf, -np.inf, 5e-324]),
    "large integers": lambda: np.array([2**64 - 1, 0], dtype="uint64"),
    **{f"datetime64 {unit}": partial(counts, f"M8[{unit}]") for unit in UNITS},
    **{f"timedelta64 {unit}": partial(counts, f"m8[{unit}]") for unit in UNITS},
    **{f"tz {unit}": partial(zoned, unit) for unit in UNITS},
    "zoneinfo": lambda: pd.date_range("2020", periods=3, tz=zoneinfo.ZoneInfo(PARIS)).array,
    "fixed offset": lambda: pd.date_range("2020", periods=3, tz=dt.timezone(dt.timedelta(minutes=90))).array,
    "utc": lambda: pd.date_range("2020", periods=3, tz=dt.UTC).array,
    **{f"masked {name}": partial(pd.array, [1, 0, None], dtype=name) for name in MASKED},
    "Float64 with NaN and NA": lambda: pd.arrays.FloatingArray(
        np.array([np.nan, 1, -0.0]), np.array([False, True, False])
    ),
    "Int64 large": lambda: pd.array([2**63 - 1, None, -(2**63)], dtype="Int64"),
    "string python": lambda: pd.array(["a", None, "é😀", ""], dtype="string[python]"),
    "string pyarrow": lambda: pd.array(["a", None, "é😀", ""], dtype="string[pyarrow]"),
    "str": lambda: pd.Series(["a", None, "b"]).array,
    **{f"arrow {name}": partial(arrow, kind, value) for name, (kind, value) in ARROW.items()},
    "categorical": lambda: pd.Categorical(["b", None, "a", "b"], categories=["unused", "b", "a"], ordered=True),
    "categorical numbers": lambda: pd.Categorical([3, 1, None], categories=[3, 2, 1]),
    "categorical dates": lambda: pd.Categorical(pd.to_datetime(["2020", "2021", None])),
    "categorical objects": lambda: pd.Categorical.from_codes(
        [1, 0, -1], pd.Index(objects((1, 2), "x"), tupleize_cols=False)
    ),
    "categorical of many": lambda: pd.Categorical([f"{i}" for i in range(2000)]),
    "categorical surrogate": lambda: pd.Categorical.from_codes([1, 0], pd.Index(["\ud800", "a"], dtype=object)),
    "cut": lambda: pd.cut([1, 2, 3, np.nan], 3),
    "empty categorical": lambda: pd.Categorical([]),
    **{f"period {freq}": partial(periods, freq) for freq in ("M", "D", "Q-JAN", "Y", "h", "2M")},
    "interval": lambda: pd.arrays.IntervalArray.from_tuples([(0, 1), (1, 3)], closed="both"),
    "interval missing": lambda: pd.arrays.IntervalArray.from_tuples([(0.5, 1), None], closed="neither"),
    "interval of dates": lambda: pd.interval_range(pd.Timestamp("2020", tz=PARIS), periods=3).array,
    "objects": lambda: objects(
        *[None, np.nan, pd.NA, pd.NaT, Decimal("1.1"), {"a": [1]}, [1, 2], (1,), "x", b"y", 1, True]
    ),
    "object text": lambda: objects("a", "b", ""),
    "object text None": lambda: objects("a", None),
    "object text nan": lambda: objects("a", float("nan"), "b"),
    "object text NA": lambda: objects("a", pd.NA),
    "object text mixed": lambda: objects("a", None, float("nan")),
    "object text float": lambda: objects("a", 1.5),
    "object surrogates": lambda: objects("\ud800", "a", None),
    "object np.str_": lambda: objects(np.str_("a"), "b"),
    "object lists": lambda: objects([1, 2], [3, 4]),
    "object arrays": lambda: objects(np.arange(2), pd.Timestamp("2020")),
    "object dates": lambda: objects(dt.date(2020, 1, 1), dt.datetime(2020, 1, 1)),  # noqa: DTZ001
    "object None": lambda: objects(None, None),
    "no rows": lambda: np.array([], dtype="int8"),
    "no objects": objects,
}


def many(array: Any) -> Any:
    """Repeat until the table is too large for the row."""
    if not len(array) or getattr(array.dtype, "name", "") == "float16":
        return array
    return array.repeat(3 * INLINE_LIMIT // len(array) // 8)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("large", [False, True])
def test_columns_come_back_as_they_were(codec: Codec, name: str, large: bool) -> None:  # noqa: FBT001 - both ways
    """A Series and a column of every dtype survive, inline and as a file, with what is missing in its own way."""
    array = many(ARRAYS[name]()) if large else ARRAYS[name]()
    series = pd.Series(array, dtype=array.dtype, name="s")
    assert_same(there_and_back(series, codec), series)
    frame = pd.DataFrame({"a": np.arange(len(array)), "s": series})
    assert_same(there_and_back(frame, codec), frame)
    if not isinstance(array, np.ndarray):
        assert_same(there_and_back(array, codec), array)


@pytest.mark.parametrize("name", ARRAYS)
def test_indexes_come_back_as_they_were(codec: Codec, name: str) -> None:
    """An Index of every dtype survives by itself and as index or columns of a frame."""
    array = ARRAYS[name]()
    if array.dtype == "float16" or name in ("objects", "object lists", "object arrays"):
        pytest.skip("pandas has no such index")
    if name == "categorical surrogate":
        pytest.skip("pandas cannot compare such an index")
    index = pd.Index(array, dtype=array.dtype, name=("any", "name"), tupleize_cols=False)
    assert_same(there_and_back(index, codec), index)
    frame = pd.DataFrame({"a": range(len(index))}, index=index)
    assert_same(there_and_back(frame, codec), frame)
    assert_same(there_and_back(frame.a, codec), frame.a)
    if index.dtype != "complex64":
        across = pd.DataFrame([range(len(index))], columns=index)
        assert_same(there_and_back(across, codec), across)


def with_attrs() -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"source": Path("x"), 1: (2, {"deep": [dt.date(2020, 1, 1)]})}
    return frame


def unused_levels() -> pd.DataFrame:
    index = pd.MultiIndex.from_product([["a", "b"], pd.date_range("2020", periods=2, freq="D"), [1.5, None]])
    return pd.DataFrame({"x": range(8)}, index=index.set_names(["k", None, ("t", 1)])).iloc[5:2:-1]


FRAMES: dict[str, Callable[[], Any]] = {
    "plain": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [True, False]}),
    "empty": pd.DataFrame,
    "columns without rows": lambda: pd.DataFrame(
        {"a": pd.Series(dtype="int8"), "b": pd.Series(dtype="datetime64[ns, UTC]"), "o": pd.Series(dtype=object)}
    ),
    "rows without columns": lambda: pd.DataFrame(index=pd.Index([3, 1, 2], name="i")),
    "rows of a range": lambda: pd.DataFrame(index=range(5)),
    "range": lambda: pd.DataFrame({"a": [1, 2, 3]}, index=pd.RangeIndex(10, 4, -2, name="r")),
    "row order": lambda: pd.DataFrame({"a": [1, 2, 3]}, index=[2, 0, 1]),
    "duplicate rows": lambda: pd.DataFrame({"a": [1, 2]}, index=["x", "x"]),
    "duplicate columns": lambda: pd.DataFrame([[1, "a", 2.5]], columns=["x", "x", "x_"]),
    "odd labels": lambda: pd.DataFrame(
        [range(6)],
        columns=pd.Index([1, "1", None, (1, 2), 2.5, dt.date(2020, 1, 1)], dtype=object, tupleize_cols=False),
    ),
    "awkward names": lambda: pd.DataFrame(
        [range(5)], columns=pd.Index(["", "a.b", "\0", "a b", "\ud800"], dtype=object)
    ),
    "integer labels": lambda: pd.DataFrame([[1, 2]], columns=[5, 3]),
    "range labels": lambda: pd.DataFrame([[1, 2]]),
    "named labels": lambda: pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="letters")),
    "date labels": lambda: pd.DataFrame([[1, 2]], columns=pd.date_range("2020", periods=2, freq="D", tz=PARIS)),
    "deep labels": lambda: pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", None])
    ),
    "index name in the way": lambda: pd.DataFrame({"a": [1]}, index=pd.Index([2], name="a")),
    "several levels": unused_levels,
    "empty levels": lambda: pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["a", "b"])),
    "daily": lambda: pd.DataFrame({"a": range(3)}, index=pd.date_range("2020", periods=3, freq="D")),
    "business months": lambda: pd.DataFrame({"a": range(3)}, index=pd.date_range("2020", periods=3, freq="BME")),
    "irregular": lambda: pd.DataFrame({"a": [1, 2]}, index=pd.DatetimeIndex(["2020", "2019"])),
    "hourly deltas": lambda: pd.Series(range(3), index=pd.timedelta_range("1h", periods=3, freq="h")),
    "attrs": with_attrs,
    "attrs of a series": lambda: with_attrs().a,
    "unique labels": lambda: pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "unnamed series": lambda: pd.Series([1.5, None]),
    "series named by a tuple": lambda: pd.Series([1], name=("a", None)),
    "group by": lambda: pd.DataFrame({"k": list("aab"), "v": [1, 2, 3]}).groupby("k").agg(["sum", "mean"]),
    "wide": lambda: pd.DataFrame(np.arange(600).reshape(2, 300), columns=[f"c{i}" for i in range(300)]),
    "frames in a frame": lambda: pd.DataFrame({"f": objects(pd.DataFrame({"a": [1]}), pd.Series([2]))}),
    "range index": lambda: pd.RangeIndex(3),
    "multi index": lambda: pd.MultiIndex.from_tuples([(1, "a"), (2, None)], names=["x", "y"]),
    "daily index": lambda: pd.date_range("2020", periods=4, freq="2D", name="d"),
    "sorted levels": lambda: pd.MultiIndex(levels=[[1, 2]], codes=[[0, 1, -1]], sortorder=0),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_come_back_as_they_were(codec: Codec, name: str) -> None:
    """Index, labels, names, order, freq, flags and attrs are part of the value."""
    value = FRAMES[name]()
    assert_same(there_and_back(value, codec), value)
    assert_same(there_and_back({"x": [value]}, Codec())["x"][0], value)


@pytest.mark.parametrize("name", FRAMES)
def test_large_frames_come_back_as_they_were(codec: Codec, name: str) -> None:
    """The same where the table is large enough for Parquet."""
    frame = FRAMES[name]()
    if not isinstance(frame, pd.DataFrame) or not frame.flags.allows_duplicate_labels or frame.empty:
        pytest.skip("cannot be made longer")
    value = pd.concat([frame] * 2_000)
    value.attrs = frame.attrs
    assert_same(there_and_back(value, codec), value)


def test_a_frame_that_was_read_can_be_changed(codec: Codec) -> None:
    """What comes back is the user's own: its values can be set in place."""
    for rows in (3, 50_000):
        frame = pd.DataFrame({"a": np.arange(rows), "b": 1.5, "i": pd.array([1] * rows, dtype="Int64"), "t": pd.NaT})
        back = there_and_back(frame, codec)
        back.iloc[0, 0] = 7
        back.loc[1, "i"] = None
        back.loc[0, "t"] = pd.Timestamp("2020")
        back.loc[2, "b"] = 2.5
        assert back.iloc[0, 0] == 7
        series = there_and_back(frame["a"], codec)
        series.iloc[1] = 8
        assert series[1] == 8
        array = there_and_back(frame["i"].array, codec)
        array[0] = 9
        assert array[0] == 9
        back["new"] = 1


def test_the_file_of_a_frame_is_a_table_for_anyone(codec: Codec, tmp_path: Path) -> None:
    """DuckDB reads the file of a large frame: real column names, dates as dates, categories as text."""
    rows = 50_000
    frame = pd.DataFrame(
        {
            "carrier": pd.Categorical(["UA", "AA"] * (rows // 2)),
            "when": pd.date_range("2020", periods=rows, freq="min", tz="UTC"),
            "delay": np.arange(rows) / 7,
            "note": objects(*["late", None] * (rows // 2)),
        },
        index=pd.Index(np.arange(rows, 0, -1), name="flight"),
    )
    (name,) = artifact_names(codec.encode(frame, run_id=RUN))
    assert name.endswith(".parquet")
    with duckdb.connect() as connection:
        found = connection.execute(
            'select carrier, count(*), min(flight), max("when"::timestamptz), count(note) from read_parquet(?) '
            "group by all order by all",
            [str(tmp_path / "jobs.artifacts" / name)],
        ).fetchall()
    first, last = frame["when"].iloc[-2:]
    assert found == [("AA", 25_000, 1, last, 0), ("UA", 25_000, 2, first, 25_000)]


# --- Arrow ---

TABLES: dict[str, Callable[[], pa.Table]] = {
    "plain": lambda: pa.table({"a": [1, None], "b": ["x", "y"], "c": [1.5, float("nan")]}),
    "metadata": lambda: pa.table({"a": pa.array([1], pa.int8())}).replace_schema_metadata({"k": "v", b"\xff": b"\0"}),
    "field metadata": lambda: pa.table(
        [pa.array([1], pa.int8())], pa.schema([pa.field("a", pa.int8(), nullable=False, metadata={"unit": "m"})])
    ),
    "dictionary": lambda: pa.table(
        {"d": pa.chunked_array([pa.array(["b", "a"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()])}
    ),
    "nested": lambda: pa.table({"l": [[1, None], None, []], "s": [{"a": 1}, None, {"a": None}]}),
    "seconds": lambda: pa.table({"t": pa.array([0, 2**35], pa.timestamp("s"))}),
    "zone": lambda: pa.table({"t": pa.array([0, None], pa.timestamp("us", PARIS))}),
    "times": lambda: pa.table(
        {
            "a": pa.array([1], pa.time64("ns")),
            "b": pa.array([1], pa.duration("s")),
            "c": pa.array([86_400_000], pa.date64()),
        }
    ),
    "decimals": lambda: pa.table({"d": pa.array([Decimal("1.10")], pa.decimal256(50, 2))}),
    "large types": lambda: pa.table(
        {"a": pa.array(["x"], pa.large_string()), "b": pa.array([b"x"], pa.large_binary()), "n": pa.nulls(1)}
    ),
    "same names": lambda: pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
    "no rows": lambda: pa.table({"a": pa.array([], pa.int8())}),
    "nothing": lambda: pa.table({}),
    "from pandas": lambda: pa.Table.from_pandas(pd.DataFrame({"a": [1]}, index=["x"])),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("times", [1, 2_000])
def test_arrow_tables_come_back_as_they_were(codec: Codec, name: str, times: int) -> None:
    """Schema, metadata and values of an Arrow table survive."""
    table = pa.concat_tables([TABLES[name]()] * times) if name != "same names" else TABLES[name]()
    assert_same(there_and_back(table, codec), table)


def test_a_damaged_arrow_stream_is_refused() -> None:
    """Bytes of a small table that were changed are an error, never a crash."""
    stored: Any = Codec().encode(pa.table({"a": ["x", "yy", None], "b": [1, 2, 3]}), run_id=RUN)
    text = stored["table"]["arrow"]
    for at in range(0, len(text), 3):
        for letter in "A/z":
            damaged = {**stored, "table": {"arrow": text[:at] + letter + text[at + 1 :]}}
            try:
                Codec().decode(damaged)
            except SerializationError as error:
                assert "cannot be read back" in str(error)  # noqa: PT017 - many changes do no harm


# --- NumPy ---

RECORD = np.dtype([("a", "i4"), ("b", "f8", (2,)), ("c", "U3")])
NDARRAYS: dict[str, Callable[[], Any]] = {
    **ARRAYS,
    "no dimensions": lambda: np.array(5.5),
    "no dimensions object": lambda: np.array({"a": 1}, dtype=object),
    "Fortran": lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
    "Fortran objects": lambda: np.asfortranarray(np.array([[1, "a"], [None, 2]], dtype=object)),
    "three dimensions": lambda: np.arange(24).reshape(2, 3, 4),
    "strided": lambda: np.arange(10)[::3],
    "no elements": lambda: np.zeros((0, 3)),
    "text": lambda: np.array(["a", "é😀"]),
    "bytes": lambda: np.array([b"a", b"bc"]),
    "records": lambda: np.array([(1, [1.5, 2], "x")], dtype=RECORD),
    "padded records": lambda: np.array(
        [(1, 2)], dtype=np.dtype({"names": ["a", "b"], "formats": ["i1", "i8"], "offsets": [0, 8]})
    ),
    "void": lambda: np.array([b"abc"], dtype="V3"),
    "steps of 25 s": lambda: np.array([1, 2], dtype="M8[25s]"),
    "days": lambda: np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
    "large": lambda: np.random.default_rng(0).normal(size=(100, 100)),
}


@pytest.mark.parametrize("name", NDARRAYS)
def test_arrays_come_back_as_they_were(codec: Codec, name: str) -> None:
    """Dtype, shape and memory order of an array survive, and it can be written to."""
    array = NDARRAYS[name]()
    if not isinstance(array, np.ndarray):
        pytest.skip("is an array of pandas")
    back = there_and_back(array, codec)
    assert_same(back, array)
    assert back.flags.writeable


SCALARS: list[Any] = [
    np.bool_(1), np.int8(-1), np.int16(1), np.int32(1), np.int64(-(2**63)), np.longlong(1), np.uint8(1),
    np.uint16(1), np.uint32(1), np.uint64(2**64 - 1), np.ulonglong(1), np.float16(0.1), np.float32(0.1),
    np.float64(0.1), np.float64(-0.0), np.float64("nan"), np.float32("inf"), np.longdouble("0.1"),
    np.clongdouble(1 + 2j), np.complex64(0.1 + 1j), np.complex128(1j),
    np.str_("a\0"), np.str_("\ud800"), np.bytes_(b"a\0"),
    np.datetime64("2020-01-01"), np.datetime64("NaT", "D"), np.datetime64("2020-01-01T00:00:00.123456789"),
    np.datetime64(5, "25s"), np.timedelta64(5, "h"), np.timedelta64("NaT", "s"),
    pd.Timestamp("2020-01-01 00:00:00.123456789"), pd.Timestamp("2020-01-01").as_unit("s"),
    pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert(PARIS),
    pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert(PARIS),
    pd.Timestamp("2020", tz=zoneinfo.ZoneInfo(PARIS)), pd.Timestamp("2020-01-01 00:00+05:30"),
    pd.Timedelta(1), pd.Timedelta("1D").as_unit("s"), pd.Period("2020-01", "M"), pd.Period("2020Q1", "Q-JAN"),
    pd.Interval(0, 1.5, closed="both"), pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021")), pd.NaT, pd.NA,
]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: type(value).__name__)
def test_scalars_come_back_as_they_were(value: Any) -> None:
    """NumPy and pandas scalars keep type, precision, unit and zone, in values and as keys."""
    back = there_and_back(value, Codec())
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert getattr(back, "unit", None) == getattr(value, "unit", None)
    if isinstance(value, np.generic):
        assert back.dtype == value.dtype
    assert repr(there_and_back([value, (value,)], Codec())) == repr([value, (value,)])
    assert repr(there_and_back({value: 1}, Codec())) == repr({value: 1})


def test_text_beyond_unicode_is_refused() -> None:
    """Damaged bytes never become a string that Python cannot hold."""
    for dtype in ("U1", ">U1", [("a", "i4"), ("t", "U2")]):
        whole: Any = Codec().encode(np.zeros(2, dtype), run_id=RUN)
        data = base64.b64decode(whole["npy"])
        damaged = base64.b64encode(data[:-4] + b"\xff" * 4).decode()
        with pytest.raises(SerializationError, match="beyond Unicode"):
            Codec().decode({**whole, "npy": damaged})
    moments: Any = Codec().encode(pd.Series(pd.to_datetime(["2020-01-01"])), run_id=RUN)
    for dtype in ("U2", "O", "f8", "S8"):
        with pytest.raises(SerializationError):
            Codec().decode({**moments, "array": {**moments["array"], "dtype": dtype}})


# --- what is refused ---


class Geo(pandas.DataFrame):
    pass


def holidays() -> pd.DataFrame:
    freq = pd.offsets.CustomBusinessDay(holidays=["2020-01-02"])
    return pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020-01-01", periods=2, freq=freq))


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    (
        "sparse",
        lambda: pd.DataFrame({"a": [1], "s": pd.array([1], dtype="Sparse[int]")}),
        r"^output\['s'\] has dtype Sparse",
    ),
    ("subclass", lambda: Geo({"a": [1]}), r"^output is a .*Geo, .*plain pandas.*DataFrame"),
    ("object in a cell", lambda: pd.DataFrame({"a": [1, 2], "b": [1, object()]}), r"^output\['b'\]\[1\] is an object"),
    ("label", lambda: pd.DataFrame([[1]], columns=[object()]), r"^output.columns\[0\] is an object"),
    ("index value", lambda: pd.Series([1], index=[object()]), r"^output.index\[0\] is an object"),
    ("attrs", lambda: pd.Series([1]).pipe(with_attr), r"^output.attrs\['f'\] is a "),
    ("frequency", holidays, r"^output.index has the frequency"),
    ("masked array", lambda: np.ma.masked_array([1], [True]), "MaskedArray"),
    ("matrix", lambda: np.matrix([[1]]), "matrix"),
    ("object records", lambda: np.array([(1, None)], dtype=[("a", "i4"), ("o", "O")]), "npy file does not keep"),
    ("dtype metadata", lambda: np.zeros(1, np.dtype("i4", metadata={"a": 1})), "npy file does not keep"),
    (
        "extension type",
        lambda: pa.table({"a": pa.ExtensionArray.from_storage(Unknown(), pa.array([1]))}),
        "extension type",
    ),
    ("arrow scalar", lambda: pa.scalar(1), "Int64Scalar"),
    ("offset", pd.offsets.MonthEnd, "MonthEnd"),
    ("dtype", lambda: np.dtype("i4"), "DType"),
]


class Unknown(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.int64(), "test.unknown")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, _: object, __: bytes) -> Unknown:
        return cls()


def with_attr(series: Any) -> Any:
    series.attrs["f"] = print
    return series


@pytest.mark.parametrize(("make", "sentence"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_what_cannot_be_exact_is_refused_with_its_path(make: Callable[[], Any], sentence: str) -> None:
    """A table that would not come back exactly is refused, and the column is named."""
    with pytest.raises(SerializationError, match=sentence):
        Codec().encode(make(), run_id=RUN, where="output")


def test_the_library_may_be_absent_until_it_is_needed() -> None:
    """Importing the codecs loads neither NumPy nor pandas nor pyarrow; reading a frame does."""
    stored = json.dumps(Codec().encode(pd.DataFrame({"a": [1, 2]}), run_id=RUN))
    program = (
        "import json, sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from durably_nb.codecs import Codec\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'pytz'}\n"
        "codec = Codec()\n"
        "codec.decode(codec.encode([1, (2,)], run_id='x'))\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"assert codec.decode(json.loads({stored!r})).a.sum() == 3\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own program
