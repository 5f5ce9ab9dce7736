"""Kinds of dates, times and time zones."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING, Any, Final

from durably_nb.values.kinds import Attr, Fields, Kind, Reader, Writer
from durably_nb.values.standard import made_of, said_by

if TYPE_CHECKING:
    from durably_nb.values.kinds import Decode


def _encode_time(value: dt.datetime | dt.time, walk: Writer) -> Fields:
    fields: Fields = {"v": value.replace(tzinfo=None).isoformat()}
    if value.tzinfo is not None:
        fields["tz"] = walk.encode(value.tzinfo, Attr("tzinfo"))
    if value.fold:
        fields["fold"] = value.fold
    return fields


def _decode_time(cls: type[dt.datetime | dt.time]) -> Decode:
    def decode(stored: Fields, walk: Reader) -> object:
        tzinfo: Any = walk.decode(stored.get("tz"))
        return cls.fromisoformat(stored["v"]).replace(tzinfo=tzinfo, fold=stored.get("fold", 0))

    return decode


def _encode_zone(value: zoneinfo.ZoneInfo, walk: Writer) -> Fields:
    key: str | None = value.key
    if key is None or zoneinfo.ZoneInfo(key) is not value:
        raise walk.refuse("is a ZoneInfo that its key alone does not give back. Use zoneinfo.ZoneInfo(key)")
    return {"v": key}


def is_pytz(cls: type) -> bool:
    """Whether it is a zone of pytz, which makes a class for each."""
    return issubclass(cls, dt.tzinfo) and str(cls.__module__).partition(".")[0] == "pytz"


def _encode_pytz(value: Any, _: Writer) -> Fields:  # noqa: ANN401 - pytz has no type hints
    return {"v": list(value.__reduce__()[1]) or [value.zone]}


def _decode_pytz(stored: Fields, _: Reader) -> object:
    import pytz  # noqa: PLC0415 - only where such a value is stored

    zone, *variant = stored["v"]
    return pytz.tzinfo.unpickler(zone, *variant) if isinstance(zone, str) else pytz.FixedOffset(zone)


KINDS: Final = (
    said_by(dt.date, dt.date.isoformat, dt.date.fromisoformat),
    Kind("datetime", (dt.datetime,), _encode_time, _decode_time(dt.datetime)),
    Kind("time", (dt.time,), _encode_time, _decode_time(dt.time)),
    made_of(dt.timedelta, lambda value: (value.days, value.seconds, value.microseconds)),
    made_of(dt.timezone, lambda value: value.__getinitargs__()),
    Kind("ZoneInfo", (zoneinfo.ZoneInfo,), _encode_zone, lambda stored, _: zoneinfo.ZoneInfo(stored["v"])),
)
PYTZ: Final = Kind("pytz", (), _encode_pytz, _decode_pytz)
