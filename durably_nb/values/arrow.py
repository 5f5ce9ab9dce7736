"""The kind of Arrow tables: Parquet where a table is large and Parquet keeps it exactly, else an Arrow stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durably_nb.values.kinds import Fields, Kind, Reader, Writer
from durably_nb.values.libraries import pa, pq

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durably_nb.models import JSONValue

_LARGE: Final = 24 * 1024
_PARQUET_TYPES: Final = frozenset(
    (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double"),
        *("string", "large_string", "binary", "large_binary", "date32[day]"),
        *("timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
    )
)


def put_table(table: pa.Table, walk: Writer) -> Fields:
    """Hand a table to the walk as a payload, and return what stands for it."""
    for field in table.schema:
        if "extension<" in str(field.type):
            raise walk.refuse(
                f"has a column {field.name!r} of the Arrow extension type {field.type}, "
                "which another process may not know. Cast it to its storage type first"
            )
    if table.nbytes <= _LARGE:
        return {"arrow": walk.put(_to_stream(table, compression=None), "arrow")}
    data = _to_parquet(table)
    if data is None:
        return {"arrow": walk.put(_to_stream(table, compression="zstd"), "arrow")}
    return {"parquet": walk.put(memoryview(data), "parquet")}


def get_table(stored: Mapping[str, JSONValue], walk: Reader) -> pa.Table:
    """Return the table that was put."""
    if "parquet" in stored:
        return pq.ParquetFile(pa.BufferReader(walk.get(stored["parquet"]))).read()
    table = pa.ipc.open_stream(walk.get(stored["arrow"])).read_all()
    table.validate(full=True)  # Arrow trusts a stream's offsets; a damaged one would crash the process later
    return table


def _to_stream(table: pa.Table, compression: str | None) -> memoryview:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    return memoryview(sink.getvalue())


def _to_parquet(table: pa.Table) -> pa.Buffer | None:
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


KINDS: Final = (
    Kind(
        "Table",
        ("Table",),
        lambda table, walk: {"table": put_table(table, walk)},
        lambda stored, walk: get_table(stored["table"], walk),
    ),
)
